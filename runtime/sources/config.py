"""What ``line.yaml`` says of a source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cada_edge.runtime.sources.device import CameraSettings, TriggerMode
from cada_edge.strict_yaml import Strict

_ID = r"^[A-Za-z0-9_-]{1,40}$"
_MAX_PX = 65535

Rotation = Literal[0, 90, 180, 270]


class Roi(Strict):
    """The part of the camera's picture that is judged, pixels of the picture as the camera gives it.

    Attributes:
        x: left edge.
        y: upper edge.
        width: at least 8.
        height: at least 8.
    """

    x: int = Field(ge=0, le=_MAX_PX)
    y: int = Field(ge=0, le=_MAX_PX)
    width: int = Field(ge=8, le=_MAX_PX)
    height: int = Field(ge=8, le=_MAX_PX)


class QualityConfig(Strict):
    """When a whole picture is too poor to be judged: its part is undecided, a reject.

    Measured on the picture that is judged, after region, rotation and flat field, in grey
    at 256 to 511 px. ``cada-edge source URI --quality`` shows what a camera gives.

    Attributes:
        min_brightness: lowest mean grey, 0..255.
        max_brightness: highest mean grey, 0..255.
        max_clipped: highest share of pixels at 250 and more, 0..1.
        min_sharpness: lowest variance of the Laplacian; 0 switches the check off.
        frozen: a picture equal to the one before is poor: a camera with noise never takes
            the same picture twice, so its driver gave an old one. On for cameras and off
            for folders, videos and compressed streams where absent.
    """

    min_brightness: float = Field(default=8.0, ge=0, le=255)
    max_brightness: float = Field(default=247.0, ge=0, le=255)
    max_clipped: float = Field(default=0.5, ge=0, le=1)
    min_sharpness: float = Field(default=0.0, ge=0, le=1e6)
    frozen: bool | None = None

    @model_validator(mode="after")
    def _ordered(self) -> QualityConfig:
        if self.min_brightness >= self.max_brightness:
            raise ValueError(f"min_brightness {self.min_brightness} must be below max_brightness {self.max_brightness}")
        return self


class SourceConfig(Strict):
    """One camera, video or folder.

    Attributes:
        uri: as in `cada_edge.runtime.sources.uri`.
        id: for verdicts and records.
        stall_s: time without a picture, or after a trigger, after which the camera is lost and the PLC sees it; for a
            camera of less than three pictures a second more than three of its periods. At a start, 3 s at least.
        latency_ms: for a camera that runs freely at a triggered station, the longest time from the begin of an
            exposure to its picture's arrival (exposure, readout, transfer), which no clock of a camera shows: after a
            trigger, pictures that arrive sooner are of the part before and are passed over.
        trigger: what starts an exposure: the camera itself (``free``), this program
            (``software``) or a wire at the camera (``hardware``).
        trigger_line: the camera's input for ``hardware``, by its own name.
        roi: region that is judged; everything where absent.
        rotate: degrees clockwise, after the region was cut out.
        flat_field: picture of the empty scene, as the camera gives it (`cada-edge source
            --flat-field` records one); evens out lamp and lens.
        exposure_us: exposure time, microseconds; switches automatic exposure off.
        gain_db: analogue gain, decibel; switches automatic gain off.
        lock_white_balance: switch automatic white balance off.
        quality: when a picture is too poor to be judged; never where absent.
    """

    uri: str = Field(min_length=1, max_length=4096)
    id: str = Field(default="cam1", pattern=_ID)
    stall_s: float = Field(default=1.0, gt=0, le=600)
    latency_ms: float = Field(default=0.0, ge=0, le=10_000)
    trigger: TriggerMode = "free"
    trigger_line: str = Field(default="Line1", pattern=r"^[A-Za-z0-9_]{1,40}$")
    roi: Roi | None = None
    rotate: Rotation = 0
    flat_field: Annotated[Path, Field(strict=False)] | None = None
    exposure_us: Annotated[float, Field(ge=1, le=60_000_000)] | None = None
    gain_db: Annotated[float, Field(ge=-20, le=80)] | None = None
    lock_white_balance: bool = False
    quality: QualityConfig | None = None

    @model_validator(mode="after")
    def _patient(self) -> SourceConfig:
        exposure_s = (self.exposure_us or 0.0) / 1e6
        if exposure_s >= self.stall_s:
            raise ValueError(
                f"exposure_us {self.exposure_us:g} is as long as stall_s {self.stall_s:g}: every picture would come "
                "too late; set stall_s to more than three times the exposure"
            )
        return self

    def settings(self) -> CameraSettings:
        """What the camera is told."""
        return CameraSettings(self.trigger, self.trigger_line, self.exposure_us, self.gain_db, self.lock_white_balance)
