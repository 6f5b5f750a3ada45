"""Lower precisions of a bundle: through the gate, on record, all or nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import typer
from onnx import numpy_helper
from typer.testing import CliRunner

from cada_edge.bundle import MODEL, Bundle
from cada_edge.data.dataset import Dataset, Item
from cada_edge.engine_key import Precision
from cada_edge.errors import BundleError, ConfigError, DataError, ExportError, ParityError
from cada_edge.export import ExportConfig, export
from cada_edge.export.cases import cases_of
from cada_edge.export.gate import auroc, compare
from cada_edge.export.gate_page import render_page
from cada_edge.export.gate_report import GateTolerance
from cada_edge.export.precision import add_precisions, split_items
from cada_edge.export.precision_config import PrecisionConfig
from cada_edge.export.precision_report import PrecisionReport
from cada_edge.export.worst import worst_sheet
from cada_edge.imaging import write_png
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.types import ImageSpec, Prediction, Threshold

WIDE = GateTolerance(auroc=1.0, flips=1.0, false_rejects=1.0)
LOOSE: Mapping[Precision, GateTolerance] = {"fp16": WIDE, "int8": WIDE}
# An untrained model's scores are large and coarse: what is proven here is the way, not the figures.
QUICK = PrecisionConfig(
    calibration_images=16,
    range_method="mse",
    score_budget=1e3,
    probe_images=1,
    gate_images=4,
    tolerances=LOOSE,
)


def open_ort(bundle: Bundle, precision: Precision) -> OrtRunner:
    """The runner of the line."""
    return OrtRunner(bundle, threads=1, precision=precision)


@pytest.fixture(scope="module")
def line(bundle: Bundle, content: bytes, tiny_line: Dataset) -> Bundle:
    """An exported bundle that was trained on the train images of three small products."""
    seen = [item.sha256 for item in tiny_line.train()]
    return bundle.with_file(MODEL, content).with_roles({"fit": seen, "align": []})


@pytest.fixture(scope="module")
def good(tiny_line: Dataset) -> tuple[Item, ...]:
    """Its good images: 24 seen, 9 held out."""
    return tuple(item for item in tiny_line.items if item.defect is None)


@pytest.fixture(scope="module")
def made(line: Bundle, good: tuple[Item, ...]) -> tuple[Bundle, PrecisionReport]:
    """The bundle with both precisions."""
    return add_precisions(line, ["int8", "fp16"], good, open_ort, QUICK)


def prediction(scores: list[float], novelty: float = 0.0) -> Prediction:
    """Scores with maps of the same height."""
    score = np.array(scores, np.float32)
    flat = np.ones_like(score)
    return Prediction(score, np.repeat(score, 4).reshape(-1, 2, 2), 0 * flat, flat, novelty * flat)


def test_both_graphs_and_their_record_are_in_the_bundle(made: tuple[Bundle, PrecisionReport], line: Bundle) -> None:
    """Two files more, smaller than the first, and provenance that says how they came about."""
    bundle, report = made
    assert set(bundle.files) == {*line.files, "model.fp16.onnx", "model.int8.onnx"}
    assert report.sizes["fp32"] > report.sizes["fp16"] > report.sizes["int8"]
    results = bundle.manifest.provenance[-1].results
    assert results["fp16"]["gate"]["passed"]
    calibration = results["int8"]["calibration"]
    assert (calibration["method"], len(calibration["images"])) == ("mse", 16)
    assert calibration["candidates"] == len(calibration["int8_layers"]) + len(calibration["left_out"])


def test_the_same_images_give_the_same_bundle(
    made: tuple[Bundle, PrecisionReport], line: Bundle, tmp_path: Path
) -> None:
    """The record survives writing and reading; nothing in it depends on chance or time."""
    made[0].write(tmp_path / "line.cada")
    assert Bundle.read(tmp_path / "line.cada").sha256 == made[0].sha256
    again, _ = add_precisions(line, ["fp16"], made_items(made[1]), open_ort, QUICK)
    assert again.files["model.fp16.onnx"] == made[0].files["model.fp16.onnx"]


def made_items(report: PrecisionReport) -> list[Item]:
    """Images of the gate."""
    return [shown.case.item for shown in report.gates[0].worst]


def test_no_image_both_calibrates_and_judges(line: Bundle, good: tuple[Item, ...]) -> None:
    """The gate takes images that training never saw; the ranges take others."""
    gate, pool = split_items(line, good, QUICK)
    seen = line.roles()["fit"]
    assert not {item.sha256 for item in gate} & (seen | {item.sha256 for item in pool})
    assert len(gate) == 4


def test_a_failed_gate_leaves_no_bundle_but_a_report(line: Bundle, good: tuple[Item, ...]) -> None:
    """Past the tolerance the call raises with figures, after the report was handed out."""
    threshold = Threshold(0.0, 0.01, 0.02, 0.95, 10, "conformal", "0" * 64)
    calibrated = replace(line, manifest=replace(line.manifest, threshold=threshold))
    reports: list[PrecisionReport] = []
    strict = replace(QUICK, tolerances={**LOOSE, "fp16": GateTolerance(auroc=0.0, flips=0.0)})

    class Shifted(OrtRunner):
        """A runner whose lower precision scores everything below the threshold."""

        def infer(self, batch: Any) -> Prediction:
            found = super().infer(batch)
            return replace(found, score=found.score * 0 - 1, novelty=found.novelty * 0)

    def start(bundle: Bundle, precision: Precision) -> OrtRunner:
        kind = OrtRunner if precision == "fp32" else Shifted
        return kind(bundle, threads=1, precision=precision)

    with pytest.raises(ParityError, match=r"fp16 decides differently.*verdicts flip.*nothing was written"):
        add_precisions(calibrated, ["fp16"], good, start, strict, on_report=reports.append)
    assert not reports[0]


def test_an_activation_beyond_float16_fails_the_gate(line: Bundle, good: tuple[Item, ...]) -> None:
    """Weights that fit but whose sums do not: the error says which graph, on which image."""
    graph = onnx.load_from_string(line.file(MODEL))
    conv = next(node for node in graph.graph.node if node.output[0] == "student_0")
    for tensor in (tensor for tensor in graph.graph.initializer if tensor.name in conv.input[1:]):
        tensor.CopyFrom(numpy_helper.from_array(np.full(tuple(tensor.dims), 6.5e4, np.float32), tensor.name))
    with pytest.raises(ParityError, match="the fp16 graph gives NaN or inf on"):
        add_precisions(line.with_file(MODEL, graph.SerializeToString()), ["fp16"], good, open_ort, QUICK)


def test_broken_weights_are_found_while_calibrating(line: Bundle, good: tuple[Item, ...]) -> None:
    """A NaN in the encoder is one error about the weights, not a range of NaN."""
    graph = onnx.load_from_string(line.file(MODEL))
    conv = next(node for node in graph.graph.node if node.op_type == "Conv")
    bias = next(tensor for tensor in graph.graph.initializer if tensor.name == conv.input[2])
    bias.CopyFrom(numpy_helper.from_array(np.full(tuple(bias.dims), np.nan, np.float32), bias.name))
    with pytest.raises(ExportError, match="NaN or infinit"):
        add_precisions(line.with_file(MODEL, graph.SerializeToString()), ["int8"], good, open_ort, QUICK)


def test_a_bundle_that_is_not_exported_is_refused(line: Bundle, good: tuple[Item, ...]) -> None:
    """The message names the command to run first."""
    bare = replace(line, files={name: content for name, content in line.files.items() if name != MODEL})
    with pytest.raises(BundleError, match=r"no model\.onnx; run `cada-edge export`"):
        add_precisions(bare, ["fp16"], good, open_ort, QUICK)


def test_three_images_are_too_few_to_calibrate_on(line: Bundle, good: tuple[Item, ...]) -> None:
    """Three images left for the ranges: one error with both numbers."""
    few = [item for item in good if item.sha256 not in line.roles()["fit"]][:6]
    with pytest.raises(DataError, match="3 good images are left to calibrate on, at least 16"):
        add_precisions(line, ["int8"], few, open_ort, QUICK)


def test_images_of_training_cannot_judge(line: Bundle, tiny_line: Dataset) -> None:
    """With nothing held out there is no gate, so there is no export."""
    with pytest.raises(DataError, match="all 24 good images were used in training"):
        add_precisions(line, ["fp16"], tiny_line.train(), open_ort, QUICK)


@pytest.mark.parametrize("count", [3, 0, -1])
def test_a_wish_for_too_few_calibration_images_names_the_setting(count: int) -> None:
    """Fewer than 16 are refused before anything runs."""
    with pytest.raises(ConfigError, match=r"calibration_images: got .*>= 16"):
        PrecisionConfig(calibration_images=count)


def test_another_graph_drops_what_was_made_of_the_old_one(made: tuple[Bundle, PrecisionReport]) -> None:
    """A new export keeps lower precisions only where the float32 graph is the same, byte for byte."""
    quick = ExportConfig(noise_images=2)
    same, _ = export(made[0], OrtRunner, config=quick)
    assert "model.int8.onnx" in same.files
    stale = made[0].with_file(MODEL, b"an older graph")
    fresh, _ = export(stale, OrtRunner, config=quick)
    assert "model.int8.onnx" not in fresh.files
    assert [stage.name for stage in fresh.manifest.provenance] == ["export"]


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


def cli(*arguments: str) -> Any:
    """Run ``cada-edge export`` in this process."""
    from cada_edge.cli.export import export as command

    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(arguments))


def test_the_command_adds_and_reports(line: Bundle, tiny_line: Dataset, tmp_path: Path) -> None:
    """One command gives the bundle, the figures as JSON, the page and the sheet of the worst images."""
    line.write(tmp_path / "line.cada")
    wide = ("--max-auroc-fall", "1", "--max-flips", "1", "--gate-images", "4", "--max-images", "1")
    words = ("--images", str(tiny_line.root), "--precision", "fp16", "--report", str(tmp_path / "r"), "--json")
    done = cli(str(tmp_path / "line.cada"), *words, *wide)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["precisions"]["fp16"]["gate"]["passed"]
    assert {path.name for path in (tmp_path / "r").iterdir()} == {"precision.html", "precision.json", "worst-fp16.png"}
    assert "model.fp16.onnx" in Bundle.read(tmp_path / "line.cada").files


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--precision", "fp16"), "needs good images"),
        (("--precision", "fp8"), "got fp8, expected fp16, int8"),
        (("--calibration-images", "3"), "got 3, expected an integer >= 16"),
    ],
)
def test_wrong_wishes_are_one_error_before_any_work(
    line: Bundle, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    """No images, an unknown precision, too few images: refused, the bundle untouched."""
    line.write(tmp_path / "line.cada")
    before = (tmp_path / "line.cada").read_bytes()
    done = cli(str(tmp_path / "line.cada"), *arguments)
    assert isinstance(done.exception, ConfigError)
    assert words in str(done.exception)
    assert (tmp_path / "line.cada").read_bytes() == before


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
