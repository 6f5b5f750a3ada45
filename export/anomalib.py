"""A live anomalib model to ONNX: picture in, raw map out, without their post-processing.

Their own `anomalib export --export_type onnx` works as well where it does; this way needs no
file, no onnxscript, and leaves out what clamps the map. anomalib itself is never imported:
any module built as theirs is, will do.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cada_edge.errors import ConfigError, ExportError
from cada_edge.export.graph import simplify
from cada_edge.export.onnx import trace
from cada_edge.export.signature import ANOMALIB_MAP, DEFAULT_SIDE_PX


def from_anomalib(module: nn.Module, size_hw: tuple[int, int] | None = None) -> bytes:
    """Export a trained ``AnomalibModule`` for `open_foreign`.

    Args:
        module: any of their models whose ``model`` returns an ``anomaly_map``; it is left in eval mode.
        size_hw: height and width of the input; default: what its pre-processor resizes to, else 256.

    Returns:
        ONNX: float32 (N, 3, H, W), RGB, 0..1, in; ``anomaly_map`` out.

    Raises:
        ConfigError: no anomalib model.
        ExportError: it returns no map, or torch cannot trace it.
    """
    inner = getattr(module, "model", None)
    if not isinstance(inner, nn.Module):
        raise ConfigError(
            f"module: got {type(module).__name__}, expected a trained AnomalibModule, which has a `model`"
        )
    size = size_hw or _own_size(module)
    proto = trace(
        _ToMap(getattr(module, "pre_processor", None), inner),
        torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)),
        [ANOMALIB_MAP],
    )
    simplify(proto)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _own_size(module: nn.Module) -> tuple[int, int]:
    """The size that the first resize of its pre-processor makes."""
    transform = getattr(getattr(module, "pre_processor", None), "transform", None)
    steps: Any = getattr(transform, "transforms", [transform])
    sizes = [tuple(size) for step in steps if (size := getattr(step, "size", None)) is not None and len(size) == 2]
    return (int(sizes[0][0]), int(sizes[0][1])) if sizes else (DEFAULT_SIDE_PX, DEFAULT_SIDE_PX)


class _ToMap(nn.Module):
    """Their pre-processing and model, the map alone."""

    def __init__(self, pre_processor: nn.Module | None, model: nn.Module) -> None:
        super().__init__()
        self.pre_processor, self.model = pre_processor, model

    def forward(self, images: Tensor) -> Tensor:
        """float32 (N, 3, H, W), 0..1, to the map as the model gives it."""
        batch = images if self.pre_processor is None else self.pre_processor(images)
        prediction: Any = self.model(batch)
        found = getattr(prediction, ANOMALIB_MAP, None)
        if not isinstance(found, Tensor):
            raise ExportError(
                f"{type(self.model).__name__} returns no {ANOMALIB_MAP}; only models with a map can be used"
            )
        return found
