"""The frozen encoder at its fastest: ONNX Runtime on a CPU, torch on a GPU.

Depthwise convolutions run about eight times faster in ONNX Runtime than in eager torch on
a CPU; the features agree to float16 precision, in which they are stored.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn

from cada_edge.models.head import describe
from cada_edge.models.unified import UnifiedModel
from cada_edge.types import Float32Array, ImageSpec, UInt8Array

Encode = Callable[[UInt8Array], list[npt.NDArray[np.float16]]]


class _FromPixels(nn.Module):
    """A model's preprocessing and encoder: uint8 (N, H, W, 3) in, feature maps out."""

    def __init__(self, model: UnifiedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> list[Tensor]:
        features: list[Tensor] = self.model.encoder(self.model.standardise(images))
        return features


def open_encoder(model: UnifiedModel, device: torch.device) -> Encode:
    """A function from uint8 (N, H, W, 3) to float16 features per stride."""
    encoder = _FromPixels(model).eval()
    return _on_torch(encoder, device) if device.type != "cpu" else _on_onnxruntime(encoder, model.spec)


def open_describer(model: UnifiedModel, device: torch.device) -> Callable[[UInt8Array], Float32Array]:
    """A function from uint8 (N, H, W, 3) to what the CADA head reads of an image, float32 (N, D)."""
    encode = open_encoder(model, device)

    def descriptors(images: UInt8Array) -> Float32Array:
        features = [torch.from_numpy(x.astype(np.float32)) for x in encode(images)]
        return np.asarray(describe(features).numpy(), np.float32)

    return descriptors


def _on_torch(model: _FromPixels, device: torch.device) -> Encode:
    model = model.to(device)

    def encode(images: UInt8Array) -> list[npt.NDArray[np.float16]]:
        with torch.inference_mode():
            return [x.half().cpu().numpy() for x in model(torch.from_numpy(images).to(device))]

    return encode


def _on_onnxruntime(model: _FromPixels, spec: ImageSpec) -> Encode:
    session = onnxruntime.InferenceSession(_to_onnx(model, spec), providers=["CPUExecutionProvider"])

    def encode(images: UInt8Array) -> list[npt.NDArray[np.float16]]:
        with np.errstate(over="ignore"):  # whoever stores the features refuses infinite ones by name
            return [x.astype(np.float16) for x in session.run(None, {"image": images})]

    return encode


def _to_onnx(model: _FromPixels, spec: ImageSpec) -> bytes:
    """Serialise for this process only; what leaves for a device is made by `cada_edge.export`."""
    stream = io.BytesIO()
    example = torch.zeros(1, *spec.size_hw, 3, dtype=torch.uint8)
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's advice is for its callers' authors, not for users
            torch.onnx.export(
                model,
                (example,),
                stream,  # type: ignore[arg-type]  # the annotation forgets streams
                input_names=["image"],
                dynamic_axes={"image": {0: "n"}},
                dynamo=False,
            )
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
    return stream.getvalue()
