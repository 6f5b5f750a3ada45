"""Single wires between two GPIO chips that the kernel simulates: its own character devices, at both ends.

Skips where the kernel has no gpio-sim; `tests/peers/gpio_vm.sh` boots one that has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from gpio_sim_kit import Chip, simulated_chip, wired
from plc_kit import living, options, place
from runtime_kit import wait_until
from sim_kit import answering, play

from cada_edge.runtime.links.config import DigitalConfig
from cada_edge.runtime.links.digital import take_pins
from cada_edge.runtime.plc import client
from cada_edge.runtime.registers import ResultFlag

pytestmark = pytest.mark.peer
# name of the wire: line at the station's end, line at the PLC's
OUT = {"pass": (0, 3), "valid": (1, 4), "ready": (2, 5), "busy": (3, 6), "healthy": (4, 7)}
IN = {"trigger": (5, 1), "ack": (6, 2)}
RESULTS = (
    ResultFlag.PASS,
    ResultFlag.FAIL | ResultFlag.REJECT,
    ResultFlag.PASS,
    ResultFlag.UNKNOWN | ResultFlag.REJECT,
)


@pytest.fixture
def chips(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Chip, Chip]]:
    """The station's and the PLC's, with wires between them."""
    monkeypatch.setattr(client, "_START_TIMEOUT_S", 300.0)  # an emulated machine takes its time
    with simulated_chip("station") as ours, simulated_chip("plc") as theirs:
        wires = {(ours, here): (theirs, there) for here, there in OUT.values()}
        wires |= {(theirs, there): (ours, here) for here, there in IN.values()}
        with wired(wires):
            yield ours, theirs


def game(chips: tuple[Chip, Chip], mode: Literal["pulse", "level"], after_s: float, *more: str) -> Any:
    """Exit code and facts of a game through the line's own process."""
    lines: dict[str, Any] = {f"{name}_line": here for name, (here, _) in {**OUT, **IN}.items()}
    config = DigitalConfig(kind="digital", chip=str(chips[0].device), mode=mode, **lines)
    wires = ",".join(f"{name}={there}" for name, (_, there) in {**OUT, **IN}.items())
    command = ["--link", "digital", str(chips[1].device), "--wires", wires, "--mode", mode, *more]
    with place(options(mode="triggered", deadline_ns=5 * 10**9), links=(config,)) as station, living(station):
        wait_until(lambda: all(one.up for one in station.process.health.links))
        with answering(station, after_s=after_s, results=RESULTS):
            return play(*command)


@pytest.mark.parametrize("mode", ["pulse", "level"])
def test_a_good_station_breaks_no_promise_on_the_kernels_wires(
    chips: tuple[Chip, Chip], mode: Literal["pulse", "level"]
) -> None:
    """Ten parts, some undecided: all answered, none broken."""
    code, facts = game(chips, mode, 0.01, "--cycles", "10")
    assert (facts["broken"], facts["stopped"]) == ({}, None), facts["violations"]
    assert (code, facts["results"], facts["passed"], facts["violations"]) == (0, 10, 5, [])


def test_a_late_pass_is_told_on_the_kernels_wires(chips: tuple[Chip, Chip]) -> None:
    """A station that takes 3.2 s where the PLC allows 3; an emulated machine may be slower still."""
    code, facts = game(chips, "pulse", 3.2, "--deadline-ms", "3000", "--cycles", "4")
    assert code == 1
    assert "LATE_PASS" in facts["broken"]


def test_the_kernel_keeps_edges_and_their_times(chips: tuple[Chip, Chip]) -> None:
    """Edges that nobody asked for come later with the times at which they were; levels need none."""
    _, chip = chips
    pins = take_pins(DigitalConfig(kind="digital", chip=str(chip.device), pass_line=3), outputs=[1], inputs=[0])
    chip.pull(0, up=True)
    chip.pull(0, up=False)
    chip.pull(0, up=True)
    assert pins.levels() == {0: True}
    edges = pins.edges()
    assert [edge.rose for edge in edges] == [True, False, True]
    assert [edge.at_ns for edge in edges] == sorted(edge.at_ns for edge in edges)
    pins.close()
