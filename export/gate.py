"""The accuracy gate: a graph of lower precision must decide as the float32 graph does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from cada_edge.engine_key import Precision
from cada_edge.errors import ParityError
from cada_edge.export.cases import Case, batches
from cada_edge.export.gate_report import GateReport, GateTolerance, ProductGate, Shown
from cada_edge.protocols import Runner
from cada_edge.types import Float32Array, Prediction, Threshold

Progress = Callable[[int, int], None]
BoolArray = npt.NDArray[np.bool_]
_SHOWN = 6
_STAND_IN_FRR = 0.01


def judge_cases(
    runner: Runner, cases: Sequence[Case], size: int, what: str, *, progress: Progress | None = None
) -> Prediction:
    """Run `cases`, `size` at a time.

    Raises:
        ParityError: a score or map that is NaN or infinite; names the image and `what` ran.
        DataError: an image that cannot be read.
    """
    parts = []
    done = 0
    for chunk, pictures in batches(cases, runner.spec, size):
        prediction = runner.infer(pictures)
        broken = [case.name for case, fine in zip(chunk, prediction.finite(), strict=True) if not fine]
        if broken:
            raise ParityError(
                f"{what} gives NaN or inf on {broken[0]!r}: an activation is beyond what it can hold; nothing was "
                "written. Stay with a higher precision"
            )
        parts.append(prediction)
        done += len(chunk)
        if progress is not None:
            progress(done, len(cases))
    return Prediction.concatenate(parts)


def compare(
    precision: Precision,
    cases: Sequence[Case],
    before: Prediction,
    after: Prediction,
    *,
    threshold: Threshold | None,
    tolerance: GateTolerance,
) -> GateReport:
    """The gate's figures of two predictions on the same cases, good and defective ones among them."""
    bad = np.array([case.defective for case in cases])
    level = level_of(threshold, before.score[~bad])
    rejected = rejects(before, level), rejects(after, level)
    flipped = rejected[0] != rejected[1]
    gap = np.abs(after.score.astype(np.float64) - before.score)
    return GateReport(
        precision=precision,
        good=int(np.sum(~bad)),
        damaged=int(np.sum(bad)),
        threshold=level,
        calibrated=threshold is not None,
        auroc=(auroc(before.score, bad), auroc(after.score, bad)),
        flips=int(np.sum(flipped)),
        score_rms=float(np.sqrt(np.mean(gap**2))),
        score_max=float(gap.max()),
        map_mean=float(np.abs(after.map - before.map).mean()),
        products=_per_product([case.item.product for case in cases], bad, *rejected),
        tolerance=tolerance,
        worst=_worst(cases, before, after, flipped, gap),
    )


def level_of(threshold: Threshold | None, good: Float32Array) -> float:
    """The score at which verdicts are compared: the threshold, or the 99 % quantile of `good` scores."""
    return threshold.value if threshold else float(np.quantile(good, 1 - _STAND_IN_FRR, method="higher"))


def rejects(prediction: Prediction, threshold: float) -> BoolArray:
    """bool (N,): what a line would not let pass."""
    return np.asarray((prediction.score > threshold) | prediction.novel())


def auroc(scores: Float32Array, defective: BoolArray) -> float:
    """Chance that a defect scores above a good part, ties counted half: the area under the ROC curve.

    Mann-Whitney's U over its maximum; both kinds must be there.
    """
    good, bad = np.sort(scores[~defective]), scores[defective]
    below, upto = np.searchsorted(good, bad, "left"), np.searchsorted(good, bad, "right")
    return float((below + upto).sum() / (2 * len(good) * len(bad)))


def _per_product(names: Sequence[str], bad: BoolArray, before: BoolArray, after: BoolArray) -> tuple[ProductGate, ...]:
    labels = np.array(names)
    found = []
    for name in sorted(set(names)):
        rows = (labels == name) & ~bad
        found.append(ProductGate(name, int(rows.sum()), int(before[rows].sum()), int(after[rows].sum())))
    return tuple(sorted(found, key=lambda one: (-one.rise, one.product)))


def _worst(
    cases: Sequence[Case],
    before: Prediction,
    after: Prediction,
    flipped: BoolArray,
    gap: npt.NDArray[np.float64],
) -> tuple[Shown, ...]:
    order = np.lexsort((-gap, ~flipped))[:_SHOWN]
    return tuple(
        Shown(
            case=cases[i],
            before=before.map[i],
            after=after.map[i],
            scores=(float(before.score[i]), float(after.score[i])),
            flipped=bool(flipped[i]),
        )
        for i in map(int, order)
    )
