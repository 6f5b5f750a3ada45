"""Passes over an ONNX graph that keep its mathematics and take away what tracing left behind.

Tracing records the arithmetic on shapes (TensorFlow's SAME padding, for instance, as some
twenty nodes a convolution). The input size is fixed, so nearly all of it is constant.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from cada_edge.errors import UnsupportedOpError
from cada_edge.export.branches import captured, inner_graphs, reads, settled

Array = npt.NDArray[np.generic]

# What ONNX Runtime and TensorRT 10.3 both run, and what INT8 and FP16 tools understand.
PORTABLE_OPS = frozenset(
    """Abs Add AveragePool BatchNormalization Cast Ceil Clip Concat Conv ConvTranspose Div Elu Erf Exp Expand Flatten
    Floor Gather Gelu Gemm GlobalAveragePool HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization
    LeakyRelu Log MatMul Max MaxPool Min Mul Neg Pad Pow PRelu Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin
    ReduceSum Relu Reshape Resize Shape Sigmoid Slice Softmax Softplus Split Sqrt Squeeze Sub Tanh TopK Transpose
    Unsqueeze Where""".split()  # noqa: SIM905  # a paragraph of names reads better than a column
)


def simplify(model: ModelProto) -> None:
    """Fold constants, padding and scales in place, then drop what nothing uses."""
    fold_constants(model)
    fix_resize_scales(model)
    fold_pads(model.graph)
    drop_unused(model.graph)
    del model.graph.value_info[:]


def check_portable(graph: GraphProto) -> None:
    """Raise `UnsupportedOpError`, naming them, when `graph` has operators outside `PORTABLE_OPS`."""
    foreign = Counter(f"{n.domain}::{n.op_type}" if n.domain else n.op_type for n in graph.node if not _portable(n))
    if foreign:
        listed = ", ".join(f"{name} ({count}x)" for name, count in sorted(foreign.items()))
        raise UnsupportedOpError(
            f"the graph needs operators outside the portable set: {listed}; choose another encoder or detector, "
            "or rewrite the layer with ordinary operators"
        )


def _portable(node: NodeProto) -> bool:
    return not node.domain and node.op_type in PORTABLE_OPS


def fold_constants(model: ModelProto) -> None:
    """Turn everything that depends on weights and fixed sizes alone into initializers, in place."""
    folded = True
    while folded:
        shapes = known_shapes(model)
        folded = _fold_once(model, shapes)


def known_shapes(model: ModelProto) -> dict[str, list[int | None]]:
    """Shape of every tensor as far as inference gets; ``None`` for an open dimension."""
    del model.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes: dict[str, list[int | None]] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            shapes[value.name] = [d.dim_value if d.HasField("dim_value") else None for d in dims]
    return shapes


def _fold_once(model: ModelProto, shapes: dict[str, list[int | None]]) -> bool:
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    shape_of = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Shape" and not n.attribute}
    kept, changed = [], False
    for node in graph.node:
        branch = settled(node, constants)
        if branch is not None:
            kept += branch
            changed = True
            continue
        value = _constant_dims(node, shape_of, shapes, constants)
        if value is None and all(not name or name in constants for name in node.input) and not any(inner_graphs(node)):
            value = _evaluate(model, node, constants)
        if value is None:
            kept.append(node)
            continue
        for name, array in zip(node.output, value, strict=False):
            constants[name] = numpy_helper.from_array(np.asarray(array), name)
        changed = True
    replace(graph, kept, list(constants.values()))
    return changed


def _constant_dims(
    node: NodeProto,
    shape_of: dict[str, str],
    shapes: dict[str, list[int | None]],
    constants: dict[str, onnx.TensorProto],
) -> list[Array] | None:
    """Value of ``Gather(Shape(x), i)`` where those dimensions of x are fixed."""
    if node.op_type != "Gather" or node.input[0] not in shape_of or node.input[1] not in constants:
        return None
    dims = shapes.get(shape_of[node.input[0]])
    if dims is None:
        return None
    index = numpy_helper.to_array(constants[node.input[1]])
    picked = [dims[i] for i in index.reshape(-1)]
    if any(dim is None for dim in picked):
        return None
    return [np.array(picked, dtype=np.int64).reshape(index.shape)]


def _evaluate(model: ModelProto, node: NodeProto, constants: dict[str, onnx.TensorProto]) -> list[Array]:
    """Run one node on constants with ONNX's own reference implementation."""
    feeds = {name: numpy_helper.to_array(constants[name]) for name in node.input if name}
    inputs = [helper.make_tensor_value_info(n, constants[n].data_type, a.shape) for n, a in feeds.items()]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "one", inputs, outputs)
    one = helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    return [np.asarray(value) for value in ReferenceEvaluator(one).run(None, feeds)]


