"""Which detectors of anomalib's, on which encoder, fitted how."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cada_edge.models import Encoder, EncoderConfig
from cada_edge.models.encoder import image_spec
from cada_edge.types import ImageSpec

NAMES = ("padim", "patchcore", "reverse_distillation")
ENCODER, STRIDES = "tf_efficientnet_lite0", (4, 8, 16, 32)


@dataclass(frozen=True)
class PeerSettings:
    """How the peers are fitted. What anomalib has a default for keeps that default.

    Attributes:
        size_px: side of the model input.
        seed: of the split and of every random choice.
        padim_features: channels PaDiM keeps, drawn at random; anomalib's number for its smallest encoder.
        patchcore_patches_per_image: PatchCore's candidates for its bank, drawn at random from each image;
            anomalib takes all (1,024 at 256 px), which its greedy search cannot do in hours here.
        patchcore_coreset_ratio: share of the candidates that becomes the bank; anomalib's default is 0.1,
            but of all patches, a bank 26 times as large.
        reverse_distillation_steps: optimiser steps; its paper runs 200 passes over one product.
        reverse_distillation_batch: images per step.
        weights: of the encoder, as `EncoderConfig.weights`.
    """

    size_px: int = 256
    seed: int = 0
    padim_features: int = 100
    patchcore_patches_per_image: int = 16
    patchcore_coreset_ratio: float = 0.25
    reverse_distillation_steps: int = 300
    reverse_distillation_batch: int = 8
    weights: str = "pretrained"

    def of(self, name: str | None) -> dict[str, Any]:
        """What matters to one peer, or to all of them: the settings that bear no other peer's name."""
        others = tuple(f"{peer}_" for peer in NAMES if peer != name)
        return {field: value for field, value in asdict(self).items() if not field.startswith(others)}

    def title(self, name: str) -> str:
        """Name of a peer for people, with what was cut short."""
        bank = f"{self.patchcore_coreset_ratio:.0%} of {self.patchcore_patches_per_image} patches an image"
        steps = f"{self.reverse_distillation_steps} steps of {self.reverse_distillation_batch}"
        return {
            "padim": "PaDiM",
            "patchcore": f"PatchCore ({bank})",
            "reverse_distillation": f"Reverse Distillation ({steps})",
        }[name]

    @property
    def spec(self) -> ImageSpec:
        """The encoder's own preprocessing, as cada-edge compiles it into its graph."""
        return image_spec(EncoderConfig(ENCODER), (self.size_px, self.size_px))

    def encoder(self, strides: tuple[int, ...]) -> Encoder:
        """The frozen encoder up to these strides."""
        return Encoder(EncoderConfig(ENCODER, strides, self.weights))
