from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from cada_edge.errors import ExportError, UnsafeFileError
from cada_edge.export.trt_graph import for_parser
from cada_edge.export.trt_log import kernel_report
from cada_edge.types import UInt8Array

MYELIN = (
    "Name: /conv, LayerType: correlation, Inputs: [ {{ Name: x, Dimensions: [-1,3,8,8], Strides: [192,64,8,1], "
    "StrideOrder: [3,2,1,0], Datatype: {}, Format: (Linear) Row major linear format }}], Constants: [ {{ Name: c, "
    "Datatype: Float, Format: x }}], Outputs: [ {{ Name: y, Datatype: Float, Format: x }}], TacticName: t"
)
CASK = (
    "Name: conv1, LayerType: CaskConvolution, Inputs: [ {{ Name: x, Location: Device, Dimensions: [1,3,8,8], "
    "Format/Datatype: {} }}], Outputs: [ {{ Name: y, Location: Device, Format/Datatype: Row major linear FP32 }}]"
)


def run(content: bytes, batch: UInt8Array) -> list[np.ndarray]:
    """Outputs of a graph in ONNX Runtime."""
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(["score", "map", "u", "gamma", "novelty"], {"image": batch})]


def test_without_a_plugin_the_graph_is_plain_and_says_the_same(content: bytes, batch: UInt8Array) -> None:
    """The function body stands in place of its node, and no output changes by more than rounding."""
    plain, version = for_parser(content, "model.onnx", plugin=False)
    model = onnx.load_from_string(plain)
    assert version == ""
    assert {node.domain for node in model.graph.node} == {""}
    assert len(model.functions) == 0
    for before, after in zip(run(content, batch), run(plain, batch), strict=True):
        np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-5)


def test_with_a_plugin_the_node_stays_without_a_body(content: bytes) -> None:
    """So no parser version can inline it; its version is what the plugin library must have."""
    graph, version = for_parser(content, "model.onnx", plugin=True)
    model = onnx.load_from_string(graph)
    (node,) = [n for n in model.graph.node if n.op_type == "CadaNormalize"]
    attributes = {a.name: a.s.decode() for a in node.attribute if a.name.startswith("plugin_")}
    assert attributes == {"plugin_version": version, "plugin_namespace": ""}
    assert len(model.functions) == 0


def test_pixels_are_cast_before_anything_else(content: bytes) -> None:
    """TensorRT takes uint8 for a Cast and nothing else."""
    model = onnx.load_from_string(for_parser(content, "model.onnx", plugin=False)[0])
    assert {n.op_type for n in model.graph.node if "image" in n.input} == {"Cast"}


def test_a_graph_without_the_node_cannot_use_the_plugin() -> None:
    """Nothing is left out in silence."""
    value = helper.make_tensor_value_info
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = helper.make_graph([node], "g", [value("x", TensorProto.FLOAT, [1])], [value("y", TensorProto.FLOAT, [1])])
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    with pytest.raises(ExportError, match="0 nodes"):
        for_parser(content, "model.int8.onnx", plugin=True)


def test_weights_in_other_files_are_refused(graph: onnx.ModelProto) -> None:
    """The builder never follows a path that a graph names."""
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    with pytest.raises(UnsafeFileError, match=r"model.onnx keeps weights in another file"):
        for_parser(graph.SerializeToString(), "model.onnx", plugin=False)


@pytest.mark.parametrize(
    ("row", "convolutions"),
    [
        (MYELIN.format("Int8"), {"Int8": 1}),
        (MYELIN.format("Half"), {"Half": 1}),
        (CASK.format("Thirty-two wide channel vectorized row major Int8 format"), {"Int8": 1}),
        (CASK.format("Row major linear FP16 format"), {"Half": 1}),
        (CASK.format("Row major linear FP32"), {"Float": 1}),
        ("Name: a, LayerType: kgen, Inputs: [], Constants: [], Outputs: []", {}),
        ("Tactic Name: nothing of a row", {}),
    ],
)
def test_a_convolution_is_counted_by_the_type_it_reads(row: str, convolutions: dict[str, int]) -> None:
    """Weights and outputs do not count, in either shape of row."""
    assert kernel_report([f"Engine layers:\n{row}\n"], 0).convolutions == convolutions
