"""A foreign detector, our encoder and head, and the alignment: one ONNX graph under the usual contract.

::

    image --Feed--> foreign graph --Reading--> raw map --.
      `--encoder--> descriptor --head--> u, gamma, novelty --CadaNormalize--> map, score

The parts of ours are traced from the torch modules that are the reference. The graph has the
foreign file's opset, and at least `OPSET`: graphs can be converted upwards, seldom downwards.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from onnx import GraphProto, ModelProto, TensorProto, compose, helper, version_converter
from torch import Tensor, nn

from cada_edge.errors import ExportError
from cada_edge.export.foreign import parse
from cada_edge.export.graph import check_portable, simplify
from cada_edge.export.normalise import DOMAIN, DOMAIN_VERSION, Fusion, layer_sizes, normalise_function, normalise_node
from cada_edge.export.onnx import INPUT, OPSET, label, serialised, trace
from cada_edge.models.foreign import GRAPH
from cada_edge.models.foreign_model import ForeignModel

_OURS, _FOREIGN = "cada/", "foreign/"
_ONE, _ONE_MAP = f"{_FOREIGN}picture", f"{_FOREIGN}picture_map"  # a batch of one
_EXPECTED = ("u", "gamma", "novelty")
_MAP_ELEMENTS = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.DOUBLE: torch.float64,
}


def export_foreign(model: ForeignModel) -> bytes:
    """Export `model` as a self-contained ONNX file, N free; the same model and versions give the same bytes.

    Raises:
        ExportError: a part cannot be traced or converted, or the result is not valid ONNX.
        UnsupportedOpError: encoder or head need operators outside the portable set.
    """
    foreign = parse(model.detector.graph, GRAPH)
    opset = max(OPSET, foreign.opset_import[0].version)
    parts = [
        _feed(model, opset),
        _foreign(foreign, model, opset),
        _reading(model, _MAP_ELEMENTS[foreign.graph.output[0].type.tensor_type.elem_type], opset),
        _expectation(model, opset),
    ]
    # One layer in its own units, smoothed by the reading: the node aligns and scores.
    proto = _joined(parts, Fusion("distances", (1.0,), model.map_spec, smooths=False), opset, parts[2])
    _declare(proto.graph, model)
    label(proto, model)
    proto.ir_version = helper.find_min_ir_version_for(list(proto.opset_import), ignore_unknown=True)
    return serialised(proto, "the graph around the foreign one")


class _Expectation(nn.Module):
    """`ForeignModel.expectation` as a module's forward, which is what torch traces."""

    def __init__(self, model: ForeignModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.model.expectation(images)


def _pictures(model: ForeignModel) -> Tensor:
    # Two images: a batch of one would let tracing mistake N for a constant 1.
    return torch.zeros(2, *model.spec.size_hw, 3, dtype=torch.uint8)


def _feed(model: ForeignModel, opset: int) -> ModelProto:
    return _ours(model.feed, _pictures(model), INPUT, ["fed"], opset)


def _reading(model: ForeignModel, element: torch.dtype, opset: int) -> ModelProto:
    maps = torch.zeros(2, *model.detector.settings.map_hw, dtype=element)
    return _ours(model.detector.reading, maps, "foreign_map", ["layer_0"], opset)


def _expectation(model: ForeignModel, opset: int) -> ModelProto:
    return _ours(_Expectation(model), _pictures(model), INPUT, list(_EXPECTED), opset)


def _ours(module: nn.Module, example: Tensor, source: str, outputs: list[str], opset: int) -> ModelProto:
    """A part of ours, traced, checked and converted, from the tensor `source` to `outputs`."""
    proto = trace(module, example, outputs)
    simplify(proto)
    check_portable(proto.graph)
    return _named(_at_opset(proto, opset), f"{_OURS}{outputs[0]}/", {INPUT: source, **{name: name for name in outputs}})


def _foreign(proto: ModelProto, model: ForeignModel, opset: int) -> ModelProto:
    source, output = proto.graph.input[0].name, proto.graph.output[0].name
    converted = _at_opset(proto, opset)
    if not model.detector.settings.one_by_one:
        return _named(converted, _FOREIGN, {source: "fed", output: "foreign_map"})
    named = _named(converted, _FOREIGN, {source: _ONE, output: _ONE_MAP})
    _call_per_picture(named.graph)
    return named


def _call_per_picture(graph: GraphProto) -> None:
    """Put the graph, which takes a batch of one, into a Scan over the pictures of a batch, in place."""
    axis = helper.make_tensor(f"{_FOREIGN}axis", TensorProto.INT64, [1], [0])
    slices = [f"{name}/slice" for name in (_ONE, _ONE_MAP)]
    nodes = [
        helper.make_node("Unsqueeze", [slices[0], axis.name], [_ONE], name=f"{_FOREIGN}Unsqueeze"),
        *graph.node,
        helper.make_node("Squeeze", [_ONE_MAP, axis.name], [slices[1]], name=f"{_FOREIGN}Squeeze"),
    ]
    source, output = (
        helper.make_tensor_value_info(name, value.type.tensor_type.elem_type, None)
        for name, value in zip(slices, (graph.input[0], graph.output[0]), strict=True)
    )
    body = helper.make_graph(nodes, "per_picture", [source], [output], [*graph.initializer, axis])
    scan = helper.make_node("Scan", ["fed"], ["foreign_map"], name=f"{_FOREIGN}Scan", body=body, num_scan_inputs=1)
    del graph.node[:]
    del graph.initializer[:]
    graph.node.append(scan)


def _at_opset(proto: ModelProto, opset: int) -> ModelProto:
    if proto.opset_import[0].version == opset:
        return proto
    try:
        return version_converter.convert_version(proto, opset)
    except RuntimeError as error:  # what the converter, in C++, raises for everything
        found = proto.opset_import[0].version
        raise ExportError(f"the graph has opset {found} and cannot be converted to {opset}: {error}") from error


def _named(proto: ModelProto, prefix: str, names: Mapping[str, str]) -> ModelProto:
    """A copy in which every name has `prefix`, but the tensors of `names`, which get that name."""
    renamed = compose.add_prefix(proto, prefix)
    table = {prefix + old: new for old, new in names.items()}
    for node in renamed.graph.node:
        for field in (node.input, node.output):
            for i, name in enumerate(field):
                field[i] = table.get(name, name)
    for value in (*renamed.graph.input, *renamed.graph.output):
        value.name = table.get(value.name, value.name)
    return renamed


def _joined(parts: list[ModelProto], fusion: Fusion, opset: int, reading: ModelProto) -> ModelProto:
    """One model of parts whose tensors meet by name; the fused node comes last and reads what `reading` gives."""
    graph = helper.make_graph([], "cada_edge", [], [])
    for part in parts:
        graph.node.extend(part.graph.node)
        graph.initializer.extend(part.graph.initializer)
    graph.node.append(normalise_node(fusion))
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
    body = normalise_function(fusion, opset, layer_sizes(reading, fusion))
    return helper.make_model(graph, opset_imports=imports, functions=[body])


def _declare(graph: GraphProto, model: ForeignModel) -> None:
    value = helper.make_tensor_value_info
    graph.input.append(value(INPUT, TensorProto.UINT8, ["N", *model.spec.size_hw, 3]))
    shapes: dict[str, list[str | int]] = {
        "score": ["N"],
        "map": ["N", *model.map_spec.size_hw],
        **{name: ["N"] for name in _EXPECTED},
    }
    graph.output.extend(value(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
