"""Every setting of a training run, in one frozen object that goes into the bundle's provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from cada_edge.data.split import RoleFractions
from cada_edge.errors import ConfigError
from cada_edge.models.detector import Detector, class_of_settings, detector_class, detector_kinds
from cada_edge.models.encoder import EncoderConfig
from cada_edge.models.flow import FlowConfig
from cada_edge.models.head import CadaHeadConfig
from cada_edge.models.patch_memory import PatchMemoryConfig
from cada_edge.models.ranges import check_ranges
from cada_edge.models.revdist import RevDistConfig
from cada_edge.models.transformer import TransformerConfig
from cada_edge.types import ImageSpec, MapSpec, ResizeRule, from_json

DetectorConfig = RevDistConfig | PatchMemoryConfig | TransformerConfig | FlowConfig
Target = Literal["own", "neighbours", "spread"]


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
        check_ranges(
            self, copies=(0, 32), brightness=(0.0, 1.0), contrast=(0.0, 1.0), shift=(0.0, 0.5), rotate_deg=(0.0, 180.0)
        )


@dataclass(frozen=True)
class FitConfig:
    """How a detector is fitted by gradient descent; the patch memory needs none of it.

    Attributes:
        iterations: optimiser steps, over all products together.
        batch_size: images per step, over all processes together.
        learning_rate: peak of a one-cycle schedule (AdamW).
        weight_decay: of AdamW.
        mining: weight that cells below the hard-mining level keep, 0..1; 1 switches mining off.
        checkpoint_every: steps between checkpoints.
    """

    iterations: int = 1000
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    mining: float = 0.1
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        check_ranges(
            self,
            iterations=(1, 10_000_000),
            batch_size=(1, 4096),
            learning_rate=(1e-8, 1.0),
            weight_decay=(0.0, 1.0),
            mining=(0.0, 1.0),
            checkpoint_every=(1, 10_000_000),
        )


@dataclass(frozen=True)
class HeadFitConfig:
    """How the CADA head is fitted.

    Attributes:
        target: what the head should say of an image: its ``own`` statistics (the head then learns
            to explain defects away; for comparison only), the mean over its ``neighbours``, or
            that mean with room for their ``spread`` in gamma.
        neighbours: look-alike held-out views, variations counted too, whose statistics are averaged
            into one target; the nearer the more they weigh. Where the images that were fitted
            count as well (patch memory), it grows as the views do.
        iterations: full-batch optimiser steps.
        learning_rate: of AdamW, cosine to zero.
        weight_decay: of AdamW; the head must not memorise single images.
        noise: standard deviation of noise on its standardised inputs while fitting.
    """

    target: Target = "spread"
    neighbours: int = 20
    iterations: int = 600
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    noise: float = 0.3

    def __post_init__(self) -> None:
        if self.target not in ("own", "neighbours", "spread"):
            raise ConfigError(f"HeadFitConfig.target: got {self.target!r}, expected 'own', 'neighbours' or 'spread'")
        check_ranges(
            self,
            neighbours=(1, 10_000),
            iterations=(1, 1_000_000),
            learning_rate=(1e-8, 1.0),
            weight_decay=(0.0, 10.0),
            noise=(0.0, 10.0),
        )


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        size_hw: model input, pixels.
        resize: ``stretch`` or ``letterbox``, see `ImageSpec`.
        detector: the settings of any registered detector; their type says which.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        seed: of split, initial weights, batches and augmentation.
    """

    size_hw: tuple[int, int] = (256, 256)
    resize: ResizeRule = "stretch"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    detector: DetectorConfig = field(default_factory=RevDistConfig)
    head: CadaHeadConfig = field(default_factory=CadaHeadConfig)
    map_spec: MapSpec = field(default_factory=MapSpec)
    roles: RoleFractions = field(default_factory=RoleFractions)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    head_fit: HeadFitConfig = field(default_factory=HeadFitConfig)
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_ranges(self, seed=(0, 2**32 - 1))
        ImageSpec(self.size_hw, resize=self.resize)  # refuses what no input can have, before the long work
        class_of_settings(self.detector)

    @staticmethod
    def of_kind(kind: str, settings: Mapping[str, Any] | None = None, **others: Any) -> TrainConfig:
        """The settings that suit a detector.

        Args:
            kind: its registered name.
            settings: its own settings where they differ from the defaults, plain JSON values.
            others: any other field; ``encoder`` and ``fit`` default to what suits the detector.

        Raises `ConfigError` for a kind that is not trained here and for settings it does not take.
        """
        cls = trained_class(kind)
        detector = from_json(cls.settings_type, dict(settings or {}))
        suited: dict[str, Any] = {"encoder": EncoderConfig(strides=cls.default_strides), "fit": fit_config(kind)}
        return TrainConfig(detector=detector, **{**suited, **others})

    @staticmethod
    def from_json(document: Mapping[str, Any], kind: str) -> TrainConfig:
        """The settings of a training of detector `kind`, from a bundle's provenance.

        Raises `ConfigError`, `KeyError` or `TypeError` when they are not such settings.
        """
        types = {**_PARTS, "detector": detector_class(kind).settings_type}
        parts = {name: from_json(cls, document[name]) for name, cls in types.items()}
        rest = {name: value for name, value in document.items() if name not in parts}
        return from_json(TrainConfig, {**rest, **parts})


_PARTS: Mapping[str, type[Any]] = {
    "encoder": EncoderConfig,
    "head": CadaHeadConfig,
    "map_spec": MapSpec,
    "roles": RoleFractions,
    "augment": AugmentConfig,
    "fit": FitConfig,
    "head_fit": HeadFitConfig,
}


def trained_class(kind: str) -> type[Detector]:
    """The detector of this kind. Raises `ConfigError` for any but those that are trained here."""
    kinds = [name for name in detector_kinds() if detector_class(name).settings_type in get_args(DetectorConfig)]
    if kind not in kinds:
        raise ConfigError(
            f"TrainConfig.detector: got {kind!r}, expected one of {kinds}; a detector made elsewhere "
            "gets its head by `cada-edge wrap`"
        )
    return detector_class(kind)


def fit_config(kind: str, **changes: Any) -> FitConfig:
    """How a detector of this kind is fitted unless told otherwise, with `changes`."""
    return FitConfig(**{**_FITS.get(kind, {}), **changes})


# Found by trying on several products; a flow's likelihood has no easy cells to leave out.
_FITS: Mapping[str, Mapping[str, Any]] = {
    "transformer": {"iterations": 800, "learning_rate": 1e-3},
    "flow": {"learning_rate": 1e-3, "mining": 1.0},
}
