"""Which part of an exported graph does what, read from its structure alone.

::

    image --entry--> network (encoder, detector) --measuring--> CadaNormalize --> map, score
                        `--expectation (descriptor, head, novelty)--> u, gamma --^

Only the network may lose precision. The others are cheap and work on small differences: a cosine
close to 1, the distance to the nearest patch, gamma - u. Names play no part, so that imported
detectors are read in the same way as ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx
from onnx import GraphProto, ModelProto, NodeProto

from cada_edge.errors import ExportError
from cada_edge.export.normalise import DOMAIN, OP_TYPE

EXPECTED = ("u", "gamma", "novelty")
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm"})
_HOW = "export the bundle again with this version: `cada-edge export`"


@dataclass(frozen=True)
class Zones:
    """Nodes by what they do, each known by the name of its first output.

    Attributes:
        entry: before the first layer with weights: pixels to standardised pixels.
        network: encoder and detector, up to the last layer with weights.
        measuring: from there to the fused node: distances, nearest patches, readings.
        expectation: descriptor, head and novelty.
        decision: the fused node and all behind it.
        first: layers of the network with no other layer before them.
        last: layers of the network whose result reaches the measuring without another layer.
    """

    entry: frozenset[str]
    network: frozenset[str]
    measuring: frozenset[str]
    expectation: frozenset[str]
    decision: frozenset[str]
    first: frozenset[str]
    last: frozenset[str]


def find_zones(proto: ModelProto) -> Zones:
    """Sort the nodes of an exported graph. Raises `ExportError` when it is none of ours."""
    graph = proto.graph
    fused = fused_node(graph)
    kinds = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    weighted = {key(n) for n in graph.node if n.op_type in _WEIGHTED and not _smooths(n, kinds)}
    before, after = _weights_before(graph, weighted), _weights_after(graph, weighted)
    measured = _ancestors(graph, set(fused.input) - set(EXPECTED))
    expected = _ancestors(graph, set(EXPECTED))
    decision = _descendants(graph, {key(fused)})
    used = (measured | expected) - decision
    entry = {name for name in used if name not in before}
    measuring = {name for name in measured - weighted - entry if name not in after}
    vectors = _of_rank(proto, 2)
    expectation = (expected - measured - entry) & vectors
    network = used - entry - measuring - expectation
    return Zones(
        entry=frozenset(entry),
        network=frozenset(network),
        measuring=frozenset(measuring),
        expectation=frozenset(expectation),
        decision=frozenset(decision),
        first=frozenset(_first(graph, network & weighted, before, weighted)),
        last=frozenset(_last(graph, network & weighted, measured, weighted)),
    )


def key(node: NodeProto) -> str:
    """What a node is known by: nodes need no name, but their outputs do."""
    name: str = next(name for name in node.output if name)
    return name


def fused_node(graph: GraphProto) -> NodeProto:
    """The node that aligns the maps. Raises `ExportError` unless there is exactly one."""
    found = [node for node in graph.node if (node.domain, node.op_type) == (DOMAIN, OP_TYPE)]
    if len(found) != 1:
        raise ExportError(f"the graph has {len(found)} {DOMAIN}.{OP_TYPE} nodes, expected 1; {_HOW}")
    node: NodeProto = found[0]
    return node


def _smooths(node: NodeProto, dims: dict[str, list[int]]) -> bool:
    """A convolution from one channel to one is a filter, not a layer."""
    return node.op_type == "Conv" and dims.get(node.input[1], [0, 0])[:2] == [1, 1]


def _ancestors(graph: GraphProto, wanted: set[str]) -> set[str]:
    """Nodes that the tensors `wanted` depend on."""
    needed, found = set(wanted), set()
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            found.add(key(node))
    return found


def _descendants(graph: GraphProto, sources: set[str]) -> set[str]:
    """`sources` and the nodes that depend on them."""
    found, reached = set(sources), set(sources)
    for node in graph.node:
        if key(node) in sources or reached.intersection(node.input):
            found.add(key(node))
            reached.update(node.output)
    return found


def _weights_before(graph: GraphProto, weighted: set[str]) -> set[str]:
    """Layers with weights, and nodes that depend on one."""
    return _descendants(graph, weighted)


def _weights_after(graph: GraphProto, weighted: set[str]) -> set[str]:
    """Nodes on which a layer with weights depends."""
    inputs = {name for node in graph.node if key(node) in weighted for name in node.input}
    return _ancestors(graph, inputs)


def _first(graph: GraphProto, layers: set[str], before: set[str], weighted: set[str]) -> Iterable[str]:
    makers = {name: key(node) for node in graph.node for name in node.output}
    for node in graph.node:
        if key(node) in layers & weighted and not any(makers.get(name) in before for name in node.input):
            yield key(node)


def _last(graph: GraphProto, layers: set[str], measured: set[str], weighted: set[str]) -> Iterable[str]:
    """Walk back from the fused node through everything but layers."""
    fused = fused_node(graph)
    open_ends = set(fused.input) - set(EXPECTED)
    for node in reversed(graph.node):
        if key(node) not in measured or not open_ends.intersection(node.output):
            continue
        if key(node) in weighted:
            if key(node) in layers:
                yield key(node)
        else:
            open_ends.update(node.input)


def _of_rank(proto: ModelProto, most: int) -> set[str]:
    """Nodes whose result has at most `most` dimensions, or a number of them that nobody knows."""
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    rank = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.output)
        if value.type.tensor_type.HasField("shape")
    }
    return {key(node) for node in proto.graph.node if rank.get(key(node), 0) <= most}
