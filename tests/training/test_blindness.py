"""The head is blind to defects: what is pasted on a part hardly moves the (u, gamma) predicted for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from cada_edge.bundle import Bundle
from cada_edge.data.dataset import Dataset, Item, scan
from cada_edge.imaging import prepare, read_image
from cada_edge.models import TorchRunner
from cada_edge.training import TrainConfig, train
from cada_edge.types import UInt8Array

# Side of the pasted patch as a share of the picture's: 24, 48 and 72 px of 256.
SIDES = (24 / 256, 48 / 256, 72 / 256)
Float64Array = npt.NDArray[np.float64]


def pasted(images: UInt8Array, side_px: int, rng: np.random.Generator) -> UInt8Array:
    """Each picture with a square of another one, of whatever product, somewhere on it: the harshest of defects."""
    out: UInt8Array = images.copy()
    for image, source in zip(out, images[rng.permutation(len(images))], strict=True):
        (y, x), (row, column) = rng.integers(0, len(image) - side_px + 1, (2, 2))
        image[y : y + side_px, x : x + side_px] = source[row : row + side_px, column : column + side_px]
    return out


def logs(runner: TorchRunner, images: UInt8Array) -> Float64Array:
    """log u and log (gamma - u), float64 (N, 2)."""
    found = runner.infer(images)
    return np.asarray(np.log(np.stack([found.u, found.gamma - found.u], axis=1).astype(np.float64)))


def movement(bundle: Bundle, items: Sequence[Item]) -> Float64Array:
    """Mean movement of log u and log (gamma - u) per patch size, in standard deviations between products: (3, 2)."""
    rng = np.random.default_rng(0)
    with TorchRunner(bundle, "cpu") as runner:
        images = np.stack([prepare(read_image(item.path), runner.spec) for item in items])
        clean = logs(runner, images)
        names = np.array([item.product for item in items])
        spread = np.std([clean[names == name].mean(axis=0) for name in np.unique(names)], axis=0)
        sides_px = [round(side * len(images[0])) for side in SIDES]
        moved = [np.abs(logs(runner, pasted(images, side, rng)) - clean).mean(axis=0) for side in sides_px]
    relative: Float64Array = np.stack(moved) / spread
    return relative


def test_a_pasted_defect_hardly_moves_the_head(trained: Bundle, tiny_line: Dataset) -> None:
    """Patches of 24 to 72 px of 256 move (u, gamma) by less than half the spread between drawn products."""
    assert movement(trained, [item for item in tiny_line.test() if item.defect is None]).max() < 1 / 2


@pytest.mark.real
def test_a_defect_pasted_on_real_parts_hardly_moves_the_head(
    real_data: Path, small: TrainConfig, tmp_path: Path
) -> None:
    """On real products, two dozen pictures each, the same patches move it by less than a third of the spread."""
    dataset = scan(real_data)
    names = dataset.products()[:4]
    learn = [item for name in names for item in [i for i in dataset.train() if i.product == name][:24]]
    bundle = train(small, tuple(learn), tmp_path / "work", lambda stage, done, total: None)
    assert bundle is not None
    good = [item for item in dataset.test() if item.defect is None]
    shown = [item for name in names for item in [i for i in good if i.product == name][:10]]
    assert movement(bundle, shown).max() < 1 / 3
