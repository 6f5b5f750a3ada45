from __future__ import annotations

import numpy as np
import pytest

from cada_edge.runtime.benchmark.pacing import Step, SystemClock, closed_loop, falling_behind, open_loop

MS = 1_000_000
N, WORK_MS, STALL_AT, STALL_MS, PERIOD_MS = 1000, 2, 300, 500, 10


class FakeClock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.time_ns = 0

    def now_ns(self) -> int:
        """The time."""
        return self.time_ns

    def sleep_until_ns(self, due_ns: int) -> None:
        """Let it pass."""
        self.time_ns = max(self.time_ns, due_ns)


def stalling(clock: FakeClock, latencies_ms: list[float]) -> Step:
    """Work of 2 ms, once of half a second."""

    def step(index: int, due_ns: int) -> None:
        clock.time_ns += (STALL_MS if index == STALL_AT else WORK_MS) * MS
        latencies_ms.append((clock.time_ns - due_ns) / MS)

    return step


def test_a_closed_loop_hides_a_stall() -> None:
    """Half a second of standstill is one slow frame: neither p50 nor p99 knows of it."""
    clock, found = FakeClock(), list[float]()
    closed_loop(stalling(clock, found), N, clock)
    assert np.quantile(found, 0.99) == WORK_MS
    assert sum(one > WORK_MS for one in found) == 1


def test_an_open_loop_shows_the_stall_in_every_frame_it_held_up() -> None:
    """The same standstill delays the frames that were due meanwhile, and p99 says so."""
    clock, found = FakeClock(), list[float]()
    open_loop(stalling(clock, found), N, PERIOD_MS * MS, clock)
    assert np.quantile(found, 0.99) > 400
    held_up = sum(one > WORK_MS for one in found)
    assert held_up == -(-(STALL_MS - WORK_MS) // (PERIOD_MS - WORK_MS))
    assert found[STALL_AT + 1] == STALL_MS - PERIOD_MS + WORK_MS


def test_no_frame_is_early_or_left_out() -> None:
    """Every scheduled time comes once, whatever happened before."""
    clock, due = FakeClock(), list[int]()

    def step(_index: int, due_ns: int) -> None:
        assert clock.time_ns >= due_ns
        due.append(due_ns)
        clock.time_ns += 25 * MS

    open_loop(step, 50, PERIOD_MS * MS, clock)
    assert np.diff(due).tolist() == [PERIOD_MS * MS] * 49


def test_a_rate_that_cannot_be_kept_up_is_said() -> None:
    """Work of 12 ms every 10 ms waits ever longer; a stall that is made good, and a quiet run, are nothing to say."""
    assert "100 frames a second cannot be kept up" in falling_behind([i * 2 * MS for i in range(100)], 100)
    assert not falling_behind([*([0] * 60), *(i * MS for i in range(20, 0, -1)), *([0] * 20)], 100)
    assert not falling_behind([i * MS // 100 for i in range(100)], 100)
    assert not falling_behind([], 100)


@pytest.mark.parametrize("ahead_ns", [-MS, 0, 2 * MS])
def test_the_real_clock_never_wakes_early(ahead_ns: int) -> None:
    """What is due later is waited for, what is past is not."""
    clock = SystemClock()
    due_ns = clock.now_ns() + ahead_ns
    clock.sleep_until_ns(due_ns)
    assert clock.now_ns() >= due_ns
