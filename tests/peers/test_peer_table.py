from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from peer_table import FLOOR, Accuracy, Subject, duels, fastest, read_accuracies, rows, to_markdown

from cada_edge.errors import ConfigError

OURS = Subject("cada-edge revdist (line)", "ONNX Runtime", "digest", ours=True)
SLOW, FAST = (Subject("anomalib PaDiM", way, "padim") for way in ("torch", "OpenVINO"))
OWN = replace(FAST, way="its own inferencer: OpenVINOInferencer")
ROUNDED = replace(OWN, way="its own inferencer: OpenVINOInferencer as it comes, bfloat16", rounded=True)
ACCURACIES = {"digest": Accuracy(0.9, 0.7, 0.89, 0.88), "padim": Accuracy(0.87, 0.76, 0.84)}


def steady(ms: float) -> list[int]:
    """Thirty samples, in ns, of which every third is half as long again."""
    return [round(ms * 1e6 * (1.5 if i % 3 == 2 else 1.0)) for i in range(30)]


TIMES = {FLOOR: steady(10), OURS: steady(14), SLOW: steady(80), FAST: steady(28), OWN: steady(35), ROUNDED: steady(12)}


def test_every_ratio_is_to_the_bare_encoder() -> None:
    """p50 and its ratio are those of the samples; p99 is not stated from thirty of them."""
    found = {row.subject: row for row in rows(TIMES, ACCURACIES)}
    assert found[FLOOR].over_floor.value == 1.0
    assert found[OURS].p50_ms == pytest.approx(14)
    assert found[OURS].over_floor.value == pytest.approx(1.4)
    assert found[SLOW].over_floor.value == pytest.approx(8.0)
    assert found[SLOW].p99_ms is None
    assert found[FLOOR].accuracy is None
    assert found[FAST].accuracy == ACCURACIES["padim"]


def test_a_duel_is_between_the_fastest_ways_of_both_in_float32() -> None:
    """Theirs over ours, and ours less theirs in one pool, each judged as it would be on a line."""
    found = rows(TIMES, ACCURACIES)
    assert fastest(found)["anomalib PaDiM"].subject == FAST
    (duel,) = duels(TIMES, found)
    assert (duel.ours, duel.theirs) == (OURS.name, FAST.name)
    assert duel.times_faster.value == pytest.approx(2.0)
    assert duel.pooled_gain == pytest.approx(0.12)  # CADA's pool of ours, the raw pool of theirs


def test_what_was_not_measured_is_a_dash() -> None:
    """No accuracy, no figure and no gain; a way that was left out is an empty cell."""
    found = rows({FLOOR: TIMES[FLOOR], OURS: TIMES[OURS], SLOW: TIMES[SLOW]}, {})
    fights = duels(TIMES, found)
    assert fights[0].pooled_gain is None
    table = to_markdown(found, fights)
    assert "| cada-edge revdist (line) | - | - | - | - | 14.0; 1.40 (" in table
    assert "| bare encoder | - | - | - | - | 10.0; 1.00 (1.00 to 1.00) | - |" in table


def test_the_table_has_a_row_per_model_and_a_column_per_way() -> None:
    """Accuracy once, times by way, the peer's own inferencer by its name."""
    found = rows(TIMES, ACCURACIES)
    table = to_markdown(found, duels(TIMES, found))
    assert "| anomalib PaDiM | 87.0 | 76.0 | 84.0 | - | - | 28.0; 2.80 (" in table
    assert "OpenVINOInferencer: 35.0; 3.50 (" in table
    assert "OpenVINOInferencer as it comes, bfloat16: 12.0; 1.20 (" in table
    assert "| cada-edge revdist (line) | 90.0 | 70.0 | 89.0 | 88.0 | 14.0; 1.40 (" in table
    assert "| +12.0 |" in table


def measured(value: float) -> dict[str, Any]:
    """Figures as a report has them."""
    return {"image_auroc": {"value": value, "reason": ""}}


def evaluation(protocol: str) -> dict[str, Any]:
    """The parts of an evaluation's JSON that are read."""
    alignments = [
        {"name": name, "metrics": measured(value), "products": {"cap": measured(0.8), "gear": measured(1.0)}}
        for name, value in (("raw", 0.7), ("class-aware", 0.89), ("cada", 0.88))
    ]
    return {
        "config": {"protocol": protocol},
        "provenance": {"bundle_sha256": "digest"},
        "alignments": alignments,
    }


def test_accuracies_come_from_both_kinds_of_file(tmp_path: Path) -> None:
    """Peers by name, a bundle by its digest, with the mean of its products."""
    raw = {"pooled": measured(0.76), "mean_of_products": measured(0.87)}
    peers = {"padim": {"figures": {"raw": raw, "class-aware": {"pooled": measured(0.84)}}}}
    files = [tmp_path / "peers.json", tmp_path / "line.json"]
    for file, content in zip(files, (peers, evaluation("absolute")), strict=True):
        file.write_text(json.dumps(content))
    assert read_accuracies(files) == ACCURACIES


def test_another_protocol_is_refused(tmp_path: Path) -> None:
    """A mean over products must not stand in the column of the pool."""
    file = tmp_path / "line.json"
    file.write_text(json.dumps(evaluation("model")))
    with pytest.raises(ConfigError, match="expected 'absolute'"):
        read_accuracies([file])
