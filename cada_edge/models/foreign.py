"""Detectors made elsewhere: how any ONNX graph from a picture to an anomaly map is fed and read.

The graph itself is kept as it is; see `cada_edge.models.foreign_model` for what runs it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from cada_edge.errors import ConfigError
from cada_edge.models.unified import Smoother
from cada_edge.types import ImageSpec, MapSpec, require

GRAPH = "detector.onnx"
Layout = Literal["NCHW", "NHWC"]
Element = Literal["float32", "float16", "uint8"]
ChannelOrder = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class ForeignConfig:
    """How a foreign graph is fed and read.

    Attributes:
        size_hw: height and width of its input, pixels; any, the picture is resized in the graph.
        map_hw: height and width of the map it returns, cells.
        layout: of its input.
        element: type of its input.
        order: of its input's channels.
        mean: per channel in the graph's order, in 0..255 units; it is fed ``(pixel - mean) / std``.
        std: per channel, in 0..255 units, > 0; (255, 255, 255) with mean 0 feeds 0..1.
        one_by_one: the graph takes one picture at a time, or lets pictures of a batch influence
            each other; an exported graph then calls it once per picture.
    """

    size_hw: tuple[int, int]
    map_hw: tuple[int, int]
    layout: Layout = "NCHW"
    element: Element = "float32"
    order: ChannelOrder = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (255.0, 255.0, 255.0)
    one_by_one: bool = False

    def __post_init__(self) -> None:
        for name in ("size_hw", "map_hw"):
            sides = getattr(self, name)
            fits = len(sides) == 2 and all(type(side) is int and 2 <= side <= 4096 for side in sides)
            require(fits, f"ForeignConfig.{name}", sides, "two integers in 2..4096")
        require(self.layout in ("NCHW", "NHWC"), "ForeignConfig.layout", self.layout, "'NCHW' or 'NHWC'")
        elements = ("float32", "float16", "uint8")
        require(self.element in elements, "ForeignConfig.element", self.element, f"one of {elements}")
        require(self.order in ("rgb", "bgr"), "ForeignConfig.order", self.order, "'rgb' or 'bgr'")
        for name, low in {"mean": -math.inf, "std": 0.0}.items():
            values = getattr(self, name)
            fits = len(values) == 3 and all(math.isfinite(v) and v > low for v in values)
            require(fits, f"ForeignConfig.{name}", values, f"3 finite numbers > {low:g}")
        require(type(self.one_by_one) is bool, "ForeignConfig.one_by_one", self.one_by_one, "true or false")


@dataclass(frozen=True)
class ForeignGraph:
    """A foreign file, checked, cut to picture in and map out, and understood.

    Attributes:
        content: the ONNX file that is left, weights inside.
        config: how it is fed and read.
        source: for the provenance: ``sha256`` of the file given, ``content_sha256`` of what is
            kept of it, weights included, and ``input``, ``output``, ``opset``, ``producer``.
        notes: what was guessed or changed, in sentences.
    """

    content: bytes
    config: ForeignConfig
    source: dict[str, Any]
    notes: tuple[str, ...]


class Feed(nn.Module):
    """Pictures uint8 (N, H, W, 3) RGB to what the foreign graph takes, in its size, layout and type."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ForeignConfig, spec: ImageSpec) -> None:
        super().__init__()
        self.config, self.resizes = config, config.size_hw != spec.size_hw
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """One batch; a uint8 graph gets whole numbers again after a resize."""
        x = images.permute(0, 3, 1, 2).float()
        if self.resizes:
            x = F.interpolate(x, size=self.config.size_hw, mode="bilinear", align_corners=False)
        if self.config.order == "bgr":
            x = x[:, [2, 1, 0]]
        x = (x - self.mean) / self.std
        if self.config.element == "uint8":
            x = (x + 0.5).floor().clamp(0, 255).to(torch.uint8)
        elif self.config.element == "float16":
            x = x.half()
        return x if self.config.layout == "NCHW" else x.permute(0, 2, 3, 1)


class Reading(nn.Module):
    """The foreign map, (N, ...) with h x w values each, to our raw map, float32 (N, h', w').

    Finer maps are averaged where whole cells fit, else resized; then shifted and scaled, so that
    the constants of the head fit maps of any range, and smoothed as every detector's map is.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, config: ForeignConfig, spec: MapSpec) -> None:
        super().__init__()
        self.map_hw, self.size_hw = config.map_hw, spec.size_hw
        ratios = [have // want for have, want in zip(config.map_hw, spec.size_hw, strict=True)]
        whole = all(have == k * want for have, want, k in zip(config.map_hw, spec.size_hw, ratios, strict=True))
        self.pool = (ratios[0], ratios[1]) if whole and min(ratios) >= 1 else None
        self.smoother = Smoother(spec)
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, maps: Tensor) -> Tensor:
        """Raw maps, smoothed."""
        x = maps.float().reshape(-1, 1, *self.map_hw)
        if self.pool:
            x = F.avg_pool2d(x, self.pool) if self.pool != (1, 1) else x
        else:
            x = F.interpolate(x, size=self.size_hw, mode="bilinear", align_corners=False)
        smoothed: Tensor = self.smoother(((x - self.offset) / self.scale)[:, 0])
        return smoothed


def input_size(foreign_hw: tuple[int, int]) -> tuple[int, int]:
    """The size our pictures have for a foreign input: the same, rounded up to multiples of 32."""
    height, width = (32 * math.ceil(side / 32) for side in foreign_hw)
    if max(height, width) > 4096:
        raise ConfigError(f"size_hw: got {foreign_hw}, expected at most 4096 pixels a side")
    return height, width
