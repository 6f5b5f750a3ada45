"""A simulated controller at the other end of single wires: levels and edges instead of registers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from cada_edge.errors import LinkError
from cada_edge.runtime.control import ControlBlock, ControlFlag, decode_control
from cada_edge.runtime.links.config import DigitalConfig
from cada_edge.runtime.links.digital import input_lines, output_lines, take_pins
from cada_edge.runtime.links.pins import Pins
from cada_edge.runtime.plc_sim.listen import NotToBeHadError
from cada_edge.runtime.plc_sim.moments import KNOWN_AFTER_NS, SETTLE_NS, Moment, Moments
from cada_edge.runtime.plc_sim.well import heartbeat
from cada_edge.runtime.registers import (
    OfflineReason,
    ResultFlag,
    StatusBlock,
    StatusFlag,
    encode,
    milliseconds,
    next_counter,
)

_ACK_NS = 20_000_000  # a station that polls its inputs must see it
_WORK = StatusFlag.TRIGGER_READY | StatusFlag.BUSY


class _Asked(NamedTuple):
    """A trigger: it rose between the two times."""

    id: int = 0
    encoder: int = 0
    began_ns: int = 0
    over_ns: int = 0


def open_plc_pins(config: DigitalConfig) -> Pins:
    """The lines of `config` from the PLC's end: it drives what the station hears. Raises `OSError`."""
    return take_pins(config, outputs=input_lines(config), inputs=output_lines(config))


