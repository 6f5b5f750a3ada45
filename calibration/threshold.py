"""From good scores to one threshold, with a guarantee that needs no distribution.

Let ``s(1) <= ... <= s(n)`` be the scores of n good parts that the model never saw, and let
the threshold be ``s(k)``: a part is rejected when its score is greater. If the next good
parts are exchangeable with those n (same products, same mix, same camera), then whatever
the distribution of the scores:

* the *expected* false-reject rate is at most ``(n - k + 1) / (n + 1)``. Method
  ``conformal`` takes the smallest k that keeps it within the target,
  ``k = ceil((n + 1) (1 - target))`` (split conformal prediction: Vovk 2012, "Conditional
  validity of inductive conformal predictors"; Angelopoulos & Bates 2021, "A gentle
  introduction to conformal prediction");
* the *actual* false-reject rate of this very threshold is a random number, distributed as
  ``Beta(n - k + 1, k)`` when the scores are continuous, and stochastically smaller with
  ties. Its quantile at ``confidence`` is ``bound_frr``. Method ``tolerance`` takes the
  smallest k whose bound is within the target (one-sided tolerance limit: Wilks 1941,
  "Determination of sample sizes for setting tolerance limits").

``conformal`` is right on average, ``tolerance`` is right for this line with the stated
confidence and rejects fewer good parts, at the price of a higher threshold and of more
images (299 for 1 % at 95 %, against 99).

The guarantee covers the mix of products that was calibrated, not each product alone.

Too few images for the target is an error by default. A factory that asks for 1 % and is
silently given what 40 images can support (2.4 %) finds out at the reject bin.
``allow_small`` takes the highest good score instead, under method name ``maximum``, and
the bound then tells what that is worth.

A good part unlike everything the model knows is undecided, so rejected, whatever the
threshold. Such images (`n_novel`) count as scores above all others: the guarantees hold
for what the line really rejects.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from cada_edge.errors import ConfigError, DataError
from cada_edge.types import Float32Array, Threshold

Method = Literal["conformal", "tolerance"]

_BISECTIONS = 100  # halves an interval of 1 far below the spacing of doubles


def frr_bound(n: int, rank: int, confidence: float) -> float:
    """Upper confidence bound of the false-reject rate at the `rank`-th of `n` good scores.

    The `confidence` quantile of ``Beta(n - rank + 1, rank)``, in (0, 1): exact, and equal to
    the Clopper-Pearson bound for ``n - rank`` rejects among `n`. `rank` counts from 1.
    """
    log_choose = [
        math.lgamma(n + 1) - math.lgamma(above + 1) - math.lgamma(n - above + 1) for above in range(n - rank + 1)
    ]

    def miss(rate: float) -> float:  # P(Binomial(n, rate) <= n - rank), falling in `rate`
        log_p, log_q = math.log(rate), math.log1p(-rate)
        return math.fsum(math.exp(c + i * log_p + (n - i) * log_q) for i, c in enumerate(log_choose))

    return _bisect(lambda rate: miss(rate) > 1.0 - confidence)


def clopper_pearson(hits: int, n: int, confidence: float) -> tuple[float, float]:
    """Two-sided interval of a rate seen as `hits` in `n` trials, n >= 1: (low, high), in [0, 1].

    Clopper & Pearson 1934, "The use of confidence or fiducial limits illustrated in the case
    of the binomial": holds with at least `confidence` whatever the rate.
    """
    each_side = 0.5 * (1.0 + confidence)
    low = 1.0 - frr_bound(n, hits, each_side) if hits else 0.0
    high = frr_bound(n, n - hits, each_side) if hits < n else 1.0
    return low, high


def _bisect(too_low: Callable[[float], bool]) -> float:
    """The number in (0, 1) below which `too_low` holds and above which it does not."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if too_low(middle) else (low, middle)
    return high


def images_needed(target_frr: float, confidence: float, method: Method) -> int:
    """Fewest good images that support `target_frr` under `method`."""
    if method == "conformal":
        return math.ceil(_round_off(1.0 / target_frr - 1.0))
    return math.ceil(_round_off(math.log1p(-confidence) / math.log1p(-target_frr)))


def supported_frr(n: int, confidence: float, method: Method) -> float:
    """Lowest target rate that `n` good images support under `method`, in (0, 1)."""
    return 1.0 / (n + 1) if method == "conformal" else frr_bound(n, n, confidence)


