"""Run a runner over image files: what calibration and evaluation have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cada_edge.data.dataset import Item
from cada_edge.errors import ConfigError, DataError, EngineError
from cada_edge.imaging import prepare, read_image
from cada_edge.protocols import Runner
from cada_edge.types import Prediction

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Judged:
    """Items and what the model said of them, row by row.

    Attributes:
        items: N items.
        prediction: N rows, every number finite.
        sizes_hw: N pairs, height and width of each picture as stored, pixels.
    """

    items: tuple[Item, ...]
    prediction: Prediction
    sizes_hw: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.items)

    def take(self, rows: Sequence[int]) -> Judged:
        """These rows only, in this order."""
        return Judged(
            tuple(self.items[row] for row in rows),
            self.prediction.take(rows),
            tuple(self.sizes_hw[row] for row in rows),
        )


def judge(runner: Runner, items: Sequence[Item], batch_size: int, progress: Progress | None = None) -> Judged:
    """Read, prepare and infer `items` in order, `batch_size` at a time.

    `progress` is called with (done, total) after each batch. Only low-resolution maps are
    kept, not pictures.

    Raises:
        ConfigError: `batch_size` < 1.
        DataError: no items, or a picture that cannot be read.
        EngineError: a score or map that is not finite; names the picture.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size: got {batch_size}, expected an integer >= 1")
    if not items:
        raise DataError("there are no images to judge")
    parts: list[Prediction] = []
    sizes: list[tuple[int, int]] = []
    for start in range(0, len(items), batch_size):
        chunk = items[start : start + batch_size]
        pictures = [read_image(item.path) for item in chunk]
        sizes += [(picture.shape[0], picture.shape[1]) for picture in pictures]
        prediction = runner.infer(np.stack([prepare(picture, runner.spec) for picture in pictures]))
        _check_finite(chunk, prediction)
        parts.append(prediction)
        if progress is not None:
            progress(start + len(chunk), len(items))
    return Judged(tuple(items), Prediction.concatenate(parts), tuple(sizes))


def _check_finite(items: Sequence[Item], prediction: Prediction) -> None:
    if len(prediction) != len(items):
        raise EngineError(f"runner returned {len(prediction)} predictions for {len(items)} images")
    bad = np.flatnonzero(~prediction.finite())
    if len(bad):
        raise EngineError(
            f"{items[bad[0]].path}: the model's score or map is not finite, so it cannot be trusted; "
            "export or train the bundle again"
        )
