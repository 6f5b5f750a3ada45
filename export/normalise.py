"""The fused CADA normalisation: one ONNX node with a function body, from distances to map and score.

::

    teacher_i, student_i --1 - cos--> distance_i --/ level_i--> upsampled --mean--> smoothed
    smoothed --(S - u) / max(gamma - u, MIN_SPREAD)--> map --mean of the top k cells--> score

Any ONNX runtime expands the function. A TensorRT plugin of the same name takes the node
itself, because it carries ``plugin_version`` and ``plugin_namespace``. The node's attributes
are the only place for its numbers: body and plugin both read them from there. Positions come
from the sizes of tensors: the plugin takes them at run time, the body is written for its graph's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, helper

from cada_edge.alignment import gaussian_window
from cada_edge.errors import ExportError
from cada_edge.export.function_body import FunctionBody
from cada_edge.export.graph import known_shapes
from cada_edge.export.resample import add_smoothing, add_upsampling
from cada_edge.types import COSINE_FLOOR, MIN_SPREAD, FusionMode, MapSpec, require

DOMAIN, OP_TYPE, DOMAIN_VERSION = "cada_edge", "CadaNormalize", 2
MAX_SCALES = 8
OUTPUTS = ("map", "score")
_PLUGIN = {"plugin_version": str(DOMAIN_VERSION), "plugin_namespace": ""}


@dataclass(frozen=True)
class Fusion:
    """What one fused node is told.

    Attributes:
        mode: ``features`` reads teacher and student, float32 or float16 (N, C_i, h_i, w_i), for each
            scale; ``distances`` reads one float32 map (N, h_i, w_i) for each.
        levels: what each scale's distance is divided by, one to `MAX_SCALES` numbers > 0.
        spec: size of the map, smoothing and fraction of the score.
        smooths: false where the maps come smoothed already.
    """

    mode: FusionMode
    levels: tuple[float, ...]
    spec: MapSpec
    smooths: bool = True

    def __post_init__(self) -> None:
        fits = 1 <= len(self.levels) <= MAX_SCALES and all(0 < level < float("inf") for level in self.levels)
        require(fits, "Fusion.levels", self.levels, f"1 to {MAX_SCALES} finite numbers > 0")

    @property
    def taps(self) -> int:
        """Length of the Gaussian window; 1 smooths nothing."""
        return self.spec.smooth_taps if self.smooths else 1

    @property
    def tensors(self) -> list[str]:
        """Names of the inputs that the detector makes, in the node's order."""
        numbers = range(len(self.levels))
        if self.mode == "distances":
            return [f"layer_{i}" for i in numbers]
        return [f"{side}_{i}" for i in numbers for side in ("teacher", "student")]

    @property
    def inputs(self) -> list[str]:
        """Names of all inputs: the detector's, then the head's."""
        return [*self.tensors, "u", "gamma"]

    def attributes(self) -> dict[str, Any]:
        """The node's attributes, as ONNX and the plugin's fields know them."""
        return {
            **_PLUGIN,
            "mode": self.mode,
            "levels": list(self.levels),
            "map_size": list(self.spec.size_hw),
            "window": [float(w) for w in gaussian_window(self.taps, self.spec.smooth_sigma)],
            "top_k": self.spec.top_k,
            "min_spread": MIN_SPREAD,
            "cosine_floor": COSINE_FLOOR,
        }


def normalise_node(fusion: Fusion) -> NodeProto:
    """The node; its tensors have the names of `Fusion.inputs` and `OUTPUTS`."""
    return helper.make_node(OP_TYPE, fusion.inputs, list(OUTPUTS), name=OP_TYPE, domain=DOMAIN, **fusion.attributes())


def normalise_function(fusion: Fusion, opset: int, layers_hw: Sequence[tuple[int, int]]) -> FunctionProto:
    """Its body in standard operators that mean the same in every opset from 17 on.

    All arithmetic is float32. From the distances to the map each operator rounds once, in the
    order of docs/plugin.md. A NaN anywhere in a map gives a NaN score, as in
    `cada_edge.alignment.image_score`.

    Args:
        fusion: what the node is told.
        opset: of the standard operators.
        layers_hw: height and width of each scale's tensors in this graph, see `layer_sizes`.
    """
    body = FunctionBody()
    _add_constants(body)
    value = _add_mean_map(body, fusion, layers_hw)
    value = add_smoothing(body, value, fusion.spec.size_hw, fusion.taps)
    _add_alignment(body, value)
    _add_score(body)
    return helper.make_function(
        DOMAIN,
        OP_TYPE,
        fusion.inputs,
        list(OUTPUTS),
        body.nodes,
        [helper.make_opsetid("", opset)],
        attributes=list(fusion.attributes()),
    )


