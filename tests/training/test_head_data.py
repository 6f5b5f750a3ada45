"""Promises of leaving images out of a patch memory: as if each had been held out, look-alikes included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cada_edge.models import PatchMemory, PatchMemoryConfig
from cada_edge.training.checkpoint import Checkpoint
from cada_edge.training.distributed import World
from cada_edge.training.features import FeatureStore, View
from cada_edge.training.fit_memory import fit_memory
from cada_edge.training.head_data import LeavingOut
from cada_edge.types import MapSpec

HERE = World(0, 1, 0, 0, torch.device("cpu"))
IMAGES, CELLS = 12, 16


def _store(burst: bool = False) -> FeatureStore:
    """Twelve random images, (12, 6, 4, 4) at stride 16; in a `burst` the last is the first again."""
    maps = np.random.default_rng(0).standard_normal((IMAGES, 6, 4, 4)).astype(np.float16)
    if burst:
        maps[-1] = maps[0]
    return FeatureStore([View(Path(f"{i}.png"), f"{i:064d}") for i in range(IMAGES)], [maps])


def _filled(
    store: FeatureStore, folder: Path, bank_size: int = IMAGES * CELLS
) -> tuple[PatchMemory, list[torch.Tensor]]:
    memory = PatchMemory(PatchMemoryConfig(((16,),), 16, bank_size, CELLS), [6], (16,), MapSpec((4, 4)))
    checkpoint = Checkpoint(folder / "memory.safetensors", "key")
    origins = fit_memory(memory, store, seed=0, world=HERE, checkpoint=checkpoint, tick=lambda _done, _total: None)
    return memory, origins


def _left_out(store: FeatureStore, group: torch.Tensor, folder: Path) -> torch.Tensor:
    memory, origins = _filled(store, folder)
    return LeavingOut(memory, origins, group).maps(store.rows(np.arange(IMAGES), HERE.device), 0)


def test_every_patch_knows_the_image_it_comes_from(tmp_path: Path) -> None:
    """A patch lies at distance nought from the image its origin names."""
    store = _store()
    memory, (origins,) = _filled(store, tmp_path, bank_size=20)
    for patch, row in zip(memory.bank(0), origins, strict=True):
        cells = memory.patches(store.rows(np.array([int(row)]), HERE.device))[0].flatten(2)[0].T
        assert float(torch.cdist(patch[None], cells).min()) < 1e-3


def test_a_resumed_fit_has_the_same_origins(tmp_path: Path) -> None:
    """What the checkpoint gives back names the same images as the first fit."""
    store = _store()
    first, again = _filled(store, tmp_path), _filled(store, tmp_path)
    assert torch.equal(first[1][0], again[1][0])
    assert torch.equal(first[0].bank(0), again[0].bank(0))


def test_left_out_means_not_in_the_memory(tmp_path: Path) -> None:
    """An image left out gets the map of a memory that was filled without it."""
    store = _store()
    found = _left_out(store, torch.arange(IMAGES), tmp_path)
    memory, origins = _filled(store, tmp_path)
    features = store.rows(np.arange(IMAGES), HERE.device)
    for image in range(IMAGES):
        without = PatchMemory(memory.settings, [6], (16,), MapSpec((4, 4)))
        without.scaler.load_state_dict(memory.scaler.state_dict())
        without.remember([memory.bank(0)[origins[0] != image]])
        torch.testing.assert_close(found[image : image + 1], without([x[image : image + 1] for x in features]))


def test_a_burst_is_left_out_together(tmp_path: Path) -> None:
    """A picture that is there twice finds itself unless its look-alike is left out with it."""
    store = _store(burst=True)
    alone = torch.arange(IMAGES)
    together = alone.clone()
    together[-1] = together[0]
    twins = torch.tensor([0, IMAGES - 1])
    assert float(_left_out(store, alone, tmp_path)[twins].min()) < 0.02
    assert float(_left_out(store, together, tmp_path)[twins].min()) > 0.1


def test_an_image_without_which_nothing_remains_keeps_its_patches(tmp_path: Path) -> None:
    """Where all images look alike, maps stay finite instead of infinitely far from an empty memory."""
    found = _left_out(_store(), torch.zeros(IMAGES, dtype=torch.int64), tmp_path)
    assert bool(found.isfinite().all())


@pytest.mark.parametrize("start", [0, 5])
def test_maps_belong_to_the_rows_asked_for(tmp_path: Path, start: int) -> None:
    """A batch from any row on gets the same maps as all rows at once."""
    store = _store()
    memory, origins = _filled(store, tmp_path)
    leaving_out = LeavingOut(memory, origins, torch.arange(IMAGES))
    whole = leaving_out.maps(store.rows(np.arange(IMAGES), HERE.device), 0)
    part = leaving_out.maps(store.rows(np.arange(start, start + 4), HERE.device), start)
    torch.testing.assert_close(part, whole[start : start + 4])
