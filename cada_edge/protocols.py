"""The seams of a running line: who runs the model, who gives frames, who takes verdicts.

Structural types: an adapter needs no base class, only these methods.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from cada_edge.errors import EngineError
from cada_edge.types import Frame, ImageSpec, MapSpec, Prediction, UInt8Array, Verdict

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` only from 3.11


def check_batch(batch: UInt8Array, spec: ImageSpec, size: int | None = None) -> None:
    """Raise `EngineError` unless `batch` is uint8 (N, H, W, 3) of `spec.size_hw`, N = `size` or, without it, >= 1.

    `size` is that of a graph which takes so many pictures at a time and no other number.
    """
    expected = (size or "N", *spec.size_hw, 3)
    is_batch = batch.dtype == np.uint8 and batch.ndim == 4 and batch.shape[1:] == expected[1:] and len(batch) >= 1
    if not is_batch:
        raise EngineError(
            f"batch is {batch.dtype} {batch.shape}, expected uint8 {expected}; use cada_edge.imaging.prepare"
        )
    if size not in (None, len(batch)):
        raise EngineError(
            f"batch is {batch.shape}, but this graph takes {size} {'picture' if size == 1 else 'pictures'} at a time, "
            f"{expected}; {_for_a_line(size)}"
        )


def _for_a_line(size: int | None) -> str:
    """What to do where a graph of a fixed number gets another."""
    if size == 1:
        return "set `batch: 1` in line.yaml"
    # However many are judged in one call, a picture that comes alone is judged alone.
    return f"set `batch: {size}` in line.yaml for full calls; a line needs a graph that also takes one: export it again"


@runtime_checkable
class Runner(Protocol):
    """Runs one bundle on one device. A context manager that owns its session and buffers."""

    @property
    def spec(self) -> ImageSpec:
        """Preprocessing the runner expects of its callers."""

    @property
    def map_spec(self) -> MapSpec:
        """Shape and reading of the maps it returns."""

    def infer(self, batch: UInt8Array) -> Prediction:
        """Judge a batch: uint8 (N, H, W, 3) RGB of `spec.size_hw`, N >= 1.

        The returned arrays belong to the caller; the runner keeps no view of them.
        Raises `EngineError` when the device fails.
        """

    def close(self) -> None:
        """Free the device. Safe to call twice."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class Source(Protocol):
    """Gives frames, oldest unseen first or newest only; its own docstring says which."""

    def frames(self) -> Iterator[Frame]:
        """Yield frames until the source ends. Raises `SourceError` when it breaks."""

    def healthy(self) -> bool:
        """False once no frame can be expected any more or the device has stalled."""

    def close(self) -> None:
        """Release the device; ends `frames`. Safe to call twice."""


@runtime_checkable
class Sink(Protocol):
    """Takes verdicts. A sink that fails never delays or alters another one's verdict."""

    def send(self, verdict: Verdict, frame: Frame, prediction: Prediction | None) -> None:
        """Publish one verdict. `prediction` holds this frame alone (N = 1). Raises `SinkError`."""

    def healthy(self) -> bool:
        """False while verdicts sent here would be lost."""

    def close(self) -> None:
        """Leave the safe state behind (reject) and release the device. Safe to call twice."""
