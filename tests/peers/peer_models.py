"""The peers' detectors, fitted and asked: one model for all products."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from anomalib.models.image.reverse_distillation.anomaly_map import AnomalyMapGenerationMode
from anomalib.models.image.reverse_distillation.loss import ReverseDistillationLoss
from anomalib.models.image.reverse_distillation.torch_model import ReverseDistillationModel
from anomalib.post_processing import PostProcessor
from peer_anomavision import fit_anomavision
from peer_encoder import Layers, Peer, SplitLayers, Tick
from peer_settings import ANOMAVISION, ENCODER, PeerSettings
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from cada_edge.training.features import FeatureStore
from cada_edge.types import Float32Array

MAP_SIDE = 64  # cells; their maps have one per pixel, which nothing here needs


def fit_padim(settings: PeerSettings, store: FeatureStore, tick: Tick) -> Peer:
    """PaDiM on strides 8, 16 and 32: a Gaussian per position over all products.

    anomalib reads one stride finer, at four times the memory (1.6 MB per image, twice).
    """
    names = ["blocks.2", "blocks.4", "blocks.6"]
    model = PadimModel(ENCODER, names, pre_trained=False, n_features=settings.padim_features)
    peer = Peer(model, Layers(settings.encoder((8, 16, 32)), names), settings.spec)
    model.feature_extractor = peer.layers
    model.train()
    deque(peer.each(store, tick), maxlen=0)  # it keeps the embeddings itself
    model.fit()
    return peer


def fit_patchcore(settings: PeerSettings, store: FeatureStore, tick: Tick) -> Peer:
    """PatchCore on strides 8 and 16, as anomalib's second and third stage; their coreset of thinned candidates."""
    names = ["blocks.2", "blocks.4"]
    model = PatchcoreModel(names, ENCODER, pre_trained=False)
    peer = Peer(model, Layers(settings.encoder((8, 16)), names), settings.spec)
    model.feature_extractor = peer.layers
    model.train()
    cells = (settings.size_px // peer.strides[0]) ** 2
    for patches in peer.each(store, tick):
        images = patches.view(-1, cells, patches.shape[1])
        model.embedding_store[-1] = torch.cat(
            [own[_draw(cells, settings.patchcore_patches_per_image)] for own in images]
        )
    model.subsample_embedding(settings.patchcore_coreset_ratio)
    return peer


def fit_reverse_distillation(settings: PeerSettings, store: FeatureStore, tick: Tick) -> Peer:
    """Reverse Distillation with anomalib's ResNet-18 bottleneck and decoder behind `SplitLayers`.

    Its loss, optimiser, learning rate and map are anomalib's (`ReverseDistillation`).
    """
    names = ["layer1", "layer2", "layer3"]
    model = ReverseDistillationModel(
        "resnet18", settings.spec.size_hw, names, AnomalyMapGenerationMode.ADD, pre_trained=False
    )
    statistics = [values[:3] for values in store.channel_statistics()]
    peer = Peer(model, SplitLayers(settings.encoder((4, 8, 16)), names, *statistics), settings.spec)
    model.encoder = peer.layers
    student = [*model.decoder.parameters(), *model.bottleneck.parameters()]
    optimiser = torch.optim.Adam(student, lr=0.005, betas=(0.5, 0.99))
    count, size, steps = len(store.views), settings.reverse_distillation_batch, settings.reverse_distillation_steps
    order = torch.cat([torch.randperm(count) for _ in range(steps * size // count + 1)]).tolist()
    model.train()
    for step in range(steps):
        loss = ReverseDistillationLoss()(*peer(store, order[step * size : (step + 1) * size]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        tick(step + 1, steps)
    return peer


PEERS: Mapping[str, Callable[[PeerSettings, FeatureStore, Tick], Peer]] = MappingProxyType(
    {
        "padim": fit_padim,
        "patchcore": fit_patchcore,
        "reverse_distillation": fit_reverse_distillation,
        **{name: partial(fit_anomavision, name) for name in ANOMAVISION},
    }
)


def fit(name: str, settings: PeerSettings, store: FeatureStore, tick: Tick) -> Peer:
    """Fit one peer on good pictures of all products; the same seed gives the same model."""
    torch.manual_seed(settings.seed)
    np.random.seed(settings.seed)  # noqa: NPY002  # PatchCore's random projection draws from it
    peer = PEERS[name](settings, store, tick)
    peer.net.eval()
    return peer


@torch.inference_mode()
def predict(peer: Peer, store: FeatureStore, tick: Tick) -> tuple[Float32Array, Float32Array]:
    """Their raw image scores, float32 (N,), and maps averaged to float32 (N, 64, 64)."""
    scores, maps = [], []
    for found in peer.each(store, tick):
        scores.append(found.pred_score.reshape(-1).numpy())
        maps.append(F.adaptive_avg_pool2d(found.anomaly_map, MAP_SIDE)[:, 0].numpy())
    return np.concatenate(scores), np.concatenate(maps)


def post_process(scores: Float32Array, defective: Sequence[bool]) -> Float32Array:
    """Scores after anomalib's post-processor, which sees the labels of these very images (its ``same_as_test``)."""
    post, raw = PostProcessor(), torch.from_numpy(scores)
    none = torch.zeros(len(raw), 3, 1, 1)
    batch = ImageBatch(image=none, gt_label=torch.tensor(list(defective)), pred_score=raw)
    post.on_validation_batch_end(None, None, batch)
    post.on_validation_epoch_end(None, None)
    found: Float32Array = post(InferenceBatch(pred_score=raw)).pred_score.numpy()
    return found


def _draw(count: int, wanted: int) -> Tensor:
    """At most `wanted` different numbers below `count`, in random order."""
    return torch.randperm(count)[:wanted]
