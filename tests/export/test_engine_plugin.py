"""Engines of a trained bundle with the plugin layer, in every precision, by NVIDIA's builder that needs no GPU.

In processes of their own: the builder needs its library under a second name, which a folder
on LD_LIBRARY_PATH gives it, and that is read when a process starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import pytest
from engine_kit import needs_builder, needs_compiler
from train_kit import SMALL, train_small

from cada_edge.bundle import MODEL, Bundle
from cada_edge.data.dataset import Dataset
from cada_edge.engine_key import PRECISIONS, Precision, graph_name
from cada_edge.export.plugin import SOURCES
from cada_edge.export.plugin.host import FLAGS

ROOT = Path(__file__).resolve().parents[2]
UNITS = ("plugin.cpp", "fields.cpp", "launch.cu", "host/cuda_shim.cpp")
TARGETS = ("8.6", "8.9", "12.0")
SCRIPT = """
import json, sys
from pathlib import Path
from cada_edge.bundle import Bundle
from cada_edge.export.engine import EngineConfig, build_engine
path, precision, plugin, targets = sys.argv[1:]
bundle, folder = Bundle.read(path), Path(path + ".engines")
for target in targets.split(","):
    config = EngineConfig("tensorrt-rtx", precision, (1, 2, 4), target, plugin=Path(plugin))
    built = build_engine(bundle, folder, config)
    print(json.dumps({"target": target, **json.loads(built.record.to_json())["kernels"]}))