def fix_resize_scales(model: ModelProto) -> None:
    """Give each Resize constant scales in place of a target size computed from the batch at run time.

    Only where the ratio is exact in float32, so that the result has the same size.
    """
    graph = model.graph
    shapes = known_shapes(model)
    for i, node in enumerate(n for n in graph.node if n.op_type == "Resize" and len(n.input) == 4 and n.input[3]):
        source, target = shapes.get(node.input[0]), shapes.get(node.output[0])
        scales = _exact_scales(source, target)
        if scales is None:
            continue
        name = f"resize_scales_{i}"
        graph.initializer.append(numpy_helper.from_array(scales, name))
        kept = [node.input[0], node.input[1], name]
        del node.input[:]
        node.input.extend(kept)


def _exact_scales(source: list[int | None] | None, target: list[int | None] | None) -> Array | None:
    """float32 (4,): the scales of an NCHW resize, or ``None`` where they are unknown or inexact."""
    if source is None or target is None or len(source) != 4 or len(target) != 4:
        return None
    ratios = [Fraction(1), Fraction(1)]
    for before, after in zip(source[2:], target[2:], strict=True):
        if before is None or after is None:
            return None
        ratios.append(Fraction(after, before))
    scales = np.array([float(r) for r in ratios], dtype=np.float32)
    exact = all(Fraction(float(s)) == r for s, r in zip(scales, ratios, strict=True))
    return scales if exact else None


def fold_pads(graph: GraphProto) -> None:
    """Move zero padding in front of a convolution into its own, possibly asymmetric, ``pads``, in place."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(captured(graph.node))
    uses.update(output.name for output in graph.output)
    makers = {node.output[0]: node for node in graph.node}
    gone = []
    for conv in graph.node:
        pad = makers.get(conv.input[0]) if conv.op_type == "Conv" else None
        if pad is None or pad.op_type != "Pad" or uses[pad.output[0]] != 1:
            continue
        amounts = _zero_padding(pad, constants)
        if amounts is not None and _add_pads(conv, amounts):
            conv.input[0] = pad.input[0]
            gone.append(pad.output[0])
    replace(graph, [n for n in graph.node if n.output[0] not in gone], list(graph.initializer))


def _zero_padding(pad: NodeProto, constants: dict[str, onnx.TensorProto]) -> list[int] | None:
    """``[top, left, bottom, right]`` of a spatial, growing zero padding; ``None`` for any other Pad."""
    attributes = {a.name: helper.get_attribute_value(a) for a in pad.attribute}
    extra = [name for name in pad.input[2:] if name]
    if attributes.get("mode", b"constant") != b"constant" or pad.input[1] not in constants or len(pad.input) > 3:
        return None
    if any(name not in constants or numpy_helper.to_array(constants[name]).any() for name in extra):
        return None
    pads = [int(v) for v in numpy_helper.to_array(constants[pad.input[1]])]
    if len(pads) != 8 or any(pads[i] for i in (0, 1, 4, 5)) or min(pads) < 0:
        return None
    return [pads[2], pads[3], pads[6], pads[7]]


def _add_pads(conv: NodeProto, amounts: list[int]) -> bool:
    attributes = {a.name: a for a in conv.attribute}
    if "auto_pad" in attributes and attributes["auto_pad"].s not in (b"", b"NOTSET"):
        return False
    own = list(attributes["pads"].ints) if "pads" in attributes else [0, 0, 0, 0]
    if "pads" in attributes:
        conv.attribute.remove(attributes["pads"])
    conv.attribute.append(helper.make_attribute("pads", [a + b for a, b in zip(own, amounts, strict=True)]))
    return True


def drop_unused(graph: GraphProto) -> None:
    """Remove nodes and initializers that no output depends on, and Identity nodes, in place."""
    _bypass_identities(graph)
    needed = {output.name for output in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed |= reads(node)
            kept.append(node)
    replace(graph, kept[::-1], [t for t in graph.initializer if t.name in needed])


def _bypass_identities(graph: GraphProto) -> None:
    fixed = {output.name for output in graph.output} | captured(graph.node)
    source: dict[str, str] = {}
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = source.get(name, name)
        whole = len(node.input) == len(node.output) == 1  # a foreign graph may hold anything
        if node.op_type == "Identity" and whole and node.output[0] not in fixed:
            source[node.output[0]] = node.input[0]


def replace(graph: GraphProto, nodes: list[NodeProto], initializers: list[onnx.TensorProto]) -> None:
    """Give `graph` these nodes and initializers, some of which may be its own, in place."""
    # Copies first: clearing a repeated field frees the messages it held.
    nodes, initializers = [_copy(n) for n in nodes], [_copy(t) for t in initializers]
    del graph.node[:]
    del graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers)


def _copy(message: NodeProto | onnx.TensorProto) -> NodeProto | onnx.TensorProto:
    twin = type(message)()
    twin.CopyFrom(message)
    return twin
