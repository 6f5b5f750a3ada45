"""The report is one file, self-contained, true to the switch for pictures."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from cada_edge.bundle import Bundle
from cada_edge.cli.evaluate import show
from cada_edge.data.dataset import Dataset
from cada_edge.errors import DataError
from cada_edge.evaluation import EvaluateConfig, Evaluation, evaluate
from cada_edge.evaluation.drawing import rows_of
from cada_edge.evaluation.gallery import gallery
from cada_edge.evaluation.report import render, shown_point, write_report
from cada_edge.protocols import Runner

MakeBundle = Callable[[Dataset], Bundle]


@pytest.fixture(scope="module")
def found(line: Dataset, make_bundle: MakeBundle, runner: Runner) -> Evaluation:
    """The line's evaluation under the absolute protocol."""
    return evaluate(make_bundle(line), runner, line, EvaluateConfig())


def test_nothing_is_loaded_from_outside(found: Evaluation, line: Dataset, runner: Runner) -> None:
    """Every source is embedded; there is no script, style sheet or address."""
    html = render(found, line.root, runner.spec)
    assert set(re.findall(r'src="([a-z]+:)', html)) == {"data:"}
    assert not re.search(r"<script|<link|https?://", html)


def test_it_states_protocol_version_and_digests(found: Evaluation, line: Dataset, runner: Runner) -> None:
    """Figures never travel without how they were made."""
    html = render(found, line.root, runner.spec)
    for fact in (found.notes[0], found.provenance["bundle_sha256"], line.sha256, "never resized", "fixed scale"):
        assert fact in html


def test_without_images_no_picture_is_inside(found: Evaluation, line: Dataset, runner: Runner) -> None:
    """--no-images leaves plots only, drawn as SVG."""
    assert "data:image/jpeg" in render(found, line.root, runner.spec)
    assert "data:image/jpeg" not in render(found, line.root, runner.spec, images=False)


def test_the_same_evaluation_gives_the_same_bytes(found: Evaluation, line: Dataset, runner: Runner) -> None:
    """No date, no random identifier."""
    first, second = (render(found, line.root, runner.spec, images=False) for _ in range(2))
    assert first == second


def test_the_gallery_shows_both_ends(found: Evaluation, line: Dataset, runner: Runner) -> None:
    """Per product: the good part nearest to rejection, a typical one, and three defects."""
    tiles = gallery(found, line.root, runner.spec, shown_point(found.alignment("cada")))
    assert list(tiles) == ["bolt", "cap", "disc"]
    assert [tile.role for tile in tiles["cap"]] == [
        "highest good",
        "typical good",
        "strongest defect: hole",
        "median defect: hole",
        "weakest defect: hole",
    ]
    assert all(tile.right for tile in tiles["cap"])


def test_names_from_folders_are_escaped(found: Evaluation, line: Dataset, runner: Runner) -> None:
    """A folder name cannot become markup."""
    images = tuple(replace(image, product="<b>&") for image in found.images)
    html = render(replace(found, images=images), line.root, runner.spec)
    assert "<b>&" not in html
    assert "&lt;b&gt;&amp;" in html


def test_a_place_that_cannot_be_written_is_one_error(
    found: Evaluation, line: Dataset, runner: Runner, tmp_path: Path
) -> None:
    """The message names the path."""
    with pytest.raises(DataError, match=r"r\.html"):
        write_report(found, line.root, runner.spec, tmp_path / "no" / "r.html")


def test_the_table_shows_every_alignment(found: Evaluation) -> None:
    """The console table has a row each, the gap and the protocol."""
    console = Console(record=True, width=160, quiet=False, file=None)
    with console.capture() as captured:
        show(found, console)
    text = captured.get()
    assert all(name in text for name in ("raw", "class-aware", "cada", "Gap closure: 100 %", "Absolute-unified"))


def test_axes_of_scores_are_marked_at_few_round_numbers() -> None:
    """Scores that differ in the third place stand as they are, not as what to add to 1.16."""
    axis = Figure().subplots()
    rows_of(axis, ["gear"])
    axis.plot([1.1601, 1.1647], [0, 0])
    axis.figure.canvas.draw()
    told = [label.get_text() for label in axis.get_xticklabels()]
    assert {"1.160", "1.162", "1.164"} <= set(told)
    assert len(told) <= 7
    assert axis.xaxis.get_offset_text().get_text() == ""
