"""The simulated PLC against real stations: a good one has no violation, a wrong one is told."""

from __future__ import annotations

import pytest
from plc_kit import living, options, place
from sim_kit import answering, play


@pytest.mark.parametrize("arguments", [[], ["--heartbeat"], ["--buffer", "4"]])
def test_a_good_station_breaks_no_promise(arguments: list[str]) -> None:
    """Twenty handshakes with a real station: twenty results, no violation."""
    with place(options(mode="triggered", deadline_ns=5 * 10**9)) as station, living(station), answering(station):
        code, facts = play("--port", str(station.port), *arguments)
    assert (code, facts["results"], facts["passed"], facts["violations"]) == (0, 20, 20, [])


def test_a_pass_after_the_deadline_is_told() -> None:
    """A station that takes 50 ms where the PLC allows 5 breaks its promise, and the program leaves with 1."""
    with place(options(mode="triggered")) as station, living(station), answering(station, after_s=0.05):
        code, facts = play("--port", str(station.port), "--deadline-ms", "5", "--cycles", "3", "--patience-s", "5")
    assert code == 1
    assert facts["violations"]


def test_giving_up_keeps_the_violations_seen_until_then() -> None:
    """A station that broke its promise once and then falls silent: its breach stands beside why the game ended."""
    kind = options(mode="triggered", deadline_ns=60 * 10**9)
    with place(kind) as station, living(station), answering(station, after_s=0.05, most=1):
        code, facts = play("--port", str(station.port), "--deadline-ms", "5", "--cycles", "9000", "--patience-s", "1")
    assert code == 1
    assert "LATE_PASS" in facts["broken"]
    assert "nothing for 1 s" in str(facts["stopped"])
