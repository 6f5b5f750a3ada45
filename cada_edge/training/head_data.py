"""What the head learns from: descriptors of good images, and maps their detector has not learned by heart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cada_edge.models.head import describe
from cada_edge.models.patch_memory import PatchMemory
from cada_edge.models.unified import UnifiedModel, image_score
from cada_edge.training.features import FeatureStore, Tick, picture_numbers
from cada_edge.training.fit_head import HeadData
from cada_edge.training.targets import MapStatistics

_BATCH = 8
_Maps = Callable[[list[Tensor], int], Tensor]


@dataclass(frozen=True)
class LeavingOut:
    """Maps a patch memory would give of the images it was filled from, with its own patches taken out.

    A picture does without its own patches and those of its look-alikes: of a burst, one picture
    would find itself in the next. Every image then tells what is normal, not only those held out.

    Attributes:
        memory: filled.
        origins: per bank, the row of the fitted images each patch was taken from, int64 (K,).
        group: group of look-alikes of each fitted image, int64 (F,).
    """

    memory: PatchMemory
    origins: list[Tensor]
    group: Tensor

    def maps(self, features: list[Tensor], start: int) -> Tensor:
        """Raw maps, not smoothed, of the fitted images from row `start` on: (n, C_i, h_i, w_i) to (n, h, w)."""
        own = self.group[start : start + len(features[0])]
        device = features[0].device
        barred = [(own[:, None] == self.group[rows.cpu()][None, :]).to(device) for rows in self.origins]
        return self.memory.combined(self.memory.distances_without(features, barred))


def groups_of(store: FeatureStore, group_of: Mapping[str, int]) -> Tensor:
    """Group of look-alikes of each row, int64 (len(store.views),)."""
    return torch.tensor([group_of[view.sha256] for view in store.views])


@torch.inference_mode()
def head_data(
    model: UnifiedModel,
    fit: FeatureStore,
    align: FeatureStore,
    *,
    device: torch.device,
    tick: Tick,
    leaving_out: LeavingOut | None = None,
) -> HeadData:
    """Descriptors of all images, and statistics of the maps that are not in-sample.

    Args:
        model: with its detector fitted, on `device`.
        fit: features of the images the detector was fitted on.
        align: features of images held out.
        device: where to compute.
        tick: called with views measured and views in all.
        leaving_out: how to map the images of `fit` as if they had been held out, where the
            detector can; otherwise only those of `align` count.
    """
    total = len(align.views) + (len(fit.views) if leaving_out else 0)
    parts = []
    if leaving_out:
        parts.append(_statistics(model, fit, device, leaving_out.maps, lambda done: tick(done, total)))
    offset = total - len(align.views)
    held = lambda features, _: model.detector(features)  # noqa: E731  # a name for what `maps` is here
    parts.append(_statistics(model, align, device, held, lambda done: tick(offset + done, total)))
    seen, others = (torch.cat([describe(f).cpu() for f in store.batches(device)]) for store in (fit, align))
    # Inference tensors cannot enter the head's graph; clones outside inference mode can.
    with torch.inference_mode(mode=False):
        statistics = MapStatistics(*(torch.cat(values).clone() for values in zip(*parts, strict=True)))
        return HeadData(seen.clone(), others.clone(), picture_numbers([*fit.views, *align.views]), statistics)


def _statistics(
    model: UnifiedModel, store: FeatureStore, device: torch.device, maps: _Maps, done: Callable[[int], None]
) -> tuple[Tensor, Tensor]:
    """Mean and peak of the smoothed map of each row, float32 (len(store.views),) each."""
    means, peaks = [], []
    for number, features in enumerate(store.batches(device, _BATCH)):
        smoothed = model.smoother(maps(features, number * _BATCH))
        means.append(smoothed.mean(dim=(1, 2)).cpu())
        peaks.append(image_score(smoothed, model.map_spec).cpu())
        done(min((number + 1) * _BATCH, len(store.views)))
    return torch.cat(means), torch.cat(peaks)
