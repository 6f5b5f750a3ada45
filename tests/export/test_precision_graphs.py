"""The typed graphs themselves: what is float16, what is INT8, what stays float32, and that they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from cada_edge.bundle import MODEL, Bundle
from cada_edge.calibration.ranges import collect, ranges_of
from cada_edge.engine_key import Precision, graph_name
from cada_edge.errors import ExportError, UnsupportedOpError
from cada_edge.export.fp16 import to_half
from cada_edge.export.onnx import serialised
from cada_edge.export.qdq import Layer, find_layers, int8_island, quantise
from cada_edge.export.taps import Taps
from cada_edge.export.zones import Zones, find_zones, fused_node, key
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.types import Prediction, UInt8Array


@pytest.fixture(scope="module")
def proto(content: bytes) -> ModelProto:
    """The exported graph; not to be changed."""
    return onnx.load_from_string(content)


@pytest.fixture(scope="module")
def zones(proto: ModelProto) -> Zones:
    """What its nodes do."""
    return find_zones(proto)


@pytest.fixture(scope="module")
def layers(proto: ModelProto, zones: Zones) -> tuple[Layer, ...]:
    """Its convolutions that may be INT8."""
    return find_layers(proto, zones, depthwise=False)


@pytest.fixture(scope="module")
def ranges(proto: ModelProto, layers: tuple[Layer, ...], batch: UInt8Array) -> Mapping[str, float]:
    """Ranges of their tensors on noise."""
    names = sorted({name for layer in layers for name in layer.tensors})
    return ranges_of(collect([(list("abcde"), batch)], Taps(proto, names)), "mse")


def judge(bundle: Bundle, graph: ModelProto, precision: Precision, batch: UInt8Array) -> Prediction:
    """What ONNX Runtime makes of `graph`, the way a line runs it."""
    made = bundle.with_file(graph_name(precision), serialised(graph, "the graph"))
    with OrtRunner(made, threads=1, precision=precision) as runner:
        return runner.infer(batch)


def constants(graph: ModelProto) -> dict[str, npt.NDArray[Any]]:
    """Initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}


def nodes(graph: ModelProto, kind: str) -> list[NodeProto]:
    """Nodes of one operator."""
    return [node for node in graph.graph.node if node.op_type == kind]


def test_every_node_belongs_to_one_zone(proto: ModelProto, zones: Zones) -> None:
    """Entry, network, measuring, expectation and decision share the nodes without overlap."""
    parts = (zones.entry, zones.network, zones.measuring, zones.expectation, zones.decision)
    assert sum(map(len, parts)) == len(proto.graph.node)
    assert frozenset().union(*parts) == {key(node) for node in proto.graph.node}


def test_fp16_holds_half_the_weights_and_full_arithmetic(proto: ModelProto, zones: Zones) -> None:
    """Convolutions are float16; head, novelty and what the fused node expects of it stay float32."""
    half = to_half(proto, zones.network)
    types = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert {types[name] for node in nodes(half, "Conv") for name in node.input[1:]} == {TensorProto.FLOAT16}
    assert {types[name] for node in nodes(half, "Gemm") for name in node.input[1:]} == {TensorProto.FLOAT}
    inferred = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(half).graph.value_info}
    read = {name: inferred.get(name, TensorProto.FLOAT) for name in fused_node(half.graph).input}
    assert (read["u"], read["gamma"]) == (TensorProto.FLOAT, TensorProto.FLOAT)


def test_fp16_keeps_the_contract_and_the_scores(
    proto: ModelProto, zones: Zones, bundle: Bundle, content: bytes, batch: UInt8Array
) -> None:
    """Bytes in, float32 out, scores within float16's rounding, and not simply the same graph."""
    half = to_half(proto, zones.network)
    exact, rounded = judge(bundle, proto, "fp32", batch), judge(bundle, half, "fp16", batch)
    assert half.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert 0 < np.abs(rounded.score - exact.score).max() < 0.02 * np.abs(exact.score).max()
    assert half.ByteSize() < 0.6 * len(content)


def test_the_same_graph_gives_the_same_bytes(
    proto: ModelProto, zones: Zones, layers: tuple[Layer, ...], ranges: Mapping[str, float]
) -> None:
    """Nothing in either pass depends on chance."""
    halves = [serialised(to_half(proto, zones.network), "float16") for _ in range(2)]
    integers = [serialised(quantise(proto, layers, ranges), "INT8") for _ in range(2)]
    assert halves[0] == halves[1]
    assert integers[0] == integers[1]


@pytest.mark.parametrize(
    ("value", "words"), [(1e5, "reach 100000, float16 ends at 65504"), (np.nan, "NaN or infinite"), (np.inf, "NaN or")]
)
def test_weights_that_float16_cannot_hold_are_named(
    graph: onnx.ModelProto, zones: Zones, value: float, words: str
) -> None:
    """Too large or not finite: one error that names the weights, never a number cut off in silence."""
    conv = next(node for node in nodes(graph, "Conv") if key(node) in zones.network)
    weights = next(tensor for tensor in graph.graph.initializer if tensor.name == conv.input[1])
    broken = numpy_helper.to_array(weights).copy()
    broken.flat[3] = value
    weights.CopyFrom(numpy_helper.from_array(broken, weights.name))
    with pytest.raises(ExportError, match=words) as caught:
        to_half(graph, zones.network)
    assert weights.name in str(caught.value)


