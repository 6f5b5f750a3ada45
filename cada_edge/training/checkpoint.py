"""Checkpoints of a fit: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from cada_edge.errors import DataError, TrainingError
from cada_edge.training.distributed import World

_META = "__meta__"


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands: file, and the digest of everything that determines its course."""

    path: Path
    key: str

    def save(self, step: int, loss: float, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Write model, optimiser moments, step and its loss. Raises `DataError` when the disk is full."""
        tensors = {f"model.{name}": t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
        for index, moments in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(t).cpu() for name, t in moments.items()}
        temporary = self.path.with_suffix(".part")
        try:
            temporary.write_bytes(save(tensors, {"key": self.key, "step": str(step), "loss": repr(loss)}))
            temporary.replace(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise DataError(f"{self.path}: cannot write the checkpoint: {error.strerror or error}") from error

    def load(self, model: nn.Module, optimiser: torch.optim.Optimizer, world: World) -> tuple[int, float]:
        """Restore; return the step to go on from and the last loss: 0 and NaN without a checkpoint.

        The first process reads it and hands it to the others.

        Raises `TrainingError` when the checkpoint is damaged or belongs to another run.
        """
        found = self.path.read_bytes() if world.leads and self.path.exists() else b""
        content = world.bytes_from_first(found)
        if not content:
            return 0, math.nan
        try:
            meta, tensors = _metadata(content), load(content)
            step, loss = int(meta["step"]), float(meta["loss"])
        except (SafetensorError, KeyError, ValueError) as error:
            raise TrainingError(f"{self.path} is damaged ({error}); delete it to start the fit afresh") from error
        if meta["key"] != self.key:
            raise TrainingError(
                f"{self.path} belongs to other data or settings ({meta['key'][:12]}, now {self.key[:12]}); "
                "finish that run, delete its folder, or use another --out"
            )
        try:
            _restore(model, optimiser, tensors)
        except (RuntimeError, KeyError, ValueError) as error:
            raise TrainingError(f"{self.path} does not fit the detector ({error}); delete it") from error
        return step, loss


def _metadata(content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    meta: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return meta


def _restore(model: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, moment = name.split(".")
            state.setdefault(int(index), {})[moment] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
