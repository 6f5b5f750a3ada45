"""A whole line at full rate for a while: nothing grows, nothing is lost. An hour of it: ``tests/peers/soak.py``."""

from __future__ import annotations

import importlib.util
import math
import shutil
from pathlib import Path

import pytest
from runtime_kit import make_bundle, picture
from soak import MIB, Sample, Soak, figures, markdown, slope, soak
from whole_line import node_modules

from cada_edge.imaging import write_png

SECONDS, GROWTH_MIB = 180.0, 40.0
PAGE = all(importlib.util.find_spec(name) for name in ("h11", "prometheus_client"))
PEER = shutil.which("node") is not None and node_modules() is not None


@pytest.mark.slow
@pytest.mark.skipif(not PAGE, reason="the page needs h11 and prometheus-client: pip install cada-edge[metrics]")
def test_a_line_at_full_rate_holds_what_it_has_and_loses_no_record(tmp_path: Path) -> None:
    """Handles and threads of every process stay, memory stays within bounds, and every verdict is in the records."""
    images = tmp_path / "images"
    images.mkdir()
    for index, level in enumerate((0, 255, 10, 200)):
        write_png(images / f"{index}.png", picture(level))
    make_bundle().write(tmp_path / "line.cada")
    seen = soak(tmp_path, tmp_path / "line.cada", images, SECONDS, peer=PEER)
    found = figures(seen)
    # A toy model judges hundreds of parts a second: the archive may be too slow for it, and says so.
    assert not [problem for problem in found["problems"] if not problem.startswith("archive")]
    assert found["records_equal"], (seen.counts, seen.summary)
    assert seen.results == len(seen.latencies_ms) > 1000
    assert set(found["processes"]) == {"main", "PLC process", "page"}
    for role, one in found["processes"].items():
        assert max(one["handles"]) - min(one["handles"]) <= 6, (role, one)  # a connection of the page, a journal
        assert one["handles"][-1] <= one["handles"][0] + 3, (role, one)
        assert max(one["threads"]) == min(one["threads"]), (role, one)
        assert one["rss_mib"][1] - one["rss_mib"][0] < GROWTH_MIB, (role, one)
    if found["plc"]:
        assert (found["plc"]["torn"], found["plc"]["unasked"]) == (0, 0)


def test_the_slope_of_memory_is_that_of_a_line() -> None:
    """3 MiB/h with a saw tooth on top is found within its interval; the interval does not hold 0."""
    times = [float(second) for second in range(3600)]
    sizes = [100 * MIB + 3 * MIB * at / 3600 + MIB / 10 * (at % 60) / 60 for at in times]
    gradient, margin = slope(times, sizes)
    assert abs(gradient - 3) < max(margin, 0.01)
    assert gradient - margin > 0


def test_a_lost_record_shows() -> None:
    """A verdict that the line counted and the records do not hold is told in the table."""
    samples = [Sample(float(at), "main", 1 << 20, 9, 3, 4096) for at in range(100)]
    summary = {"ok": 20, "ng": 1, "undecided": 0, "seconds": 100.0, "problems": []}
    found = figures(Soak(samples, [10.0] * 20, {"ok": 20}, 20, summary, None, [0.0, 0.0]))
    assert not found["records_equal"]
    assert "equal to the records: False" in markdown(found)
    assert math.isclose(found["latency_ratio"][1], 1.0)
