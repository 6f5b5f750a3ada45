"""Settings of the graphs of lower precision, and what the steps to them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
from onnx import ModelProto

from cada_edge.bundle import Bundle
from cada_edge.calibration.ranges import RANGE_METHODS
from cada_edge.engine_key import Precision
from cada_edge.export.gate_report import TOLERANCES, GateTolerance
from cada_edge.export.zones import Zones
from cada_edge.protocols import Runner
from cada_edge.types import require

T = TypeVar("T")

MIN_CALIBRATION_IMAGES = 16
PRECISION_STAGE = "precision"

OpenRunner = Callable[[Bundle, Precision], Runner]
Progress = Callable[[str, int, int], None]
Rest = Literal["fp16", "fp32"]
RangeChoice = Literal["auto", "max", "percentile", "entropy", "mse"]


@dataclass(frozen=True)
class PrecisionConfig:
    """How graphs of lower precision are made and judged.

    Attributes:
        calibration_images: good images that set INT8 ranges, at least 16.
        range_method: rule of the ranges; ``auto`` takes the one that moves scores least.
        score_budget: how far INT8 may move scores of the probe, root mean square, in units of the
            aligned score; layers are left out of INT8 until it does. 0 leaves out all.
        depthwise: let depthwise convolutions be INT8 as well; on NVIDIA GPUs float16 is often faster.
        rest: type of the encoder's and detector's other layers in the INT8 graph: ``fp16`` for
            TensorRT, ``fp32`` for processors without float16 arithmetic.
        probe_images: calibration images that rules and layers are tried on, each also damaged.
        gate_images: held-out good images of the gate, each also damaged.
        pool_images: images that are looked at to choose calibration images from.
        tolerances: of the gate, per precision.
        batch_size: images per inference.
    """

    calibration_images: int = 128
    range_method: RangeChoice = "auto"
    score_budget: float = 0.03
    depthwise: bool = False
    rest: Rest = "fp16"
    probe_images: int = 16
    gate_images: int = 200
    pool_images: int = 1000
    tolerances: Mapping[Precision, GateTolerance] = field(default_factory=lambda: dict(TOLERANCES))
    batch_size: int = 4

    def __post_init__(self) -> None:
        lows = {"calibration_images": MIN_CALIBRATION_IMAGES, "probe_images": 1, "gate_images": 1, "batch_size": 1}
        for name, low in {**lows, "pool_images": MIN_CALIBRATION_IMAGES}.items():
            value = getattr(self, name)
            require(isinstance(value, int) and value >= low, f"PrecisionConfig.{name}", value, f"an integer >= {low}")
        methods = ("auto", *RANGE_METHODS)
        require(self.range_method in methods, "PrecisionConfig.range_method", self.range_method, f"one of {methods}")
        require(0 <= self.score_budget < np.inf, "PrecisionConfig.score_budget", self.score_budget, "a number >= 0")
        require(self.rest in ("fp16", "fp32"), "PrecisionConfig.rest", self.rest, "fp16 or fp32")


@dataclass(frozen=True)
class Work:
    """What every step of `cada_edge.export.precision.add_precisions` needs."""

    bundle: Bundle
    proto: ModelProto
    zones: Zones
    config: PrecisionConfig
    open_runner: OpenRunner
    progress: Progress

    def tell(self, stage: str) -> Callable[[int, int], None]:
        """Progress of one stage."""
        return lambda done, total: self.progress(stage, done, total)


def spread(items: Sequence[T], most: int) -> tuple[T, ...]:
    """At most `most` of them at even steps, so that every folder has its share."""
    count = min(most, len(items))
    return tuple(items[i * len(items) // count] for i in range(count))
