"""Good pictures of two products, a bundle that has seen some, a runner that reads brightness."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cada_edge.bundle import Bundle, Component, Manifest
from cada_edge.data.dataset import Dataset, scan
from cada_edge.imaging import write_png
from cada_edge.types import ImageSpec, MapSpec, Prediction, UInt8Array

SPEC = ImageSpec(size_hw=(32, 32))
MAP_SPEC = MapSpec(size_hw=(4, 4), smooth_taps=1)


class BrightnessRunner:
    """Scores a picture by its mean brightness; from 200 on it is novel, a white one breaks the model (NaN)."""

    spec = SPEC
    map_spec = MAP_SPEC

    def infer(self, batch: UInt8Array) -> Prediction:
        """As `Runner.infer`."""
        score = batch.mean(axis=(1, 2, 3)).astype(np.float32)
        score[score > 254] = np.nan
        maps = np.repeat(score, 16).reshape(-1, 4, 4)
        return Prediction(score, maps, np.zeros_like(score), np.ones_like(score), score / np.float32(200))

    def close(self) -> None:
        """Nothing to free."""

    def __enter__(self) -> BrightnessRunner:  # noqa: PYI034  # Python 3.10 has no typing.Self
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(scope="session")
def runner() -> BrightnessRunner:
    """A deterministic runner without weights."""
    return BrightnessRunner()


def _write(folder: Path, count: int, base: int) -> None:
    """`count` different pictures of about brightness `base`."""
    folder.mkdir(parents=True)
    for index in range(count):
        image = np.full((16, 16, 3), base, np.uint8)
        image[: index // 2 + 1, :, index % 3] += 1 + index % 2
        write_png(folder / f"{index}.png", image)


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Sixty different good pictures: thirty dark bolts, thirty brighter caps."""
    root = tmp_path_factory.mktemp("good")
    _write(root / "bolt", 30, 40)
    _write(root / "cap", 30, 90)
    return scan(root)


@pytest.fixture
def bundle(good: Dataset) -> Bundle:
    """Trained on the first third (fit) and the second (align) of every product."""
    digests = [item.sha256 for item in good.items]
    roles = {"fit": sorted(digests[::3]), "align": sorted(digests[1::3]), "calibrate": sorted(digests[2::3])}
    manifest = Manifest(SPEC, MAP_SPEC, Component("brightness", {}), Component("none", {}))
    return Bundle(manifest, {"images.json": json.dumps({"schema": 1, "roles": roles}).encode()})


Parts = Callable[[int, int], Dataset]


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """Makes a folder of so many different good pictures of about this brightness."""

    def make(count: int, base: int) -> Dataset:
        folder = tmp_path / f"parts_{base}"
        _write(folder, count, base)
        return scan(folder)

    return make


@pytest.fixture
def source(bundle: Bundle, runner: BrightnessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle on disk; `cada-edge calibrate` runs it through the weightless runner."""
    monkeypatch.setattr("cada_edge.cli.calibrate.open_runner", lambda *_: runner)
    bundle.write(tmp_path / "line.cada")
    return tmp_path / "line.cada"
