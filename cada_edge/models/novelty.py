"""How far an image is from everything the model knows.

The head gives *some* (u, gamma) for any image, and a large gamma would divide an unknown
part's anomalies away. So the images the head was fitted on are kept as a few prototypes,
and an image far from all of them is called novel, whatever its score.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Novelty(nn.Module):
    """Distance to the nearest prototype, in units of a limit: descriptor float32 (N, D) to (N,), >= 0.

    Distances are root mean squares over the D channels, each scaled by its spread among
    images of one kind: a diagonal Mahalanobis distance to the nearest of several centres
    (Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples",
    without classes). One matrix product, so that any runtime has it.

    Args:
        inputs: D.
        prototypes: how many centres are kept, >= 1.
    """

    mean: Tensor
    scale: Tensor
    prototypes: Tensor
    limit: Tensor

    def __init__(self, inputs: int, prototypes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.full((inputs,), inputs**0.5))
        self.register_buffer("prototypes", torch.zeros(prototypes, inputs))
        self.register_buffer("limit", torch.ones(()))

    def scaled(self, descriptor: Tensor) -> Tensor:
        """(N, D) to the space of the prototypes, (N, D)."""
        return (descriptor - self.mean) / self.scale

    def distance(self, scaled: Tensor) -> Tensor:
        """(N, D) in the prototypes' space to the distance to the nearest one, (N,)."""
        known = self.prototypes
        squared = scaled.square().sum(dim=1, keepdim=True) - 2 * scaled @ known.T + known.square().sum(dim=1)
        # Rounding may leave a little below zero; abs keeps a NaN, which a clamp may turn into 0 in some runtimes.
        return squared.amin(dim=1).abs().sqrt()

    def forward(self, descriptor: Tensor) -> Tensor:
        """Descriptor to novelty; 1 is the limit."""
        return self.distance(self.scaled(descriptor)) / self.limit
