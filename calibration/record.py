"""The calibration scores a bundle keeps, so that new images can join them later.

``calibration.json`` holds one aligned score per image under the image's sha256: no name, no
picture. They mean something for these weights only, so the file says which.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping

from cada_edge.bundle import IMAGES, MODEL, Bundle
from cada_edge.errors import BundleError

SCORES = "calibration.json"
SCHEMA = 1
_AFTER_TRAINING = frozenset({SCORES, IMAGES, MODEL})

ScoreOf = Mapping[str, float | None]
"""sha256 of an image to its aligned score, or None where the image is beyond the novelty limit."""


def with_scores(bundle: Bundle, scores: ScoreOf) -> Bundle:
    """A copy of `bundle` that keeps these scores and no others."""
    document = {"schema": SCHEMA, "weights": _weights(bundle), "scores": dict(sorted(scores.items()))}
    return bundle.with_file(SCORES, (json.dumps(document, indent=0, allow_nan=False) + "\n").encode())


def stored_scores(bundle: Bundle) -> ScoreOf:
    """Scores of the images behind the bundle's threshold; empty when it keeps none for its weights.

    Raises `BundleError` when the file is there but cannot be read.
    """
    if SCORES not in bundle.files:
        return {}
    try:
        document = json.loads(bundle.files[SCORES])
        if document["schema"] != SCHEMA:
            raise BundleError(f"{SCORES} has schema {document['schema']!r}, this cada-edge reads schema {SCHEMA}")
        scores = {str(digest): _score(value) for digest, value in document["scores"].items()}
        return scores if document["weights"] == _weights(bundle) else {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{SCORES} does not list scores by image: {error!r}; calibrate without --add") from error


def _score(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no score")
    return float(value)


def _weights(bundle: Bundle) -> str:
    """Digest of what training left in the bundle: other weights give other scores."""
    names = sorted(set(bundle.files) - _AFTER_TRAINING)
    listing = "".join(f"{name} {hashlib.sha256(bundle.files[name]).hexdigest()}\n" for name in names)
    return hashlib.sha256(listing.encode()).hexdigest()
