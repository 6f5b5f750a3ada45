"""`cada-edge verify`: every backend named, run or not, and a non-zero exit where one differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("torch", reason="making a bundle needs the train extra")

import onnx  # after the skip
from onnx import numpy_helper

from cada_edge.bundle import MODEL, Bundle, Manifest
from cada_edge.engine_key import graph_name
from cada_edge.errors import BundleError, ConfigError, EngineError, MissingDependencyError, NoDeviceError
from cada_edge.export import export_onnx
from cada_edge.export.fp16 import to_half
from cada_edge.export.onnx import serialised
from cada_edge.export.verify import Backend, verify
from cada_edge.export.zones import find_zones
from cada_edge.models.store import components, model_files
from cada_edge.protocols import Runner
from cada_edge.runtime.runners.ort import OrtRunner

if TYPE_CHECKING:
    from cada_edge.data.dataset import Dataset
    from cada_edge.models import UnifiedModel


@pytest.fixture(scope="module")
def exported(build_model: Callable[..., UnifiedModel]) -> Bundle:
    """A bundle with its float32 and float16 graphs."""
    model = build_model()
    graph = export_onnx(model)
    proto = onnx.load_from_string(graph)
    half = serialised(to_half(proto, find_zones(proto).network), "half")
    files = {**model_files(model), MODEL: graph, graph_name("fp16"): half}
    return Bundle(Manifest(model.spec, model.map_spec, *components(model)), files)


def cli(*arguments: str) -> Any:
    """Run ``cada-edge verify`` in this process."""
    from cada_edge.cli.verify import verify as command

    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [*arguments, "--json"])


def nudged(bundle: Bundle) -> Bundle:
    """The bundle with one convolution of its float32 graph changed by five percent."""
    proto = onnx.load_from_string(bundle.file(MODEL))
    weights = next(t for t in proto.graph.initializer if t.name.startswith("model.detector") and len(t.dims) == 4)
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(1.05), weights.name))
    return bundle.with_file(MODEL, proto.SerializeToString())


def pictures(_: int | None) -> list[Any]:
    """One batch of noise."""
    return [np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)]


def test_backends_that_agree_pass_and_absent_ones_are_named(exported: Bundle, tmp_path: Path) -> None:
    """Exit 0; what ran has figures, what did not says what brings it."""
    exported.write(tmp_path / "line.cada")
    done = cli(str(tmp_path / "line.cada"))
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["reference"] == "pytorch"
    assert {"onnxruntime fp32", "onnxruntime fp16"} <= {row["name"] for row in report["rows"] if row["passed"]}
    assert "--precision int8" in report["absent"]["onnxruntime int8"]
    assert "cada-edge engine build" in report["absent"]["tensorrt"]
    assert report["failed"] == {}


def test_a_graph_that_differs_leaves_with_1(exported: Bundle, tmp_path: Path) -> None:
    """A changed weight shows in the scores; the row says so and the exit code with it."""
    nudged(exported).write(tmp_path / "line.cada")
    done = cli(str(tmp_path / "line.cada"))
    assert done.exit_code == 1
    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    assert not rows["onnxruntime fp32"]["passed"]
    assert rows["onnxruntime fp32"]["score_max"] > rows["onnxruntime fp32"]["limit"]["score"]


def test_a_bundle_without_a_graph_is_refused(build_model: Callable[..., UnifiedModel], tmp_path: Path) -> None:
    """Nothing was compared, so nothing agrees: leave with 1 and say to export first."""
    model = build_model()
    bundle = Bundle(Manifest(model.spec, model.map_spec, *components(model)), model_files(model))
    bundle.write(tmp_path / "line.cada")
    done = cli(str(tmp_path / "line.cada"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert isinstance(done.exception, BundleError)  # one line and exit code 1 in the program
    assert "run `cada-edge export` on it first" in str(done.exception)


def test_a_graph_that_cannot_run_is_a_failure_not_an_absence(exported: Bundle, tmp_path: Path) -> None:
    """A damaged float16 graph is named under failed, and the command leaves with 1."""
    exported.with_file(graph_name("fp16"), b"\x08\x08").write(tmp_path / "line.cada")
    done = cli(str(tmp_path / "line.cada"))
    assert done.exit_code == 1
    assert "onnxruntime fp16" in json.loads(done.stdout)["failed"]


def test_labelled_images_give_an_auroc(exported: Bundle, tiny_line: Dataset, tmp_path: Path) -> None:
    """Good and defective test images are run, and each backend's own ranking is stated."""
    exported.write(tmp_path / "line.cada")
    done = cli(str(tmp_path / "line.cada"), "--images", str(tiny_line.root), "--max-images", "6")
    report = json.loads(done.stdout)
    assert report["reference_auroc"] is not None
    assert [row["auroc"] for row in report["rows"] if row["name"] == "onnxruntime fp32"] == [report["reference_auroc"]]


def test_a_device_that_is_not_here_is_an_absence(exported: Bundle) -> None:
    """A missing package or driver is no fault of the bundle; its words are kept."""

    def no_driver() -> Runner:
        raise NoDeviceError("no driver")

    def broken() -> Runner:
        raise EngineError("truncated")

    def no_package() -> Runner:
        raise MissingDependencyError("no package")

    backends = [
        Backend("ort", "fp32", lambda: OrtRunner(exported, threads=1)),
        Backend("gpu", "fp32", no_driver),
        Backend("torch", "fp32", no_package),
        Backend("plan", "fp32", broken),
    ]
    report = verify(backends, pictures, None)
    assert report.absent == {"gpu": "no driver", "torch": "no package"}
    assert report.failed == {"plan": "truncated"}
    assert not report


def test_nothing_to_run_is_an_error() -> None:
    """Silence is no agreement: without any backend there is no report."""
    with pytest.raises(ConfigError, match="no backend can run the bundle here"):
        verify([Backend("torch", "fp32", None, "not installed")], pictures, None)
