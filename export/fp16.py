"""Encoder and detector in float16, typed in the graph itself, as strongly typed TensorRT wants it.

A pass of our own: `onnxruntime.transformers.float16` (and onnxconverter-common, its origin) knows
neither functions nor what our graph's parts are for, and cuts numbers off silently.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from cada_edge.errors import ExportError, UnsupportedOpError
from cada_edge.export.graph import replace
from cada_edge.export.zones import fused_node, key

HALF_MAX = float(np.finfo(np.float16).max)
_FLOAT, _HALF = TensorProto.FLOAT, TensorProto.FLOAT16
_SHAPE_READERS = frozenset({"Shape", "Size"})
# Their constants are limits or filling, where "larger than float16 knows" means "without end".
_SATURATING = frozenset({"Clip", "Pad", "Max", "Min"})


def to_half(proto: ModelProto, nodes: Collection[str]) -> ModelProto:
    """A copy in which `nodes` compute in float16; casts stand where float16 and float32 meet.

    Nodes whose operator knows no float16, or whose type an attribute sets, stay as they are.
    The fused node takes float16 where its body casts what it reads.

    Args:
        proto: the graph, float32.
        nodes: names of nodes as `cada_edge.export.zones.key` gives them.

    Raises:
        ExportError: a weight is NaN, infinite or too large for float16; names the tensor.
        UnsupportedOpError: a node holds a sub-graph, which would stay float32.
    """
    result = ModelProto()
    result.CopyFrom(proto)
    _refuse_subgraphs(result.graph, nodes)
    pass_ = _Pass(result, {key(n) for n in result.graph.node if key(n) in nodes and _knows_half(n, result)})
    new = [step for node in result.graph.node for step in pass_.rewritten(node)]
    used = {name for node in new for name in node.input}
    kept = [t for t in (*result.graph.initializer, *pass_.constants.values()) if t.name in used]
    replace(result.graph, new, kept)
    del result.graph.value_info[:]
    return result


@dataclass
class _Pass:
    """What the walk over the nodes, in their order, has found and made so far."""

    proto: ModelProto
    low: set[str]
    constants: dict[str, TensorProto] = field(default_factory=dict)
    casts: dict[str, NodeProto] = field(default_factory=dict)
    halves: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        graph = self.proto.graph
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.floats = _float_tensors(self.proto)
        self.outputs = {value.name for value in graph.output}
        self.fused = key(fused_node(graph))

    def rewritten(self, node: NodeProto) -> list[NodeProto]:
        """`node` with inputs of the type it wants, after the casts that this takes."""
        if key(node) in self.low and not self.outputs.intersection(node.output):
            made = self._inputs(node, {i for i, _ in enumerate(node.input) if _takes_half(node, i, self.proto)})
            self.halves.update(name for name in node.output if name in self.floats)
            return [*made, node]
        free = {i for i in self._indifferent(node) if node.input[i] in self.halves}  # as it comes
        return [*self._inputs(node, free), node]

    def _indifferent(self, node: NodeProto) -> set[int]:
        """Inputs that may have either type: of a body that casts them, and of nodes that read a shape."""
        if node.op_type in _SHAPE_READERS:
            return {0}
        return _cast_inputs(self.proto) if key(node) == self.fused else set()

    def _inputs(self, node: NodeProto, half: set[int]) -> list[NodeProto]:
        made: list[NodeProto] = []
        for i, name in enumerate(node.input):
            if name not in self.floats:
                continue
            if i in half and name in self.weights:
                node.input[i] = self._constant(name, saturate=node.op_type in _SATURATING)
            elif (i in half) != (name in self.halves):
                node.input[i] = self._cast(name, _HALF if i in half else _FLOAT, made)
        return made

    def _constant(self, name: str, *, saturate: bool) -> str:
        half = f"{name}/fp16"
        if half not in self.constants:
            values = _as_half(name, numpy_helper.to_array(self.weights[name]), saturate=saturate)
            self.constants[half] = numpy_helper.from_array(values, half)
        return half

    def _cast(self, name: str, to: int, made: list[NodeProto]) -> str:
        cast = f"{name}/{'fp16' if to == _HALF else 'fp32'}"
        if cast not in self.casts:
            self.casts[cast] = helper.make_node("Cast", [name], [cast], name=cast, to=to)
            made.append(self.casts[cast])
        return cast


def _as_half(name: str, values: npt.NDArray[np.generic], *, saturate: bool) -> npt.NDArray[np.float16]:
    exact = values.astype(np.float64)
    if saturate:
        return np.clip(exact, -HALF_MAX, HALF_MAX).astype(np.float16)
    require_finite(name, exact)
    largest = float(np.abs(exact).max(initial=0.0))
    if largest > HALF_MAX:
        raise ExportError(
            f"weights {name!r} reach {largest:.6g}, float16 ends at {HALF_MAX:g}; export without --precision fp16, or "
            "scale the layer"
        )
    return exact.astype(np.float16)


def require_finite(name: str, values: npt.NDArray[np.generic]) -> None:
    """Raise `ExportError` when weights hold NaN or infinity."""
    broken = int(np.count_nonzero(~np.isfinite(values)))
    if broken:
        raise ExportError(
            f"weights {name!r} hold {broken} of {values.size} values that are NaN or infinite; train the bundle again"
        )


def _float_tensors(proto: ModelProto) -> set[str]:
    """Tensors of type float32, initializers among them."""
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    found = {value.name for value in values if value.type.tensor_type.elem_type == _FLOAT}
    return found | {tensor.name for tensor in proto.graph.initializer if tensor.data_type == _FLOAT}


def _refuse_subgraphs(graph: GraphProto, nodes: Collection[str]) -> None:
    for node in graph.node:
        if key(node) in nodes and any(a.HasField("g") or a.graphs for a in node.attribute):
            raise UnsupportedOpError(
                f"the detector runs inside a {node.op_type} node ({key(node)!r}), whose inside would stay float32; "
                "export the imported model with a free batch size, then wrap it again"
            )


def _knows_half(node: NodeProto, proto: ModelProto) -> bool:
    """Whether a float input of the node sets the type of its output, and may be float16."""
    if node.domain:
        return False
    schema = _schema(node, proto)
    parameters = {schema.inputs[min(i, len(schema.inputs) - 1)].type_str for i, n in enumerate(node.input) if n}
    able = {c.type_param_str for c in schema.type_constraints if "tensor(float16)" in c.allowed_type_strs}
    return schema.outputs[0].type_str in parameters & able


def _takes_half(node: NodeProto, i: int, proto: ModelProto) -> bool:
    schema = _schema(node, proto)
    wanted = schema.inputs[min(i, len(schema.inputs) - 1)].type_str
    allowed: Iterable[str] = next(
        (c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == wanted), [wanted]
    )
    return "tensor(float16)" in allowed


def _schema(node: NodeProto, proto: ModelProto) -> onnx.defs.OpSchema:
    return onnx.defs.get_schema(node.op_type, opset_of(proto), node.domain)


def opset_of(proto: ModelProto) -> int:
    """Version of the standard operators."""
    versions: list[int] = [entry.version for entry in proto.opset_import if not entry.domain]
    return versions[0]


def _cast_inputs(proto: ModelProto) -> set[int]:
    """Inputs of the fused node that its body does nothing with but cast."""
    node = fused_node(proto.graph)
    body: FunctionProto = next(f for f in proto.functions if (f.domain, f.name) == (node.domain, node.op_type))
    return {
        i
        for i, name in enumerate(body.input)
        if all(step.op_type == "Cast" for step in body.node if name in step.input)
    }
