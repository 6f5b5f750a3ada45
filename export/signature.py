"""Which input of a foreign graph takes the picture, which output is the map: found, not asked, where it is plain."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto

from cada_edge.errors import CadaEdgeError, ConfigError, EngineError, ExportError
from cada_edge.export.foreign import before_clamp, cut, read_graph
from cada_edge.models.foreign import ChannelOrder, Element, ForeignConfig, ForeignGraph, Layout
from cada_edge.models.foreign_model import open_graph, run_graph
from cada_edge.types import require

Array = npt.NDArray[Any]

ANOMALIB_MAP = "anomaly_map"
DEFAULT_SIDE_PX = 256
_ELEMENTS: dict[int, Element] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.UINT8: "uint8",
}
_MAP_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
# What one picture may change in another's map by mere order of summation, relative to the map's range.
_ALONE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class ForeignOptions:
    """What a file may leave open; ``None`` is found or guessed, and said in `ForeignGraph.notes`.

    Attributes:
        input: name of the picture's input.
        output: name of the map; any tensor of the graph.
        layout: of the input.
        size_hw: of the input where the graph leaves it free, pixels.
        order: of the input's channels.
        mean: per channel in 0..255 units; the graph is fed ``(pixel - mean) / std``.
        std: per channel in 0..255 units.
        keep_clamp: take a map that ends in a clamp to 0..1 as it is, not from before the clamp.
    """

    input: str | None = None
    output: str | None = None
    layout: Layout | None = None
    size_hw: tuple[int, int] | None = None
    order: ChannelOrder = "rgb"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    keep_clamp: bool = False


def open_foreign(path: Path, options: ForeignOptions | None = None) -> ForeignGraph:
    """Read, check and understand a foreign ONNX file.

    Raises:
        DataError, UnsafeFileError: the file cannot be read or is not what it should be.
        ConfigError: something is ambiguous or contradicts the file; names the option.
        ExportError, UnsupportedOpError: the graph is not valid or needs what is not allowed.
        EngineError: ONNX Runtime cannot run it.
    """
    proto = read_graph(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return understand(proto, options or ForeignOptions(), digest)


def understand(proto: ModelProto, options: ForeignOptions, digest: str = "") -> ForeignGraph:
    """As `open_foreign`, for a parsed model with its weights inside."""
    picture = _picture_input(proto, options.input)
    element = _element(picture)
    layout, size_hw = _shape(picture, options)
    example = _noise(1, element, layout, size_hw)
    name = options.output or _map_output(proto, picture.name, example)
    whole = cut(proto, picture.name, name)
    output = name if options.keep_clamp else before_clamp(whole, name)
    small = cut(whole, picture.name, output)
    content = small.SerializeToString(deterministic=True)
    map_hw = _map_size(run_graph(open_graph(content), example), name)
    freed, free = _free_batch(small, _noise(3, element, layout, size_hw))
    mean, std = _normalisation(options, element)
    config = ForeignConfig(size_hw, map_hw, layout, element, options.order, mean, std, one_by_one=not free)
    source = {
        "sha256": digest,
        "content_sha256": hashlib.sha256(freed).hexdigest(),
        "input": picture.name,
        "output": name,
        "opset": small.opset_import[0].version,
        "producer": proto.producer_name,
    }
    return ForeignGraph(
        freed, config, source, tuple(_notes(config, options, picture.name, name, clamped=output != name))
    )


def _picture_input(proto: ModelProto, wanted: str | None) -> ValueInfoProto:
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs: dict[str, ValueInfoProto] = {value.name: value for value in proto.graph.input if value.name not in weights}
    if wanted is not None:
        require(wanted in inputs, "--input", wanted, f"one of {sorted(inputs)}")
        return inputs[wanted]
    pictures = [value for value in inputs.values() if len(_dims(value)) == 4]
    if len(pictures) != 1 or len(inputs) != 1:
        raise ConfigError(
            f"--input: the graph has inputs {sorted(inputs)}, expected one, of 4 dimensions, for a picture"
        )
    return pictures[0]


def _dims(value: ValueInfoProto) -> list[int | None]:
    """Sizes of a tensor, ``None`` where the graph leaves them free."""
    return [d.dim_value if d.dim_value > 0 else None for d in value.type.tensor_type.shape.dim]


def _element(picture: ValueInfoProto) -> Element:
    number = picture.type.tensor_type.elem_type
    if number not in _ELEMENTS:
        found = TensorProto.DataType.Name(number)
        raise ConfigError(f"--input: {picture.name!r} is of type {found}, expected one of {sorted(_ELEMENTS.values())}")
    return _ELEMENTS[number]


def _shape(picture: ValueInfoProto, options: ForeignOptions) -> tuple[Layout, tuple[int, int]]:
    """Layout and (height, width) of the input."""
    dims = _dims(picture)
    if len(dims) != 4:
        raise ConfigError(f"--input: {picture.name!r} has {len(dims)} dimensions, expected 4")
    if dims[0] not in (None, 1):
        raise ConfigError(
            f"the graph takes {dims[0]} pictures at a time, expected 1 or any number; export it with batch size 1"
        )
    layout = options.layout or _guess_layout(picture.name, dims)
    channels, *sides = (dims[1], dims[2], dims[3]) if layout == "NCHW" else (dims[3], dims[1], dims[2])
    require(channels in (None, 3), "--layout", layout, f"3 channels; {picture.name!r} has shape {dims}")
    height, width = (_side(have, i, options.size_hw) for i, have in enumerate(sides))
    return layout, (height, width)


def _guess_layout(name: str, dims: list[int | None]) -> Layout:
    if (dims[1] == 3) == (dims[3] == 3):
        raise ConfigError(f"--layout: cannot tell NCHW from NHWC by the shape {dims} of {name!r}; give it")
    return "NCHW" if dims[1] == 3 else "NHWC"


def _side(have: int | None, axis: int, wanted: tuple[int, int] | None) -> int:
    side = wanted[axis] if wanted else DEFAULT_SIDE_PX
    if have is not None and wanted is not None and have != side:
        raise ConfigError(f"--size: got {side}, but the graph takes {have} pixels on that side; leave the option out")
    return have or side


def _noise(count: int, element: Element, layout: Layout, size_hw: tuple[int, int]) -> Array:
    """Made-up input of `count` different pictures; the same on every call."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, *size_hw))
    pixels = pixels if layout == "NCHW" else pixels.transpose(0, 2, 3, 1)
    return pixels.astype(np.uint8) if element == "uint8" else (pixels / 255).astype(element)


