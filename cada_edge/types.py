"""The nouns that travel between stages: small, immutable, validated once.

Arrays are numpy. Times are ``time.monotonic_ns()`` unless a name says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from cada_edge.errors import ConfigError

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

ResizeRule = Literal["stretch", "letterbox"]
Status = Literal["ok", "ng", "undecided"]
FrameStatus = Literal["ok", "incomplete", "late", "poor"]
FusionMode = Literal["features", "distances"]

_RESIZE_RULES: tuple[ResizeRule, ...] = ("stretch", "letterbox")
_STATUSES: tuple[Status, ...] = ("ok", "ng", "undecided")
_MIN_SIDE_PX, _MAX_SIDE_PX = 32, 4096

# Below this, gamma - u is noise and the division would only amplify it. In units of the
# raw map (cosine distances: 0..2). The head and every backend clamp to the same value.
MIN_SPREAD = 1e-3

# Under the root of a cosine's norms: two vectors of zeros have distance 1, not NaN.
COSINE_FLOOR = 1e-12

# Novelty at which an image stops being like anything known; fixed by the head's own scaling.
NOVELTY_LIMIT = 1.0


def require(condition: bool, field: str, got: object, expected: str) -> None:
    """Raise `ConfigError` naming `field` unless `condition` holds."""
    if not condition:
        raise ConfigError(f"{field}: got {got!r}, expected {expected}")


def _finite(*values: object) -> bool:
    """True when all are plain numbers that a float holds: no bool, NaN or inf."""
    return all(_is_int(v) or (isinstance(v, float) and math.isfinite(v)) for v in values)


def _is_int(value: object, low: int = -(1 << 63), high: int = 1 << 63) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _has(value: object, count: int) -> bool:
    return isinstance(value, tuple) and len(value) == count


@dataclass(frozen=True)
class ImageSpec:
    """How a picture becomes the model's input: preprocessing as data.

    The resize happens outside the graph (`cada_edge.imaging.prepare`), giving uint8
    (H, W, 3) RGB; ``(x - mean) / std`` is compiled into the graph.

    Attributes:
        size_hw: input height and width, pixels, each in 32..4096 and a multiple of 32.
        mean: per RGB channel, in 0..255 units.
        std: per RGB channel, in 0..255 units, > 0.
        resize: ``stretch`` fills the input whatever the aspect ratio (products keep
            their own, constant, distortion); ``letterbox`` keeps the aspect ratio and
            pads with the mean colour.
    """

    size_hw: tuple[int, int] = (256, 256)
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    resize: ResizeRule = "stretch"

    def __post_init__(self) -> None:
        sides_fit = _has(self.size_hw, 2) and all(
            _is_int(side, _MIN_SIDE_PX, _MAX_SIDE_PX) and side % 32 == 0 for side in self.size_hw
        )
        sides = f"two multiples of 32 in {_MIN_SIDE_PX}..{_MAX_SIDE_PX}"
        require(sides_fit, "ImageSpec.size_hw", self.size_hw, sides)
        require(_has(self.mean, 3) and _finite(*self.mean), "ImageSpec.mean", self.mean, "3 numbers")
        std_fits = _has(self.std, 3) and _finite(*self.std) and min(self.std) > 0
        require(std_fits, "ImageSpec.std", self.std, "3 numbers > 0")
        require(self.resize in _RESIZE_RULES, "ImageSpec.resize", self.resize, f"one of {_RESIZE_RULES}")


@dataclass(frozen=True)
class MapSpec:
    """How a raw anomaly map becomes a score: the post-processing contract.

    Attributes:
        size_hw: height and width of the anomaly map, cells. Layer maps are bilinearly
            upsampled to it (half-pixel centres) before they are combined.
        smooth_taps: side of the Gaussian window, cells, odd; 1 switches smoothing off.
        smooth_sigma: standard deviation of the Gaussian, cells, > 0.
        top_fraction: the image score is the mean of this fraction of the highest cells,
            in (0, 1]; at least one cell is taken.
    """

    size_hw: tuple[int, int] = (64, 64)
    smooth_taps: int = 5
    smooth_sigma: float = 4.0
    top_fraction: float = 0.01

    def __post_init__(self) -> None:
        require(
            _has(self.size_hw, 2) and all(_is_int(side, 1, _MAX_SIDE_PX) for side in self.size_hw),
            "MapSpec.size_hw",
            self.size_hw,
            f"two integers in 1..{_MAX_SIDE_PX}",
        )
        longest = min(2 * min(self.size_hw) - 1, 31)
        taps_fit = _is_int(self.smooth_taps, 1, longest) and self.smooth_taps % 2 == 1
        require(taps_fit, "MapSpec.smooth_taps", self.smooth_taps, f"an odd integer in 1..{longest}")
        require(_finite(self.smooth_sigma) and self.smooth_sigma > 0, "MapSpec.smooth_sigma", self.smooth_sigma, "> 0")
        require(
            _finite(self.top_fraction) and 0 < self.top_fraction <= 1,
            "MapSpec.top_fraction",
            self.top_fraction,
            "a number in (0, 1]",
        )

    @property
    def top_k(self) -> int:
        """Number of cells the image score averages, >= 1."""
        cells = self.size_hw[0] * self.size_hw[1]
        return max(1, round(cells * self.top_fraction))


@dataclass(frozen=True)
class Prediction:
    """What every runner returns for a batch of N images.

    Attributes:
        score: float32 (N,), the aligned image score; 1.0 is about the highest a normal
            image of this kind reaches. Any real number; NaN and inf mean "do not trust".
        map: float32 (N, h, w), the aligned anomaly map, ``(S - u) / (gamma - u)``.
        u: float32 (N,), predicted mean of a normal image's anomaly map.
        gamma: float32 (N,), predicted maximum of a normal image's anomaly map, > u.
        novelty: float32 (N,), >= 0, distance of the image from everything the head was fitted
            on; above `NOVELTY_LIMIT` u and gamma are guesses, and no score excuses the image.
    """

    score: Float32Array
    map: Float32Array
    u: Float32Array
    gamma: Float32Array
    novelty: Float32Array

    def __post_init__(self) -> None:
        n = self.score.shape[0] if self.score.ndim == 1 else -1
        shapes = {f.name: getattr(self, f.name).shape for f in fields(self)}
        dtypes = {f.name: str(getattr(self, f.name).dtype) for f in fields(self)}
        require(
            n >= 0
            and self.u.shape == self.gamma.shape == self.novelty.shape == (n,)
            and self.map.ndim == 3
            and self.map.shape[0] == n,
            "Prediction",
            shapes,
            "score, u, gamma, novelty of shape (N,) and map of shape (N, h, w)",
        )
        require(set(dtypes.values()) == {"float32"}, "Prediction", dtypes, "float32 throughout")

    def __len__(self) -> int:
        return int(self.score.shape[0])

    @property
    def raw_score(self) -> Float32Array:
        """float32 (N,): the score before alignment, in the detector's own units."""
        return self.score * self._spread() + self.u

    @property
    def raw_map(self) -> Float32Array:
        """float32 (N, h, w): the anomaly map before alignment."""
        return self.map * self._spread()[:, None, None] + self.u[:, None, None]

    def _spread(self) -> Float32Array:
        return np.asarray(np.maximum(self.gamma - self.u, np.float32(MIN_SPREAD)), dtype=np.float32)

    def finite(self) -> npt.NDArray[np.bool_]:
        """bool (N,): rows in which every number is finite."""
        numbers = np.stack([self.score, self.u, self.gamma, self.novelty])
        ends = np.isfinite(self.map.min(axis=(1, 2))) & np.isfinite(self.map.max(axis=(1, 2)))  # NaN spreads to both
        return np.asarray(np.isfinite(numbers).all(axis=0) & ends)

    def novel(self) -> npt.NDArray[np.bool_]:
        """bool (N,): rows beyond the limit, or with a novelty that is NaN; never ``ok`` whatever their score."""
        return np.asarray(~(self.novelty <= NOVELTY_LIMIT))

    def guarded(self) -> npt.NDArray[np.bool_]:
        """bool (N,): rows whose gamma - u sits on `MIN_SPREAD`: their score is coarse."""
        rounding = np.float32(1e-6) * np.abs(self.gamma)  # u + MIN_SPREAD is not exact in float32
        return np.asarray(self.gamma - self.u <= np.float32(MIN_SPREAD) + rounding)

    def take(self, rows: Sequence[int]) -> Prediction:
        """These rows only, in this order."""
        index = list(rows)
        return Prediction(*(getattr(self, f.name)[index] for f in fields(self)))

    @staticmethod
    def concatenate(parts: list[Prediction]) -> Prediction:
        """Join batches along N. Raises `ConfigError` for an empty list."""
        require(bool(parts), "Prediction.concatenate", parts, "at least one batch")
        return Prediction(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Prediction)))


