"""Foreign detectors as small ONNX graphs, built node by node, and a head fitted to one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

pytest.importorskip("torch", reason="wrapping needs the train extra")

import torch  # after the skip

from cada_edge.bundle import Bundle
from cada_edge.data.dataset import Dataset
from cada_edge.export.signature import ForeignOptions, understand
from cada_edge.models import CadaHeadConfig, EncoderConfig
from cada_edge.training import AugmentConfig, HeadFitConfig
from cada_edge.training.wrap import WrapConfig, wrap
from cada_edge.types import MapSpec

SIDE_PX = 96


def tails() -> dict[str, tuple[NodeProto, ...]]:
    """What may come between the raw map and the output, by name."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [4], [1, 1, 24, 24])
    node = helper.make_node
    return {
        "plain": (node("Identity", ["raw"], ["anomaly_map"]),),
        "clamped": (node("Mul", ["raw", "ten"], ["scaled"]), node("Clip", ["scaled", "zero", "one"], ["anomaly_map"])),
        "batch-coupled": (
            node("ReduceMax", ["raw"], ["peak"], keepdims=0),
            node("Add", ["peak", "one"], ["level"]),  # a black picture has no peak
            node("Div", ["raw", "level"], ["anomaly_map"]),
        ),
        "batch-of-one": (
            node("Constant", [], ["shape"], value=shape),
            node("Reshape", ["raw", "shape"], ["anomaly_map"]),
        ),
        "constant": (node("Mul", ["raw", "zero"], ["anomaly_map"]),),
        "nan": (
            node("Neg", ["raw"], ["negative"]),
            node("Sub", ["negative", "one"], ["below"]),
            node("Log", ["below"], ["anomaly_map"]),
        ),
    }


def foreign_graph(
    tail: str | tuple[NodeProto, ...] = "plain",
    *,
    layout: str = "NCHW",
    element: int = TensorProto.FLOAT,
    batch: str | int = "N",
    side: str | int = SIDE_PX,
    opset: int = 17,
) -> ModelProto:
    """A detector of coloured edges: picture to "raw" (N, 1, h/4, w/4), then `tail` to the map, and a score."""
    shape = [batch, 3, side, side] if layout == "NCHW" else [batch, side, side, 3]
    kernel = np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype(np.float32)
    weights = [numpy_helper.from_array(kernel, "kernel")]
    weights += [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("zero", 0), ("one", 1), ("ten", 10))]
    nodes = [helper.make_node("Cast", ["picture"], ["typed"], to=TensorProto.FLOAT)]
    order = [0, 1, 2, 3] if layout == "NCHW" else [0, 3, 1, 2]
    nodes.append(helper.make_node("Transpose", ["typed"], ["planes"], perm=order))
    nodes.append(helper.make_node("Conv", ["planes", "kernel"], ["edges"], strides=[4, 4]))
    nodes.append(helper.make_node("Abs", ["edges"], ["raw"]))
    nodes += tails()[tail] if isinstance(tail, str) else tail
    nodes.append(helper.make_node("GlobalMaxPool", ["raw"], ["pred_score"]))
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("pred_score", "anomaly_map")]
    graph = helper.make_graph(
        nodes, "foreign", [helper.make_tensor_value_info("picture", element, shape)], outputs, weights
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def wrapped(proto: ModelProto, line: Dataset, options: ForeignOptions | None = None) -> Bundle:
    """The bundle of a foreign graph with a small head, fitted in a second."""
    config = WrapConfig(
        encoder=EncoderConfig("test_resnet", (8, 16), "random"),
        head=CadaHeadConfig(hidden=8, prototypes=4),
        map_spec=MapSpec((12, 12)),
        augment=AugmentConfig(copies=0),
        head_fit=HeadFitConfig(iterations=50),
    )
    torch.manual_seed(0)  # random encoder weights stand in for pretrained ones, the same every time
    return wrap(config, understand(proto, options or ForeignOptions()), line.train(), lambda *_: None)


@pytest.fixture
def make_graph() -> Callable[..., ModelProto]:
    """See `foreign_graph`."""
    return foreign_graph


@pytest.fixture
def make_bundle(tiny_line: Dataset) -> Callable[..., Bundle]:
    """``make_bundle(proto, options)``: see `wrapped`."""
    return lambda proto, options=None: wrapped(proto, tiny_line, options)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[ModelProto], Path]:
    """Write a graph to a file."""

    def write(proto: ModelProto) -> Path:
        path = tmp_path / "foreign.onnx"
        onnx.save(proto, path)
        return path

    return write
