"""Owns one link: opens it, keeps it fed, closes it when it fails and opens it anew.

One thread makes every call of the link, so that a PLC that hangs delays nobody else. What is shown
is a slot, not a queue: a PLC that was away finds the present state, never a verdict of the past.
`ResultGate` decides what of it may be written.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from cada_edge.errors import CadaEdgeError
from cada_edge.runtime.links.gate import ResultGate, Shown
from cada_edge.runtime.links.link import Link
from cada_edge.runtime.registers import HEARTBEAT_PERIOD_S, OfflineReason, StatusBlock, decode, encode, safe

OnControl = Callable[[Sequence[int]], None]

_BEAT_NS = int(HEARTBEAT_PERIOD_S * 1e9)
BLIND_NS = 3 * _BEAT_NS  # what came in after nobody looked for so long may be older than any picture of its part
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0


class LinkState(Enum):
    """Whether the PLC holds what is shown."""

    DOWN = "down"
    UP = "up"


@dataclass(frozen=True)
class LinkHealth:
    """How a link does. Counters are since the supervisor was made.

    Attributes:
        name: of the link.
        state: UP from the first block written on a connection until a call fails.
        connects: times it came up.
        failures: calls that failed, those to open it included.
        writes: blocks written.
        reads: control blocks read.
        late: results masked because they could not be written in time.
        write_ns: how long the last write took.
        last_error: what the last failed call said; empty before the first.
    """

    name: str
    state: LinkState = LinkState.DOWN
    connects: int = 0
    failures: int = 0
    writes: int = 0
    reads: int = 0
    late: int = 0
    write_ns: int = 0
    last_error: str = ""


class LinkSupervisor:
    """Runs one link in a thread of its own. `show` and `health` never block.

    Args:
        link: not opened yet; from now on only the supervisor's thread calls it.
        name: for messages.
        on_control: called from the thread with the 16 words of the control block: after every
            connect, then whenever they change. Must be quick.
        poll_s: how often the control block is read, > 0.
        clock_ns: monotonic time, ns.
        on_blind: called from the thread before `on_control` where nobody could read the control block for
            `BLIND_NS`, or three times `poll_s` where that is longer: what changed did so at a time not known.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        on_control: OnControl,
        poll_s: float = 0.005,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        *,
        on_blind: Callable[[], None] = lambda: None,
    ) -> None:
        self._link, self._on_control = link, on_control
        self._poll_ns, self._clock_ns = int(poll_s * 1e9), clock_ns
        self._on_blind, self._looked_ns = on_blind, clock_ns()
        self._shown = Shown(tuple(encode(StatusBlock())), 0)
        self._gate, self._health = ResultGate(), LinkHealth(name)
        self._wake, self._closing = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name=f"cada-edge-link-{name}", daemon=True)

    @property
    def health(self) -> LinkHealth:
        """How the link does now."""
        return self._health

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def show(self, words: Sequence[int], seq: int, valid_until_ns: int | None) -> None:
        """Let the PLC have this block. For one thread.

        Args:
            words: the 32 words of a status block.
            seq: the number of its result, as in the words.
            valid_until_ns: monotonic time until which the result may be published for the first
                time; ``None`` for no limit, or for the one told before for the same number.

        Raises:
            ConfigError: not 32 words, or they hold another number.
        """
        self._shown = Shown(tuple(words), seq, valid_until_ns).after(self._shown)
        self._wake.set()

    def close(self, timeout_s: float = 3.0) -> None:
        """Leave the safe state in the PLC if the link is up, then disconnect. Safe to call twice.

        Returns after `timeout_s` at the latest; a link that hangs longer is left to its thread.
        """
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._closing:
            connects = self._health.connects
            try:
                self._session()
            except CadaEdgeError as error:
                self._fail(str(error))
            except Exception as error:  # noqa: BLE001  # a dead thread would leave the last PASS in the PLC unseen
                self._fail(f"{type(error).__name__}: {error}")
            finally:
                self._link.close()
            pause_s = _FIRST_PAUSE_S if self._health.connects > connects else min(2 * pause_s, _LONGEST_PAUSE_S)
            self._rest(pause_s)

    def _session(self) -> None:
        """One connection, from open to its first failure or `close`."""
        self._link.open()
        self._gate.connected(self._shown.seq)
        written, written_ns = self._write(self._shown), self._clock_ns()
        self._health = replace(self._health, state=LinkState.UP, connects=self._health.connects + 1)
        control: tuple[int, ...] | None = None
        read_ns = written_ns
        while not self._closing:
            now_ns = self._clock_ns()
            if self._shown.words != written or now_ns - written_ns >= _BEAT_NS:
                written, written_ns = self._write(self._shown), now_ns
            if now_ns >= read_ns:
                control, read_ns = self._read(control), now_ns + self._poll_ns
            self._pause(min(read_ns, written_ns + _BEAT_NS))
        self._leave_safe()

    def _write(self, shown: Shown) -> tuple[int, ...]:
        """Write what may be written of `shown`; gives back its words."""
        start_ns = self._clock_ns()
        # The last write tells how long this one will take to be in the PLC.
        self._link.write_status(self._gate.admit(shown, start_ns + self._health.write_ns))
        self._gate.written(shown)
        self._health = replace(
            self._health,
            writes=self._health.writes + 1,
            write_ns=self._clock_ns() - start_ns,
            late=self._gate.late_count,
        )
        return shown.words

    def _read(self, known: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """Read the control block, and hand it on if it is not the known one."""
        start_ns = self._clock_ns()
        words = self._link.read_control()
        if words is None:
            return None
        self._health = replace(self._health, reads=self._health.reads + 1)
        if (control := tuple(words)) != known:
            if self._clock_ns() - self._looked_ns > max(BLIND_NS, 3 * self._poll_ns):
                self._on_blind()
            self._on_control(control)
        self._looked_ns = start_ns
        return control

    def _leave_safe(self) -> None:
        self._link.write_status(encode(safe(decode(self._shown.words), OfflineReason.STOPPED)))
        self._health = replace(self._health, state=LinkState.DOWN)

    def _pause(self, until_ns: int) -> None:
        """Wait until then, or until something new is shown."""
        self._wake.wait(max(0, until_ns - self._clock_ns()) / 1e9)
        self._wake.clear()

    def _rest(self, pause_s: float) -> None:
        """Stay away from a peer that failed; only `close` cuts it short."""
        until_ns = time.monotonic_ns() + int(pause_s * 1e9)
        while not self._closing and (left_ns := until_ns - time.monotonic_ns()) > 0:
            self._wake.wait(left_ns / 1e9)
            self._wake.clear()

    def _fail(self, error: str) -> None:
        health = self._health
        self._health = replace(health, state=LinkState.DOWN, failures=health.failures + 1, last_error=error)
