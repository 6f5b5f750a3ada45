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

_RANDOM_CPU, _RANDOM_GPU = "random.cpu", "random.cuda"


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands: file, and the digest of everything that determines its course."""

    path: Path
    key: str

    def save(self, step: int, loss: float, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Write model, optimiser moments, step and its loss, and where dropout's random numbers stand.

        Raises `DataError` when the disk is full.
        """
        tensors = {f"model.{name}": t for name, t in model.state_dict().items()}
        tensors |= _random_state(next(model.parameters()).device)
        for index, moments in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(t) for name, t in moments.items()}
        self._write(tensors, {"step": str(step), "loss": repr(loss)})

    def keep(self, tensors: list[Tensor]) -> None:
        """Write what took long to find, for `restore`. Raises `DataError` when the disk is full."""
        self._write({str(number): tensor for number, tensor in enumerate(tensors)}, {})

    def restore(self, world: World) -> list[Tensor] | None:
        """What `keep` wrote; None without a checkpoint. Raises `TrainingError` as `load`."""
        found = self._read(world)
        if found is None:
            return None
        return [found[1][str(number)].to(world.device) for number in range(len(found[1]))]

    def _write(self, tensors: dict[str, Tensor], facts: dict[str, str]) -> None:
        content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        temporary = self.path.with_suffix(".part")
        try:
            temporary.write_bytes(save(content, {"key": self.key, **facts}))
            temporary.replace(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise DataError(f"{self.path}: cannot write the checkpoint: {error.strerror or error}") from error

    def _read(self, world: World) -> tuple[dict[str, str], dict[str, Tensor]] | None:
        """Facts and tensors as the first process finds them, on every process; None where there are none."""
        found = self.path.read_bytes() if world.leads and self.path.exists() else b""
        content = world.bytes_from_first(found)
        if not content:
            return None
        try:
            facts, tensors = _metadata(content), load(content)
            key = facts["key"]
        except (SafetensorError, KeyError, ValueError) as error:
            raise TrainingError(f"{self.path} is damaged ({error}); delete it to start the fit afresh") from error
        if key != self.key:
            raise TrainingError(
                f"{self.path} belongs to other data or settings ({key[:12]}, now {self.key[:12]}); "
                "finish that run, delete its folder, or use another --out"
            )
        return facts, tensors

    def load(self, model: nn.Module, optimiser: torch.optim.Optimizer, world: World) -> tuple[int, float]:
        """Restore; return the step to go on from and the last loss: 0 and NaN without a checkpoint.

        The first process reads it and hands it to the others.

        Raises `TrainingError` when the checkpoint is damaged or belongs to another run.
        """
        found = self._read(world)
        if found is None:
            return 0, math.nan
        facts, tensors = found
        try:
            step, loss = int(facts["step"]), float(facts["loss"])
        except (KeyError, ValueError) as error:
            raise TrainingError(f"{self.path} is damaged ({error}); delete it to start the fit afresh") from error
        try:
            _restore(model, optimiser, tensors, world.device)
        except (RuntimeError, KeyError, ValueError) as error:
            raise TrainingError(f"{self.path} does not fit the detector ({error}); delete it") from error
        return step, loss


def _metadata(content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    meta: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return meta


def _random_state(device: torch.device) -> dict[str, Tensor]:
    states = {_RANDOM_CPU: torch.get_rng_state()}
    return {**states, _RANDOM_GPU: torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def _restore(
    model: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], device: torch.device
) -> None:
    model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, moment = name.split(".")
            state.setdefault(int(index), {})[moment] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    if _RANDOM_CPU in tensors:
        torch.set_rng_state(tensors[_RANDOM_CPU])
    if _RANDOM_GPU in tensors:
        torch.cuda.set_rng_state(tensors[_RANDOM_GPU], device)
