"""Exporting a bundle: all or nothing, on record, gated."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from typer.testing import CliRunner

from cada_edge.bundle import MODEL, Bundle
from cada_edge.data.dataset import scan
from cada_edge.errors import CadaEdgeError, DataError, ParityError
from cada_edge.export import ExportConfig, export
from cada_edge.export.cases import made_up
from cada_edge.imaging import write_png
from cada_edge.models import UnifiedModel
from cada_edge.models.store import model_files
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.types import ImageSpec, Threshold

QUICK = ExportConfig(noise_images=4)


def altered(bundle: Bundle) -> OrtRunner:
    """A runner of a graph in which one convolution's weights were nudged by one percent."""
    graph = onnx.load_from_string(bundle.file(MODEL))
    weight = next(t for t in graph.graph.initializer if t.name.startswith("model.detector") and len(t.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    return OrtRunner(bundle.with_file(MODEL, graph.SerializeToString()))


def cli(*arguments: str) -> Any:
    """Run ``cada-edge export`` in this process."""
    import typer

    from cada_edge.cli.export import export as command

    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(arguments))


def test_export_adds_the_graph_and_its_provenance(bundle: Bundle) -> None:
    """The new bundle holds the graph and says how it was made and how well it agrees."""
    exported, report = export(bundle, OrtRunner, config=QUICK)
    assert report
    assert report.images == 4
    assert set(exported.files) == {*bundle.files, MODEL}
    stage = exported.manifest.provenance[-1]
    assert (stage.name, stage.results["parity"]["passed"]) == ("export", True)
    assert stage.results["versions"]["torch"] == torch.__version__


def test_export_touches_no_other_stage_s_fields(bundle: Bundle) -> None:
    """Threshold and contracts pass through unchanged."""
    threshold = Threshold(1.0, 0.01, 0.02, 0.95, 10, "conformal", "0" * 64)
    calibrated = replace(bundle, manifest=replace(bundle.manifest, threshold=threshold))
    exported, report = export(calibrated, OrtRunner, config=QUICK)
    assert replace(exported.manifest, provenance=()) == replace(calibrated.manifest, provenance=())
    assert report.threshold == 1.0


def test_same_bundle_same_export(bundle: Bundle, tmp_path: Path) -> None:
    """Exporting twice gives equal digests, also across a write and a read."""
    first, _ = export(bundle, OrtRunner, config=QUICK)
    bundle.write(tmp_path / "line.cada")
    again, _ = export(Bundle.read(tmp_path / "line.cada"), OrtRunner, config=QUICK)
    assert again.files[MODEL] == first.files[MODEL]


def test_an_altered_graph_is_refused(bundle: Bundle) -> None:
    """One percent in one layer's weights is enough to fail the gate."""
    with pytest.raises(ParityError, match="nothing was written"):
        export(bundle, altered, config=QUICK)


def test_a_model_with_nan_weights_is_refused(build_model: Callable[..., UnifiedModel], bundle: Bundle) -> None:
    """A diverged model is not exported, and the message says it is the model."""
    model = build_model()
    with torch.no_grad():
        next(model.detector.parameters()).fill_(float("nan"))
    broken = replace(bundle, files=model_files(model))
    with pytest.raises(ParityError, match="the model itself"):
        export(broken, OrtRunner, config=QUICK)


def test_given_pictures_are_compared_and_on_record(bundle: Bundle, tmp_path: Path) -> None:
    """Pictures of any size join the comparison, and their digest the provenance."""
    path = tmp_path / "part.png"
    write_png(path, np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    seen: list[tuple[int, int]] = []
    exported, report = export(bundle, OrtRunner, [path], QUICK, lambda done, total: seen.append((done, total)))
    assert report.images == 5
    assert seen[-1] == (5, 5)
    assert len(exported.manifest.provenance[-1].data_sha256) == 64


def test_a_picture_given_twice_is_one_picture_on_record(bundle: Bundle, tmp_path: Path) -> None:
    """The digest of the pictures is the data set's own: copies do not count."""
    for name in ("a.png", "b.png"):
        write_png(tmp_path / name, np.full((32, 32, 3), 90, np.uint8))
    data = scan(tmp_path)
    exported, _ = export(bundle, OrtRunner, [item.path for item in data.items], QUICK)
    assert exported.manifest.provenance[-1].data_sha256 == data.sha256


def test_an_unreadable_picture_stops_the_export(bundle: Bundle, tmp_path: Path) -> None:
    """A picture that cannot be compared is an error with its path, not one image less."""
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"broken\.png"):
        export(bundle, OrtRunner, [tmp_path / "broken.png"], QUICK)


def test_made_up_pictures_differ_and_repeat() -> None:
    """Same seed, same pictures; no two alike; of the model's size."""
    spec = ImageSpec((64, 96))
    first, again = (dict(made_up(spec, 6, seed=1)) for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert len({image.tobytes() for image in first.values()}) == 6
    assert {image.shape for image in first.values()} == {(64, 96, 3)}


def test_the_command_exports_in_place_and_writes_the_bare_graph(bundle: Bundle, tmp_path: Path) -> None:
    """``export BUNDLE --onnx FILE --json`` leaves bundle and file in step and prints the report."""
    path, graph = tmp_path / "line.cada", tmp_path / "model.onnx"
    bundle.write(path)
    result = cli(str(path), "--onnx", str(graph), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["passed"] is True
    assert Bundle.read(path).file(MODEL) == graph.read_bytes()


def test_the_command_fails_past_the_tolerance_and_writes_nothing(bundle: Bundle, tmp_path: Path) -> None:
    """With no tolerance at all the gate closes; bundle and folder are as before."""
    path = tmp_path / "line.cada"
    bundle.write(path)
    before = path.read_bytes()
    result = cli(str(path), "--tolerance", "0", "--onnx", str(tmp_path / "model.onnx"))
    assert isinstance(result.exception, ParityError)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["line.cada"]


def test_a_full_disk_leaves_the_bundle_as_it_was(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk fills up while writing, the old bundle is still whole and nothing lies beside it."""
    path = tmp_path / "line.cada"
    bundle.write(path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = cli(str(path))
    assert isinstance(result.exception, CadaEdgeError)
    assert Bundle.read(path).sha256 == bundle.sha256
    assert [p.name for p in tmp_path.iterdir()] == ["line.cada"]


@pytest.mark.real
def test_graph_and_model_agree_on_real_pictures(bundle: Bundle, real_data: Path) -> None:
    """On pictures of ten products the graph stays within the tolerance."""
    pictures = sorted(real_data.glob("*/train/good/*"))[::200]
    assert export(bundle, OrtRunner, pictures, QUICK)[1]