@dataclass(frozen=True)
class Threshold:
    """The operating point: one number for every product.

    A part is rejected when its score is greater than `value`.

    Attributes:
        value: aligned score.
        target_frr: false-reject rate asked for, in (0, 1).
        bound_frr: false-reject rate not exceeded with probability `confidence`, in
            (0, 1], for good parts drawn like the calibration images.
        confidence: in (0, 1).
        n_images: good images the value was calibrated on.
        method: name of the rule, e.g. ``order-statistic``.
        data_sha256: digest of the calibration images' digests.
    """

    value: float
    target_frr: float
    bound_frr: float
    confidence: float
    n_images: int
    method: str
    data_sha256: str

    def __post_init__(self) -> None:
        require(_finite(self.value), "Threshold.value", self.value, "a finite number")
        for name in ("target_frr", "confidence"):
            value = getattr(self, name)
            require(_finite(value) and 0 < value < 1, f"Threshold.{name}", value, "a number in (0, 1)")
        require(_finite(self.bound_frr) and 0 < self.bound_frr <= 1, "Threshold.bound_frr", self.bound_frr, "in (0, 1]")
        require(_is_int(self.n_images, 1), "Threshold.n_images", self.n_images, "an integer > 0")
        for name in ("method", "data_sha256"):
            value = getattr(self, name)
            require(isinstance(value, str), f"Threshold.{name}", value, "text")


