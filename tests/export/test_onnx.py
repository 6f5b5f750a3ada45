"""The exported graph: what it computes, where it runs and what it looks like."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from cada_edge.errors import ExportError, UnsupportedOpError
from cada_edge.export import export_onnx
from cada_edge.export.graph import PORTABLE_OPS
from cada_edge.models import RevDist, UnifiedModel
from cada_edge.types import UInt8Array

OUTPUTS = ["score", "map", "u", "gamma", "novelty"]


def expected(model: UnifiedModel, batch: UInt8Array) -> list[np.ndarray]:
    """The model's own outputs as arrays."""
    with torch.inference_mode():
        return [t.numpy() for t in model(torch.from_numpy(batch))]


@pytest.mark.parametrize("count", [1, 5])
def test_onnx_runtime_gives_the_model_s_numbers(
    model: UnifiedModel, content: bytes, batch: UInt8Array, count: int
) -> None:
    """Pixels in, the model's score, map, u, gamma and novelty out, for one image or several."""
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run(OUTPUTS, {"image": batch[:count]})
    for got, wanted in zip(found, expected(model, batch[:count]), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4, rtol=1e-4)


def test_the_reference_evaluator_gives_the_model_s_numbers(
    model: UnifiedModel, graph: onnx.ModelProto, batch: UInt8Array
) -> None:
    """ONNX's own interpreter, which shares no code with ONNX Runtime, agrees as well."""
    found = ReferenceEvaluator(graph).run(OUTPUTS, {"image": batch[:2]})
    for got, wanted in zip(found, expected(model, batch[:2]), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4, rtol=1e-4)


def test_inputs_and_outputs_are_the_contract(graph: onnx.ModelProto) -> None:
    """uint8 NHWC in, five float32 outputs, the batch free everywhere."""
    found = {
        v.name: (v.type.tensor_type.elem_type, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim])
        for v in (*graph.graph.input, *graph.graph.output)
    }
    number = onnx.TensorProto.FLOAT
    assert found == {
        "image": (onnx.TensorProto.UINT8, ["N", 64, 64, 3]),
        "score": (number, ["N"]),
        "map": (number, ["N", 16, 16]),
        "u": (number, ["N"]),
        "gamma": (number, ["N"]),
        "novelty": (number, ["N"]),
    }


def test_the_file_is_old_enough_for_its_runtimes(graph: onnx.ModelProto) -> None:
    """Opset 17 and IR 8: read by ONNX Runtime 1.17 and TensorRT 10.3."""
    assert graph.ir_version == 8
    assert {(o.domain, o.version) for o in graph.opset_import} == {("", 17), ("cada_edge", 2)}


def test_the_graph_is_clean(graph: onnx.ModelProto) -> None:
    """No shape arithmetic, no constants as nodes, one cast, padding inside the convolutions."""
    ops = Counter(n.op_type for n in graph.graph.node)
    assert not ops.keys() & {"Constant", "Identity", "Shape", "ConstantOfShape", "Ceil", "Slice"}
    assert ops["Cast"] == 1
    assert "Pad" not in ops
    assert ops.keys() - {"CadaNormalize"} <= PORTABLE_OPS


def test_the_file_says_what_it_is(graph: onnx.ModelProto, model: UnifiedModel) -> None:
    """The contracts stand in the metadata, for whoever meets the file without its bundle."""
    properties = {p.key: json.loads(p.value) for p in graph.metadata_props}
    assert properties["cada_edge.spec"]["size_hw"] == list(model.spec.size_hw)
    assert properties["cada_edge.map_spec"]["top_fraction"] == model.map_spec.top_fraction
    assert graph.producer_name == "cada-edge"


def test_same_model_same_bytes(model: UnifiedModel, content: bytes) -> None:
    """Exporting twice gives the same file."""
    assert export_onnx(model) == content


def test_another_encoder_exports_too(build_model: Callable[..., UnifiedModel], batch: UInt8Array) -> None:
    """A residual network goes the same way, with ordinary padding and max pooling."""
    model = build_model("resnet18")
    session = ort.InferenceSession(export_onnx(model), providers=["CPUExecutionProvider"])
    found = session.run(["map"], {"image": batch[:3]})[0]
    np.testing.assert_allclose(found, expected(model, batch[:3])[1], atol=1e-4, rtol=1e-4)


class Odd(nn.Module):
    """A layer with an operator no edge runtime is bound to have."""

    def forward(self, cells: Tensor) -> Tensor:
        """Cells in, their cumulated sums out."""
        return cells.cumsum(dim=1)


class Untraceable(nn.Module):
    """A layer that ONNX has no operator for."""

    def forward(self, cells: Tensor) -> Tensor:
        """Cells in, nothing sensible out."""
        values: Tensor = torch.linalg.eigvals(cells)
        return values.real[..., None] + cells


def spoiled(detector: nn.Module, layer: nn.Module) -> RevDist:
    """A detector with one more layer behind its bottleneck."""
    assert isinstance(detector, RevDist)
    detector.expand.append(layer)
    return detector


def test_an_unsupported_operator_is_named(build_model: Callable[..., UnifiedModel]) -> None:
    """The error says which operator stands in the way."""
    model = build_model()
    model.detector = spoiled(model.detector, Odd())
    with pytest.raises(UnsupportedOpError, match="CumSum"):
        export_onnx(model)


def test_a_model_torch_cannot_trace_is_an_export_error(build_model: Callable[..., UnifiedModel]) -> None:
    """Whatever torch raises arrives as an `ExportError`."""
    model = build_model()
    model.detector = spoiled(model.detector, Untraceable())
    with pytest.raises(ExportError, match="eigvals"):
        export_onnx(model)
