"""What is measured, and how."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from cada_edge.engine_key import Precision
from cada_edge.errors import ConfigError
from cada_edge.runtime.runners.how import How, LineBackend
from cada_edge.types import require


@dataclass(frozen=True)
class Setting:
    """One benchmark.

    Attributes:
        backend: what runs the model.
        precision: which of the bundle's graphs.
        batch: pictures in one call of the model.
        cameras: pictures that come at a time, at least `batch`; ``None`` for `batch`.
        threads: inside an operator of ONNX Runtime or OpenVINO; ``None`` for every core, or as tuned.
        affinity: cores to run on; empty for all that the process may use.
        n: frames counted.
        warmup: frames before them, not counted.
        rate_fps: pictures a second and camera, by a fixed schedule; ``None`` for a closed loop.
        seed: of made-up pictures and of the bootstrap.
    """

    backend: LineBackend = "ort"
    precision: Precision = "fp32"
    batch: int = 1
    cameras: int | None = None
    threads: int | None = None
    affinity: tuple[int, ...] = ()
    n: int = 300
    warmup: int = 30
    rate_fps: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.n >= 1, "--n", self.n, "at least 1 frame")
        require(self.warmup >= 0, "--warmup", self.warmup, "0 or more frames")
        require(1 <= self.batch <= 64, "--batch", self.batch, "1 to 64 pictures")
        require(self.batch <= self.at_a_time <= 64, "--cameras", self.cameras, f"{self.batch} (--batch) to 64")
        rate = self.rate_fps
        require(rate is None or 0 < rate <= 1000, "--rate", rate, "a number in (0, 1000]")
        require(self.threads is None or 1 <= self.threads <= 256, "--threads", self.threads, "1 to 256")

    @property
    def at_a_time(self) -> int:
        """Pictures that come at a time."""
        return self.batch if self.cameras is None else self.cameras

    def how(self) -> How:
        """How a bundle is run."""
        return How(self.backend, self.precision, self.threads, self.batch)

    def rounds(self, frames: int) -> int:
        """Times that every camera gives a picture, for at least so many frames."""
        return -(-frames // self.at_a_time)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "affinity": list(self.affinity), "cameras": self.at_a_time}


def parse_affinity(text: str) -> tuple[int, ...]:
    """Cores from ``0,2-3``. Raises `ConfigError` for anything else, or for a core that is not ours."""
    cores: set[int] = set()
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            cores.update(range(int(first), int(last or first) + 1))
    except ValueError:
        raise ConfigError(f"--affinity: got {text!r}, expected cores such as 0,2-3") from None
    allowed = os.sched_getaffinity(0)
    if not cores or not cores <= allowed:
        raise ConfigError(f"--affinity: got {text!r}, expected some of the cores {sorted(allowed)}")
    return tuple(sorted(cores))