def _map_output(proto: ModelProto, source: str, example: Array) -> str:
    """The one output that is a map. Decided by running the graph: declared shapes may be open."""
    found: list[str] = [value.name for value in proto.graph.output if value.type.tensor_type.elem_type in _MAP_TYPES]
    faults = {name: _fault(proto, source, name, example) for name in found}
    maps = [name for name, fault in faults.items() if not fault]
    if ANOMALIB_MAP in maps:
        return ANOMALIB_MAP
    if len(maps) > 1:
        raise ConfigError(f"--map-output: the graph has several outputs that may be the map, {maps}; name one")
    if not maps:
        others = sorted({value.name for value in proto.graph.output} - set(found))
        raise ConfigError(
            f"--map-output: no output is an anomaly map: {'; '.join(faults.values())}; not floating point: {others}"
        )
    return maps[0]


def _fault(proto: ModelProto, source: str, name: str, example: Array) -> str:
    """Why output `name` is no map; empty when it is one."""
    try:
        _map_size(run_graph(open_graph(cut(proto, source, name).SerializeToString()), example), name)
    except CadaEdgeError as error:
        return f"{name}: {error}"
    return ""


def _map_size(output: Array, name: str) -> tuple[int, int]:
    """(h, w) of the map of one picture. Raises `ExportError`."""
    shape = output.shape
    sides = tuple(side for side in shape[1:] if side != 1)
    if len(shape) not in (3, 4) or shape[0] != 1 or len(sides) != 2 or output.dtype.kind != "f":
        raise ExportError(
            f"output {name!r} is {output.dtype} {shape} for one picture, expected floating point (1, h, w), "
            "(1, 1, h, w) or (1, h, w, 1) with h and w > 1"
        )
    return sides[0], sides[1]


def _free_batch(small: ModelProto, pictures: Array) -> tuple[bytes, bool]:
    """The graph with a free batch, and whether pictures together get the maps they get alone.

    Proven by running it: a fixed 1 may hide in any reshape, and a graph may scale by its batch.
    """
    freed = ModelProto()
    freed.CopyFrom(small)
    freed.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    freed.graph.output[0].CopyFrom(onnx.helper.make_empty_tensor_value_info(small.graph.output[0].name))
    try:
        freed.graph.output[0].CopyFrom(onnx.shape_inference.infer_shapes(freed).graph.output[0])
        together = run_graph(open_graph(freed.SerializeToString()), pictures)
    except (EngineError, onnx.shape_inference.InferenceError):
        return small.SerializeToString(deterministic=True), False
    session = open_graph(small.SerializeToString())
    alone = np.concatenate([run_graph(session, pictures[i : i + 1]) for i in range(len(pictures))])
    room = _ALONE_TOLERANCE * max(float(np.nan_to_num(np.ptp(alone))), float(np.finfo(np.float32).tiny))
    same = together.shape == alone.shape and np.allclose(together, alone, rtol=0, atol=room, equal_nan=True)
    kept = freed if same else small
    return kept.SerializeToString(deterministic=True), same


def _normalisation(
    options: ForeignOptions, element: Element
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and std in 0..255 units; by default bytes as they are, floats as 0..1."""
    scale = 1.0 if element == "uint8" else 255.0
    return options.mean or (0.0, 0.0, 0.0), options.std or (scale, scale, scale)


def _notes(config: ForeignConfig, options: ForeignOptions, source: str, name: str, *, clamped: bool) -> list[str]:
    height, width = config.size_hw
    rows, columns = config.map_hw
    fed = f"input {source!r}: {config.layout}, {config.element}, {height} x {width} px"
    notes = [f"{fed}; map {name!r}: {rows} x {columns} cells"]
    if options.mean is None and options.std is None:
        what = "bytes 0..255" if config.element == "uint8" else "pixels scaled to 0..1"
        notes.append(f"it is fed {what} in {config.order.upper()} order; if it wants others, say so with --pixels")
    if clamped:
        notes.append(f"{name!r} ends in a clamp to 0..1, which cuts what the head needs; it is taken before the clamp")
    if config.one_by_one:
        notes.append("pictures of a batch cannot go through it together; it is called once per picture")
    return notes
