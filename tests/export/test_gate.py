"""The accuracy gate: what it counts, what it is shown, and the page it leaves."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cada_edge.bundle import Bundle
from cada_edge.data.dataset import Item
from cada_edge.export.cases import cases_of
from cada_edge.export.gate import auroc, compare
from cada_edge.export.gate_page import render_page
from cada_edge.export.gate_report import GateTolerance
from cada_edge.export.precision_report import PrecisionReport
from cada_edge.export.worst import worst_sheet
from cada_edge.imaging import write_png
from cada_edge.types import ImageSpec, Prediction, Threshold


def prediction(scores: list[float], novelty: float = 0.0) -> Prediction:
    """Scores with maps of the same height."""
    score = np.array(scores, np.float32)
    flat = np.ones_like(score)
    return Prediction(score, np.repeat(score, 4).reshape(-1, 2, 2), 0 * flat, flat, novelty * flat)


def test_the_gate_counts_flips_false_rejects_and_auroc(good: tuple[Item, ...]) -> None:
    """Two good and two damaged images, by hand: one good part newly rejected, one damage now missed."""
    cases = cases_of(good[:2])
    threshold = Threshold(1.0, 0.01, 0.02, 0.95, 10, "conformal", "0" * 64)
    before, after = prediction([0.5, 2.0, 0.6, 1.5]), prediction([1.2, 2.0, 0.6, 0.9])
    report = compare("int8", cases, before, after, threshold=threshold, tolerance=GateTolerance(0.1, 0.1))
    assert (report.flips, report.flip_rate, report.auroc) == (2, 0.5, (1.0, 0.75))
    assert (report.products[0].before, report.products[0].after) == (0, 1)
    assert [shown.flipped for shown in report.worst[:3]] == [True, True, False]
    assert len(report.failures) == 2
    json.dumps(report.to_json(), allow_nan=False)


def test_ties_count_half_in_the_auroc() -> None:
    """Equal scores of good and bad say nothing: 0.5; perfect order gives 1, reversed order 0."""
    labels = np.array([False, False, True, True])
    for scores, expected in (([1, 1, 1, 1], 0.5), ([1, 2, 3, 4], 1.0), ([3, 4, 1, 2], 0.0)):
        assert auroc(np.array(scores, np.float32), labels) == expected


def test_damage_is_visible_and_repeatable(good: tuple[Item, ...]) -> None:
    """Each case gives the same picture every time, and the damaged one differs from the good one."""
    for whole, hurt in zip(cases_of(good[:6])[::2], cases_of(good[:6])[1::2], strict=True):
        spec = ImageSpec((64, 96))
        assert np.array_equal(hurt.picture(spec), hurt.picture(spec))
        assert np.abs(hurt.picture(spec).astype(int) - whole.picture(spec)).max() > 12


def test_the_worst_images_make_one_sheet(made: tuple[Bundle, PrecisionReport]) -> None:
    """A row per image: picture, both maps and the scale."""
    sheet = worst_sheet(made[1].gates[0], made[0].manifest.spec)
    assert sheet.dtype == np.uint8
    assert sheet.shape[0] == len(made[1].gates[0].worst) * (256 + 28)


def test_the_page_stands_alone_and_tells_all(made: tuple[Bundle, PrecisionReport]) -> None:
    """Figures, tolerances, every worst image three times, every layer; nothing is fetched from anywhere."""
    bundle, report = made
    page = render_page(report, bundle.manifest.spec)
    sources = re.findall(r'(?:src|href)="([^"]{5})', page)
    pictures = 3 * sum(len(gate.worst) for gate in report.gates)
    assert set(sources) == {"data:"}
    assert len(sources) == pictures + len(report.gates)
    assert "<script" not in page
    assert report.int8 is not None
    told = [one.layer for one in report.int8.selection.effects] + [one.product for one in report.gates[0].products]
    assert not [word for word in told if word not in page]
    assert ("passed" in page, "refused" in page) == (True, False)


def test_the_page_of_a_refused_graph_says_what_is_past(made: tuple[Bundle, PrecisionReport]) -> None:
    """The failure in words, and names of files and products as text, whatever they hold."""
    report = made[1]
    gate = report.gates[0]
    strange = replace(gate.products[0], product="<b>&", before=0, after=9, images=9)
    none = GateTolerance(auroc=0.0, flips=0.0, false_rejects=0.0)
    refused = replace(gate, flips=7, tolerance=none, products=(strange,))
    page = render_page(replace(report, gates=(refused,)), made[0].manifest.spec)
    assert "refused" in page
    assert "7 verdicts flip" in page
    assert "False rejects of &lt;b&gt;&amp;" in page
    assert "<b>&<" not in page


@pytest.mark.real
def test_real_images_pass_as_pictures_of_any_shape(real_data: Path, tmp_path: Path) -> None:
    """Damage is painted on real photographs too, whatever their aspect ratio and brightness."""
    del tmp_path
    from cada_edge.data.dataset import scan

    items = [item for item in scan(real_data).items if item.defect is None][::150]
    for whole, hurt in zip(cases_of(items)[::2], cases_of(items)[1::2], strict=True):
        spec = ImageSpec((128, 128))
        assert np.abs(hurt.picture(spec).astype(int) - whole.picture(spec)).max() > 12


def test_pictures_are_read_as_the_line_reads_them(tmp_path: Path) -> None:
    """A case without damage is exactly the prepared picture."""
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    write_png(tmp_path / "a.png", image)
    case = cases_of([Item(tmp_path / "a.png", "0" * 64, "", "train")])[0]
    assert np.array_equal(case.picture(ImageSpec((64, 64))), image)
