"""A bundle's ONNX graph as TensorRT's parser wants it, whatever the parser's version.

What parsers do with a node that has a function body differs: inlined always (to 10.6), the
plugin first (10.7 to 10.14), the body first (from 10.15). So no parser gets to choose: with
a plugin the body is taken away, without one it is put in place of the node.
"""

from __future__ import annotations

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, inliner

from cada_edge.errors import ExportError
from cada_edge.onnx_wire import refuse_external_data
from cada_edge.trt import PLUGIN_NAME


def for_parser(content: bytes, name: str, plugin: bool) -> tuple[bytes, str]:
    """The graph to be parsed, and the version of the plugin that it names; empty without one.

    Args:
        content: the graph as the bundle holds it.
        name: of that file, for messages.
        plugin: leave the normalisation to the plugin.

    Raises:
        UnsafeFileError: a tensor of the graph lives in another file, or the bytes are no model.
        ExportError: `plugin`, but the graph has no node that a plugin could take.
    """
    refuse_external_data(content, name)
    model = onnx.load_model_from_string(content)
    version = _plugin_version(model, name) if plugin else ""
    kept = [f for f in model.functions if plugin and f.name == PLUGIN_NAME]
    inlined = inliner.inline_selected_functions(model, [(f.domain, f.name) for f in kept], exclude=True)
    del inlined.functions[:]
    cast_first(inlined.graph)
    return bytes(inlined.SerializeToString()), version


def _plugin_version(model: ModelProto, name: str) -> str:
    nodes = [node for node in model.graph.node if node.op_type == PLUGIN_NAME]
    versions: set[str] = {a.s.decode() for node in nodes for a in node.attribute if a.name == "plugin_version"}
    if len(versions) != 1:
        raise ExportError(
            f"{name} names {PLUGIN_NAME} in {len(nodes)} nodes with plugin versions {sorted(versions)}, expected one; "
            "export it again, or build without the plugin"
        )
    return versions.pop()


def cast_first(graph: GraphProto) -> None:
    """Let pixels be cast before anything else, in place: TensorRT takes uint8 for nothing but a Cast.

    ``Transpose`` then ``Cast`` of a uint8 input change places; the values are the same.
    """
    pixels = {i.name for i in graph.input if i.type.tensor_type.elem_type == TensorProto.UINT8}
    users: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    for transpose in [n for n in graph.node if n.op_type == "Transpose" and n.input[0] in pixels]:
        followers = users.get(transpose.output[0], [])
        if len(followers) == 1 and followers[0].op_type == "Cast":
            _swap(transpose, followers[0])


def _swap(transpose: NodeProto, cast: NodeProto) -> None:
    source, between, output = transpose.input[0], transpose.output[0], cast.output[0]
    names, attributes = (transpose.name, cast.name), (list(transpose.attribute), list(cast.attribute))
    transpose.CopyFrom(helper.make_node("Cast", [source], [between], name=names[1]))
    cast.CopyFrom(helper.make_node("Transpose", [between], [output], name=names[0]))
    transpose.attribute.extend(attributes[1])
    cast.attribute.extend(attributes[0])
