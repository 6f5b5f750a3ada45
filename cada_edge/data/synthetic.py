"""A production line by procedure: several products, good and defective, with exact masks.

For demos and tests, where no pictures of a real line are at hand. The products differ in
how much their good parts differ (a glass mouth is smooth, a fabric never the same twice),
so their raw anomaly scores stand on different scales, as on a real line.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from cada_edge import imaging
from cada_edge.data import paint, wares_flat, wares_round
from cada_edge.data.dataset import Dataset, scan
from cada_edge.data.paint import Flaw
from cada_edge.errors import ConfigError, DataError
from cada_edge.types import Float32Array, UInt8Array

_VISIBLE = 0.035  # difference of grey a defect must make, of 1
_MIN_AREA = 0.0004  # of the picture: about 26 px at 256 px
_TRIES = 50

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Product:
    """One kind of part.

    Attributes:
        name: folder name.
        flaws: kinds of defect it is known to have.
        draw: (generator, flaw, size) to a canvas, float32 (size, size, 3).
        unevenness: how much the light varies from picture to picture, of 1.
        grain: sensor noise, of 1.
    """

    name: str
    flaws: tuple[str, ...]
    draw: Callable[[np.random.Generator, Flaw, int], Float32Array]
    unevenness: float
    grain: float


PRODUCTS = (
    Product("gear", ("missing_tooth", "scratch", "stain", "dent"), wares_round.gear, 0.12, 0.006),
    Product("fabric", ("broken_thread", "hole", "stain", "hair"), wares_flat.fabric, 0.12, 0.008),
    Product("glass", ("chip", "crack", "dirt", "hair"), wares_round.glass, 0.06, 0.005),
    Product("board", ("missing_part", "open_trace", "bridge", "stain", "dirt"), wares_flat.board, 0.10, 0.006),
    Product("capsules", ("missing", "wrong_colour", "broken", "crack", "dirt"), wares_flat.capsules, 0.08, 0.006),
    Product("cap", ("misprint", "wrong_colour", "scratch", "dent"), wares_round.cap, 0.10, 0.006),
)


@dataclass(frozen=True)
class SynthConfig:
    """What to make.

    Attributes:
        products: how many of `PRODUCTS`, in that order, 1..6.
        train: good training images per product, >= 1.
        test_good: good test images per product, >= 0.
        test_defect: defective test images per product, >= 0, kinds in turn.
        size_px: side of the square images, 64..1024.
        seed: same seed, same bytes (with the same library versions), >= 0.
    """

    products: int = 4
    train: int = 60
    test_good: int = 20
    test_defect: int = 20
    size_px: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "products": (1, len(PRODUCTS)),
            "train": (1, 100_000),
            "test_good": (0, 100_000),
            "test_defect": (0, 100_000),
            "size_px": (64, 1024),
            "seed": (0, 2**63 - 1),
        }
        for field in fields(self):
            value, (low, high) = getattr(self, field.name), limits[field.name]
            if not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"SynthConfig.{field.name}: got {value!r}, expected an integer in {low}..{high}")


class Shot(NamedTuple):
    """One picture to take: where it goes in the folder tree and what it shows."""

    product: Product
    folder: str
    number: int
    flaw: str
    seed: tuple[int, ...]


def synthesize(config: SynthConfig, out: Path, progress: Progress | None = None) -> Dataset:
    """Make a data set in MVTec AD layout, whole or not at all.

    Args:
        config: what to make.
        out: a folder that does not exist yet or is empty.
        progress: called with (done, total) after each image.

    Returns:
        the finished folder, scanned.

    Raises:
        DataError: `out` is not empty or cannot be written; nothing is left half-made.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists and is not an empty folder; name a new one or empty it first")
    shots = tuple(plan(config))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
        try:
            for done, shot in enumerate(shots, start=1):
                _write(fresh / shot.product.name, shot, config.size_px)
                if progress is not None:
                    progress(done, len(shots))
            fresh.chmod(0o755)
            fresh.replace(out)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    except OSError as error:
        raise DataError(f"{out}: cannot write the data set: {error.strerror or error}") from error
    return scan(out)


def plan(config: SynthConfig) -> Iterator[Shot]:
    """Every picture of a data set, in writing order."""
    for index, product in enumerate(PRODUCTS[: config.products]):
        goods = (("train/good", config.train), ("test/good", config.test_good))
        for split, (folder, count) in enumerate(goods):
            for number in range(count):
                yield Shot(product, folder, number, "", (config.seed, index, split, number))
        for turn in range(config.test_defect):
            flaw = product.flaws[turn % len(product.flaws)]
            number = turn // len(product.flaws)
            yield Shot(product, f"test/{flaw}", number, flaw, (config.seed, index, 2, turn))


def shoot(product: Product, flaw: str, size_px: int, seed: tuple[int, ...]) -> tuple[UInt8Array, npt.NDArray[np.bool_]]:
    """Take one picture.

    Args:
        product: what to draw.
        flaw: one of ``product.flaws``, or empty for a good part.
        size_px: side of the picture.
        seed: everything random follows from it.

    Returns:
        uint8 (size_px, size_px, 3) RGB and the defect's mask, bool (size_px, size_px): the
        pixels that the same part without the flaw would show differently.
    """
    good = _scene(product, Flaw(), size_px, seed)
    sensor = np.random.default_rng((*seed, 1))
    if not flaw:
        return paint.expose(good, sensor, product.grain), np.zeros(good.shape[:2], np.bool_)
    for attempt in range(_TRIES):
        bad = _scene(product, Flaw(flaw, (*seed, 2, attempt)), size_px, seed)
        mask = _difference(good, bad)
        if mask.mean() >= _MIN_AREA:
            return paint.expose(bad, sensor, product.grain), mask
    raise DataError(f"{product.name}/{flaw}: no visible defect in {_TRIES} tries at {size_px} px; use a larger size")


def _scene(product: Product, flaw: Flaw, size_px: int, seed: tuple[int, ...]) -> Float32Array:
    rng = np.random.default_rng((*seed, 0))
    return paint.light(product.draw(rng, flaw, size_px), rng, product.unevenness)


def _difference(good: Float32Array, bad: Float32Array) -> npt.NDArray[np.bool_]:
    """Visibly changed pixels, pinholes closed: bool (S, S)."""
    changed = np.abs(np.clip(good, 0, 1) - np.clip(bad, 0, 1)).max(axis=2) > _VISIBLE
    closed = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    return np.asarray(closed, np.bool_)


def _write(folder: Path, shot: Shot, size_px: int) -> None:
    image, mask = shoot(shot.product, shot.flaw, size_px, shot.seed)
    place = folder / shot.folder
    place.mkdir(parents=True, exist_ok=True)
    imaging.write_png(place / f"{shot.number:03d}.png", image, compress_level=1)  # noise does not pack
    if shot.flaw:
        truth = folder / "ground_truth" / shot.flaw
        truth.mkdir(parents=True, exist_ok=True)
        imaging.write_png(truth / f"{shot.number:03d}_mask.png", mask.astype(np.uint8) * np.uint8(255))