def layer_sizes(proto: ModelProto, fusion: Fusion) -> list[tuple[int, int]]:
    """Height and width of each scale, from the graph that makes the node's tensors.

    Raises `ExportError` where the graph leaves them open.
    """
    shapes = known_shapes(proto)
    step = 2 if fusion.mode == "features" else 1
    found = {name: shapes.get(name, [])[-2:] for name in fusion.tensors[::step]}
    sizes = [(height, width) for height, width in found.values() if height and width]
    if len(sizes) != len(found):
        raise ExportError(f"the graph leaves open how large a layer is: {found}; export it with a fixed image size")
    return sizes


def _add_constants(body: FunctionBody) -> None:
    """What the attributes say, and the axes."""
    body.attribute("levels", "value_floats")
    body.attribute("min_spread", "value_float")
    body.attribute("top_k", "value_int")
    for name, values in {"axis_0": [0], "axis_1": [1], "axes_12": [1, 2], "rows_of_cells": [0, -1]}.items():
        body.constant(name, values)


def _add_mean_map(body: FunctionBody, fusion: Fusion, layers_hw: Sequence[tuple[int, int]]) -> str:
    """Distances on a common scale, upsampled, added in order and divided by their number: (N, H, W)."""
    if fusion.mode == "features":
        body.attribute("cosine_floor", "value_float")
        body.constant("one", 1.0)
    upsampled = [_add_scale(body, fusion, i, size_hw) for i, size_hw in enumerate(layers_hw)]
    total = body.total(upsampled, "total")
    return body.add("Div", [total, body.constant("scales", float(len(upsampled)))], "mean_map")


def _add_scale(body: FunctionBody, fusion: Fusion, i: int, size_hw: tuple[int, int]) -> str:
    distance = _add_cosine(body, i) if fusion.mode == "features" else _add_reading(body, i)
    level = body.add("Gather", ["levels", body.constant(f"index_{i}", [i])], f"level_{i}", axis=0)
    relative = body.add("Div", [distance, level], f"relative_{i}")
    return add_upsampling(body, relative, size_hw, fusion.spec.size_hw, f"upsampled_{i}")


def _add_cosine(body: FunctionBody, i: int) -> str:
    """`cada_edge.models.detector.cosine_distance` of one scale: (N, h_i, w_i)."""
    t, s = (
        body.add("Cast", [f"{side}_{i}"], f"{side}_fp32_{i}", to=TensorProto.FLOAT) for side in ("teacher", "student")
    )
    sums = {}
    for name, pair in {"dot": [t, s], "tt": [t, t], "ss": [s, s]}.items():
        product = body.add("Mul", pair, f"{name}_cells_{i}")
        sums[name] = body.add("ReduceSum", [product, "axis_1"], f"{name}_{i}", keepdims=0)
    steps: list[tuple[str, list[str]]] = [("Mul", [sums["ss"]]), ("Add", ["cosine_floor"]), ("Sqrt", [])]
    inverse = body.chain(sums["tt"], [*steps, ("Reciprocal", [])], f"inverse_norm_{i}")
    cosine = body.add("Mul", [sums["dot"], inverse], f"cosine_{i}")
    return body.add("Sub", ["one", cosine], f"distance_{i}")


def _add_reading(body: FunctionBody, i: int) -> str:
    return body.add("Cast", [f"layer_{i}"], f"distance_{i}", to=TensorProto.FLOAT)


def _add_alignment(body: FunctionBody, value: str) -> None:
    """``map = (value - u) / max(gamma - u, min_spread)``, as `cada_edge.alignment.normalise`."""
    body.add("Sub", ["gamma", "u"], "gap")
    body.add("Max", ["gap", "min_spread"], "spread")
    body.add("Unsqueeze", ["spread", "axes_12"], "spread_cells")
    body.add("Unsqueeze", ["u", "axes_12"], "u_cells")
    body.add("Sub", [value, "u_cells"], "excess")
    body.add("Div", ["excess", "spread_cells"], "map")


def _add_score(body: FunctionBody) -> None:
    """Mean of the top k cells; a sort knows no NaN, so it is looked for by itself."""
    cells = body.add("Reshape", ["map", "rows_of_cells"], "cells")
    count = body.add("Unsqueeze", ["top_k", "axis_0"], "top_count")
    body.nodes.append(helper.make_node("TopK", [cells, count], ["top_cells", "top_index"], axis=1, sorted=0))
    total = body.add("ReduceSum", ["top_cells", "axis_1"], "top_sum", keepdims=0)
    divisor = body.add("Cast", ["top_k"], "top_divisor", to=TensorProto.FLOAT)
    mean = body.add("Div", [total, divisor], "top_mean")
    unreadable = body.add("Cast", [body.add("IsNaN", [cells], "nan_cells")], "nan_counts", to=TensorProto.FLOAT)
    unreadable = body.add("ReduceSum", [unreadable, "axis_1"], "nan_count", keepdims=0)
    broken = body.add("Cast", [unreadable], "has_nan", to=TensorProto.BOOL)
    body.add("Where", [broken, body.constant("nan", float("nan")), mean], "score")
