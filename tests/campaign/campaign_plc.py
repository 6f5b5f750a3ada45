"""A PLC with parts of known truth: triggers without a pause, believes nothing, and notes what it was shown."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from campaign_modbus import Modbus

from cada_edge.runtime.control import Command, ControlBlock, ControlFlag, encode_control
from cada_edge.runtime.registers import Alarm, ResultFlag, StatusBlock, StatusFlag, decode

STATUS, CONTROL = 100, 0
LEVELS = {True: range(8, 113, 8), False: range(144, 249, 8)}  # good parts are dark; 127.5 is the threshold
NOTHING_THERE = 255
STILL_NS = 1_000_000_000  # a heartbeat that stands for so long has stopped
_POLL_S, _AGAIN_S = 0.004, 0.05
_BEAT_NS = 100_000_000
_BLIND_NS = 300_000_000  # a trigger that waited longer to be looked at must not be taken for a new one
_ENABLE, _TRIGGER, _ACK = ControlFlag.TRIGGER_ENABLE, ControlFlag.TRIGGER, ControlFlag.RESULTS_ACK


@dataclass
class Part:
    """One part and what became of it. Times are monotonic, ns.

    Attributes:
        number: of its trigger.
        good: the truth.
        level: grey level in the picture; no two parts in a row have the same.
        sent_ns: when the trigger left.
        taken_ns: when the server had confirmed it; 0 before.
        over: the PLC waits for it no more.
        seq: of the result that was taken for it; 0 for none.
        result: of that result.
        shown_ns: when that result was read; 0 for none.
    """

    number: int
    good: bool
    level: int
    sent_ns: int = 0
    taken_ns: int = 0
    over: bool = False
    seq: int = 0
    result: ResultFlag = field(default_factory=lambda: ResultFlag(0))
    shown_ns: int = 0

    def shown_in(self, block: StatusBlock) -> bool:
        """Whether this part's picture gave the score."""
        return abs(block.score * 255 - self.level) < 3.5


@dataclass
class Notes:
    """What the PLC saw. Lists grow while the test reads them.

    Attributes:
        violations: what must never happen: when, and what.
        signs: what told it that something is wrong: when, and which sign.
        normal_ns: when a part was rightly passed or rightly failed.
        parts: by the number of their trigger.
        counts: of results and oddities.
    """

    violations: list[tuple[int, str]] = field(default_factory=list)
    signs: list[tuple[int, str]] = field(default_factory=list)
    normal_ns: list[int] = field(default_factory=list)
    parts: dict[int, Part] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


