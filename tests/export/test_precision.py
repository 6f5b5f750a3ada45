"""Lower precisions of a bundle: through the gate, on record, all or nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import typer
from onnx import numpy_helper
from precision_kit import LOOSE, QUICK, open_ort
from typer.testing import CliRunner

from cada_edge.bundle import MODEL, Bundle
from cada_edge.data.dataset import Dataset, Item
from cada_edge.engine_key import Precision
from cada_edge.errors import BundleError, ConfigError, DataError, ExportError, ParityError
from cada_edge.export import ExportConfig, export
from cada_edge.export.gate_report import GateTolerance
from cada_edge.export.precision import add_precisions, split_items
from cada_edge.export.precision_config import PrecisionConfig
from cada_edge.export.precision_report import PrecisionReport
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.types import Prediction, Threshold


def test_both_graphs_and_their_record_are_in_the_bundle(
    made: tuple[Bundle, PrecisionReport], seen_line: Bundle
) -> None:
    """Two files more, smaller than the first, and provenance that says how they came about."""
    bundle, report = made
    assert set(bundle.files) == {*seen_line.files, "model.fp16.onnx", "model.int8.onnx"}
    assert report.sizes["fp32"] > report.sizes["fp16"] > report.sizes["int8"]
    results = bundle.manifest.provenance[-1].results
    assert results["fp16"]["gate"]["passed"]
    calibration = results["int8"]["calibration"]
    assert (calibration["method"], len(calibration["images"])) == ("mse", 16)
    assert calibration["candidates"] == len(calibration["int8_layers"]) + len(calibration["left_out"])


def test_the_same_images_give_the_same_bundle(
    made: tuple[Bundle, PrecisionReport], seen_line: Bundle, tmp_path: Path
) -> None:
    """The record survives writing and reading; nothing in it depends on chance or time."""
    made[0].write(tmp_path / "line.cada")
    assert Bundle.read(tmp_path / "line.cada").sha256 == made[0].sha256
    again, _ = add_precisions(seen_line, ["fp16"], made_items(made[1]), open_ort, QUICK)
    assert again.files["model.fp16.onnx"] == made[0].files["model.fp16.onnx"]


def made_items(report: PrecisionReport) -> list[Item]:
    """Images of the gate."""
    return [shown.case.item for shown in report.gates[0].worst]


def test_no_image_both_calibrates_and_judges(seen_line: Bundle, good: tuple[Item, ...]) -> None:
    """The gate takes images that training never saw; the ranges take others."""
    gate, pool = split_items(seen_line, good, QUICK)
    seen = seen_line.roles()["fit"]
    assert not {item.sha256 for item in gate} & (seen | {item.sha256 for item in pool})
    assert len(gate) == 4


def test_a_failed_gate_leaves_no_bundle_but_a_report(seen_line: Bundle, good: tuple[Item, ...]) -> None:
    """Past the tolerance the call raises with figures, after the report was handed out."""
    threshold = Threshold(0.0, 0.01, 0.02, 0.95, 10, "conformal", "0" * 64)
    calibrated = replace(seen_line, manifest=replace(seen_line.manifest, threshold=threshold))
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

    with pytest.raises(ParityError, match=r"fp16 decides differently.*verdicts flip.*nothing was written.*--max-flips"):
        add_precisions(calibrated, ["fp16"], good, start, strict, on_report=reports.append)
    assert not reports[0]


def test_an_activation_beyond_float16_fails_the_gate(seen_line: Bundle, good: tuple[Item, ...]) -> None:
    """Weights that fit but whose sums do not: the error says which graph, on which image."""
    graph = onnx.load_from_string(seen_line.file(MODEL))
    conv = next(node for node in graph.graph.node if node.output[0] == "student_0")
    for tensor in (tensor for tensor in graph.graph.initializer if tensor.name in conv.input[1:]):
        tensor.CopyFrom(numpy_helper.from_array(np.full(tuple(tensor.dims), 6.5e4, np.float32), tensor.name))
    with pytest.raises(ParityError, match="the fp16 graph gives NaN or inf on"):
        add_precisions(seen_line.with_file(MODEL, graph.SerializeToString()), ["fp16"], good, open_ort, QUICK)


def test_broken_weights_are_found_while_calibrating(seen_line: Bundle, good: tuple[Item, ...]) -> None:
    """A NaN in the encoder is one error about the weights, not a range of NaN."""
    graph = onnx.load_from_string(seen_line.file(MODEL))
    conv = next(node for node in graph.graph.node if node.op_type == "Conv")
    bias = next(tensor for tensor in graph.graph.initializer if tensor.name == conv.input[2])
    bias.CopyFrom(numpy_helper.from_array(np.full(tuple(bias.dims), np.nan, np.float32), bias.name))
    with pytest.raises(ExportError, match="NaN or infinit"):
        add_precisions(seen_line.with_file(MODEL, graph.SerializeToString()), ["int8"], good, open_ort, QUICK)


def test_a_bundle_that_is_not_exported_is_refused(seen_line: Bundle, good: tuple[Item, ...]) -> None:
    """The message names the command to run first."""
    bare = replace(seen_line, files={name: content for name, content in seen_line.files.items() if name != MODEL})
    with pytest.raises(BundleError, match=r"no model\.onnx; run `cada-edge export`"):
        add_precisions(bare, ["fp16"], good, open_ort, QUICK)


def test_three_images_are_too_few_to_calibrate_on(seen_line: Bundle, good: tuple[Item, ...]) -> None:
    """Three images left for the ranges: one error with both numbers."""
    few = [item for item in good if item.sha256 not in seen_line.roles()["fit"]][:6]
    with pytest.raises(
        DataError, match="3 good images are left to calibrate on, at least 16 are needed, beside those that judge"
    ):
        add_precisions(seen_line, ["int8"], few, open_ort, QUICK)


def test_images_of_training_cannot_judge(seen_line: Bundle, tiny_line: Dataset) -> None:
    """With nothing held out there is no gate, so there is no export."""
    with pytest.raises(DataError, match="all 24 good images were used in training"):
        add_precisions(seen_line, ["fp16"], tiny_line.train(), open_ort, QUICK)


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


def cli(*arguments: str) -> Any:
    """Run ``cada-edge export`` in this process."""
    from cada_edge.cli.export import export as command

    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(arguments))


def test_the_command_adds_and_reports(seen_line: Bundle, tiny_line: Dataset, tmp_path: Path) -> None:
    """One command gives the bundle, the figures as JSON, the page and the sheet of the worst images."""
    seen_line.write(tmp_path / "line.cada")
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
        (("--precision", "fp8"), "got 'fp8', expected fp16, int8"),
        (("--calibration-images", "3"), "got 3, expected an integer >= 16"),
    ],
)
def test_wrong_wishes_are_one_error_before_any_work(
    seen_line: Bundle, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    """No images, an unknown precision, too few images: refused, the bundle untouched."""
    seen_line.write(tmp_path / "line.cada")
    before = (tmp_path / "line.cada").read_bytes()
    done = cli(str(tmp_path / "line.cada"), *arguments)
    assert isinstance(done.exception, ConfigError)
    assert words in str(done.exception)
    assert (tmp_path / "line.cada").read_bytes() == before
