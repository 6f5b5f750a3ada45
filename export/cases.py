"""What a reduced graph is tried on: held-out good images, each also with painted damage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cada_edge.data.dataset import Item
from cada_edge.data.flaws import SURFACE, mar
from cada_edge.data.paint import Flaw
from cada_edge.imaging import prepare, read_image
from cada_edge.types import ImageSpec, UInt8Array

_KINDS = tuple(sorted(SURFACE))
_TRIES = 8
_VISIBLE = 12  # grey levels


@dataclass(frozen=True)
class Case:
    """One image to judge.

    Attributes:
        item: the image.
        flaw: kind of damage painted on it; empty for none.
    """

    item: Item
    flaw: str = ""

    @property
    def name(self) -> str:
        """File name and, where there is one, the damage."""
        return f"{self.item.path.name} + {self.flaw}" if self.flaw else self.item.path.name

    @property
    def defective(self) -> bool:
        """Whether it shows a defect, painted or real."""
        return bool(self.flaw) or self.item.defect is not None

    def picture(self, spec: ImageSpec) -> UInt8Array:
        """uint8 (H, W, 3) of `spec.size_hw`; the same on every call. Raises `DataError`."""
        image = prepare(read_image(self.item.path), spec)
        return damaged(image, self.flaw, int(self.item.sha256[:8], 16)) if self.flaw else image


def cases_of(items: Sequence[Item]) -> list[Case]:
    """Each item as it is and, beside it, damaged; kinds of damage take turns."""
    return [Case(item, flaw) for i, item in enumerate(items) for flaw in ("", _KINDS[i % len(_KINDS)])]


def batches(cases: Sequence[Case], spec: ImageSpec, size: int) -> Iterator[tuple[Sequence[Case], UInt8Array]]:
    """`size` cases at a time, and their pictures, uint8 (N, H, W, 3)."""
    for start in range(0, len(cases), size):
        chunk = cases[start : start + size]
        yield chunk, np.stack([case.picture(spec) for case in chunk])


def damaged(image: UInt8Array, kind: str, seed: int) -> UInt8Array:
    """`image`, uint8 (H, W, 3), with one flaw of `kind` somewhere on it; the same for the same seed."""
    side = max(image.shape[:2])
    clean = np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR), np.float32) / np.float32(255)
    region = np.full((side, side), 255, np.uint8)
    result = image
    for attempt in range(_TRIES):  # a stain on black changes nothing: try another place
        painted = mar(clean, Flaw(kind, (seed, attempt)), region)
        change = cv2.resize(painted - clean, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        result = np.clip(np.rint(image + 255 * change), 0, 255).astype(np.uint8)
        if np.any(np.abs(result.astype(np.int16) - image) > _VISIBLE):
            break
    return result


def made_up(spec: ImageSpec, count: int, seed: int) -> Iterator[tuple[str, UInt8Array]]:
    """Pictures no camera gives, uint8 (H, W, 3): black, white, then alternately noise and coarse blocks."""
    rng = np.random.default_rng(seed)
    height, width = spec.size_hw
    for i in range(count):
        if i < 2:
            image = np.full((height, width, 3), 255 * i, np.uint8)
        else:
            cell = 1 if i % 2 == 0 else 16
            coarse = rng.integers(0, 256, (height // cell, width // cell, 3), np.uint8)
            image = coarse.repeat(cell, axis=0).repeat(cell, axis=1)
        yield f"made-up-{i}", image
