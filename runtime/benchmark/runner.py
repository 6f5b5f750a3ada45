"""The model that is measured, with a note of when each call began and ended."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from cada_edge.bundle import Bundle
from cada_edge.errors import BundleError
from cada_edge.protocols import Runner
from cada_edge.types import ImageSpec, MapSpec, Prediction, Threshold, UInt8Array

if TYPE_CHECKING:
    from typing_extensions import Self


def threshold_of(bundle: Bundle, path: Path) -> Threshold:
    """The bundle's threshold. Raises `BundleError` without one: there would be no decision to time."""
    threshold = bundle.manifest.threshold
    if threshold is None:
        raise BundleError(f"{path} has no threshold, so nothing is decided; run `cada-edge calibrate` first")
    return threshold


class TimedRunner:
    """A `Runner` that keeps the times of its calls, the newest `keep`."""

    def __init__(self, runner: Runner, keep: int = 1) -> None:
        self._runner = runner
        self.spans: deque[tuple[int, int]] = deque(maxlen=keep)

    @property
    def spec(self) -> ImageSpec:
        """Of the runner."""
        return self._runner.spec

    @property
    def map_spec(self) -> MapSpec:
        """Of the runner."""
        return self._runner.map_spec

    def infer(self, batch: UInt8Array) -> Prediction:
        """As the runner, timed."""
        start_ns = time.monotonic_ns()
        found = self._runner.infer(batch)
        self.spans.append((start_ns, time.monotonic_ns()))
        return found

    def close(self) -> None:
        """Close the runner."""
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
