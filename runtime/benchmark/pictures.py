"""Pictures to measure with: a folder's, or made-up ones of the same seed everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cada_edge.errors import DataError
from cada_edge.imaging import read_image, write_png
from cada_edge.runtime.sources.folder import SUFFIXES
from cada_edge.types import UInt8Array

MADE_UP, SIDE_PX, MOST = 8, 512, 512


@contextmanager
def pictures(folder: Path | None, seed: int) -> Iterator[list[Path]]:
    """Paths of at least one picture: of `folder`, in order, or made up for as long as the block runs.

    Raises `DataError` where the folder has none, or one that cannot be read.
    """
    if folder is not None:
        yield _found(folder)
        return
    with TemporaryDirectory(prefix="cada-edge-benchmark-") as name:
        rng = np.random.default_rng(seed)
        paths = [Path(name) / f"{i}.png" for i in range(MADE_UP)]
        for path in paths:
            write_png(path, made_up(rng))
        yield paths


def made_up(rng: np.random.Generator, side_px: int = SIDE_PX) -> UInt8Array:
    """uint8 (side_px, side_px, 3): smooth shades with a little sensor noise, so that a PNG of it packs as a photo's."""
    coarse = np.kron(rng.uniform(40, 200, (8, 8, 3)), np.ones((side_px // 8, side_px // 8, 1)))
    noise = rng.normal(0, 2, (side_px, side_px, 1))
    return np.asarray(np.clip(coarse + noise, 0, 255), np.uint8)


def _found(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check --images")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())[:MOST]
    if not paths:
        raise DataError(f"{folder}: no picture in it; expected files ending in {', '.join(sorted(SUFFIXES))}")
    for path in paths:
        read_image(path)  # a bad one is found before anything is timed
    return paths
