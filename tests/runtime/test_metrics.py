"""A status as Prometheus reads it."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from page_kit import fill, make_board, put
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from cada_edge.runtime.board import StatusBoard
from cada_edge.runtime.metrics import METRICS, render
from cada_edge.runtime.status import LATENCY_BUCKETS_S, LinkStatus, SourceStatus

CHECKOUT = Path(os.environ.get("CADA_EDGE_CHECKOUT") or Path(__file__).resolve().parents[2])


def scraped(board: StatusBoard) -> dict[str, Metric]:
    """Families by the name they are scraped under."""
    status = board.snapshot()
    text = render(status, status.alive_mono_s + 0.25).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families: dict[str, Metric], name: str, **labels: str) -> float | None:
    """One sample, or ``None``."""
    found = [s.value for f in families.values() for s in f.samples if s.name == name and s.labels == labels]
    return found[0] if found else None


@pytest.fixture
def families() -> dict[str, Metric]:
    """Of a line with one of everything."""
    board = make_board()
    fill(board)
    return scraped(board)


def test_every_metric_has_its_value(families: dict[str, Metric]) -> None:
    """Counts, states and times arrive under their names and labels."""
    assert value(families, "cada_edge_verdicts_total", source="cam1", status="undecided") == 2
    assert value(families, "cada_edge_source_up", source="cam2") == 0
    assert value(families, "cada_edge_link_up", kind="modbus-server", address="127.0.0.1:502") == 1
    assert value(families, "cada_edge_link_late_results_total", kind="s7", address="10.0.0.1:102") == 2
    assert value(families, "cada_edge_sink_failures_total", sink="mqtt") == 3
    assert value(families, "cada_edge_outbox_reached", sink="mqtt") == 0
    assert value(families, "cada_edge_outbox_reached", sink="csv") is None
    assert value(families, "cada_edge_outbox_waiting_records", sink="mqtt") == 123
    assert value(families, "cada_edge_outbox_waiting_records", sink="csv") is None
    assert value(families, "cada_edge_station_results_total", station="st1", result="pass") == 2
    assert value(families, "cada_edge_station_results_total", station="st1", result="fail") == 2
    assert value(families, "cada_edge_station_alarm", station="st1", alarm="reject run") == 1
    assert value(families, "cada_edge_drift_detected", source="cam1", kind="score") == 1
    assert value(families, "cada_edge_heartbeat_age_seconds") == pytest.approx(0.25)
    assert value(families, "cada_edge_threshold_score") == 0.5


def test_two_links_to_one_plc_are_one_sample() -> None:
    """Prometheus drops all but one sample of the same labels: the PLC is up if both links are, late results add up."""
    board, twice = make_board(), ("modbus-tcp", "10.0.0.1:502")
    board.update(links=(LinkStatus(*twice, True, late=2), LinkStatus(*twice, False, "refused", late=3)))
    families = scraped(board)
    for name, expected in {"cada_edge_link_up": 0, "cada_edge_link_late_results_total": 5}.items():
        found = [one.value for family in families.values() for one in family.samples if one.name == name]
        assert found == [expected]


def test_what_is_not_known_is_absent_and_not_zero(families: dict[str, Metric]) -> None:
    """A drift that was never tested has no distance; a temperature nobody measures no value."""
    assert value(families, "cada_edge_drift_distance_ratio", source="cam2") is None
    assert value(families, "cada_edge_drift_distance_ratio", source="cam1") == 0.2


def test_the_latency_is_a_cumulative_histogram() -> None:
    """Each bucket holds all shorter latencies, the last all of them."""
    board = make_board()
    fill(board)
    families = scraped(board)
    buckets = [s.value for s in families["cada_edge_latency_seconds"].samples if s.name.endswith("_bucket")]
    assert len(buckets) == len(LATENCY_BUCKETS_S) + 1
    assert buckets == sorted(buckets)
    assert buckets[-1] == value(families, "cada_edge_latency_seconds_count") == 6
    total_s = value(families, "cada_edge_latency_seconds_sum")
    assert total_s is not None
    assert math.isfinite(total_s)


def test_hostile_names_cannot_forge_metrics() -> None:
    """Quotes and line feeds in a name stay inside its label."""
    board = make_board()
    name = 'x"} 1\ncada_edge_verdicts_total{source="cam9",status="ok"} 99\\'
    board.update(sources=(SourceStatus(name, True),))
    families = scraped(board)
    assert value(families, "cada_edge_source_up", source=name) == 1
    assert value(families, "cada_edge_verdicts_total", source="cam9", status="ok") is None


def test_names_that_are_no_unicode_can_be_scraped() -> None:
    """The text is UTF-8 whatever a source calls itself, once it came over the wire."""
    board = make_board()
    put(board, 0.1, source_id="cam\udcff")
    status = type(board.snapshot()).from_json(board.snapshot().to_json())
    assert b'source="cam?"' in render(status, 0.0)


def test_every_metric_that_is_scraped_is_listed_and_the_other_way_round(families: dict[str, Metric]) -> None:
    """`METRICS` is the whole list."""
    listed = {about.name.removesuffix("_total") for about in METRICS}
    assert set(families) == listed
    for about in METRICS:
        family = families[about.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (about.kind if about.kind != "info" else "gauge", about.text)


def test_the_documented_table_is_the_list() -> None:
    """docs/operations.md names every metric with its kind, labels and meaning, and no other."""
    path = CHECKOUT / "docs/operations.md"
    rows = re.findall(r"^\| `(cada_edge_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", path.read_text(), re.MULTILINE)
    wanted = [(m.name, m.kind, ", ".join(m.labels), m.text) for m in METRICS]
    assert rows == wanted


@pytest.mark.peer
def test_prometheus_own_linter_has_nothing_to_say() -> None:
    """`promtool check metrics` finds names, kinds and help as Prometheus wants them."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; Debian's package `prometheus` brings it")
    board = make_board()
    fill(board)
    text = render(board.snapshot(), 0)
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stderr + done.stdout) == (0, b"")
