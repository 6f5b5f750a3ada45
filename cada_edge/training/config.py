"""Every setting of a training run, in one frozen object that goes into the bundle's provenance."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from cada_edge.data.split import RoleFractions
from cada_edge.errors import ConfigError
from cada_edge.models.encoder import EncoderConfig
from cada_edge.models.head import CadaHeadConfig
from cada_edge.models.revdist import RevDistConfig
from cada_edge.types import MapSpec


def _check(where: object, **limits: tuple[float, float]) -> None:
    """Raise `ConfigError` unless each named attribute is a number within its closed interval."""
    for name, (low, high) in limits.items():
        value = getattr(where, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ConfigError(f"{type(where).__name__}.{name}: got {value!r}, expected a number")
        if not low <= value <= high:
            raise ConfigError(f"{type(where).__name__}.{name}: got {value}, expected {low}..{high}")


@dataclass(frozen=True)
class AugmentConfig:
    """Harmless variation added to good images, as a line's own lighting and position vary.

    Mirrored or strongly turned parts may be defects on some lines, so both are off unless asked for.

    Attributes:
        copies: augmented views per image beside the original, 0..32; each costs one encoding.
        brightness: largest relative change of brightness, 0..1.
        contrast: largest relative change of contrast, 0..1.
        shift: largest shift as a fraction of the side, 0..0.5.
        rotate_deg: largest rotation, degrees, 0..180.
        flip_horizontal: mirror half of the views left to right.
        flip_vertical: mirror half of the views top to bottom.
    """

    copies: int = 1
    brightness: float = 0.1
    contrast: float = 0.1
    shift: float = 0.02
    rotate_deg: float = 2.0
    flip_horizontal: bool = False
    flip_vertical: bool = False

    def __post_init__(self) -> None:
        _check(self, copies=(0, 32), brightness=(0, 1), contrast=(0, 1), shift=(0, 0.5), rotate_deg=(0, 180))


@dataclass(frozen=True)
class FitConfig:
    """How the detector is fitted.

    Attributes:
        iterations: optimiser steps, over all products together.
        batch_size: images per step, over all processes together.
        learning_rate: peak of a one-cycle schedule (AdamW).
        weight_decay: of AdamW.
        mining: weight that cells below the hard-mining level keep, 0..1; 1 switches mining off.
        checkpoint_every: steps between checkpoints.
    """

    iterations: int = 1500
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    mining: float = 0.1
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        _check(
            self,
            iterations=(1, 10_000_000),
            batch_size=(1, 4096),
            learning_rate=(1e-8, 1),
            weight_decay=(0, 1),
            mining=(0, 1),
            checkpoint_every=(1, 10_000_000),
        )


@dataclass(frozen=True)
class HeadFitConfig:
    """How the CADA head is fitted.

    Attributes:
        neighbours: look-alike held-out images whose statistics are averaged into one target.
        iterations: full-batch optimiser steps.
        learning_rate: of AdamW, cosine to zero.
        weight_decay: of AdamW; the head must not memorise single images.
        noise: standard deviation of noise on its standardised inputs while fitting.
    """

    neighbours: int = 10
    iterations: int = 600
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    noise: float = 0.3

    def __post_init__(self) -> None:
        _check(
            self,
            neighbours=(1, 10_000),
            iterations=(1, 1_000_000),
            learning_rate=(1e-8, 1),
            weight_decay=(0, 10),
            noise=(0, 10),
        )


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        size_hw: model input, pixels.
        resize: ``stretch`` or ``letterbox``, see `ImageSpec`.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        seed: of split, initial weights, batches and augmentation.
    """

    size_hw: tuple[int, int] = (256, 256)
    resize: str = "stretch"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    detector: RevDistConfig = field(default_factory=RevDistConfig)
    head: CadaHeadConfig = field(default_factory=CadaHeadConfig)
    map_spec: MapSpec = field(default_factory=MapSpec)
    roles: RoleFractions = field(default_factory=RoleFractions)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    head_fit: HeadFitConfig = field(default_factory=HeadFitConfig)
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self, seed=(0, 2**32 - 1))
