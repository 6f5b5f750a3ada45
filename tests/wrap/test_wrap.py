from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper
from typer.testing import CliRunner

from cada_edge.bundle import MODEL, Bundle
from cada_edge.cli import app
from cada_edge.data.dataset import Dataset
from cada_edge.errors import TrainingError, UnsafeFileError
from cada_edge.export import ExportConfig, ForeignOptions, export
from cada_edge.models import TorchRunner
from cada_edge.models.foreign import GRAPH
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.types import UInt8Array

Make = Callable[..., ModelProto]
MakeBundle = Callable[..., Bundle]


def pictures(bundle: Bundle, count: int = 3) -> UInt8Array:
    """Noise of the bundle's size."""
    size = bundle.manifest.spec.size_hw
    return np.random.default_rng(1).integers(0, 256, (count, *size, 3), np.uint8)


def affine(factor: float, shift: float) -> tuple[NodeProto, ...]:
    """The raw map in other units."""
    return (
        helper.make_node("Constant", [], ["factor"], value_float=factor),
        helper.make_node("Constant", [], ["shift"], value_float=shift),
        helper.make_node("Mul", ["raw", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["anomaly_map"]),
    )


@pytest.mark.parametrize(
    ("tail", "settings"),
    [
        ("plain", {}),
        ("plain", {"layout": "NHWC", "element": TensorProto.UINT8, "opset": 12}),
        ("plain", {"element": TensorProto.FLOAT16, "opset": 19, "side": 100}),
        ("batch-coupled", {}),
        ("batch-of-one", {"batch": 1}),
    ],
    ids=["plain", "bytes-opset12", "half-opset19-resized", "batch-coupled", "batch-of-one"],
)
def test_one_graph_judges_as_the_parts_do(
    make_graph: Make, make_bundle: MakeBundle, tail: str, settings: dict[str, object]
) -> None:
    """The exported graph takes pixels, any number of them, and agrees with the foreign graph run alone."""
    bundle = make_bundle(make_graph(tail, **settings))
    exported, report = export(bundle, OrtRunner, config=ExportConfig(noise_images=4))
    assert report
    graph = onnx.load_model_from_string(exported.file(MODEL)).graph
    assert [node.op_type for node in graph.node].count("CadaNormalize") == 1
    with OrtRunner(exported) as runner:
        batch = pictures(exported)
        together, alone = runner.infer(batch), runner.infer(batch[1:2])
    assert np.allclose(together.score[1], alone.score[0], atol=1e-5)


@pytest.mark.parametrize(("factor", "shift"), [(1000.0, 0.0), (1e-3, 5.0), (2.0, -40.0)])
def test_the_units_of_the_map_do_not_matter(
    make_graph: Make, make_bundle: MakeBundle, factor: float, shift: float
) -> None:
    """A map that is scaled or shifted, even below zero, gives the same scores."""
    plain, other = make_bundle(make_graph()), make_bundle(make_graph(affine(factor, shift)))
    with TorchRunner(plain) as one, TorchRunner(other) as two:
        batch = pictures(plain)
        assert np.allclose(one.infer(batch).score, two.infer(batch).score, rtol=5e-3, atol=5e-3)


def test_a_constant_map_is_refused(make_graph: Make, make_bundle: MakeBundle) -> None:
    """A detector that tells nothing apart gets no head."""
    with pytest.raises(TrainingError, match=r"0 everywhere.*--map-output"):
        make_bundle(make_graph("constant"))


def test_a_map_of_nan_names_the_picture(make_graph: Make, make_bundle: MakeBundle) -> None:
    """Numbers that are none stop the fit, with the path of the first picture concerned."""
    with pytest.raises(TrainingError, match=r"\.png: the foreign detector's map is not finite"):
        make_bundle(make_graph("nan"))


def test_the_same_input_gives_the_same_bundle(make_graph: Make, make_bundle: MakeBundle) -> None:
    """Wrapping and exporting twice gives the same bytes."""
    first, second = (export(make_bundle(make_graph()), OrtRunner)[0] for _ in range(2))
    assert first.sha256 == second.sha256


def test_provenance_names_the_foreign_file(make_graph: Make, make_bundle: MakeBundle, tiny_line: Dataset) -> None:
    """The bundle says which file it was made of, and no image is both for the head and for the threshold."""
    bundle = make_bundle(make_graph())
    assert bundle.manifest.detector.kind == "onnx"
    assert bundle.manifest.provenance[0].config["foreign"]["content_sha256"]
    roles = bundle.roles()
    assert not roles["calibrate"] & (roles["fit"] | roles["align"])
    assert sum(map(len, roles.values())) == len({item.sha256 for item in tiny_line.train()})


def test_a_changed_graph_cannot_read_other_files(make_graph: Make, make_bundle: MakeBundle) -> None:
    """A bundle whose foreign graph points outside is refused by the reference too."""
    bundle = make_bundle(make_graph())
    proto = onnx.load_model_from_string(bundle.file(GRAPH))
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    with (
        TorchRunner(bundle.with_file(GRAPH, proto.SerializeToString())) as runner,
        pytest.raises(UnsafeFileError, match=r"detector\.onnx keeps weights in another file"),
    ):
        runner.infer(pictures(bundle, 1))


def test_from_a_file_to_verdicts(
    make_graph: Make, save: Callable[[ModelProto], Path], tiny_line: Dataset, tmp_path: Path
) -> None:
    """wrap, calibrate, evaluate and predict take a foreign detector like one of our own."""
    program, cli = app.build, CliRunner()
    out, report = tmp_path / "line.cada", tmp_path / "evaluation.json"
    root = str(tiny_line.root)
    test_picture = str(tiny_line.test()[0].path)
    steps = {
        "wrap": [str(save(make_graph())), root, "--out", str(out), "--augment-copies", "0", "--json"],
        "calibrate": [str(out), root, "--target-frr", "0.3"],
        "evaluate": [str(out), root, "--no-images", "--json", str(report)],
        "predict": [str(out), test_picture, "--json"],
    }
    results = {name: cli.invoke(program(name), [name, *rest]) for name, rest in steps.items()}
    assert [results[name].exit_code for name in ("wrap", "calibrate", "evaluate")] == [0, 0, 0], results
    assert json.loads(results["wrap"].stdout)["foreign"]["output"] == "anomaly_map"
    assert json.loads(report.read_text())
    assert json.loads(results["predict"].stdout)[0]["score"] is not None


def test_pixels_and_mean_exclude_each_other(
    make_graph: Make, save: Callable[[ModelProto], Path], tiny_line: Dataset, tmp_path: Path
) -> None:
    """Two ways of saying what the graph is fed are an error, not a guess."""
    arguments = ["wrap", str(save(make_graph())), str(tiny_line.root), "--out", str(tmp_path / "l.cada")]
    result = CliRunner().invoke(app.build("wrap"), [*arguments, "--pixels", "unit", "--mean", "1,2,3"])
    assert result.exit_code == 2
    assert "--pixels: already says" in result.stderr


def test_wrong_options_are_named(make_graph: Make, make_bundle: MakeBundle) -> None:
    """A deviation of zero, by which nothing can be divided, is refused by name."""
    with pytest.raises(Exception, match=r"ForeignConfig\.std"):
        make_bundle(make_graph(), ForeignOptions(std=(0.0, 1.0, 1.0)))
