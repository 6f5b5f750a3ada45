"""A runner on torch, for development machines; devices use ONNX Runtime or TensorRT."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import torch

from cada_edge.bundle import Bundle
from cada_edge.errors import ConfigError, EngineError
from cada_edge.models.store import load_model
from cada_edge.protocols import check_batch
from cada_edge.types import ImageSpec, MapSpec, Prediction, UInt8Array

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` only from 3.11


class TorchRunner:
    """Runs a bundle's PyTorch model; implements `cada_edge.protocols.Runner`.

    Args:
        bundle: a trained bundle.
        device: a torch device name; ``auto`` is CUDA where there is one, else the CPU.
    """

    def __init__(self, bundle: Bundle, device: str = "auto") -> None:
        self.device = pick_device(device)
        self._model = load_model(bundle).to(self.device)

    @property
    def spec(self) -> ImageSpec:
        """Preprocessing expected of callers."""
        return self._model.spec

    @property
    def map_spec(self) -> MapSpec:
        """Shape and reading of the maps."""
        return self._model.map_spec

    def infer(self, batch: UInt8Array) -> Prediction:
        """Judge uint8 (N, H, W, 3); returned arrays are the caller's own. Raises `EngineError`."""
        check_batch(batch, self.spec)
        try:
            with torch.inference_mode():
                outputs = self._model(torch.from_numpy(np.ascontiguousarray(batch)).to(self.device))
        except RuntimeError as error:
            raise EngineError(f"torch on {self.device} failed: {error}") from error
        return Prediction(*(t.cpu().numpy() for t in outputs))

    def close(self) -> None:
        """Nothing to free: torch owns its memory."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def pick_device(name: str) -> torch.device:
    """The torch device called `name`. Raises `ConfigError` when it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device: got {name!r}, expected 'auto', 'cpu' or 'cuda[:N]'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device: got {name!r}, but torch finds no CUDA device here; use --device cpu")
    return device
