"""Seeded variation of good images, in the pixels of the model's input."""

from __future__ import annotations

import cv2
import numpy as np

from cada_edge.training.config import AugmentConfig
from cada_edge.types import UInt8Array


def augment(image: UInt8Array, config: AugmentConfig, rng: np.random.Generator) -> UInt8Array:
    """One variation: uint8 (H, W, 3) to the same. Edges are replicated, never black."""
    height, width = image.shape[:2]
    angle = rng.uniform(-config.rotate_deg, config.rotate_deg)
    shift = rng.uniform(-config.shift, config.shift, size=2) * (width, height)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    matrix = np.asarray(matrix, np.float64) + np.array([[0, 0, shift[0]], [0, 0, shift[1]]])
    moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if config.flip_horizontal and rng.random() < 0.5:
        moved = moved[:, ::-1]
    if config.flip_vertical and rng.random() < 0.5:
        moved = moved[::-1]
    gain = 1.0 + rng.uniform(-config.contrast, config.contrast)
    offset = 255.0 * 0.5 * rng.uniform(-config.brightness, config.brightness)
    mean = float(moved.mean())
    lit = (moved.astype(np.float32) - mean) * gain + mean + offset
    return np.asarray(np.clip(np.rint(lit), 0, 255), np.uint8)
