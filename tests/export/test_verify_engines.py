"""`cada-edge verify` of engines beside a bundle, on the GPU that is none."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import typer
from engine_kit import build_fake, install
from fake_cuda import FakeGpu, fake_pycuda
from onnx import numpy_helper
from typer.testing import CliRunner

from cada_edge.bundle import MODEL, Bundle, Manifest
from cada_edge.cli.verify import verify as command
from cada_edge.engine_store import PLAN
from cada_edge.export import export_onnx
from cada_edge.export.cases import made_up
from cada_edge.models import UnifiedModel
from cada_edge.models.store import components, model_files
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.types import Float32Array, Threshold

BATCH = (1, 3, 4)  # no multiple of the eight pictures, nor of the four that come at a time


def scores(bundle: Bundle) -> Float32Array:
    """Of the pictures that the command makes up, by ONNX Runtime."""
    pictures = np.stack([picture for _, picture in made_up(bundle.manifest.spec, 8, 0)])
    with OrtRunner(bundle, threads=1) as runner:
        found = runner.infer(pictures)
    assert not found.novel().any()
    return found.score


@pytest.fixture(scope="module")
def exported(build_model: Callable[..., UnifiedModel]) -> Bundle:
    """A model to which nothing is novel, its graph, and a threshold amid the scores of the made-up pictures."""
    model = build_model()
    model.head.novelty.limit.fill_(1e6)
    whole = Bundle(
        Manifest(model.spec, model.map_spec, *components(model)), {**model_files(model), MODEL: export_onnx(model)}
    )
    threshold = Threshold(float(np.median(scores(whole))), 0.01, 0.02, 0.95, 10, "conformal", "0" * 64)
    return replace(whole, manifest=replace(whole.manifest, threshold=threshold))


@pytest.fixture
def line(exported: Bundle, tmp_path: Path) -> Path:
    """Where the bundle is."""
    exported.write(tmp_path / "line.cada")
    return tmp_path / "line.cada"


def shifted(content: bytes, amount: float) -> bytes:
    """The graph with `amount` added to every score and every cell of the map."""
    proto = onnx.load_from_string(content)
    for node in proto.graph.node:
        node.output[:] = [f"{name}/exact" if name in {"score", "map"} else name for name in node.output]
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(amount), "amount"))
    for name in ("score", "map"):
        proto.graph.node.append(onnx.helper.make_node("Add", [f"{name}/exact", "amount"], [name]))
    return bytes(proto.SerializeToString())


def cli(line: Path) -> tuple[int, dict[str, Any]]:
    """Exit code and report of the command."""
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, [str(line), "--json"])
    return done.exit_code, json.loads(done.stdout)


def row(report: dict[str, Any]) -> dict[str, Any]:
    """The engine's."""
    (found,) = [one for one in report["rows"] if one["name"] == "tensorrt fp32"]
    return dict(found)


def test_an_engine_that_agrees_passes(exported: Bundle, line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs every picture, in calls of its own batch, and its row shows rounding alone."""
    install(monkeypatch, gpu := FakeGpu())
    build_fake(exported, line, batch=BATCH)
    code, report = cli(line)
    found = row(report)
    assert (code, found["passed"], found["images"], found["flips"]) == (0, True, 8, 0)
    assert found["score_max"] < 1e-3
    assert found["map_max"] < 1e-3
    assert gpu.calls["cudaGraphLaunch"] == 4  # two for each four pictures
    assert gpu.blocks == {}


def test_pycuda_moves_memory_where_it_is_named(exported: Bundle, line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine agrees as well, without cuda-python's calls; any other name is refused with those there are."""
    install(monkeypatch, gpu := FakeGpu())
    driver = fake_pycuda(gpu)
    driver.__spec__ = ModuleSpec("pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda", driver)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    build_fake(exported, line, batch=BATCH)
    monkeypatch.setenv("CADA_EDGE_GPU_MEMORY", "pycuda")
    code, report = cli(line)
    assert (code, row(report)["passed"]) == (0, True)
    assert gpu.calls["cudaHostAlloc"] == 0
    assert gpu.calls["mem_alloc"] == 6
    monkeypatch.setenv("CADA_EDGE_GPU_MEMORY", "cupy")
    code, report = cli(line)
    assert code == 1
    assert "CADA_EDGE_GPU_MEMORY: got 'cupy', expected one of" in report["failed"]["tensorrt fp32"]


def test_an_engine_that_differs_leaves_with_1(exported: Bundle, line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Score, map and verdicts are compared, each with its figure: nine more on the score rejects every picture."""
    install(monkeypatch, FakeGpu())
    build_fake(exported, line, graph=shifted(exported.file(MODEL), 9.0), batch=BATCH)
    code, report = cli(line)
    found, threshold = row(report), exported.manifest.threshold
    assert threshold is not None
    assert (code, found["passed"]) == (1, False)
    assert found["score_rms"] == pytest.approx(9.0, rel=1e-3)
    assert found["score_max"] > found["limit"]["score"]
    assert found["map_max"] > found["limit"]["map"]
    expected = scores(exported)
    assert found["flips"] == int(np.sum((expected <= threshold.value) & (expected + 9 > threshold.value)))
    assert found["flips"] > 1


def test_an_engine_that_cannot_run_here_is_a_failure(
    exported: Bundle, line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TensorRT and a GPU here, a truncated plan is named under failed: the line would not start either."""
    install(monkeypatch, FakeGpu())
    stored = build_fake(exported, line, batch=BATCH)
    (stored.folder / PLAN).write_bytes(stored.plan()[:-100])
    code, report = cli(line)
    assert code == 1
    assert "truncated or changed" in report["failed"]["tensorrt fp32"]


def test_a_foreign_engine_is_a_failure_with_the_command(
    exported: Bundle, line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing runs in its place in silence."""
    install(monkeypatch, FakeGpu())
    build_fake(exported, line, compute_capability="11.0")
    code, report = cli(line)
    assert code == 1
    assert "cada-edge engine build" in report["failed"]["tensorrt fp32"]


def test_without_a_driver_the_engine_is_not_here(exported: Bundle, line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop checks the other backends and says why not this one."""
    gpu = FakeGpu()
    gpu.driver = False
    install(monkeypatch, gpu)
    build_fake(exported, line)
    code, report = cli(line)
    assert (code, report["failed"]) == (0, {})
    assert "no NVIDIA GPU can be used" in report["absent"]["tensorrt fp32"]
