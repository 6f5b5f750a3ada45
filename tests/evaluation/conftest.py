"""A tiny line of two or three products, and a runner that needs no weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cada_edge.alignment import image_score, normalise
from cada_edge.bundle import Bundle, Component, Manifest
from cada_edge.data.dataset import Dataset, scan
from cada_edge.imaging import write_png
from cada_edge.types import ImageSpec, MapSpec, Prediction, UInt8Array

SPEC = ImageSpec(size_hw=(32, 32))
MAP_SPEC = MapSpec(size_hw=(8, 8), smooth_taps=1, top_fraction=0.05)


class PixelRunner:
    """Anomaly map = how far red departs from 128, in 4 x 4 blocks; green and blue tell u and gamma."""

    spec = SPEC
    map_spec = MAP_SPEC

    def infer(self, batch: UInt8Array) -> Prediction:
        """As `Runner.infer`."""
        blocks = np.abs(batch[..., 0].astype(np.float32) - 128).reshape(len(batch), 8, 4, 8, 4).mean(axis=(2, 4))
        u = np.median(batch[..., 1], axis=(1, 2)).astype(np.float32)
        gamma = np.maximum(np.median(batch[..., 2], axis=(1, 2)), u + 1).astype(np.float32)
        maps = normalise(blocks.astype(np.float32), u, gamma)
        return Prediction(image_score(maps, MAP_SPEC), maps, u, gamma, np.zeros_like(u))

    def close(self) -> None:
        """Nothing to free."""

    def __enter__(self) -> PixelRunner:  # noqa: PYI034  # Python 3.10 has no typing.Self
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(scope="session")
def runner() -> PixelRunner:
    """A deterministic runner that scores pixel statistics."""
    return PixelRunner()


def picture(rng: np.random.Generator, level: int, *, defect: bool) -> tuple[UInt8Array, UInt8Array]:
    """A 32 x 32 part whose normal map is about `level`, and its mask; a defect adds half a level."""
    image = np.empty((32, 32, 3), np.uint8)
    image[..., 0] = 128 + rng.integers(level - 3, level + 4, (32, 32))
    image[..., 1], image[..., 2] = level - 2, level + 4
    mask = np.zeros((32, 32), np.uint8)
    if defect:
        image[8:16, 12:20, 0] += level // 2
        mask[8:16, 12:20] = 255
    return image, mask


def make_product(root: Path, name: str, level: int, *, train: int = 30, good: int = 12, bad: int = 12) -> None:
    """Write one product in MVTec layout; `level` is the height of its normal anomaly map."""
    rng = np.random.default_rng(level)
    for folder, count in (("train/good", train), ("test/good", good), ("test/hole", bad)):
        home, masks = root / name / folder, root / name / "ground_truth/hole"
        home.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image, mask = picture(rng, level, defect=folder == "test/hole")
            write_png(home / f"{index:03}.png", image)
            if folder == "test/hole":
                masks.mkdir(parents=True, exist_ok=True)
                write_png(masks / f"{index:03}_mask.png", mask)


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three products whose normal levels lie further apart than a defect reaches."""
    root = tmp_path_factory.mktemp("line")
    for name, level in (("bolt", 12), ("cap", 40), ("disc", 80)):
        make_product(root, name, level)
    return scan(root)


@pytest.fixture(scope="session")
def make_bundle() -> Callable[[Dataset], Bundle]:
    """Build a bundle that calls every third training image fit, align, calibrate."""

    def build(dataset: Dataset) -> Bundle:
        roles: dict[str, list[str]] = {"fit": [], "align": [], "calibrate": []}
        for index, item in enumerate(dataset.train()):
            roles[("fit", "align", "calibrate")[index % 3]].append(item.sha256)
        document = {"schema": 1, "roles": {role: sorted(digests) for role, digests in roles.items()}}
        manifest = Manifest(SPEC, MAP_SPEC, Component("pixels", {}), Component("pixels", {}))
        return Bundle(manifest, {"images.json": json.dumps(document).encode()})

    return build


@pytest.fixture
def digest() -> Callable[[str], str]:
    """sha256 of a text, for made-up items."""
    return lambda text: hashlib.sha256(text.encode()).hexdigest()