@dataclass(frozen=True)
class Frame:
    """One picture from a source.

    Attributes:
        image: uint8 (H, W, 3), RGB, or ``None`` when the source could not deliver it.
        source_id: which camera, video or folder.
        frame_id: increases by one per frame the source saw; a gap is a drop.
        t_capture_ns: monotonic time of exposure, or of arrival where the device has no clock.
        t_arrival_ns: monotonic time at which the host had the whole frame.
        drops: frames lost since the last one delivered.
        status: anything but ``ok`` can only become ``undecided``; ``poor`` is a whole picture
            that is too dark, too bright, blurred or frozen.
        name: file name or other label for people; may be empty.
        note: why it is not ``ok``, in words, or empty.
        part: number of the trigger that asked for it, or ``None``.
        t_device_ns: the camera's own clock at the exposure, or ``None``; its zero is the camera's affair.
    """

    image: UInt8Array | None
    source_id: str
    frame_id: int
    t_capture_ns: int
    t_arrival_ns: int
    drops: int = 0
    status: FrameStatus = "ok"
    name: str = ""
    note: str = ""
    part: int | None = None
    t_device_ns: int | None = None


@dataclass(frozen=True)
class Verdict:
    """The line's answer for one frame. Only ``ok`` lets a part pass.

    An ``ok`` without a finite score at or below a finite threshold cannot be built.

    Attributes:
        status: ``ok``, ``ng`` or ``undecided``; the last is a reject too.
        score: aligned score, or ``None`` when there is none to be trusted.
        threshold: the value compared with, or ``None``.
        source_id: which source the frame came from.
        frame_id: the frame judged.
        t_capture_ns: monotonic, copied from the frame.
        t_decided_ns: monotonic, when the verdict was made.
        reason: why, in words, for people and logs.
        name: the frame's label.
    """

    status: Status
    score: float | None
    threshold: float | None
    source_id: str
    frame_id: int
    t_capture_ns: int
    t_decided_ns: int
    reason: str
    name: str = ""

    def __post_init__(self) -> None:
        require(self.status in _STATUSES, "Verdict.status", self.status, f"one of {_STATUSES}")
        if self.status == "ok":
            pair = (self.score, self.threshold)
            within = self.score is not None and self.threshold is not None and self.score <= self.threshold
            require(within and _finite(*pair), "Verdict", pair, "score <= threshold, both finite, for an ok")

    @property
    def passed(self) -> bool:
        """True only for ``ok``."""
        return self.status == "ok"


_T = TypeVar("_T")


def to_json(value: Any) -> dict[str, Any]:
    """A dataclass of this module as plain JSON types (tuples become lists)."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(value).items()}


def from_json(cls: type[_T], data: object) -> _T:
    """Read a dataclass of this module from parsed JSON.

    Raises `ConfigError` when `data` is not an object, or a key is unknown, missing or of
    the wrong type.
    """
    name = cls.__name__
    if not isinstance(data, dict):
        raise ConfigError(f"{name}: got {type(data).__name__}, expected an object")
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]  # every cls is a dataclass
    unknown = sorted(set(data) - known)
    if unknown:
        raise ConfigError(f"{name}: unknown keys {unknown}; known are {sorted(known)}")
    try:
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})
    except TypeError as error:
        raise ConfigError(f"{name}: {error}") from error
