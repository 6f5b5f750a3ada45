"""cada-edge's encoder in the place of a peer's, and its features kept for all peers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from peer_settings import STRIDES, PeerSettings
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from cada_edge.models import Encoder, UnifiedModel
from cada_edge.training.config import AugmentConfig
from cada_edge.training.features import Encoding, FeatureStore, View, encode_views
from cada_edge.types import ImageSpec

Tick = Callable[[int, int], None]
_BATCH = 16
_RESNET18_WIDTHS = (64, 128, 256)


class FromPixels(nn.Module):
    """A network behind the preprocessing of cada-edge's graphs."""

    def __init__(self, encoder: nn.Module, spec: ImageSpec) -> None:
        super().__init__()
        self.encoder, self.spec = encoder, spec

    def standardise(self, images: Tensor) -> Tensor:
        """Images uint8 (N, H, W, 3) to float32 (N, 3, H, W), in the layout eager torch is fastest with."""
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.spec.mean, self.spec.std))
        return ((images.permute(0, 3, 1, 2).float() - mean) / std).contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images uint8 (N, H, W, 3) to whatever tensors the network gives."""
        return tuple(x for x in self.encoder(self.standardise(images)) if x is not None)


def encode(settings: PeerSettings, folder: Path, views: Sequence[View], tick: Tick) -> FeatureStore:
    """Features of all strides, each picture encoded once for all peers, kept in `folder` as training keeps them."""
    look = FromPixels(settings.encoder(STRIDES), settings.spec)
    device = torch.device("cpu")
    # Encoding asks a model for preprocessing and encoder alone.
    encoding = Encoding(cast("UnifiedModel", look), AugmentConfig(copies=0), settings.seed, device)
    return encode_views(folder, views, encoding, tick)


class Layers(nn.Module):
    """cada-edge's encoder in the place of anomalib's own extractor: maps by name.

    While `recalled` is set, its maps are returned whatever the images: what the encoder gave for
    them earlier.
    """

    def __init__(self, encoder: Encoder, names: Sequence[str]) -> None:
        super().__init__()
        self.net, self.names = encoder, tuple(names)
        self.recalled: list[Tensor] | None = None

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Standardised float32 (N, 3, H, W) to one map per name."""
        maps = self.net(images) if self.recalled is None else self.recalled
        return dict(zip(self.names, self.dress(maps), strict=True))

    def dress(self, maps: list[Tensor]) -> list[Tensor]:
        """The encoder's maps as the peer wants them."""
        return maps


class SplitLayers(Layers):
    """The encoder dressed as the first three stages of a ResNet-18.

    anomalib's Reverse Distillation can only rebuild ResNet features: 64, 128 and 256 channels, none
    negative. The encoder's linear outputs (24, 40 and 112) are standardised per channel, split into
    their positive and negative parts, and filled up with zeros. Nothing is lost, nothing is learned.
    """

    def __init__(self, encoder: Encoder, names: Sequence[str], mean: Sequence[Tensor], std: Sequence[Tensor]) -> None:
        super().__init__(encoder, names)
        for i, (own_mean, own_std) in enumerate(zip(mean, std, strict=True)):
            self.register_buffer(f"mean{i}", own_mean.view(1, -1, 1, 1))
            self.register_buffer(f"std{i}", own_std.view(1, -1, 1, 1).clamp_min(1e-6))

    def dress(self, maps: list[Tensor]) -> list[Tensor]:
        """To (N, 64, H/4, W/4), (N, 128, H/8, W/8) and (N, 256, H/16, W/16)."""
        return [self._split(i, x, width) for i, (x, width) in enumerate(zip(maps, _RESNET18_WIDTHS, strict=True))]

    def _split(self, i: int, x: Tensor, width: int) -> Tensor:
        x = (x - self.get_buffer(f"mean{i}")) / self.get_buffer(f"std{i}")
        split = F.pad(torch.cat([F.relu(x), F.relu(-x)], dim=1), (0, 0, 0, 0, 0, width - 2 * x.shape[1]))
        return split.contiguous()  # anomalib's loss takes views of it


class Peer:
    """A peer's torch model, and the layers it reads.

    Attributes:
        net: the model, whole: images in, scores and maps out.
        layers: its extractor.
        strides: of the maps it reads.
    """

    def __init__(self, net: nn.Module, layers: Layers, spec: ImageSpec) -> None:
        self.net, self.layers, self.spec = net, layers, spec
        self.strides: tuple[int, ...] = layers.net.strides

    def __call__(self, store: FeatureStore, index: Sequence[int]) -> Any:
        """What the model makes of some stored pictures, in its present mode."""
        with self.recalling(store, index) as images:
            return self.net(images)

    @contextlib.contextmanager
    def recalling(self, store: FeatureStore, index: Sequence[int]) -> Iterator[Tensor]:
        """Blank pictures, for which the encoder gives what it gave for some stored ones."""
        chosen = FeatureStore(store.views, [store.maps[STRIDES.index(s)] for s in self.strides], store.index)
        self.layers.recalled = chosen.rows(np.asarray(index), torch.device("cpu"))
        try:
            yield torch.zeros(1).expand(len(index), 3, *self.spec.size_hw)
        finally:
            self.layers.recalled = None

    def each(self, store: FeatureStore, tick: Tick) -> Iterator[Any]:
        """What the model makes of all stored pictures, 16 at a time."""
        for start in range(0, len(store.views), _BATCH):
            stop = min(start + _BATCH, len(store.views))
            yield self(store, range(start, stop))
            tick(stop, len(store.views))
