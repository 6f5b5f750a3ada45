from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cada_edge.runtime.sources.clock import DeviceClock, FrameCounter

MS = 1_000_000


@given(
    st.lists(st.tuples(st.integers(1, 600_000), st.integers(0, 80)), min_size=1, max_size=30),
    st.floats(-1e-4, 1e-4),
    st.integers(1, 10**18),
)
def test_the_time_of_exposure_is_never_told_too_early(steps: list[tuple[int, int]], drift: float, zero_ns: int) -> None:
    """Whatever delays and drift within 100 ppm, the answer lies between the true exposure and the arrival."""
    clock, now_ns = DeviceClock(), 10**15
    for wait_ms, delay_ms in steps:
        now_ns += wait_ms * MS
        device_ns = zero_ns + int((now_ns - 10**15) * (1 + drift))
        arrival_ns = now_ns + delay_ms * MS
        assert now_ns - 2 <= clock.capture_ns(device_ns, arrival_ns) <= arrival_ns


def test_a_late_arrival_is_dated_back() -> None:
    """Once a quick picture has shown the distance of the clocks, a slow one's delay is known."""
    clock = DeviceClock()
    clock.capture_ns(1000 * MS, 5000 * MS)
    assert abs(clock.capture_ns(1100 * MS, 5170 * MS) - 5100 * MS) < MS


def test_a_camera_that_was_switched_off_starts_a_new_clock() -> None:
    """A device time that goes back means a restart: the arrival counts until more is known."""
    clock = DeviceClock()
    clock.capture_ns(9000 * MS, 10_000 * MS)
    assert clock.capture_ns(50 * MS, 20_000 * MS) == 20_000 * MS


def test_a_camera_without_clock_is_dated_by_arrival() -> None:
    """Neither an absent device time nor one that stands at zero is believed."""
    assert [DeviceClock().capture_ns(device, 7 * MS) for device in (None, 0)] == [7 * MS, 7 * MS]


def test_gaps_in_the_cameras_numbers_are_counted() -> None:
    """A gap is so many pictures lost; a number that wraps or starts anew is none."""
    counter = FrameCounter()
    assert [counter.missed(number) for number in (5, 6, 9, 65535, 1, 2, None, 7)] == [0, 0, 2, 0, 0, 0, 0, 0]
