"""What a GPU does in float16, on a processor that has none: every result rounded, sums in float32.

ONNX Runtime computes a float16 graph in float32 on most processors and drops the roundings in
between, so that nothing overflows there. A gate that is to speak for a GPU runs this graph instead.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from cada_edge.export.fp16 import to_half
from cada_edge.export.graph import replace


@dataclass(frozen=True)
class Typed:
    """A graph of lower precision.

    Attributes:
        graph: what goes into the bundle.
        judged: what the gate runs in its place: the same, its float16 roundings made explicit.
    """

    graph: ModelProto
    judged: ModelProto


def in_half(proto: ModelProto, nodes: Collection[str]) -> Typed:
    """`proto` with `nodes` in float16, see `cada_edge.export.fp16.to_half`."""
    half = to_half(proto, nodes)
    return Typed(half, emulated(proto, half))


def emulated(proto: ModelProto, half: ModelProto) -> ModelProto:
    """`proto`, float32, with weights and results rounded wherever `half`, made of it, has float16.

    Results beyond float16 become infinite, as they do on a GPU. Fused kernels round less often
    than this, never more.
    """
    result = ModelProto()
    result.CopyFrom(proto)
    weights = {t.name: numpy_helper.to_array(t) for t in half.graph.initializer if t.data_type == TensorProto.FLOAT16}
    rounded = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()]
    low = _low(proto, half)
    entering = {node.input[0] for node in half.graph.node if node.output[0].endswith("/fp16")}
    nodes: list[NodeProto] = []
    for node in result.graph.node:
        if node.output[0] in low:
            for i, name in enumerate(node.input):
                node.input[i] = f"{name}/fp16" if f"{name}/fp16" in weights else name
        made = [name for name in node.output if name in low or name in entering]
        for i, name in enumerate(node.output):
            node.output[i] = f"{name}/exact" if name in made else name
        nodes += [node, *(step for name in made for step in _rounding(name))]
    replace(result.graph, nodes, [*result.graph.initializer, *rounded])
    del result.graph.value_info[:]
    return result


def _low(proto: ModelProto, half: ModelProto) -> set[str]:
    """Tensors that are float16 in `half`: results of nodes that a cast to float16 or such weights feed."""
    before = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    found = {t.name for t in half.graph.initializer if t.data_type == TensorProto.FLOAT16 and t.name not in before}
    found |= {node.output[0] for node in half.graph.node if node.output[0].endswith("/fp16")}
    casts = {node.output[0] for node in half.graph.node if node.output[0].endswith(("/fp16", "/fp32"))}
    ours = _names(proto)
    for node in half.graph.node:
        reads_only = node.domain or node.op_type in {"Shape", "Size"}  # of either type, and gives neither
        if node.output[0] not in casts and not reads_only and found.intersection(node.input):
            found.update(node.output)
    return found & ours


def _names(proto: ModelProto) -> set[str]:
    return {name for node in proto.graph.node for name in node.output}


def _rounding(name: str) -> list[NodeProto]:
    return [
        helper.make_node("Cast", [f"{name}/exact"], [f"{name}/half"], name=f"{name}/Round", to=TensorProto.FLOAT16),
        helper.make_node("Cast", [f"{name}/half"], [name], name=f"{name}/Widen", to=TensorProto.FLOAT),
    ]
