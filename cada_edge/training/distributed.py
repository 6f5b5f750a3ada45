"""One process or many, one code path. Start many with ``torchrun``; gloo on CPU, NCCL on GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from cada_edge.models.runner import pick_device

# A rank may wait this long while another one encodes its images.
_TIMEOUT = timedelta(hours=6)


@dataclass(frozen=True)
class World:
    """This process among its peers.

    Attributes:
        rank: 0..size - 1; rank 0 writes the bundle.
        size: number of processes.
        local_rank: on this machine; local rank 0 encodes the images for its machine.
        machine: number of this machine, 0 for the first.
        device: this process computes on it.
    """

    rank: int
    size: int
    local_rank: int
    machine: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """True for the one process that writes results."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            distributed.barrier()

    def sum(self, values: Tensor) -> Tensor:
        """Sum over processes, without gradient; the same tensor when alone."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def from_first(self, values: Tensor) -> Tensor:
        """The first process's values, on every process; CPU tensors of one shape."""
        if self.size > 1:
            shared = values.to(self.device)
            distributed.broadcast(shared, src=0)
            return shared.cpu()
        return values

    def bytes_from_first(self, content: bytes) -> bytes:
        """The first process's bytes, on every process: no folder need be shared."""
        if self.size == 1:
            return content
        length = int(self.from_first(torch.tensor([len(content)])))
        own = np.frombuffer(content, np.uint8) if self.leads else np.zeros(length, np.uint8)
        return self.from_first(torch.from_numpy(own.copy())).numpy().tobytes()

    def replicate(self, module: nn.Module) -> nn.Module:
        """Wrap for averaged gradients when there are peers."""
        if self.size == 1:
            return module
        return DistributedDataParallel(module)


@contextmanager
def world(device: str) -> Iterator[World]:
    """Join the processes torchrun started, or be alone; leave them at the end."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local_rank = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    picked = pick_device(device)
    if str(picked) == "cuda":  # no index named: each process takes its own
        picked = torch.device("cuda", local_rank)
    if size == 1:
        yield World(0, 1, 0, 0, picked)
        return
    distributed.init_process_group("nccl" if picked.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield World(rank, size, local_rank, int(os.environ.get("GROUP_RANK", "0")), picked)
    finally:
        distributed.destroy_process_group()