"""

pytestmark = [needs_builder, needs_compiler]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin's own sources, compiled for the CPU: a build registers it and never runs it."""
    path = tmp_path_factory.mktemp("plugin") / "plugin.so"
    includes = [f"-I{ROOT / 'tests' / 'plugin' / 'double'}", f"-I{SOURCES}"]
    sources = [str(SOURCES / unit) for unit in UNITS]
    subprocess.run(["g++", *FLAGS, "-shared", *includes, "-x", "c++", *sources, "-o", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in which TensorRT-RTX finds its library by its plain name."""
    spec = find_spec("tensorrt_rtx_libs")
    assert spec is not None
    assert spec.origin is not None
    folder = tmp_path_factory.mktemp("link")
    (folder / "libtensorrt_rtx.so").symlink_to(Path(spec.origin).with_name("libtensorrt_rtx.so.1"))
    return {**os.environ, "PYTHONPATH": str(ROOT), "LD_LIBRARY_PATH": str(folder)}


@pytest.fixture(scope="module")
def path(tiny_line: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle trained on the small line, with the graphs that the command for it adds."""
    folder = tmp_path_factory.mktemp("engines")
    written = folder / "line.cada"
    train_small(tiny_line.train(), folder / "work").write(written)
    # Twenty steps of training judge coarsely; types are what is proven here, so every layer stays and the gate is wide.
    quick = ["--max-images", "1", "--calibration-images", "16", "--gate-images", "1", "--range-method", "mse"]
    wide = ["--score-budget", "1e6", "--max-auroc-fall", "1", "--max-flips", "1"]
    command = ["export", str(written), "--images", str(tiny_line.root), "--precision", "fp16,int8", *quick, *wide]
    done = subprocess.run([sys.executable, "-m", "cada_edge", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return written


@pytest.fixture(scope="module")
def graphs(path: Path) -> dict[Precision, onnx.ModelProto]:
    """Its graph in each precision."""
    bundle = Bundle.read(path)
    return {one: onnx.load_from_string(bundle.file(graph_name(one))) for one in PRECISIONS}


def typed_convolutions(graph: onnx.ModelProto) -> dict[str, int]:
    """Convolutions by the type that the graph gives their input."""
    makers = {name: node for node in graph.graph.node for name in node.output}
    inferred = onnx.shape_inference.infer_shapes(graph).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.input)}
    names = {onnx.TensorProto.FLOAT: "Float", onnx.TensorProto.FLOAT16: "Half"}
    found: Counter[str] = Counter()
    for node in graph.graph.node:
        if node.op_type == "Conv":
            maker = makers.get(node.input[0])
            chain = [maker, makers.get(maker.input[0]) if maker and maker.op_type == "Cast" else None]
            quantised = any(one is not None and one.op_type == "DequantizeLinear" for one in chain)
            found["Int8" if quantised else names[kinds[node.input[0]]]] += 1
    return dict(found)


def test_the_bundle_is_a_trained_one(path: Path, tiny_line: Dataset) -> None:
    """By the code of `cada-edge train`, in steps, on every train image of the line: not random weights."""
    bundle = Bundle.read(path)
    stage = bundle.manifest.provenance[0]
    assert stage.name == "train"
    assert stage.config["fit"]["iterations"] == SMALL.fit.iterations > 0
    assert stage.config["encoder"]["weights"] == "pretrained"
    used = {digest for digests in bundle.roles().values() for digest in digests}
    assert used == {item.sha256 for item in tiny_line.train()}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_kernels_run_in_the_types_of_the_graph_beside_the_plugin(
    path: Path, library: Path, linked: dict[str, str], graphs: Mapping[Precision, onnx.ModelProto], precision: Precision
) -> None:
    """Whatever the architecture: one plugin layer, and each convolution in the type that the graph gave it."""
    command = [sys.executable, "-c", SCRIPT, str(path), precision, str(library), ",".join(TARGETS)]
    done = subprocess.run(command, env=linked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reports: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [report["target"] for report in reports] == list(TARGETS)
    for report in reports:
        assert report["plugins"] == 1
        assert report["layers"]["custom_layer"] == 1
        assert report["convolutions"] == typed_convolutions(graphs[precision])


def test_the_lower_precisions_are_lower(graphs: Mapping[Precision, onnx.ModelProto]) -> None:
    """So the counts above are of Half and Int8 kernels, not of none: those that docs/tensorrt.md states."""
    assert typed_convolutions(graphs["fp32"]) == {"Float": 49}
    assert typed_convolutions(graphs["fp16"]) == {"Half": 49}
    assert typed_convolutions(graphs["int8"]) == {"Int8": 30, "Half": 19}


def test_without_the_second_name_it_refuses_before_it_dies(path: Path, library: Path, linked: dict[str, str]) -> None:
    """TensorRT-RTX would end the whole process: the error comes first, with the command that mends it."""
    spec = find_spec("tensorrt_rtx_libs")
    if spec is not None and spec.origin and Path(spec.origin).with_name("libtensorrt_rtx.so").exists():
        pytest.skip("this installation has the second name")
    command = [sys.executable, "-m", "cada_edge", "engine", "build", str(path), "--backend", "tensorrt-rtx"]
    environment = {**linked, "LD_LIBRARY_PATH": ""}
    arguments = [*command, "--target", "8.6", "--plugin", str(library)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ln -s libtensorrt_rtx.so.1" in done.stderr.replace("\n", "")


def test_the_command_shows_what_was_built(path: Path, library: Path, linked: dict[str, str]) -> None:
    """`engine build` and `engine info` give the same sidecar."""
    start = [sys.executable, "-m", "cada_edge", "engine"]
    options = ["--backend", "tensorrt-rtx", "--target", "sm_86", "--plugin", str(library), "--json"]
    built = subprocess.run([*start, "build", str(path), *options], env=linked, capture_output=True, check=True)
    info = subprocess.run([*start, "info", str(path), "--json"], env=linked, capture_output=True, check=True)
    (row,) = json.loads(built.stdout)
    assert row in json.loads(info.stdout)
    assert row["key"]["batch"] == [1, 1, 1]
    assert row["plugin_version"] == "2"
    assert (Path(row["folder"]) / "plugin.so").read_bytes() == library.read_bytes()
    assert Bundle.read(path).file(MODEL)
