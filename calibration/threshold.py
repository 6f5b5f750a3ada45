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
) -> Threshold:
    """The operating point that `scores` of unseen good parts support.

    Args:
        scores: float32 (n,), n >= 1, finite; any order.
        target_frr: false-reject rate asked for, in (0, 1).
        confidence: of the stated bound, in (0, 1).
        data_sha256: digest of the calibration images' digests, kept for the record.
        method: ``conformal`` bounds the expected rate, ``tolerance`` the actual one with
            probability `confidence`.
        allow_small: with too few images, take the highest score rather than refuse.

    Raises:
        ConfigError: a rate outside (0, 1), an unknown method, or too few images.
        DataError: no scores, or one that is not finite.
    """
    n = len(scores)
    _check_scores(scores)
    check_request(n, target_frr, confidence, method, allow_small)
    needed = images_needed(target_frr, confidence, method)
    rank = n if n < needed else _rank(n, target_frr, confidence, method)
    return Threshold(
        value=float(np.partition(scores, rank - 1)[rank - 1]),
        target_frr=target_frr,
        bound_frr=frr_bound(n, rank, confidence),
        confidence=confidence,
        n_images=n,
        method="maximum" if n < needed else method,
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
    rate = 1.0 / (threshold.n_images + 1) if threshold.method == "maximum" else threshold.target_frr
    return (
        f"Threshold {threshold.value:.4g} from {threshold.n_images} good images: expect at most {100 * rate:.3g} % "
        f"good parts rejected; with {100 * threshold.confidence:g} % confidence not more than "
        f"{bound:.2f} %."
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


def _check_scores(scores: Float32Array) -> None:
    if scores.ndim != 1 or not len(scores):
        raise DataError(f"calibration needs at least one score of a good image; got shape {scores.shape}")
    bad = int(np.count_nonzero(~np.isfinite(scores)))
    if bad:
        raise DataError(f"{bad} of {len(scores)} calibration scores are not finite; the model cannot be trusted")
