"""Telling pictures of each product, with heatmaps on the fixed scale."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cada_edge.evaluation.masks import united_mask
from cada_edge.evaluation.operating import OperatingPoint
from cada_edge.evaluation.results import Evaluation
from cada_edge.heatmap import LIMIT, colours, overlay
from cada_edge.imaging import read_image
from cada_edge.types import Float32Array, ImageSpec, UInt8Array

SIDE_PX = 190
_OUTLINE_RGB = (255, 255, 255)


@dataclass(frozen=True)
class Tile:
    """One picture of the gallery.

    Attributes:
        role: why it is shown, for instance ``weakest defect``.
        outcome: what the threshold makes of it: ``passed``, ``false reject``, ``caught`` or ``missed``.
        right: whether that is the right outcome; None without a threshold.
        score: CADA-aligned.
        name: path below the data root.
        picture: the picture and its heatmap side by side, a data URI.
    """

    role: str
    outcome: str
    right: bool | None
    score: float
    name: str
    picture: str


def gallery(
    evaluation: Evaluation, root: Path, spec: ImageSpec, point: OperatingPoint | None
) -> dict[str, tuple[Tile, ...]]:
    """Up to five tiles per product: the good part nearest to rejection, a typical one, and defects.

    Masks are outlined in white where there are any. Raises `DataError` for a picture that
    can no longer be read.
    """
    thresholds = {rates.product: rates.threshold for rates in point.products} if point else {}
    return {
        product: tuple(
            _tile(evaluation, root, spec, pick, thresholds.get(product)) for pick in _picks(evaluation, product)
        )
        for product in sorted({image.product for image in evaluation.images})
    }


def _picks(evaluation: Evaluation, product: str) -> list[tuple[str, int]]:
    """(role, row) of the images to show, each row once."""
    good, bad = (
        sorted(
            (
                row
                for row, image in enumerate(evaluation.images)
                if image.product == product and (image.defect is not None) == defective
            ),
            key=lambda row: (evaluation.images[row].scores["cada"] or 0.0, row),
        )
        for defective in (False, True)
    )
    picks: dict[int, str] = {}
    if good:
        picks[good[-1]] = "highest good"
        picks.setdefault(good[len(good) // 2], "typical good")
    if bad:
        picks[bad[-1]] = "strongest defect"
        picks.setdefault(bad[0], "weakest defect")
        picks.setdefault(bad[len(bad) // 2], "median defect")
    order = ("highest good", "typical good", "strongest defect", "median defect", "weakest defect")
    return sorted(((role, row) for row, role in picks.items()), key=lambda pick: order.index(pick[0]))


def _tile(evaluation: Evaluation, root: Path, spec: ImageSpec, pick: tuple[str, int], threshold: float | None) -> Tile:
    role, row = pick
    image = evaluation.images[row]
    score = float(image.scores["cada"] or 0.0)
    rejected = None if threshold is None else score > threshold
    words = {(False, False): "passed", (False, True): "false reject", (True, True): "caught", (True, False): "missed"}
    defective = image.defect is not None
    return Tile(
        role=role if image.defect is None else f"{role}: {image.defect}",
        outcome="" if rejected is None else words[defective, rejected],
        right=None if rejected is None else rejected == defective,
        score=score,
        name=image.name,
        picture=_picture(root / image.name, [root / mask for mask in image.masks], evaluation.maps[row], spec),
    )


def _picture(path: Path, masks: Sequence[Path], cells: Float32Array, spec: ImageSpec) -> str:
    image = read_image(path)
    heat = overlay(image, cells, spec, LIMIT)
    both = [_shrink(image), _shrink(heat)]
    if masks:
        scale = both[1].shape[1] / image.shape[1]
        united = united_mask(masks, image.shape[:2]).astype(np.uint8)
        contours, _ = cv2.findContours(united, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        outlines = [np.rint(contour * scale).astype(np.int32) for contour in contours]
        cv2.drawContours(both[1], outlines, -1, _OUTLINE_RGB, 1, cv2.LINE_AA)
    gap = np.full((both[0].shape[0], 3, 3), 255, np.uint8)
    return data_uri(np.hstack([both[0], gap, both[1]]))


def _shrink(image: UInt8Array) -> UInt8Array:
    scale = SIDE_PX / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.array(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), np.uint8)


def data_uri(image: UInt8Array, kind: str = "jpg") -> str:
    """uint8 (H, W, 3) RGB as a data URI, JPEG or PNG."""
    _, content = cv2.imencode(f".{kind}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return f"data:image/{'jpeg' if kind == 'jpg' else kind};base64," + base64.b64encode(content.tobytes()).decode()


def scale_bar() -> str:
    """The heatmaps' colour scale, 0 to `LIMIT`, left to right: a data URI."""
    ramp = np.linspace(0, LIMIT, 240, dtype=np.float32)
    return data_uri(colours(np.repeat(ramp[None], 12, axis=0), LIMIT), "png")
