"""Which detectors of anomalib's and AnomaVision's, on which encoder, fitted how."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass
from typing import Any

from cada_edge.models import Encoder, EncoderConfig
from cada_edge.models.encoder import image_spec
from cada_edge.types import ImageSpec

NAMES = ("padim", "patchcore", "reverse_distillation")
ANOMAVISION = ("anomavision_default", "anomavision_deep")
ENCODER, STRIDES = "tf_efficientnet_lite0", (4, 8, 16, 32)


def installed() -> tuple[str, ...]:
    """anomalib's, and AnomaVision's where it is installed."""
    return (*NAMES, *(ANOMAVISION if importlib.util.find_spec("anomavision") else ()))


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
        anomavision_default_layers: stages read by AnomaVision's PaDiM, 0 for stride 4 to 3 for stride 32; its default.
        anomavision_default_features: channels it keeps, drawn at random; its default.
        anomavision_deep_layers: the same model on the stages that anomalib's PaDiM has here.
        anomavision_deep_features: as many as anomalib's PaDiM keeps here.
        weights: of the encoder, as `EncoderConfig.weights`.
    """

    size_px: int = 256
    seed: int = 0
    padim_features: int = 100
    patchcore_patches_per_image: int = 16
    patchcore_coreset_ratio: float = 0.25
    reverse_distillation_steps: int = 300
    reverse_distillation_batch: int = 8
    anomavision_default_layers: tuple[int, ...] = (0, 1)
    anomavision_default_features: int = 50
    anomavision_deep_layers: tuple[int, ...] = (1, 2, 3)
    anomavision_deep_features: int = 100
    weights: str = "pretrained"

    def of(self, name: str | None) -> dict[str, Any]:
        """What matters to one peer, or to all of them: the settings that bear no other peer's name."""
        others = tuple(f"{peer}_" for peer in (*NAMES, *ANOMAVISION) if peer != name)
        return {field: value for field, value in asdict(self).items() if not field.startswith(others)}

    def title(self, name: str) -> str:
        """Name of a peer for people, with what was cut short."""
        bank = f"{self.patchcore_coreset_ratio:.0%} of {self.patchcore_patches_per_image} patches an image"
        steps = f"{self.reverse_distillation_steps} steps of {self.reverse_distillation_batch}"
        return {
            "padim": "anomalib PaDiM",
            "patchcore": f"anomalib PatchCore ({bank})",
            "reverse_distillation": f"anomalib Reverse Distillation ({steps})",
            **{name: f"AnomaVision PaDiM ({self._layers_text(name)})" for name in ANOMAVISION},
        }[name]

    def layers(self, name: str) -> tuple[int, ...]:
        """Stages that one of AnomaVision's reads, 0 for stride 4 to 3 for stride 32."""
        return self.anomavision_deep_layers if name == "anomavision_deep" else self.anomavision_default_layers

    def features(self, name: str) -> int:
        """Channels that one of AnomaVision's keeps."""
        return self.anomavision_deep_features if name == "anomavision_deep" else self.anomavision_default_features

    def _layers_text(self, name: str) -> str:
        strides = ", ".join(str(STRIDES[layer]) for layer in self.layers(name))
        return f"strides {strides}; {self.features(name)} channels"

    @property
    def spec(self) -> ImageSpec:
        """The encoder's own preprocessing, as cada-edge compiles it into its graph."""
        return image_spec(EncoderConfig(ENCODER), (self.size_px, self.size_px))

    def encoder(self, strides: tuple[int, ...]) -> Encoder:
        """The frozen encoder up to these strides."""
        return Encoder(EncoderConfig(ENCODER, strides, self.weights))
