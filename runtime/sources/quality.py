"""Whether a whole picture is fit to be judged: not too dark, too bright, blurred or frozen."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import cv2
import numpy as np

from cada_edge.runtime.sources.config import QualityConfig
from cada_edge.types import Frame, UInt8Array

_SIDE_PX, _CLIPPED = 256, 250


@dataclass(frozen=True)
class Quality:
    """What is measured of a picture, in grey, on a grid of its pixels whose longer side is 256 to 511
    (less where the camera gives less).

    Attributes:
        brightness: mean grey, 0..255.
        clipped: share of pixels at 250 and more, 0..1.
        sharpness: variance of the Laplacian (Pech-Pacheco et al. 2000), >= 0; falls when
            focus is lost, grows with contrast: compare pictures of one scene only.
        fingerprint: CRC-32 of these pixels; equal for equal pictures.
    """

    brightness: float
    clipped: float
    sharpness: float
    fingerprint: int


def measure(image: UInt8Array) -> Quality:
    """Measure uint8 (H, W, 3) RGB, any size; 0.3 ms on a PC's core at 256 px, 0.5 ms at any size."""
    small = _reduced(image)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    return Quality(
        brightness=float(cv2.mean(grey)[0]),
        clipped=float(np.count_nonzero(grey >= _CLIPPED) / grey.size),
        sharpness=float(deviation[0, 0] ** 2),
        fingerprint=zlib.crc32(small.data),
    )


def _reduced(image: UInt8Array) -> UInt8Array:
    """The picture with its longer side below 512 px: pixels on a grid; means cost ten times more and hide noise."""
    factor = max(image.shape[:2]) // _SIDE_PX
    if factor < 2:
        return np.ascontiguousarray(image)
    size = (max(1, image.shape[1] // factor), max(1, image.shape[0] // factor))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST), np.uint8)


class QualityGate:
    """Marks frames whose picture is poor. Remembers the last picture of one source. For one thread.

    Args:
        config: the limits.
        live: whether the source is a camera that never takes the same picture twice: what
            `frozen` is where the settings do not say.
    """

    def __init__(self, config: QualityConfig, live: bool) -> None:
        self._config, self._last = config, -1
        self._frozen = live if config.frozen is None else config.frozen

    def frame(self, frame: Frame) -> Frame:
        """The frame, its status ``poor`` and its note the reasons where the picture is."""
        if frame.image is None or frame.status != "ok":
            return frame
        reasons = self.reasons(measure(frame.image))
        return replace(frame, status="poor", note="; ".join(reasons)) if reasons else frame

    def reasons(self, quality: Quality) -> list[str]:
        """What is wrong with the picture after the last one, in words with both values; empty if it is good."""
        config, repeated = self._config, quality.fingerprint == self._last
        self._last = quality.fingerprint
        found = [
            _below("too dark: brightness", quality.brightness, config.min_brightness),
            _above("too bright: brightness", quality.brightness, config.max_brightness),
            _above("too bright: clipped share", quality.clipped, config.max_clipped),
            _below("blurred: sharpness", quality.sharpness, config.min_sharpness),
            "frozen: the same picture again" if self._frozen and repeated else "",
        ]
        return [words for words in found if words]


def _below(what: str, value: float, limit: float) -> str:
    return f"{what} {value:.3g} is below {limit:.3g}" if value < limit else ""


def _above(what: str, value: float, limit: float) -> str:
    return f"{what} {value:.3g} is above {limit:.3g}" if value > limit else ""
