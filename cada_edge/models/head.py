"""The CADA head: from an image's features to the (u, gamma) of its normal kind.

It reads pooled features only: a defect covers few cells and hardly moves a mean over the
image, so the head sees *what* the part is, not how it is broken.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cada_edge.alignment import MIN_SPREAD
from cada_edge.errors import BundleError, ConfigError
from cada_edge.models.novelty import Novelty
from cada_edge.types import from_json


@dataclass(frozen=True)
class CadaHeadConfig:
    """Size of the head.

    Attributes:
        hidden: units of its one hidden layer.
        prototypes: centres that stand for the known images in the novelty measure.
    """

    hidden: int = 64
    prototypes: int = 64

    def __post_init__(self) -> None:
        for name, most in (("hidden", 4096), ("prototypes", 1024)):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise ConfigError(f"CadaHeadConfig.{name}: got {value!r}, expected an integer in 1..{most}")


def describe(features: list[Tensor]) -> Tensor:
    """The descriptor of an image: the mean of every channel of every map, float32 (N, sum C_i)."""
    return torch.cat([x.mean(dim=(2, 3)) for x in features], dim=1)


class CadaHead(nn.Module):
    """Descriptor to (u, gamma), float32 (N, 2), ``gamma >= u + MIN_SPREAD`` by construction.

    Works in logarithms, since u and gamma - u are positive and products differ by factors:
    ``u = exp(a)``, ``gamma = u + max(exp(b), MIN_SPREAD)``, where (a, b) are standardised
    with the training targets' mean and spread and kept within what training has seen.
    """

    kind: ClassVar[str] = "cada-mlp"
    input_mean: Tensor
    input_std: Tensor
    log_mean: Tensor
    log_std: Tensor
    reach: Tensor

    def __init__(self, config: CadaHeadConfig, inputs: int) -> None:
        super().__init__()
        self._config = config
        self.register_buffer("input_mean", torch.zeros(inputs))
        self.register_buffer("input_std", torch.ones(inputs))
        self.register_buffer("log_mean", torch.zeros(2))
        self.register_buffer("log_std", torch.ones(2))
        self.register_buffer("reach", torch.full((2,), 4.0))
        self.novelty = Novelty(inputs, config.prototypes)
        self.mlp = nn.Sequential(nn.Linear(inputs, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 2))

    def config(self) -> dict[str, Any]:
        """Plain JSON that `build_head` turns into the same architecture."""
        return asdict(self._config)

    def standardised(self, descriptor: Tensor) -> Tensor:
        """(N, inputs) to standardised log-targets (N, 2); what training regresses."""
        scaled = (descriptor - self.input_mean) / self.input_std
        out: Tensor = self.mlp(scaled)
        return out

    def forward(self, descriptor: Tensor) -> Tensor:
        """Descriptor float32 (N, inputs) to (u, gamma), float32 (N, 2)."""
        z = torch.minimum(torch.maximum(self.standardised(descriptor), -self.reach), self.reach)
        level, spread = torch.exp(z * self.log_std + self.log_mean).unbind(dim=1)
        return torch.stack([level, level + spread.clamp_min(MIN_SPREAD)], dim=1)


def build_head(kind: str, config: dict[str, Any], inputs: int) -> CadaHead:
    """Rebuild a head; weights are loaded afterwards. Raises `BundleError` for an unknown kind."""
    if kind != CadaHead.kind:
        raise BundleError(f"head kind {kind!r} is unknown; this version has {[CadaHead.kind]}")
    return CadaHead(from_json(CadaHeadConfig, config), inputs)


def to_log(u: Tensor, gamma: Tensor) -> Tensor:
    """Targets to the logarithms the head works in: two (N,) to (N, 2)."""
    floor = math.log(MIN_SPREAD)
    return torch.stack([u.clamp_min(1e-6).log(), (gamma - u).clamp_min(1e-6).log().clamp_min(floor)], dim=1)
