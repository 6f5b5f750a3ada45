"""Small drawn pictures and masks, written in the format that their name asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cada_edge.types import UInt8Array

SIDE_PX = 24


def part(tone: int) -> UInt8Array:
    """A bright ring on a dark ground, uint8 (24, 24, 3); each tone is another picture."""
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX] - SIDE_PX // 2
    ring = np.abs(np.hypot(rows, columns) - 8) < 3
    return np.repeat(np.where(ring, 250 - tone, tone).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture
def draw(tmp_path: Path) -> Callable[[Iterable[str]], None]:
    """Draw one picture for each path below the test's folder, all different."""
    drawn: list[str] = []

    def write(paths: Iterable[str]) -> None:
        for path in paths:
            drawn.append(path)
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(part(len(drawn))).save(tmp_path / path)

    return write


@pytest.fixture
def mask(tmp_path: Path) -> Callable[..., None]:
    """Draw a mask: ``mask(path, rows, value=255)`` marks these rows with this value."""

    def write(path: str, rows: slice, value: int = 255) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        pixels[rows] = value
        Image.fromarray(pixels).save(tmp_path / path)

    return write