def test_limits_beyond_float16_become_its_ends(graph: onnx.ModelProto, zones: Zones) -> None:
    """A Clip to 1e30 means "no limit", so it is no error."""
    clip = next(node for node in nodes(graph, "Clip") if key(node) in zones.network)
    limit = next(tensor for tensor in graph.graph.initializer if tensor.name == clip.input[2])
    limit.CopyFrom(numpy_helper.from_array(np.array(1e30, np.float32), limit.name))
    values = constants(to_half(graph, zones.network))
    assert values[f"{limit.name}/fp16"] == np.float16(65504)


def test_a_detector_inside_a_scan_is_refused(graph: onnx.ModelProto, zones: Zones) -> None:
    """Its inside would stay float32; the message says how to get a graph that can be converted."""
    node = next(node for node in graph.graph.node if key(node) in zones.network)
    node.attribute.append(helper.make_attribute("body", helper.make_graph([], "body", [], [])))
    with pytest.raises(UnsupportedOpError, match="free batch size"):
        to_half(graph, zones.network)


def test_quantisation_is_of_the_kind_tensorrt_takes(
    proto: ModelProto, layers: tuple[Layer, ...], ranges: Mapping[str, float]
) -> None:
    """Symmetric int8, float32 scales, weights per output channel, activations per tensor, biases as they were."""
    made = quantise(proto, layers, ranges)
    values = constants(made)
    for node in (*nodes(made, "QuantizeLinear"), *nodes(made, "DequantizeLinear")):
        scale, zero = (values[name] for name in node.input[1:])
        assert scale.dtype == np.float32
        assert zero.dtype == np.int8
        assert scale.shape == zero.shape
        assert (scale > 0).all()
        assert not zero.any()
    makers = {node.output[0]: node for node in made.graph.node}
    for conv in (node for node in nodes(made, "Conv") if key(node) in {layer.name for layer in layers}):
        source, weights = makers[conv.input[0]], makers[conv.input[1]]
        assert values[source.input[1]].shape == ()
        assert values[weights.input[1]].shape == values[weights.input[0]].shape[:1]
        assert values[weights.input[0]].dtype == np.int8
        assert helper.get_attribute_value(weights.attribute[0]) == 0
        assert values[conv.input[2]].dtype == np.float32


def test_one_branch_of_a_residual_addition_is_quantised(
    proto: ModelProto, layers: tuple[Layer, ...], ranges: Mapping[str, float]
) -> None:
    """The addition reads the other's INT8 and the convolution's own result, which then fuses with it."""
    made = quantise(proto, layers, ranges)
    additions = {layer.addition: layer for layer in layers if layer.addition}
    found = [node for node in nodes(made, "Add") if key(node) in additions]
    assert found
    for node in found:
        assert set(node.input) == {additions[key(node)].name, f"{additions[key(node)].skip}/dq"}


def test_first_last_and_depthwise_layers_stay_out(proto: ModelProto, zones: Zones, layers: tuple[Layer, ...]) -> None:
    """The picture's own layer, the last before distances are taken, and grouped ones unless asked for."""
    names = {layer.name for layer in layers}
    assert zones.first
    assert zones.last
    assert not names & (zones.first | zones.last)
    assert not any(layer.depthwise for layer in layers)
    assert any(layer.depthwise for layer in find_layers(proto, zones, depthwise=True))


@pytest.mark.parametrize("rest", ["fp32", "fp16"])
def test_int8_runs_and_scores_as_fp32_does(
    *,
    proto: ModelProto,
    zones: Zones,
    layers: tuple[Layer, ...],
    ranges: Mapping[str, float],
    bundle: Bundle,
    batch: UInt8Array,
    rest: str,
) -> None:
    """With either type of rest, scores move by INT8's rounding: by a little, and not by nothing."""
    made = quantise(proto, layers, ranges)
    if rest == "fp16":
        made = to_half(made, zones.network - int8_island(made, layers))
    exact, rounded = judge(bundle, proto, "fp32", batch), judge(bundle, made, "int8", batch)
    gap = np.abs(rounded.score - exact.score).max()
    assert 1e-5 < gap < 0.1 * np.abs(exact.score).max()


def test_optimised_int8_kernels_do_not_saturate(
    proto: ModelProto, layers: tuple[Layer, ...], ranges: Mapping[str, float], bundle: Bundle, batch: UInt8Array
) -> None:
    """ONNX Runtime's INT8 kernels give what the quantised numbers give in float32, VNNI or not."""
    made = quantise(proto, layers, ranges)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (expected,) = plain.run(["score"], {"image": batch})
    got = judge(bundle, made, "int8", batch).score
    assert np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


def test_a_missing_range_is_an_error_that_names_it(proto: ModelProto, layers: tuple[Layer, ...]) -> None:
    """Ranges of another graph do not pass as this one's."""
    with pytest.raises(ExportError, match="has no INT8 range"):
        quantise(proto, layers, {})


def test_a_graph_of_something_else_is_refused(graph: onnx.ModelProto) -> None:
    """Without the fused node there is nothing to tell the parts apart by."""
    kept = [node for node in graph.graph.node if node.op_type != "CadaNormalize"]
    del graph.graph.node[:]
    graph.graph.node.extend(kept)
    with pytest.raises(ExportError, match=r"0 cada_edge\.CadaNormalize nodes"):
        find_zones(graph)


def test_the_runner_names_the_graph_that_is_missing(bundle: Bundle, content: bytes) -> None:
    """A bundle without INT8 says which command adds it."""
    with pytest.raises(Exception, match=r"no model\.int8\.onnx.*--precision int8"):
        OrtRunner(bundle.with_file(MODEL, content), precision="int8")
