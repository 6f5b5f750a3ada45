"""Read an ONNX file of unknown origin: hostile until checked, then cut down to picture in, map out.

Nothing is ever unpickled. Weights beside the file are taken from its own folder only. What
is left has standard operators, no sub-graphs, no random numbers and one input and output.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from cada_edge.errors import DataError, ExportError, UnsafeFileError, UnsupportedOpError
from cada_edge.export.graph import PORTABLE_OPS, drop_unused

MAX_GRAPH_BYTES = 1 << 30
OLDEST_OPSET = 11

# Beyond the portable set: standard, deterministic, without sub-graphs. ONNX Runtime has them
# all, other engines most.
_MORE_OPS = frozenset(
    """And ArgMax ArgMin BitShift Celu Constant ConstantOfShape Cos CumSum DepthToSpace DequantizeLinear Dropout Einsum
    Equal EyeLike GatherElements GatherND GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization Hardmax
    IsInf IsNaN LRN Less LessOrEqual LogSoftmax LpNormalization LpPool Mean MeanVarianceNormalization Mish Mod Not
    OneHot Or QLinearConv QLinearMatMul QuantizeLinear ConvInteger MatMulInteger DynamicQuantizeLinear Range ReduceL1
    ReduceLogSum ReduceLogSumExp ReduceProd ReduceSumSquare Round ScatterElements ScatterND Selu Sign Sin Size Softsign
    SpaceToDepth Sum Tan ThresholdedRelu Tile Trilu Upsample Xor""".split()  # noqa: SIM905  # as in PORTABLE_OPS
)
_PICKLES = (b"PK\x03\x04", b"\x80")
_HOW_TO_EXPORT = (
    "checkpoints and pickles are never loaded; export the model to ONNX (for anomalib: `anomalib export --export_type "
    "onnx`, or cada_edge.export.from_anomalib on the live model)"
)


def read_graph(path: Path) -> ModelProto:
    """Parse an ONNX file, weights that lie beside it included.

    Raises:
        DataError: the file cannot be read, or is no ONNX model.
        UnsafeFileError: larger than `MAX_GRAPH_BYTES`, or with weights outside its own folder.
    """
    try:
        if (size := path.stat().st_size) > MAX_GRAPH_BYTES:
            raise UnsafeFileError(f"{path}: {size} bytes, a foreign graph may have {MAX_GRAPH_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror or error}") from error
    proto = parse(content, str(path))
    _inline_weights(proto, path)
    return proto


def parse(content: bytes, name: str) -> ModelProto:
    """Parse serialised ONNX. Raises `UnsafeFileError` for a pickle, `DataError` for anything else."""
    if content.startswith(_PICKLES):
        raise UnsafeFileError(f"{name} is a checkpoint or an archive, not an ONNX file; {_HOW_TO_EXPORT}")
    try:
        proto = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError, whose package ships no types
        raise DataError(f"{name} is not an ONNX file: {error}") from error
    if not proto.graph.node:
        raise DataError(f"{name} is not an ONNX file, or its graph is empty")
    return proto


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Every dense tensor of a graph without sub-graphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _inline_weights(proto: ModelProto, path: Path) -> None:
    total = 0
    for tensor in _tensors(proto.graph):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        facts = {entry.key: entry.value for entry in tensor.external_data}
        weights = _weights_file(path, facts.get("location", ""))
        try:
            offset = int(facts.get("offset", 0))
            length = int(facts.get("length", weights.stat().st_size - offset))  # without one: all that follows
            total += length
            if min(offset, length) < 0 or total > MAX_GRAPH_BYTES:
                raise UnsafeFileError(f"{path}: claims {total} bytes of weights; a graph may have {MAX_GRAPH_BYTES}")
            raw = _read_part(weights, offset, length)
        except (OSError, ValueError) as error:
            raise DataError(f"{weights}: cannot read the weights of {path.name}: {error}") from error
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
        tensor.raw_data = raw


def _weights_file(path: Path, location: str) -> Path:
    """The file that `location` names, if it lies right beside `path`."""
    if not location or location in {".", ".."} or set(location) & {"/", "\\", "\0"}:
        raise UnsafeFileError(
            f"{path}: names weights at {location!r}, expected a file in its own folder; save the model again with its "
            "weights inside it or beside it"
        )
    weights = path.parent / location
    try:
        regular = stat.S_ISREG(weights.lstat().st_mode)
    except OSError as error:
        raise DataError(f"{weights}: cannot read the weights of {path.name}: {error.strerror}; copy both") from error
    if not regular:
        raise UnsafeFileError(
            f"{weights}: expected a regular file with the weights of {path.name}, not a link or folder"
        )
    return weights


def _read_part(weights: Path, offset: int, length: int) -> bytes:
    with weights.open("rb") as stream:
        stream.seek(offset, os.SEEK_SET)
        raw = stream.read(length)
    if len(raw) != length:
        raise ValueError(f"expected {length} bytes at {offset}, found {len(raw)}")
    return raw


def cut(proto: ModelProto, source: str, output: str) -> ModelProto:
    """A copy from input `source` to tensor `output` alone, checked.

    Raises `UnsupportedOpError` for operators that are not allowed, `ExportError` when the rest
    is not valid ONNX, and `UnsafeFileError` when it still points to other files.
    """
    small = ModelProto()
    small.CopyFrom(proto)
    del small.graph.output[:]
    small.graph.output.append(helper.make_empty_tensor_value_info(output))
    drop_unused(small.graph)
    kept = [value for value in small.graph.input if value.name == source]
    del small.graph.input[:]
    small.graph.input.extend(kept)
    for field in (small.graph.value_info, small.metadata_props, small.training_info):
        del field[:]
    _check_operators(small)
    _keep_standard_domain(small)
    _check_valid(small)
    return small


def _check_operators(proto: ModelProto) -> None:
    if proto.functions:
        names = sorted({f.name for f in proto.functions})[:5]
        raise UnsupportedOpError(
            f"the graph has functions of its own {names}; inline them (onnx.inliner) and try again"
        )
    if proto.graph.sparse_initializer:
        raise UnsupportedOpError("the graph has sparse weights; export it with dense ones")
    refused = Counter(
        f"{n.domain}::{n.op_type}" if n.domain not in {"", "ai.onnx"} else n.op_type
        for n in proto.graph.node
        if n.domain not in {"", "ai.onnx"} or n.op_type not in PORTABLE_OPS | _MORE_OPS
    )
    if refused:
        listed = ", ".join(f"{name} ({count}x)" for name, count in sorted(refused.items()))
        raise UnsupportedOpError(
            f"the graph needs {listed}: random numbers, sub-graphs, own domains and what engines rarely have are not "
            "taken; export the model again without them"
        )


def _keep_standard_domain(proto: ModelProto) -> None:
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 0))
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise ExportError(f"the graph has opset {opset}, expected {OLDEST_OPSET}..{newest}; export it again")
    del proto.opset_import[:]
    proto.opset_import.append(helper.make_opsetid("", opset))
    for node in proto.graph.node:
        node.domain = ""


def _check_valid(proto: ModelProto) -> None:
    """The checker wants a typed output, so the shape is inferred first."""
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in _tensors(proto.graph)):
        raise UnsafeFileError("the graph keeps weights in another file; wrap the file itself, not its bytes")
    try:
        inferred = onnx.shape_inference.infer_shapes(proto)
        proto.graph.output[0].CopyFrom(inferred.graph.output[0])
        onnx.checker.check_model(inferred)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise ExportError(f"the graph is not valid ONNX: {error}") from error


def before_clamp(proto: ModelProto, output: str) -> str:
    """The tensor that a final clamp to 0..1 would cut, else `output`.

    A clamped map has lost what it says of strong defects, and often the good parts too. The
    search goes back through choices that constants make and through what only copies. `proto`
    must be valid, as `cut` leaves it: the search would not end in a graph that feeds itself.
    """
    makers = {name: node for node in proto.graph.node for name in node.output}
    constants = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer if _small(t)}
    constants |= {
        n.output[0]: numpy_helper.to_array(a.t)
        for n in proto.graph.node
        if n.op_type == "Constant"
        for a in n.attribute
        if a.HasField("t") and _small(a.t)
    }
    name = output
    while (node := makers.get(name)) is not None:
        if node.op_type == "Identity":
            name = node.input[0]
        elif node.op_type == "Where" and node.input[0] in constants:
            name = node.input[1] if bool(constants[node.input[0]].all()) else node.input[2]
        elif node.op_type == "Clip" and [constants[i].item() for i in node.input[1:] if i in constants] == [0, 1]:
            return str(node.input[0])
        else:
            break
    return output


def _small(tensor: TensorProto) -> bool:
    """A scalar, or one element, whose value is in the file."""
    return tensor.data_location != TensorProto.EXTERNAL and all(dim == 1 for dim in tensor.dims)