class Plc:
    """Runs cycles in a thread until `close`.

    Args:
        port: of the Modbus server under test.
        scene: file whose first byte is the grey level that the camera sees.
        deadline_s: of the station.
        settle_s: from placing a part to its trigger, longer than the camera's latency.
        seed: of the parts.
    """

    def __init__(self, port: int, scene: Path, deadline_s: float, settle_s: float, seed: int) -> None:
        self.port, self.notes = port, Notes()
        self._scene, self._deadline_ns, self._settle_s = scene, int(deadline_s * 1e9), settle_s
        self._chance, self._over = random.Random(seed), threading.Event()
        self._part: Part | None = None
        self._beat, self._beat_ns = -1, time.monotonic_ns()
        self._abandoned: list[socket.socket] = []
        self._half_open = self._drop = False
        self._own_beat, self._own_beat_ns = 1, 0
        self._alarmed = False
        self._going = threading.Event()
        self._going.set()
        self._idle = self._resting = False
        self._thread = threading.Thread(target=self._run, name="campaign-plc", daemon=True)
        self._thread.start()

    def drop(self) -> None:
        """Lose the connection at the next read."""
        self._drop = True

    def forget(self) -> None:
        """Leave the connection half open at the next read, and make another."""
        self._half_open = True

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop between two reads or writes, heartbeat and all; then begin anew, as a PLC that was in STOP."""
        self._going.clear()
        try:
            yield
        finally:
            self._going.set()

    @contextmanager
    def idle(self) -> Iterator[None]:
        """No part comes any more: look, but trigger nothing. Begins when the part under way has its answer."""
        self._idle, until_ns = True, time.monotonic_ns() + self._deadline_ns
        while not self._resting and time.monotonic_ns() < until_ns:
            time.sleep(_POLL_S)
        try:
            yield
        finally:
            self._idle = self._resting = False

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self._going.set()
        self._thread.join(20)
        for connection in self._abandoned:
            connection.close()

    def _run(self) -> None:
        while not self._over.is_set():
            client: Modbus | None = None
            try:
                client = Modbus(self.port)
                while not self._over.is_set():
                    self._cycle(client)
            except OSError:
                self._sign("connection lost")
                self._give_up()
            finally:
                if client is not None:
                    client.close()
            self._over.wait(_AGAIN_S)

    def _cycle(self, client: Modbus) -> None:
        """One part, from ready to ready."""
        if self._alarmed:
            self._alarmed = False
            self._say(client, _ENABLE | ControlFlag.EXECUTE_COMMAND, command=Command.CLEAR_ALARMS)
        self._say(client, _ENABLE)
        while StatusFlag.TRIGGER_READY not in self._look(client).flags or self._idle:
            self._resting = self._idle
            time.sleep(_POLL_S)
            if self._over.is_set():
                return
        part = self._place()
        missed = self._look(client).missed
        part.sent_ns = time.monotonic_ns()
        self._part = part
        self._say(client, _ENABLE | _TRIGGER, part.number)
        part.taken_ns = time.monotonic_ns()
        self._await(client, part, missed)
        self._give_up()

    def _place(self) -> Part:
        """The next part lies before the camera, and the picture has come to rest."""
        number = len(self.notes.parts) + 1
        good, before = self._chance.random() < 0.7, self.notes.parts.get(number - 1)
        levels = [level for level in LEVELS[good] if before is None or level != before.level]
        part = self.notes.parts[number] = Part(number, good, self._chance.choice(levels))
        self._show(part.level)
        self._over.wait(self._settle_s)
        return part

    def _await(self, client: Modbus, part: Part, missed: int) -> None:
        """The answer to the trigger, acknowledged; or give it up."""
        while time.monotonic_ns() < part.sent_ns + 3 * self._deadline_ns:
            block = self._look(client)
            if block.trigger_id == part.number and StatusFlag.RESULTS_VALID in block.flags:
                self._take(part, block)
                self._say(client, _ENABLE | _ACK, part.number)
                part.over = True
                return
            if block.missed != missed:
                self._sign("trigger missed")
                return
            if StatusFlag.ONLINE not in block.flags:
                return  # whatever it was to say: the part is rejected
            time.sleep(_POLL_S)
        self._violate(f"trigger {part.number} was never answered")

    def _take(self, part: Part, block: StatusBlock) -> None:
        part.seq, part.result, part.shown_ns = block.seq, block.result, time.monotonic_ns()
        right = ResultFlag.PASS if part.good else ResultFlag.FAIL | ResultFlag.REJECT
        if block.result == right and part.shown_in(block):
            self.notes.normal_ns.append(time.monotonic_ns())
        elif ResultFlag.UNKNOWN in block.result:
            self._sign("UNKNOWN")
        else:
            self.notes.counts["reject from another picture"] += 1
        self.notes.counts[str(block.result)] += 1
        if block.alarms & Alarm.REJECT_RUN:
            self._alarmed = True
            self._sign("alarm: a run of rejects")

    def _stand(self) -> None:
        if not self._going.is_set():
            self._going.wait()
            raise OSError("the PLC begins anew")

    def _say(self, client: Modbus, flags: ControlFlag, trigger_id: int = 0, command: int = 0) -> None:
        """Write the control block; its heartbeat moves."""
        self._stand()
        self._own_beat, self._own_beat_ns = self._own_beat % 65535 + 1, time.monotonic_ns()
        client.write(CONTROL, encode_control(ControlBlock(flags, self._own_beat, trigger_id, command=command)))

    def _beat_on(self, client: Modbus) -> None:
        """The heartbeat alone, ten times a second at least."""
        if time.monotonic_ns() - self._own_beat_ns > _BEAT_NS:
            self._own_beat, self._own_beat_ns = self._own_beat % 65535 + 1, time.monotonic_ns()
            client.write(CONTROL + 1, [self._own_beat])

    def _look(self, client: Modbus) -> StatusBlock:
        """Read the block once and judge it."""
        self._stand()
        if self._drop or self._half_open:
            if self._half_open:
                self._abandoned.append(client.socket)  # stays open, and silent
                client.socket = client.socket.dup()
            self._drop = self._half_open = False
            raise OSError("the test drops the connection")
        self._beat_on(client)
        asked_ns = time.monotonic_ns()
        words = client.read(STATUS, 32)
        now_ns = time.monotonic_ns()
        if words[3] != words[31]:
            self._violate(f"torn read: {words[3]} and {words[31]}")
        block = decode(words)
        if block.heartbeat != self._beat:
            self._beat, self._beat_ns = block.heartbeat, now_ns
        elif now_ns - self._beat_ns > STILL_NS:
            self._sign("heartbeat stopped")
        if StatusFlag.ONLINE not in block.flags:
            self._sign(f"offline: {block.offline.name}")
        if passing(block):
            self._judge(block, asked_ns)
        return block

    def _judge(self, block: StatusBlock, asked_ns: int) -> None:
        """A PASS is shown: is it one that may be?"""
        part = self.notes.parts.get(block.trigger_id)
        if part is None:
            self._violate(f"PASS for trigger {block.trigger_id}, which never was")
        elif not part.good or not part.shown_in(block):
            self._violate(f"PASS for the wrong part: {part}, score {block.score * 255:.1f} / 255")
        elif part.over and part.seq:
            self._violate(f"PASS again, after it was acknowledged: {part}")
        elif part.over:
            self.notes.counts["PASS for a trigger given up"] += 1
        elif not part.seq and asked_ns > self._latest_ns(part):
            self._violate(f"late PASS: {(asked_ns - part.sent_ns) / 1e6:.0f} ms after its trigger left: {part}")

    def _latest_ns(self, part: Part) -> int:
        """When its PASS may be shown last: by the confirmed trigger, and by the one that left, whoever was frozen."""
        unconfirmed_ns = part.sent_ns + _BLIND_NS + self._deadline_ns
        return min(unconfirmed_ns, part.taken_ns + self._deadline_ns) if part.taken_ns else unconfirmed_ns

    def _give_up(self) -> None:
        """The part leaves; nothing lies before the camera."""
        self._show(NOTHING_THERE)
        if self._part is not None:
            self._part.over = True
            self._part = None

    def _show(self, level: int) -> None:
        with self._scene.open("r+b") as file:
            file.write(bytes([level]))

    def _sign(self, sign: str) -> None:
        self.notes.signs.append((time.monotonic_ns(), sign))

    def _violate(self, what: str) -> None:
        self.notes.violations.append((time.monotonic_ns(), what))


def passing(block: StatusBlock) -> bool:
    """What a PLC that follows the rule would let through."""
    shown = StatusFlag.ONLINE | StatusFlag.RESULTS_VALID
    return block.flags & shown == shown and ResultFlag.PASS in block.result
