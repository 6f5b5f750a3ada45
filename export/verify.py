"""Do all backends decide alike? Every one runs the same images next to a reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cada_edge.engine_key import Precision
from cada_edge.errors import CadaEdgeError, ConfigError, MissingDependencyError, NoDeviceError, ParityError
from cada_edge.export.gate import auroc, rejects
from cada_edge.protocols import Runner
from cada_edge.types import Float32Array, Prediction, Threshold, UInt8Array, require

Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Limit:
    """Largest difference of a backend from the reference, ``|a - b| / max(1, |a|)``; see `Tolerance`.

    Attributes:
        score: of an aligned score.
        map: of a cell of an aligned map.
        flips: share of images whose verdict differs. One image is always let pass: its score
            may lie on the threshold.
    """

    score: float
    map: float
    flips: float

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
            require(numeric and value >= 0, f"Limit.{name}", value, "a number >= 0")


# Rounding for fp32; for the others what the accuracy gate's flips come to, and room for single cells.
LIMITS: Mapping[Precision, Limit] = {
    "fp32": Limit(score=1e-3, map=1e-3, flips=0.0),
    "fp16": Limit(score=0.05, map=0.1, flips=0.005),
    "int8": Limit(score=0.5, map=1.0, flips=0.02),
}


@dataclass(frozen=True)
class Backend:
    """One way to run the bundle.

    Attributes:
        name: for the table, such as ``onnxruntime fp16``.
        precision: of its graph: which limit holds.
        open: makes its runner; None where it is not to be had.
        absent: why not, and what brings it.
        most_images: at most so many images, for slow ones; None for all.
    """

    name: str
    precision: Precision
    open: Callable[[], Runner] | None
    absent: str = ""
    most_images: int | None = None


@dataclass(frozen=True)
class Row:
    """How one backend compares with the reference.

    Attributes:
        name: the backend's.
        images: how many it ran.
        score_max: largest difference of a score, in the units of `Limit`; ``inf`` for NaN.
        score_rms: root mean square of the plain difference.
        map_max: largest difference of a cell, in the units of `Limit`.
        flips: images whose verdict differs.
        auroc: its own, good against defective images; None without labels of both.
        limit: what was allowed.
    """

    name: str
    images: int
    score_max: float
    score_rms: float
    map_max: float
    flips: int
    auroc: float | None
    limit: Limit

    def __bool__(self) -> bool:
        within = self.score_max <= self.limit.score and self.map_max <= self.limit.map
        return within and self.flips <= max(1.0, self.limit.flips * self.images)


@dataclass(frozen=True)
class VerifyReport:
    """Every backend, run or absent; true when none failed and all are within their limits.

    Attributes:
        reference: the backend that the others are compared with.
        reference_auroc: its AUROC, or None without labels of both kinds.
        threshold: aligned score at which verdicts are compared, or None: then novelty alone decides.
        rows: backends that ran.
        absent: backends that are not here, and why.
        failed: backends that are here and could not run the bundle, and why.
    """

    reference: str
    reference_auroc: float | None
    threshold: float | None
    rows: tuple[Row, ...]
    absent: Mapping[str, str]
    failed: Mapping[str, str]

    def __bool__(self) -> bool:
        return not self.failed and all(self.rows)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; infinite differences become null."""
        rows = [{**asdict(row), "passed": bool(row)} for row in self.rows]
        for row in rows:
            for name in ("score_max", "score_rms", "map_max"):
                row[name] = row[name] if np.isfinite(row[name]) else None
        document = {**asdict(self), "rows": rows, "absent": dict(self.absent), "failed": dict(self.failed)}
        return {**document, "passed": bool(self)}


def verify(
    backends: Sequence[Backend],
    pictures: Callable[[int | None], Iterable[UInt8Array]],
    threshold: Threshold | None,
    *,
    defective: npt.NDArray[np.bool_] | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Run every backend that is here and compare it with the first of them.

    Args:
        backends: the reference first; where it is absent, the next one that is here.
        pictures: gives batches, uint8 (N, H, W, 3), of the first so many images (None: all), anew each time.
        threshold: of the bundle.
        defective: bool (N,), the images' labels; None where there are none.
        progress: called with (backend, images done).

    Raises:
        ConfigError: no backend is here.
        ParityError: the reference itself gives NaN or infinity.
    """
    found, absent, failed = _run_all(backends, pictures, progress)
    if not found:
        raise ConfigError(f"no backend can run the bundle here: { ({**absent, **failed}) }")
    first, reference = found[0]
    if not reference.finite().all():
        raise ParityError(f"{first.name} itself gives NaN or infinity; the bundle is broken, train it again")
    level = threshold.value if threshold else None
    rows = tuple(_row(one, reference, prediction, level, defective) for one, prediction in found[1:])
    return VerifyReport(first.name, _auroc(reference, defective), level, rows, absent, failed)


def _run_all(
    backends: Sequence[Backend], pictures: Callable[[int | None], Iterable[UInt8Array]], progress: Progress | None
) -> tuple[list[tuple[Backend, Prediction]], dict[str, str], dict[str, str]]:
    """What those here said, and why others are absent or failed."""
    found: list[tuple[Backend, Prediction]] = []
    absent: dict[str, str] = {}
    failed: dict[str, str] = {}
    for backend in backends:
        try:
            found.append((backend, _run(backend, pictures, progress)))
        except _NotHereError as error:  # noqa: PERF203  # seconds of work stand against it
            absent[backend.name] = str(error)
        except CadaEdgeError as error:
            failed[backend.name] = str(error)
    return found, absent, failed


class _NotHereError(Exception):
    """A backend's package or device is not on this machine."""


def _run(
    backend: Backend, pictures: Callable[[int | None], Iterable[UInt8Array]], progress: Progress | None
) -> Prediction:
    parts: list[Prediction] = []
    done = 0
    with _opened(backend) as runner:
        for batch in pictures(backend.most_images):
            parts.append(runner.infer(batch))
            done += len(batch)
            if progress:
                progress(backend.name, done)
    return Prediction.concatenate(parts)


def _opened(backend: Backend) -> Runner:
    if backend.open is None:
        raise _NotHereError(backend.absent)
    try:
        return backend.open()
    except (MissingDependencyError, NoDeviceError) as error:
        raise _NotHereError(str(error)) from error


def _row(
    backend: Backend,
    reference: Prediction,
    prediction: Prediction,
    level: float | None,
    defective: npt.NDArray[np.bool_] | None,
) -> Row:
    count = len(prediction)
    before = reference.take(range(count))
    value = np.inf if level is None else level
    gap = prediction.score.astype(np.float64) - before.score
    return Row(
        name=backend.name,
        images=count,
        score_max=_largest(before.score, prediction.score),
        score_rms=float(np.sqrt(np.mean(gap**2))),
        map_max=_largest(before.map, prediction.map),
        flips=int(np.sum(rejects(before, value) != rejects(prediction, value))),
        auroc=_auroc(prediction, defective),
        limit=LIMITS[backend.precision],
    )


def _largest(before: Float32Array, after: Float32Array) -> float:
    exact = before.astype(np.float64)
    gap = np.where(np.isfinite(after), np.abs(after - exact), np.inf) / np.maximum(1.0, np.abs(exact))
    return float(gap.max())


def _auroc(prediction: Prediction, defective: npt.NDArray[np.bool_] | None) -> float | None:
    if defective is None or not np.isfinite(prediction.score).all():
        return None
    labels = defective[: len(prediction)]
    return auroc(prediction.score, labels) if labels.any() and not labels.all() else None
