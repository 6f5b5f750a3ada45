"""The whole model as one ONNX graph: pixels in, score and aligned map out.

Opset 17 and IR version 8: what ONNX Runtime >= 1.17 and TensorRT >= 10.3 read. Tracing is
done by torch's TorchScript exporter, which every torch from 2.4 on has; what it leaves
behind is cleaned by `cada_edge.export.graph`.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from onnx import ModelProto, helper
from torch import Tensor, nn

from cada_edge.errors import ExportError
from cada_edge.export.graph import check_portable, simplify
from cada_edge.export.normalise import DOMAIN, DOMAIN_VERSION, Fusion, layer_sizes, normalise_function, normalise_node
from cada_edge.models.unified import UnifiedModel
from cada_edge.types import to_json
from cada_edge.version import __version__

OPSET, IR_VERSION = 17, 8
INPUT, OUTPUTS = "image", ("score", "map", "u", "gamma", "novelty")


def export_onnx(model: UnifiedModel) -> bytes:
    """Export `model` as a self-contained ONNX file; the same model and versions give the same bytes.

    Input ``image`` uint8 (N, H, W, 3) RGB, N free. Outputs ``score`` (N,), ``map``
    (N, h, w), ``u``, ``gamma`` and ``novelty`` (N,), all float32.

    Raises:
        ExportError: torch cannot trace the model, or the graph is not valid ONNX.
        UnsupportedOpError: it needs operators outside the portable set.
    """
    fusion = Fusion(model.detector.fusion_mode, model.detector.fusion_levels(), model.map_spec)
    proto = _core_graph(model, fusion)
    check_portable(proto.graph)
    _append_fusion(proto, fusion)
    label(proto, model)
    return serialised(proto, "the exported graph")


def serialised(proto: ModelProto, what: str) -> bytes:
    """The bytes of a graph that is valid ONNX; equal graphs give equal bytes. Raises `ExportError` naming `what`."""
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{what} is not valid ONNX: {error}") from error
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _core_graph(model: UnifiedModel, fusion: Fusion) -> ModelProto:
    """Pixels to what the fused node reads, and novelty, simplified, in the portable set or not."""
    # Two images: a batch of one would let tracing mistake N for a constant 1.
    example = torch.zeros(2, *model.spec.size_hw, 3, dtype=torch.uint8)
    proto = trace(_Core(model), example, [*fusion.inputs, "novelty"])
    simplify(proto)
    return proto


class _Core(nn.Module):
    """`UnifiedModel.fusion_inputs` as a module's forward, which is what torch traces."""

    def __init__(self, model: UnifiedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.model.fusion_inputs(images)


def trace(module: nn.Module, example: Tensor, outputs: list[str]) -> ModelProto:
    """Trace `module` on one uint8 (N, H, W, 3) batch, N left free. Raises `ExportError`."""
    file = io.BytesIO()
    try:
        with _quiet(), torch.inference_mode():
            torch.onnx.export(
                module.eval(),
                (example.to(_device(module)),),
                file,  # type: ignore[arg-type]  # torch 2.15 types it as a path; the traced exporter takes a file
                input_names=[INPUT],
                output_names=outputs,
                opset_version=OPSET,
                dynamic_axes={name: {0: "N"} for name in (INPUT, *outputs)},
                dynamo=False,
            )
    except Exception as error:  # torch.onnx raises many kinds without a common base
        raise ExportError(f"torch {torch.__version__} cannot trace the model: {error}") from error
    return onnx.load_from_string(file.getvalue())


def _device(module: nn.Module) -> torch.device:
    return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence tracing: its warnings are about Python branches on the fixed image size."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _append_fusion(proto: ModelProto, fusion: Fusion) -> None:
    """Add the fused node and declare the outputs."""
    graph = proto.graph
    proto.functions.append(normalise_function(fusion, OPSET, layer_sizes(proto, fusion)))
    graph.node.append(normalise_node(fusion))
    proto.opset_import.append(helper.make_opsetid(DOMAIN, DOMAIN_VERSION))
    shapes: dict[str, list[str | int]] = {name: ["N"] for name in OUTPUTS}
    shapes["map"] = ["N", *fusion.spec.size_hw]
    del graph.output[:]
    graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()
    )


def label(proto: ModelProto, model: UnifiedModel) -> None:
    """Say in the file itself what made it and under which contracts."""
    proto.ir_version = IR_VERSION
    proto.graph.name = "cada_edge"
    proto.producer_name, proto.producer_version = "cada-edge", __version__
    spec, map_spec = (json.dumps(to_json(s), sort_keys=True) for s in (model.spec, model.map_spec))
    helper.set_model_props(proto, {"cada_edge.spec": spec, "cada_edge.map_spec": map_spec})
