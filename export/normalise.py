"""The CADA normalisation as one ONNX node with a function body, and the score behind it.

Any ONNX runtime expands the function. A TensorRT plugin of the same name takes the node
itself, because it carries ``plugin_version`` and ``plugin_namespace``.
"""

from __future__ import annotations

import numpy as np
from onnx import FunctionProto, NodeProto, TensorProto, helper, numpy_helper

from cada_edge.types import MIN_SPREAD, MapSpec

DOMAIN, OP_TYPE, DOMAIN_VERSION = "cada_edge", "CadaNormalize", 1
_PLUGIN = {"plugin_version": "1", "plugin_namespace": ""}


def normalise_node(raw: str, u: str, gamma: str, output: str) -> NodeProto:
    """Node: float32 (N, h, w), (N,), (N,) to float32 (N, h, w), as `cada_edge.alignment.normalise`."""
    return helper.make_node(OP_TYPE, [raw, u, gamma], [output], name=OP_TYPE, domain=DOMAIN, **_PLUGIN)


def normalise_function(opset: int) -> FunctionProto:
    """Its body, ``(map - u) / max(gamma - u, MIN_SPREAD)``, in standard operators of `opset`."""
    axes = numpy_helper.from_array(np.array([1, 2], np.int64))
    floor = numpy_helper.from_array(np.array(MIN_SPREAD, np.float32))
    nodes = [
        helper.make_node("Constant", [], ["axes"], value=axes),
        helper.make_node("Constant", [], ["floor"], value=floor),
        helper.make_node("Sub", ["gamma", "u"], ["gap"]),
        helper.make_node("Max", ["gap", "floor"], ["spread"]),
        helper.make_node("Unsqueeze", ["spread", "axes"], ["spread_cells"]),
        helper.make_node("Unsqueeze", ["u", "axes"], ["u_cells"]),
        helper.make_node("Sub", ["map", "u_cells"], ["excess"]),
        helper.make_node("Div", ["excess", "spread_cells"], ["aligned"]),
    ]
    return helper.make_function(
        DOMAIN,
        OP_TYPE,
        ["map", "u", "gamma"],
        ["aligned"],
        nodes,
        [helper.make_opsetid("", opset)],
        attributes=list(_PLUGIN),
    )


def score_nodes(aligned: str, output: str, spec: MapSpec) -> tuple[list[NodeProto], list[TensorProto]]:
    """Nodes and constants for the mean of the highest `spec.top_k` cells: (N, h, w) to (N,)."""
    height, width = spec.size_hw
    constants = [
        numpy_helper.from_array(np.array([-1, height * width], np.int64), "score_shape"),
        numpy_helper.from_array(np.array([spec.top_k], np.int64), "score_k"),
    ]
    nodes = [
        helper.make_node("Reshape", [aligned, "score_shape"], ["score_cells"], name="score/Reshape"),
        helper.make_node(
            "TopK", ["score_cells", "score_k"], ["score_top", "score_index"], name="score/TopK", axis=1, sorted=0
        ),
        helper.make_node("ReduceMean", ["score_top"], [output], name="score/ReduceMean", axes=[1], keepdims=0),
    ]
    return nodes, constants
