"""The supervisor with links that fail in every way: it goes on, says so, and shows the present."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from link_kit import CONTROL, pattern
from runtime_kit import wait_until

from cada_edge.errors import LinkError
from cada_edge.runtime.links.supervisor import LinkState, LinkSupervisor
from cada_edge.runtime.plc.process import _link_status
from cada_edge.runtime.registers import ResultFlag, StatusFlag, decode
from cada_edge.runtime.status import LinkStatus


class Memory:
    """A link into a list, whose calls fail or hang as told."""

    def __init__(self) -> None:
        self.written: list[tuple[int, ...]] = []
        self.control: Sequence[int] | None = None
        self.fault: Exception | None = None
        self.go = threading.Event()
        self.go.set()
        self.open_now = 0

    def open(self) -> None:
        """Connect."""
        self._maybe()
        self.open_now += 1

    def write_status(self, words: Sequence[int]) -> None:
        """Keep them."""
        self.go.wait()
        self._maybe()
        self.written.append(tuple(words))

    def read_control(self) -> Sequence[int] | None:
        """What is set."""
        self._maybe()
        return self.control

    def close(self) -> None:
        """Disconnect."""
        self.open_now = 0

    def _maybe(self) -> None:
        if self.fault is not None:
            raise self.fault


def _supervised(link: Memory) -> tuple[LinkSupervisor, list[Sequence[int]]]:
    came: list[Sequence[int]] = []
    supervisor = LinkSupervisor(link, "plc", came.append, poll_s=0.005)
    supervisor.start()
    return supervisor, came


def test_any_failure_is_told_and_overcome() -> None:
    """A link's own error and a library's surprise alike end the connection, show in health, and heal by themselves."""
    link = Memory()
    supervisor, _ = _supervised(link)
    for fault in (LinkError("gone"), RuntimeError("surprise")):
        wait_until(lambda: supervisor.health.state is LinkState.UP)
        link.fault = fault
        wait_until(lambda: supervisor.health.state is LinkState.DOWN)
        assert str(fault) in supervisor.health.last_error
        link.fault = None
    wait_until(lambda: supervisor.health.connects == 3)
    supervisor.close()
    assert supervisor.health.failures >= 2
    assert link.open_now == 0


def test_showing_never_waits_and_only_the_newest_is_written() -> None:
    """While a write hangs, `show` returns; what it was told meanwhile is never written but for the last."""
    link = Memory()
    supervisor, _ = _supervised(link)
    wait_until(lambda: supervisor.health.state is LinkState.UP)
    link.go.clear()
    for seq in range(1, 101):
        supervisor.show(pattern(seq), seq, None)
    before = len(link.written)
    link.go.set()
    wait_until(lambda: tuple(pattern(100)) in link.written)
    supervisor.close()
    assert len({words[3] for words in link.written[before:]}) <= 3  # one that was under way, the last, the farewell


def test_control_is_handed_on_when_it_changes() -> None:
    """The control block comes once per change, and anew after a connect."""
    link = Memory()
    link.control = CONTROL
    supervisor, came = _supervised(link)
    wait_until(lambda: supervisor.health.reads > 5)
    assert came == [tuple(CONTROL)]
    link.control = [0] * 16
    wait_until(lambda: len(came) == 2)
    link.fault = LinkError("gone")
    wait_until(lambda: supervisor.health.state is LinkState.DOWN)
    link.fault = None
    wait_until(lambda: len(came) == 3)
    supervisor.close()
    assert came[1:] == [(0,) * 16] * 2


def test_a_change_that_nobody_could_see_is_told_as_such() -> None:
    """What stands in the control block after a break of 0.3 s and more came at a time not known."""
    link, told = Memory(), list[Sequence[int] | None]()
    link.control = CONTROL
    supervisor = LinkSupervisor(link, "plc", told.append, on_blind=lambda: told.append(None))
    supervisor.start()
    wait_until(lambda: len(told) == 1)
    link.control = [0] * 16
    wait_until(lambda: len(told) == 2)
    link.go.clear()
    time.sleep(0.5)
    link.control = CONTROL
    link.go.set()
    wait_until(lambda: len(told) == 4)
    supervisor.close()
    assert told == [tuple(CONTROL), (0,) * 16, None, tuple(CONTROL)]


def test_a_result_whose_time_is_over_is_written_as_late() -> None:
    """The PLC gets REJECT and LATE for a result that the link could not bring in time."""
    link = Memory()
    supervisor, _ = _supervised(link)
    wait_until(lambda: supervisor.health.state is LinkState.UP)
    supervisor.show(pattern(1), 1, valid_until_ns=1)
    wait_until(lambda: any(words[3] == 1 for words in link.written))
    supervisor.close()
    first = next(decode(words) for words in link.written if words[3] == 1)
    assert first.result == ResultFlag.LATE | ResultFlag.REJECT | ResultFlag.UNKNOWN
    assert supervisor.health.late == 1


def test_the_status_of_a_link_counts_the_results_it_showed_as_late() -> None:
    """What page and metrics show of a writer link has them; a server has none."""
    supervisor, _ = _supervised(Memory())
    wait_until(lambda: supervisor.health.state is LinkState.UP)
    supervisor.show(pattern(1), 1, valid_until_ns=1)
    wait_until(lambda: _link_status("s7", "plc", supervisor).late == 1)
    supervisor.close()
    assert _link_status("modbus-server", "here", None) == LinkStatus("modbus-server", "here", up=True)


def test_closing_leaves_the_safe_state() -> None:
    """The last block written says offline, nothing valid, REJECT; a link that hangs holds nobody who closes."""
    link = Memory()
    supervisor, _ = _supervised(link)
    wait_until(lambda: supervisor.health.state is LinkState.UP)
    supervisor.show(pattern(1), 1, None)
    wait_until(lambda: tuple(pattern(1)) in link.written)
    supervisor.close()
    last = decode(link.written[-1])
    assert not last.flags & (StatusFlag.ONLINE | StatusFlag.RESULTS_VALID)
    assert ResultFlag.PASS not in last.result
    hung = Memory()
    hung.go.clear()
    supervisor, _ = _supervised(hung)
    supervisor.close(timeout_s=0.05)
    hung.go.set()
