"""Graphs inside nodes: what they read from around them, and branches that are settled at export."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper


def inner_graphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs a node carries: the branches of an If, the body of a Loop or Scan."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def reads(node: NodeProto) -> set[str]:
    """Every name a node takes from the graph it stands in, through the graphs it carries too."""
    names = set(node.input)
    for graph in inner_graphs(node):
        made = {value.name for value in (*graph.input, *graph.initializer)}
        made.update(name for inner in graph.node for name in inner.output)
        wanted = {name for inner in graph.node for name in reads(inner)} | {output.name for output in graph.output}
        names |= wanted - made
    return names - {""}


def captured(nodes: Collection[NodeProto]) -> set[str]:
    """Names that inner graphs read without their node listing them as inputs."""
    return {name for node in nodes for name in reads(node) - set(node.input)}


def _rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Give what `graph` makes and reads other names, in the graphs inside it too, in place."""
    for value in (*graph.initializer, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for field in (node.input, node.output):
            field[:] = [names.get(name, name) for name in field]
        for inner in inner_graphs(node):
            _rename(inner, names)


def settled(node: NodeProto, constants: Mapping[str, TensorProto]) -> list[NodeProto] | None:
    """The nodes of the branch an If takes, where its condition is constant; ``None`` for any other node.

    Constants of the branch come as Constant nodes and its results under the If's own names.
    """
    if node.op_type != "If" or node.domain or node.input[0] not in constants:
        return None
    taken = "then_branch" if numpy_helper.to_array(constants[node.input[0]]).all() else "else_branch"
    branch = GraphProto()
    branch.CopyFrom(next(attribute.g for attribute in node.attribute if attribute.name == taken))
    made = [*(tensor.name for tensor in branch.initializer), *(name for inner in branch.node for name in inner.output)]
    # Sibling branches may use the same names; in one graph each needs its own.
    _rename(branch, {name: f"{node.output[0]}/{name}" for name in made if name})
    return [
        *(helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in branch.initializer),
        *branch.node,
        *(
            helper.make_node("Identity", [found.name], [name])
            for found, name in zip(branch.output, node.output, strict=True)
        ),
    ]
