"""Whether two ways to run a bundle decide alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cada_edge.decision import decide
from cada_edge.types import Frame, Prediction, Threshold, UInt8Array

# Absolute below 1 and relative above, as the gate of an export: far above rounding, far below good against bad.
LARGEST = {"score": 1e-3, "map": 1e-3, "u": 1e-4, "gamma": 1e-4, "novelty": 1e-3}


@dataclass(frozen=True)
class Answer:
    """What was said of one picture.

    Attributes:
        prediction: of this picture alone.
        status: of its verdict; without a threshold ``undecided``.
    """

    prediction: Prediction
    status: str


def answer(picture: UInt8Array, prediction: Prediction, threshold: Threshold | None) -> Answer:
    """The verdict on a prepared picture, as the line makes it."""
    return Answer(prediction, decide(Frame(picture, "tune", 0, 0, 0), prediction, threshold, 0).status)


def disagreement(ours: Sequence[Answer], reference: Sequence[Answer]) -> str:
    """Why `ours` is not what `reference` says, or empty: another verdict, or a number too far away."""
    for number, (one, other) in enumerate(zip(ours, reference, strict=True)):
        if one.status != other.status:
            return f"picture {number}: {one.status} where ONNX Runtime says {other.status}"
        for name, largest in LARGEST.items():
            if not (gap := _gap(one.prediction, other.prediction, name)) <= largest:
                return f"picture {number}: {name} differs by {gap:.2g}, allowed are {largest:g}"
    return ""


@dataclass(frozen=True)
class Movement:
    """How far one way's answers are from those of another.

    Attributes:
        verdicts: pictures that are decided otherwise.
        pictures: of how many.
        score_rms: root mean square of the scores' differences.
    """

    verdicts: int
    pictures: int
    score_rms: float


def movement(ours: Sequence[Answer], reference: Sequence[Answer]) -> Movement:
    """Of the same pictures, at least one; the distance is NaN where a score is."""
    pairs = list(zip(ours, reference, strict=True))
    moved = [float(one.prediction.score[0]) - float(other.prediction.score[0]) for one, other in pairs]
    return Movement(
        verdicts=sum(one.status != other.status for one, other in pairs),
        pictures=len(pairs),
        score_rms=float(np.sqrt(np.mean(np.square(moved)))),
    )


def _gap(ours: Prediction, reference: Prediction, name: str) -> float:
    """Largest difference; 0 where both are the same NaN or infinity."""
    one, other = (np.asarray(getattr(each, name), np.float64) for each in (ours, reference))
    power = 2 if name == "novelty" else 1  # its root enlarges rounding without bound near 0
    with np.errstate(all="ignore"):
        apart = np.abs(one**power - other**power) / np.maximum(1.0, np.abs(other**power))
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    return float(np.where(same, 0.0, apart).max(initial=0.0))
