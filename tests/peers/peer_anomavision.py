"""AnomaVision's PaDiM, its own code unchanged, on cada-edge's encoder.

It knows two encoders, both ResNets, and fetches their weights when it is built. So the encoder is
entered in its table of encoders under a name of its own, dressed as a ResNet: stem, then four
stages at strides 4, 8, 16 and 32. From there on all is AnomaVision's: which channels it draws, how it
lays maps beside each other, its Gaussians, its distance, its score and map.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections import OrderedDict
from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple

from peer_encoder import Layers, Peer, Tick
from peer_settings import ENCODER, STRIDES, PeerSettings
from torch import Tensor, nn

from cada_edge.models import Encoder
from cada_edge.training.features import FeatureStore

_BATCH = 16
_BLOCKS = ((0, 1), (2,), (3, 4), (5, 6))  # of EfficientNet-Lite0, to a map per stride


class Found(NamedTuple):
    """What a peer makes of pictures: scores (N,), maps (N, 1, H, W)."""

    pred_score: Tensor
    anomaly_map: Tensor


class Stage(nn.Sequential):
    """Some blocks of the encoder; while `recalled` is set, they give that map whatever the images."""

    recalled: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The stage before's map, float32 (N, C, H, W), to this one's."""
        if self.recalled is not None:
            return self.recalled
        for block in self:
            x = block(x)
        return x


class AsResNet(Layers):
    """The encoder under the names that a ResNet's parts have."""

    def __init__(self, encoder: Encoder, layers: tuple[int, ...]) -> None:
        nn.Module.__init__(self)
        net: Any = encoder.net
        self.net, self.layers = encoder, layers
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv_stem, net.bn1, nn.Identity(), nn.Identity()
        stages = [Stage(*(net.blocks[i] for i in blocks)) for blocks in _BLOCKS]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    @property
    def recalled(self) -> list[Tensor] | None:
        """The maps of `layers` in the place of the encoder's."""
        maps = [stage.recalled for stage in self._read()]
        return None if any(x is None for x in maps) else [x for x in maps if x is not None]

    @recalled.setter
    def recalled(self, maps: list[Tensor] | None) -> None:
        for i, stage in enumerate(self._read()):
            stage.recalled = None if maps is None else maps[i]

    def _read(self) -> list[Stage]:
        stages = (self.layer1, self.layer2, self.layer3, self.layer4)
        return [stages[layer] for layer in self.layers]


class Judge(nn.Module):
    """Their model with the outputs named as anomalib names them."""

    def __init__(self, padim: nn.Module) -> None:
        super().__init__()
        self.padim: Any = padim

    def forward(self, images: Tensor) -> Found:
        """Standardised float32 (N, 3, H, W) to scores and maps."""
        scores, maps = self.padim.predict(images, export=True)  # what its exporter says; the same path as without
        return Found(scores, maps.unsqueeze(1))


class Recalled:
    """Stored features as the batches of pictures that their `fit` walks through."""

    def __init__(self, peer: Peer, store: FeatureStore, tick: Tick) -> None:
        self.peer, self.store, self.tick = peer, store, tick

    def __len__(self) -> int:
        return math.ceil(len(self.store.views) / _BATCH)

    def __iter__(self) -> Iterator[Tensor]:
        total = len(self.store.views)
        for start in range(0, total, _BATCH):
            with self.peer.recalling(self.store, range(start, min(start + _BATCH, total))) as images:
                yield images
            self.tick(min(start + _BATCH, total), total)


def fit_anomavision(name: str, settings: PeerSettings, store: FeatureStore, tick: Tick) -> Peer:
    """Their PaDiM by their `fit`: a Gaussian per position over all products."""
    layers = settings.layers(name)
    dressed = AsResNet(settings.encoder(STRIDES), layers)
    peer = Peer(nn.Module(), dressed, settings.spec)
    peer.strides = tuple(STRIDES[layer] for layer in layers)
    padim = their_padim(enter(ENCODER, dressed, dressed.net.channels), layers, settings.features(name))
    with quiet():
        padim.fit(Recalled(peer, store, tick))
    peer.net = Judge(padim)
    return peer


def enter(name: str, net: nn.Module, channels: list[int]) -> str:
    """Put an encoder into their table of encoders; its name there."""
    extraction = import_module("anomavision.algorithm.common.feature_extraction")
    padim = import_module("anomavision.algorithm.padim.padim")
    extraction.BACKBONES[name] = (lambda weights, progress: net, None)  # they name the arguments
    padim.BACKBONE_FEATURE_SIZES[name] = OrderedDict((i, [width]) for i, width in enumerate(channels))
    return name


def their_padim(encoder: str, layers: tuple[int, ...], features: int) -> Any:
    """Their PaDiM, not yet fitted, on an encoder of their table."""
    with quiet():
        module = import_module("anomavision.algorithm.padim.padim")
        return module.Padim(encoder, layer_indices=list(layers), feat_dim=features)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """They print as they go."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
