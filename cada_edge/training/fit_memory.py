"""Fill a patch memory: draw cells of every good image, keep a coreset."""

from __future__ import annotations

import torch
from torch import Tensor

from cada_edge.errors import TrainingError
from cada_edge.models.patch_memory import PatchMemory
from cada_edge.training.checkpoint import Checkpoint
from cada_edge.training.distributed import World
from cada_edge.training.features import FeatureStore, Tick

_PROJECTED = 64  # distances survive a random projection (Johnson and Lindenstrauss); the coreset is then cheap


@torch.inference_mode()
def fit_memory(
    memory: PatchMemory, store: FeatureStore, *, seed: int, world: World, checkpoint: Checkpoint, tick: Tick
) -> list[Tensor]:
    """Fill `memory` in place from `store`; every process computes the same.

    Returns, per bank, the row of `store` each patch was taken from: int64 (K,).
    """
    memory.to(world.device).eval()
    kept = checkpoint.restore(world)
    if kept is not None and len(kept) != 2 * len(memory.members):
        raise TrainingError(
            f"{checkpoint.path} holds {len(kept)} tensors, expected {2 * len(memory.members)}: an earlier version "
            "made it; delete its folder to start the fit afresh"
        )
    if kept is None:
        kept = _remembered(memory, store, seed, world, tick)
        if world.leads:
            checkpoint.keep(kept)
    half = len(kept) // 2
    memory.remember(kept[:half])
    return kept[half:]


def _remembered(memory: PatchMemory, store: FeatureStore, seed: int, world: World, tick: Tick) -> list[Tensor]:
    """The banks, float32 (K, C_g) each, then the rows their patches come from, int64 (K,) each."""
    generator = torch.Generator().manual_seed(seed)
    drawn = _draw(memory, store, generator, world)
    size = min(memory.settings.bank_size, *(len(cells) for cells in drawn))
    banks, rows = [], []
    for number, cells in enumerate(drawn):
        chosen = coreset(_project(cells, generator), size, _part(tick, number, len(drawn)))
        banks.append(cells[chosen].clone())
        rows.append(chosen // (len(cells) // len(store.views)))  # every view gave as many
    return [*banks, *rows]


def _draw(memory: PatchMemory, store: FeatureStore, generator: torch.Generator, world: World) -> list[Tensor]:
    """Random cells of every view, per group float32 (views * cells, C_g)."""
    parts: list[list[Tensor]] = [[] for _ in memory.members]
    for features in store.batches(world.device):
        for part, maps in zip(parts, memory.patches(features), strict=True):
            cells = maps.flatten(2).transpose(1, 2)
            count = min(memory.settings.per_image, cells.shape[1])
            order = torch.rand(cells.shape[:2], generator=generator).argsort(dim=1)[:, :count].to(cells.device)
            part.append(cells.gather(1, order[:, :, None].expand(-1, -1, cells.shape[2])).flatten(0, 1))
    return [torch.cat(part) for part in parts]


def _project(cells: Tensor, generator: torch.Generator) -> Tensor:
    if cells.shape[1] <= _PROJECTED:
        return cells
    directions = torch.randn(cells.shape[1], _PROJECTED, generator=generator).to(cells.device)
    projected: Tensor = cells @ directions / _PROJECTED**0.5
    return projected


def _part(tick: Tick, number: int, parts: int) -> Tick:
    return lambda done, total: tick(number * total + done, parts * total)


def coreset(points: Tensor, size: int, tick: Tick) -> Tensor:
    """Greedy k-centre: each next point is the one farthest from all chosen. float32 (M, D) to int64 (size,).

    Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set
    Approach" (ICLR 2018). Begins with the point nearest to the mean, so that no random choice is left.
    """
    squares = points.square().sum(dim=1)
    first = (points - points.mean(dim=0)).square().sum(dim=1).argmin()
    chosen = torch.empty(size, dtype=torch.int64, device=points.device)
    distance = torch.full_like(squares, float("inf"))
    for number in range(size):
        index = first if number == 0 else distance.argmax()
        chosen[number] = index
        distance = torch.minimum(distance, squares + squares[index] - 2.0 * (points @ points[index]))
        if (number + 1) % 256 == 0 or number + 1 == size:
            tick(number + 1, size)
    return chosen
