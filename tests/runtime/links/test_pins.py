"""The drivers of single wires, on chips whose wires are a file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import gpio_kit
import pytest

from cada_edge.runtime.links.config import DigitalConfig
from cada_edge.runtime.links.digital import take_pins
from cada_edge.runtime.links.pins import Pins

OUT, ALSO_OUT, IN = 1, 2, 3


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[str]:
    """A chip, and drivers that find it."""
    with gpio_kit.installed(tmp_path) as path:
        yield path


def ends(chip: str, driver: str, debounce_ms: float = 0.0) -> tuple[Pins, Pins]:
    """Who drives two lines and hears one, and who has them the other way round."""
    config = DigitalConfig.model_validate(
        {"kind": "digital", "driver": driver, "chip": chip, "pass_line": OUT, "debounce_ms": debounce_ms}
    )
    return take_pins(config, outputs=[OUT, ALSO_OUT], inputs=[IN]), take_pins(
        config, outputs=[IN], inputs=[OUT, ALSO_OUT]
    )


def test_an_edge_has_the_kernels_time(chip: str) -> None:
    """What was set between two times of the monotonic clock tells an edge of that time, however late it is asked."""
    here, there = ends(chip, "gpiod")
    before_ns = time.monotonic_ns()
    here.set({OUT: True, ALSO_OUT: False})
    here.set({OUT: False})
    after_ns = time.monotonic_ns()
    rise, fall = there.edges()
    assert (rise.line, rise.rose, fall.line, fall.rose) == (OUT, True, OUT, False)
    assert before_ns <= rise.at_ns <= fall.at_ns <= after_ns
    assert (rise.after_ns, fall.after_ns) == (rise.at_ns, fall.at_ns)
    assert there.edges() == []
    here.close()
    there.close()


def test_a_debounced_edge_began_before_it_counted(chip: str) -> None:
    """The kernel tells the time at which an input had held long enough."""
    here, there = ends(chip, "gpiod", debounce_ms=3)
    here.set({OUT: True})
    (rise,) = there.edges()
    assert rise.at_ns - rise.after_ns == 3_000_000


def test_more_edges_than_one_read_takes_come_at_once(chip: str) -> None:
    """The library hands out 64 at a time."""
    here, there = ends(chip, "gpiod")
    for count in range(200):
        here.set({OUT: count % 2 == 0})
    assert len(there.edges()) == 200


def test_edges_that_the_kernel_dropped_are_told(chip: str) -> None:
    """A queue that overflowed is an `OSError`: what stands then is not to be trusted."""
    here, there = ends(chip, "gpiod")
    there._request.lose(OUT)  # type: ignore[attr-defined]  # of the driver
    here.set({OUT: True})
    with pytest.raises(OSError, match="1 edges of line 1 were lost; is the input noisy"):
        there.edges()


@pytest.mark.parametrize("driver", ["gpiod", "jetson"])
def test_levels_are_told_without_an_edge(chip: str, driver: str) -> None:
    """A line that is active before the lines are taken, and one that is not."""
    here, there = ends(chip, driver)
    here.set({OUT: True})
    assert there.levels() == {OUT: True, ALSO_OUT: False}


def test_a_look_tells_between_which_times_a_pin_changed(chip: str) -> None:
    """Jetson.GPIO keeps no edges: a change lies between the look before and this one, a pulse between is lost."""
    here, there = ends(chip, "jetson")
    first_ns = time.monotonic_ns()
    assert there.edges() == []
    here.set({OUT: True, ALSO_OUT: True})
    here.set({ALSO_OUT: False})
    (rise,) = there.edges()
    assert (rise.line, rise.rose) == (OUT, True)
    assert first_ns <= rise.after_ns < rise.at_ns <= time.monotonic_ns()
    here.close()
    there.close()


def test_a_pin_that_is_none_is_an_os_error(chip: str) -> None:
    """Whatever the library raises."""
    config = DigitalConfig(kind="digital", driver="jetson", chip=chip, pass_line=41)
    with pytest.raises(OSError, match=r"Jetson\.GPIO: Channel 41 is invalid"):
        take_pins(config, outputs=[41], inputs=[])
