"""The gate: an exported graph must judge real pictures as the model does, or it is not kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from cada_edge.errors import ConfigError, ParityError
from cada_edge.protocols import Runner
from cada_edge.types import Prediction, UInt8Array, require

OUTPUTS = ("score", "map", "u", "gamma", "novelty")
Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tolerance:
    """Largest difference the gate lets pass, per output: ``|a - b| / max(1, |a|)``.

    Relative above 1 and absolute below, since aligned scores of strange pictures reach tens.
    The defaults are over a hundred times what float32 rounding was measured to cause between
    PyTorch and ONNX Runtime, and far below the distance that separates good from bad.

    Attributes:
        score: aligned image score; 1.0 is the predicted maximum of a normal image.
        map: aligned map, same units.
        u: raw map units.
        gamma: raw map units.
        novelty: of its square; 1 is the limit beyond which an image is unlike everything known. The
            root of a sum of squares enlarges rounding without bound near 0, where an image equals a
            prototype and nothing is decided.
    """

    score: float = 1e-3
    map: float = 1e-3
    u: float = 1e-4
    gamma: float = 1e-4
    novelty: float = 1e-3

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
            require(numeric and 0 <= value < 1, f"Tolerance.{name}", value, "a number in [0, 1)")


@dataclass(frozen=True)
class Difference:
    """How far two runners are apart in one output, in the units of `Tolerance`.

    Attributes:
        max: over all images and cells; ``inf`` where one side is not finite.
        mean: over images, of each image's mean.
        p99: over images, of each image's maximum.
    """

    max: float
    mean: float
    p99: float


@dataclass(frozen=True)
class ParityReport:
    """Result of `check_parity`; true when every difference is within the tolerance.

    Attributes:
        images: how many were compared.
        score: difference of the score; `map`, `u`, `gamma` and `novelty` likewise.
        worst_image: name of the image with the largest difference relative to its tolerance.
        worst_output: the output in which it differs.
        threshold: the bundle's threshold, or ``None``.
        flips: images whose verdict at `threshold` differs. A flip within the tolerance is a
            score that lies on the threshold, so flips alone do not fail the gate.
        tolerance: what was allowed.
    """

    images: int
    score: Difference
    map: Difference
    u: Difference
    gamma: Difference
    novelty: Difference
    worst_image: str
    worst_output: str
    threshold: float | None
    flips: int
    tolerance: Tolerance

    def __bool__(self) -> bool:
        return all(getattr(self, name).max <= getattr(self.tolerance, name) for name in OUTPUTS)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; an infinite difference becomes null."""
        document = {**asdict(self), "passed": bool(self)}
        for name in OUTPUTS:
            document[name] = {k: v if np.isfinite(v) else None for k, v in document[name].items()}
        return document

    def require(self) -> None:
        """Raise `ParityError`, with both values, unless the report passes."""
        if not self:
            found = ", ".join(
                f"{name} {getattr(self, name).max:.3g} (allowed {getattr(self.tolerance, name):.3g})"
                for name in OUTPUTS
            )
            raise ParityError(
                f"exported graph and model differ: {found}; worst in {self.worst_output} of {self.worst_image!r} among "
                f"{self.images} images; nothing was written. Try another version of torch or onnxruntime, or widen the "
                "tolerance if the difference does not matter to you"
            )


def check_parity(
    reference: Runner,
    candidate: Runner,
    images: Iterable[tuple[str, UInt8Array]],
    *,
    tolerance: Tolerance | None = None,
    threshold: float | None = None,
    batch_size: int = 4,
) -> ParityReport:
    """Run both on every image and compare.

    The first image goes alone, the others in batches of `batch_size`: both shapes are proven.

    Args:
        reference: the model.
        candidate: what is going to replace it.
        images: name and uint8 (H, W, 3) of ``reference.spec.size_hw``; at least one.
        tolerance: what may differ; default `Tolerance()`.
        threshold: aligned score at which verdicts are compared.
        batch_size: images per batch, >= 1.

    Raises:
        ConfigError: no image, or the runners' contracts differ.
        ParityError: the reference itself gives NaN or inf.
    """
    if (reference.spec, reference.map_spec) != (candidate.spec, candidate.map_spec):
        raise ConfigError("reference and candidate have different image or map contracts; they are not the same model")
    tolerance = tolerance or Tolerance()
    names: list[str] = []
    parts: list[Float64Array] = []
    flips = 0
    for labels, batch in _batches(images, batch_size):
        expected, got = reference.infer(batch), candidate.infer(batch)
        _require_finite(expected, labels)
        parts.append(_differences(expected, got))
        names.extend(labels)
        flips += 0 if threshold is None else int(np.sum((expected.score > threshold) != (got.score > threshold)))
    if not names:
        raise ConfigError("images: got none, expected at least one to compare on")
    return _report(names, np.concatenate(parts), tolerance, threshold, flips)


def _batches(images: Iterable[tuple[str, UInt8Array]], size: int) -> Iterator[tuple[list[str], UInt8Array]]:
    require(size >= 1, "batch_size", size, "an integer >= 1")
    stream = iter(images)
    chunk = list(itertools.islice(stream, 1))
    while chunk:
        yield [name for name, _ in chunk], np.stack([image for _, image in chunk])
        chunk = list(itertools.islice(stream, size))


def _require_finite(prediction: Prediction, names: list[str]) -> None:
    broken = [name for name, fine in zip(names, prediction.finite(), strict=True) if not fine]
    if broken:
        raise ParityError(f"the model itself gives NaN or inf on {broken[0]!r}; its weights are broken, train it again")


def _differences(expected: Prediction, got: Prediction) -> Float64Array:
    """float64 (N, 5, 2): per image and output, the maximum and the mean difference."""
    columns = []
    for name in OUTPUTS:
        power = 2 if name == "novelty" else 1
        a, b = (getattr(p, name).astype(np.float64).reshape(len(expected), -1) ** power for p in (expected, got))
        gap = np.where(np.isfinite(b), np.abs(a - b), np.inf) / np.maximum(1.0, np.abs(a))
        columns.append(np.stack([gap.max(axis=1), gap.mean(axis=1)], axis=1))
    return np.stack(columns, axis=1)


def _report(
    names: list[str], gaps: Float64Array, tolerance: Tolerance, threshold: float | None, flips: int
) -> ParityReport:
    peaks, means = gaps[:, :, 0], gaps[:, :, 1]
    allowed = np.array([getattr(tolerance, f.name) for f in fields(Tolerance)])
    image, output = divmod(int(np.argmax(peaks / np.maximum(allowed, np.finfo(float).tiny))), len(OUTPUTS))
    score, map_, u, gamma, novelty = (_summary(peak, mean) for peak, mean in zip(peaks.T, means.T, strict=True))
    return ParityReport(
        images=len(names),
        score=score,
        map=map_,
        u=u,
        gamma=gamma,
        novelty=novelty,
        worst_image=names[image],
        worst_output=OUTPUTS[output],
        threshold=threshold,
        flips=flips,
        tolerance=tolerance,
    )


def _summary(peaks: Float64Array, means: Float64Array) -> Difference:
    return Difference(float(peaks.max()), float(means.mean()), float(np.quantile(peaks, 0.99, method="higher")))