def calibrate_threshold(
    scores: Float32Array,
    target_frr: float,
    confidence: float,
    data_sha256: str,
    *,
    method: Method = "conformal",
    allow_small: bool = False,
    n_novel: int = 0,
) -> Threshold:
    """The operating point that `scores` of unseen good parts support.

    Args:
        scores: float32 (n,), n >= 1, finite; any order.
        target_frr: false-reject rate asked for, in (0, 1).
        confidence: of the stated bound, in (0, 1).
        data_sha256: digest of the calibration images' digests, kept for the record.
        method: ``conformal`` bounds the expected rate, ``tolerance`` the actual one with
            probability `confidence`.
        allow_small: where the images do not support the rate, take the highest score rather than refuse.
        n_novel: further good images, beyond the novelty limit: rejected whatever the threshold.

    Raises:
        ConfigError: a rate outside (0, 1), an unknown method, or too few images.
        DataError: no scores, one that is not finite, or more images beyond the novelty limit
            than the rate allows.
    """
    n = len(scores) + n_novel
    _check_scores(scores, n_novel)
    check_request(n, target_frr, confidence, method, allow_small)
    supported = n >= images_needed(target_frr, confidence, method)
    rank = _rank(n, target_frr, confidence, method) if supported else n
    if rank > len(scores):
        if not allow_small:
            raise DataError(_too_novel(n, n_novel, target_frr))
        supported, rank = False, len(scores)
    return Threshold(
        value=float(np.partition(scores, rank - 1)[rank - 1]),
        target_frr=target_frr,
        bound_frr=frr_bound(n, rank, confidence),
        confidence=confidence,
        n_images=n,
        method=method if supported else "maximum",
        data_sha256=data_sha256,
    )


def check_request(n: int, target_frr: float, confidence: float, method: Method, allow_small: bool) -> None:
    """Refuse early what `calibrate_threshold` would refuse for `n` images. Raises `ConfigError`."""
    for field, value in (("target_frr", target_frr), ("confidence", confidence)):
        if not (math.isfinite(value) and 0.0 < value < 1.0):
            raise ConfigError(f"{field}: got {value!r}, expected a number in (0, 1), for example 0.01 for 1 %")
    if method not in get_args(Method):
        raise ConfigError(f"method: got {method!r}, expected 'conformal' or 'tolerance'")
    needed = images_needed(target_frr, confidence, method)
    if n < needed and not allow_small:
        supported = math.ceil(10_000 * supported_frr(n, confidence, method)) / 100
        raise ConfigError(
            f"target_frr: {n} good images cannot support {100 * target_frr:g} % ({method}); calibrate on at least "
            f"{needed}, ask for {supported:.2f} % or more, or allow the highest good score as threshold (--allow-small)"
        )


def describe(threshold: Threshold) -> str:
    """The guarantee as one sentence for people."""
    bound = math.ceil(1e4 * threshold.bound_frr) / 100  # rounded up: the sentence must stay true
    target = f"{100 * threshold.target_frr:.3g} %"
    expected = (
        f"the highest score, as they do not support {target}"
        if threshold.method == "maximum"
        else f"expect at most {target} good parts rejected"
    )
    return (
        f"Threshold {threshold.value:.4g} from {threshold.n_images} good images: {expected}; "
        f"with {100 * threshold.confidence:g} % confidence not more than {bound:.2f} %"
        f"{' good parts rejected' if threshold.method == 'maximum' else ''}."
    )


def _too_novel(n: int, n_novel: int, target_frr: float) -> str:
    supported = math.ceil(1e4 * (n_novel + 1) / (n + 1)) / 100
    return (
        f"{n_novel} of {n} good images are unlike everything the model knows and are rejected whatever the threshold, "
        f"so {100 * target_frr:g} % cannot be met. Are these parts the model was trained on? Check the folder, or "
        f"train with them; or ask for about {supported:.2f} % or more, or allow the highest known score (--allow-small)"
    )


def _rank(n: int, target_frr: float, confidence: float, method: Method) -> int:
    """Smallest admissible k, counted from 1; `n` is known to be large enough."""
    if method == "conformal":
        return min(n, math.ceil(_round_off((n + 1) * (1.0 - target_frr))))
    low, high = 1, n  # the bound falls as the rank rises
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if frr_bound(n, middle, confidence) <= target_frr else (middle + 1, high)
    return low


def _round_off(value: float) -> float:
    """Drop the rounding error of one or two operations, so that 1 / 0.05 - 1 is 19."""
    return round(value, 9)


def _check_scores(scores: Float32Array, n_novel: int) -> None:
    if n_novel and not len(scores):
        raise DataError(
            f"all {n_novel} good images are unlike everything the model knows; check the folder, or train with them"
        )
    if scores.ndim != 1 or not len(scores):
        raise DataError(f"calibration needs at least one score of a good image; got shape {scores.shape}")
    bad = int(np.count_nonzero(~np.isfinite(scores)))
    if bad:
        raise DataError(f"{bad} of {len(scores)} calibration scores are not finite; the model cannot be trusted")