class DigitalController:
    """Makes of levels and edges the block that a PLC would have read, as far as wires say it.

    What is set at one moment counts at one moment (see `Moments`), and each moment is shown in a block of its own,
    so that no pulse is lost on a slow reader; `as_of_ns` says how old a block is. A result is what stands when VALID
    rises; without that wire, when BUSY falls. Which trigger it answers is not said: it is the one that waits, else
    the one answered before. Number, toggle, heartbeat and encoder are taken for well. HEALTHY is inactive while a
    station is offline and while it shows an error, after an undecided part for one; it is taken for an error while
    READY, BUSY or VALID says that the station works, unless none can have come up.

    Args:
        config: of the link, with the numbers of the lines at this end.
        pins: opens them.
        clock_ns: monotonic time, ns.
    """

    def __init__(
        self,
        config: DigitalConfig,
        pins: Callable[[DigitalConfig], Pins] = open_plc_pins,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._config, self._make, self._clock_ns = config, pins, clock_ns
        self._chip = config.chip if config.driver == "gpiod" else "the header"
        self._free = config.trigger_line is None
        self._pins: Pins | None = None
        self._moments, self._begun = Moments({}), False
        self._opened_ns = self._settled_ns = self._looked_ns = self._as_of_ns = 0
        self._control = ControlBlock()
        self._asked: _Asked | None = None  # waits for its answer
        self._answered = _Asked()
        self._noticed = True  # the station has seen that TRIGGER rose
        self._taken = False  # and has said BUSY
        self._ack_up_ns: int | None = None  # since when the wire is active
        self._met = self._shown = False  # the station has shown itself; its result stands and is not taken yet
        self._block = StatusBlock(StatusFlag.ONLINE, OfflineReason.NONE)

    @property
    def as_of_ns(self) -> int:
        """When at the latest the block read last surely stood."""
        return self._as_of_ns

    @property
    def doubtful(self) -> bool:
        """Whether the station may owe no answer: it may be offline, or have counted the trigger as missed.

        It does that where nobody could look at its inputs for a while. Then READY falls, but BUSY does not rise.
        """
        missed = self._asked is not None and self._noticed and not self._taken
        return self._config.healthy_line is None or not self._healthy() or missed

    def open(self) -> None:
        """Take the lines, every output inactive. Raises `NotToBeHadError`."""
        try:
            pins = self._make(self._config)
            self._opened_ns = self._looked_ns = self._clock_ns()
            self._settled_ns = self._opened_ns + SETTLE_NS
            levels = pins.levels()
        except (OSError, ValueError) as error:
            raise NotToBeHadError(
                f"{self._chip}: {error}; the PLC's end of the wires has a chip of its own, or lines of its own: does "
                "it exist, has it these lines, and has no other program them?"
            ) from error
        self._pins, self._moments = pins, Moments(levels)
        self._begun, self._noticed, self._ack_up_ns = False, True, None

    def read(self) -> Sequence[int] | None:
        """The block as of the next moment, or as it stands; ``None`` while nothing is known. Raises `LinkError`."""
        now_ns = self._clock_ns()
        self._must_not_have_slept(now_ns)
        self._lower_ack(now_ns)
        try:
            edges = self._opened().edges()
        except OSError as error:
            raise LinkError(f"{self._chip}: read: {error}") from error
        # Older ones are in the levels that were read when the lines were taken.
        self._moments.add(edge for edge in edges if edge.at_ns >= self._opened_ns)
        if not self._begun:
            return self._begin(now_ns)
        moment = self._moments.next(now_ns)
        offline = self._apply(moment) if moment is not None else False
        self._block = replace(self._block, result=self._verdict())
        return self._words(now_ns, offline)

    def write(self, words: Sequence[int]) -> None:
        """Set TRIGGER, and acknowledge for 20 ms at least. Raises `LinkError`."""
        control, config = decode_control(words), self._config
        rising, falling = control.flags & ~self._control.flags, self._control.flags & ~control.flags
        self._control = control
        if ControlFlag.RESULTS_ACK in rising:
            self._acknowledge()
        if ControlFlag.TRIGGER in rising and config.trigger_line is not None:
            began_ns = self._clock_ns()
            self._set(config.trigger_line, on=True)
            self._asked = _Asked(control.trigger_id, control.encoder, began_ns, self._clock_ns())
            self._noticed = self._taken = False
        if ControlFlag.TRIGGER in falling and config.trigger_line is not None:
            self._set(config.trigger_line, on=False)

    def close(self) -> None:
        """Every output inactive, and let go."""
        pins, self._pins = self._pins, None
        if pins is not None:
            with suppress(OSError):  # a chip that is gone drives nothing
                pins.set(dict.fromkeys(input_lines(self._config), False))
            with suppress(OSError):
                pins.close()

    # What the wires say

    def _must_not_have_slept(self, now_ns: int) -> None:
        """Raise `LinkError` where pulses may have come and gone unseen: what stood before counts no more."""
        blind_ns, self._looked_ns = now_ns - self._looked_ns, now_ns
        if self._config.driver == "jetson" and blind_ns > self._config.pulse_ms * 1_000_000:
            raise LinkError(
                f"{self._chip}: nobody looked for {blind_ns / 1e6:.0f} ms, and a pulse lasts {self._config.pulse_ms}: "
                "is the machine busy, or --poll-ms more than half of pulse_ms?"
            )

    def _begin(self, now_ns: int) -> Sequence[int] | None:
        """The first block: a result that stands when the lines are taken may be the answer that was waited for."""
        self._settled_ns = settled_ns = self._moments.absorb(self._settled_ns)
        if now_ns < settled_ns + KNOWN_AFTER_NS - SETTLE_NS:
            return None
        self._begun, self._shown = True, False
        if self._on(self._config.valid_line):
            self._result(settled_ns, settled_ns)
        elif self._config.valid_line is not None:
            self._block = replace(self._block, result=ResultFlag(0))
        return self._words(now_ns, offline=False)

    def _apply(self, moment: Moment) -> bool:
        """Take a moment in; whether it shows that the station is offline for sure, though it shows otherwise."""
        config, changed = self._config, moment.rose | moment.fell
        asked = self._asked is not None
        told = config.valid_line in moment.rose if config.valid_line is not None else config.busy_line in moment.fell
        if self._free and config.pass_line in changed and self._on(config.valid_line):
            told = True  # the next result came before the pulse of the last was over
        if told:
            self._result(moment.after_ns, moment.at_ns)
        elif config.valid_line in moment.fell:
            self._shown = False
        noticed = told or config.ready_line in moment.fell or config.busy_line in moment.rose
        if noticed and self._asked_before(moment.at_ns):
            self._noticed = True
            self._taken = self._taken or config.busy_line in moment.rose
        return not self._free and (self._unfit(moment) or (not told and self._lost_health(moment, asked)))

    def _unfit(self, moment: Moment) -> bool:
        """PASS now stands beside an inactive HEALTHY; a part that passed leaves no error, so it is no error."""
        config = self._config
        concerned = {config.pass_line, config.valid_line, config.healthy_line} & (moment.rose | moment.fell)
        passes = self._on(config.pass_line) and self._on(config.valid_line)
        return bool(concerned) and passes and not self._healthy()

    def _lost_health(self, moment: Moment, asked: bool) -> bool:
        """HEALTHY fell while the station showed that it works and shows it still: no error comes without a result."""
        config = self._config
        if config.healthy_line not in moment.fell:
            return False
        stands = {line for line in output_lines(config) if self._on(line)} - moment.rose
        return config.busy_line in stands or (
            not asked and (config.ready_line in stands or config.valid_line in stands)
        )

    def _result(self, after_ns: int, at_ns: int) -> None:
        """What stands now is a result; it came between these times."""
        result_ms = 0
        if self._asked is not None and at_ns >= self._asked.began_ns:
            result_ms = milliseconds(max(0, after_ns - self._asked.over_ns))
            self._answered, self._asked = self._asked, None
        self._shown = True
        self._block = replace(
            self._block,
            flags=self._block.flags ^ StatusFlag.RESULT_TOGGLE,
            result=ResultFlag.PASS if self._on(self._config.pass_line) else ResultFlag.REJECT,
            seq=next_counter(self._block.seq),
            trigger_id=self._answered.id,
            encoder=self._answered.encoder,
            result_ms=result_ms,
        )

    def _asked_before(self, at_ns: int) -> bool:
        """Whether the newest trigger may have risen by then."""
        return at_ns >= (self._asked or self._answered).began_ns

    def _verdict(self) -> ResultFlag:
        """The result word: with VALID it follows PASS, and PASS without VALID is none of a result."""
        config = self._config
        if config.valid_line is None:
            return self._block.result
        if self._on(config.pass_line):
            return ResultFlag.PASS
        return ResultFlag.REJECT if self._on(config.valid_line) else ResultFlag(0)

    # The block

    def _words(self, now_ns: int, offline: bool) -> Sequence[int] | None:
        self._as_of_ns = self._moments.until_ns(now_ns)
        # A part that somebody asked for before us may be under way: it is not ours to judge.
        self._met = self._met or self._free or self._on(self._config.ready_line) or self._shown
        if not self._met:
            return None
        flags = self._block.flags & StatusFlag.RESULT_TOGGLE | self._flags()
        if not offline and (self._healthy() or flags & (_WORK | StatusFlag.RESULTS_VALID)):
            flags |= StatusFlag.ONLINE if self._healthy() else StatusFlag.ONLINE | StatusFlag.ERROR
        if offline and ResultFlag.PASS in self._block.result and self._shown:
            flags &= ~_WORK  # one breach, told once
        reason = OfflineReason.NONE if StatusFlag.ONLINE in flags else OfflineReason.STOPPED
        return encode(replace(self._block, flags=flags, offline=reason, heartbeat=heartbeat(now_ns)))

    def _flags(self) -> StatusFlag:
        """What the wires show, but for HEALTHY."""
        config = self._config
        pulsing = config.mode == "pulse" and self._on(config.valid_line)
        shown = {
            # Before its pulse is over, the next one might not be told from it.
            StatusFlag.TRIGGER_READY: self._on(config.ready_line) and not pulsing and self._ack_up_ns is None,
            StatusFlag.TRIGGER_ACK: ControlFlag.TRIGGER in self._control.flags and self._noticed,
            StatusFlag.BUSY: self._on(config.busy_line),
            StatusFlag.RESULTS_VALID: self._shown,
        }
        flags = StatusFlag(0)
        for flag, on in shown.items():
            flags |= flag if on else StatusFlag(0)
        return flags

    def _healthy(self) -> bool:
        return self._config.healthy_line is None or self._on(self._config.healthy_line)

    def _on(self, line: int | None) -> bool:
        return line is not None and self._moments.levels.get(line, False)

    # What is driven

    def _acknowledge(self) -> None:
        config = self._config
        if config.ack_line is not None:
            if self._ack_up_ns is not None:
                self._set(config.ack_line, on=False)
            self._set(config.ack_line, on=True)
            self._ack_up_ns = self._clock_ns()
        if config.valid_line is None:
            self._shown = False  # no wire will say so

    def _lower_ack(self, now_ns: int) -> None:
        held = ControlFlag.RESULTS_ACK in self._control.flags
        line, up_ns = self._config.ack_line, self._ack_up_ns
        if line is not None and up_ns is not None and not held and now_ns - up_ns >= _ACK_NS:
            self._set(line, on=False)
            self._ack_up_ns = None

    def _set(self, line: int, *, on: bool) -> None:
        try:
            self._opened().set({line: on})
        except OSError as error:
            raise LinkError(f"{self._chip}: write: {error}") from error

    def _opened(self) -> Pins:
        if self._pins is None:
            raise LinkError(f"{self._chip}: not open")
        return self._pins
