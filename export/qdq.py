"""INT8 as explicit quantise/dequantise pairs, placed the way TensorRT takes them up.

Only convolutions are quantised: their input per tensor, their weights per output channel, both
symmetric with zero point 0 and float32 scales; biases stay as they are. Of a residual addition the
branch that no convolution makes is quantised, so that the other's convolution can take the addition
in. A tensor is quantised once, however many read it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from cada_edge.calibration.ranges import LEVELS
from cada_edge.errors import ExportError
from cada_edge.export.fp16 import require_finite
from cada_edge.export.graph import replace
from cada_edge.export.zones import Zones, key

_ACTIVATIONS = frozenset({"Clip", "Relu"})
_TINY = float(np.finfo(np.float32).tiny) * LEVELS


@dataclass(frozen=True)
class Layer:
    """A convolution that may be INT8.

    Attributes:
        name: of its output.
        source: tensor it reads.
        weights: initializer.
        skip: tensor added to its result, quantised with it; empty for none.
        addition: the node that adds it.
        depthwise: each channel is convolved by itself.
    """

    name: str
    source: str
    weights: str
    skip: str = ""
    addition: str = ""
    depthwise: bool = False

    @property
    def tensors(self) -> tuple[str, ...]:
        """Activations that need a range."""
        return (self.source, self.skip) if self.skip else (self.source,)


def find_layers(proto: ModelProto, zones: Zones, *, depthwise: bool) -> tuple[Layer, ...]:
    """Convolutions of the network that may be INT8: not the first, not the last, grouped ones only if asked for."""
    graph = proto.graph
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    skips = _skips(graph)
    able = zones.network - zones.first - zones.last
    found = []
    for node in graph.node:
        if node.op_type != "Conv" or key(node) not in able or node.input[1] not in weights:
            continue
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        if groups == 1 or depthwise:
            addition, skip = skips.get(key(node), ("", ""))
            found.append(Layer(key(node), node.input[0], node.input[1], skip, addition, groups > 1))
    return tuple(found)


def _skips(graph: GraphProto) -> dict[str, tuple[str, str]]:
    """Convolution to the addition that alone reads it, and the other tensor added."""
    makers = {name: node for node in graph.node for name in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    found: dict[str, tuple[str, str]] = {}
    for node in graph.node:
        if node.op_type != "Add" or any(name not in makers for name in node.input):
            continue
        convs = [name for name in node.input if makers[name].op_type == "Conv" and uses[name] == 1]
        if convs:
            other = next(iter(name for name in node.input if name != convs[0]), "")
            found.setdefault(convs[0], (key(node), other))
    return found


def quantise(proto: ModelProto, layers: Collection[Layer], ranges: Mapping[str, float]) -> ModelProto:
    """A copy in which `layers` compute in INT8.

    Args:
        proto: the graph, float32.
        layers: of `find_layers`.
        ranges: for every tensor of the layers, the magnitude that the 127th step stands for, > 0.

    Raises `ExportError` when weights are not finite, a range is missing or is no number > 0.
    """
    result = ModelProto()
    result.CopyFrom(proto)
    graph = result.graph
    pairs = {name: _pair(name, _scale(name, ranges)) for name in sorted({n for one in layers for n in one.tensors})}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    packed = {name: _packed(tensors[name]) for name in sorted({one.weights for one in layers})}
    _read_int8(graph, layers)
    nodes = _placed(graph, {name: nodes for name, (nodes, _) in pairs.items()})
    nodes = [*(node for node, _ in packed.values()), *nodes]
    constants = [one for _, several in (*pairs.values(), *packed.values()) for one in several]
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    replace(graph, nodes, [*kept, *constants])
    del graph.value_info[:]
    return result


def int8_island(proto: ModelProto, layers: Collection[Layer]) -> frozenset[str]:
    """Nodes whose numbers come out of INT8 layers and fuse with them: they stay float32, the scales' type."""
    island = {one.name for one in layers} | {one.addition for one in layers if one.addition}
    uses = Counter(name for node in proto.graph.node for name in node.input)
    for node in proto.graph.node:
        if node.op_type in _ACTIVATIONS and node.input[0] in island and uses[node.input[0]] == 1:
            island.add(key(node))
    return frozenset(island)


def _scale(name: str, ranges: Mapping[str, float]) -> float:
    if name not in ranges:
        raise ExportError(f"activation {name!r} has no INT8 range; calibrate on this very graph")
    value = ranges[name]
    if not (np.isfinite(value) and value > 0):
        raise ExportError(f"activation {name!r} has INT8 range {value!r}, expected a number > 0")
    return max(value, _TINY) / LEVELS


def _pair(name: str, scale: float) -> tuple[list[NodeProto], list[TensorProto]]:
    """Quantise and dequantise nodes behind `name`, and their scale and zero point."""
    constants = [
        numpy_helper.from_array(np.array(scale, np.float32), f"{name}/scale"),
        numpy_helper.from_array(np.array(0, np.int8), f"{name}/zero"),
    ]
    numbers = [tensor.name for tensor in constants]
    nodes = [
        helper.make_node("QuantizeLinear", [name, *numbers], [f"{name}/int8"], name=f"{name}/Quantize"),
        helper.make_node("DequantizeLinear", [f"{name}/int8", *numbers], [f"{name}/dq"], name=f"{name}/Dequantize"),
    ]
    return nodes, constants


def _packed(weights: TensorProto) -> tuple[NodeProto, list[TensorProto]]:
    """Weights as int8 with one scale per output channel, and the node that dequantises them."""
    values: npt.NDArray[np.float32] = numpy_helper.to_array(weights)
    name = weights.name
    require_finite(name, values)
    scale = np.maximum(np.abs(values).reshape(len(values), -1).max(axis=1), _TINY) / LEVELS
    shape = (-1, *(1 for _ in values.shape[1:]))
    whole = np.clip(np.rint(values / scale.reshape(shape)), -LEVELS, LEVELS).astype(np.int8)
    constants = [
        numpy_helper.from_array(whole, f"{name}/int8"),
        numpy_helper.from_array(scale.astype(np.float32), f"{name}/scale"),
        numpy_helper.from_array(np.zeros(len(values), np.int8), f"{name}/zero"),
    ]
    inputs = [tensor.name for tensor in constants]
    return helper.make_node("DequantizeLinear", inputs, [f"{name}/dq"], name=f"{name}/Dequantize", axis=0), constants


def _read_int8(graph: GraphProto, layers: Collection[Layer]) -> None:
    """Let the layers, and the additions behind them, read what was quantised."""
    by_name = {one.name: one for one in layers}
    skips = {one.addition: one.skip for one in layers if one.addition}
    for node in graph.node:
        if (layer := by_name.get(key(node))) is not None:
            node.input[0], node.input[1] = f"{layer.source}/dq", f"{layer.weights}/dq"
        elif skip := skips.get(key(node)):
            i = list(node.input).index(skip)
            node.input[i] = f"{skip}/dq"


def _placed(graph: GraphProto, pairs: Mapping[str, list[NodeProto]]) -> list[NodeProto]:
    """All nodes, each pair right behind what makes its tensor."""
    nodes: list[NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        for name in node.output:
            nodes.extend(pairs.get(name, []))
    inputs = [pairs[value.name] for value in graph.input if value.name in pairs]
    return [*(one for pair in inputs for one in pair), *nodes]
