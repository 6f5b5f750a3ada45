"""From the camera's picture to the one that is judged: region, flat field, rotation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from cada_edge.errors import DataError
from cada_edge.imaging import read_image
from cada_edge.runtime.sources.config import Roi, Rotation
from cada_edge.types import Float32Array, Frame, UInt8Array

MAX_GAIN = 4.0

_TURNS: dict[int, int] = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}


def flat_field_gain(scene: UInt8Array) -> Float32Array:
    """Gain of each pixel and channel that would make the empty scene even.

    Args:
        scene: uint8 (H, W, 3) RGB of the empty scene.

    Returns:
        float32 (H, W, 3) within 1 / `MAX_GAIN` .. `MAX_GAIN`: the channel's mean over the
        pixel. The colour of the whole picture stays what it is.

    Raises:
        DataError: darker than 16 or brighter than 250 on average: no picture to divide by.
    """
    mean = scene.reshape(-1, 3).mean(axis=0)
    if mean.min() < 16 or mean.max() > 250:
        shown = ", ".join(f"{value:.0f}" for value in mean)
        raise DataError(
            f"flat field: mean of red, green, blue is {shown}, expected 16..250; record it with the lamp on"
        )
    gain = mean.astype(np.float32) / np.maximum(scene, 1).astype(np.float32)
    return np.asarray(np.clip(gain, 1 / MAX_GAIN, MAX_GAIN), np.float32)


class Preparation:
    """Cuts out the region, evens the light, rotates; in this order. For one thread.

    Args:
        roi: region in the camera's pixels; everything where ``None``.
        rotate: degrees clockwise.
        flat_field: picture of the empty scene, of the camera's size.

    Raises:
        DataError: the flat field cannot be read or used.
    """

    def __init__(self, roi: Roi | None = None, rotate: Rotation = 0, flat_field: Path | None = None) -> None:
        self._roi, self._rotate = roi, rotate
        self._scene = None if flat_field is None else read_image(flat_field)
        self._gain: Float32Array | None = None
        if self._scene is not None and flat_field is not None:
            try:
                self._gain = flat_field_gain(self._cut(self._scene))
            except DataError as error:
                raise DataError(f"{flat_field}: {error}") from error

    def frame(self, frame: Frame) -> Frame:
        """The frame with its picture prepared; ``incomplete`` where the picture does not fit the settings."""
        if frame.image is None:
            return frame
        try:
            return replace(frame, image=self(frame.image))
        except DataError as error:
            return replace(frame, image=None, status="incomplete", note=str(error))

    def __call__(self, image: UInt8Array) -> UInt8Array:
        """uint8 (H, W, 3) to uint8 (h, w, 3); the input is left as it is.

        Raises `DataError` when region or flat field do not fit the picture.
        """
        if self._scene is not None and self._scene.shape != image.shape:
            raise DataError(f"flat field is {_size(self._scene)} px, the picture {_size(image)}; record it anew")
        part = self._cut(image)
        if self._gain is not None:
            part = np.asarray(cv2.multiply(part, self._gain, dtype=cv2.CV_8U), np.uint8)
        return part if self._rotate == 0 else np.asarray(cv2.rotate(part, _TURNS[self._rotate]), np.uint8)

    def _cut(self, image: UInt8Array) -> UInt8Array:
        if (roi := self._roi) is None:
            return image
        height, width = image.shape[:2]
        if roi.x + roi.width > width or roi.y + roi.height > height:
            raise DataError(
                f"roi reaches to x {roi.x + roi.width}, y {roi.y + roi.height}, "
                f"the picture is {_size(image)} px; set a smaller roi"
            )
        return np.ascontiguousarray(image[roi.y : roi.y + roi.height, roi.x : roi.x + roi.width])


def mean_picture(images: list[UInt8Array]) -> UInt8Array:
    """The mean of pictures of one size, uint8 (H, W, 3): a flat field without the camera's noise.

    Raises `DataError` for no picture, or sizes that differ.
    """
    sizes = {image.shape for image in images}
    if len(sizes) != 1:
        raise DataError(f"flat field: got pictures of sizes {sorted(sizes)}, expected at least one, all of one size")
    total: npt.NDArray[np.uint64] = np.zeros(sizes.pop(), np.uint64)
    for image in images:
        total += image
    return np.asarray(np.rint(total / len(images)), np.uint8)


def _size(image: UInt8Array) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
