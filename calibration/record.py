"""The calibration figures a bundle keeps, so that new images can join them and drift can be told.

``calibration.json`` holds one aligned score and, since schema 2, one novelty per image under the image's
sha256: no name, no picture. They mean something for these weights only, so the file says which.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping

from cada_edge.bundle import IMAGES, Bundle
from cada_edge.engine_key import PRECISIONS, graph_name
from cada_edge.errors import BundleError

ScoreOf = Mapping[str, float | None]
"""sha256 of an image to its aligned score, or None where the image is beyond the novelty limit."""

NoveltyOf = Mapping[str, float]
"""sha256 of an image to its novelty, >= 0; images calibrated under schema 1 have none."""

SCORES = "calibration.json"
SCHEMA = 2
_SCHEMAS = (1, SCHEMA)
_ABSENT_IN_1: dict[str, ScoreOf] = {"novelties": {}}
_AFTER_TRAINING = frozenset({SCORES, IMAGES, *map(graph_name, PRECISIONS)})


def with_scores(bundle: Bundle, scores: ScoreOf, novelties: NoveltyOf | None = None) -> Bundle:
    """A copy of `bundle` that keeps these figures and no others."""
    document = {
        "schema": SCHEMA,
        "weights": weights_sha256(bundle),
        "scores": dict(sorted(scores.items())),
        "novelties": dict(sorted((novelties or {}).items())),
    }
    return bundle.with_file(SCORES, (json.dumps(document, indent=0, allow_nan=False) + "\n").encode())


def stored_scores(bundle: Bundle) -> ScoreOf:
    """Scores of the images behind the bundle's threshold; empty when it keeps none for its weights.

    Raises `BundleError` when the file is there but cannot be read.
    """
    return _stored(bundle, "scores")


def stored_novelties(bundle: Bundle) -> NoveltyOf:
    """Novelties of those images; empty as above, and for a file of schema 1. Raises `BundleError`."""
    return {digest: value for digest, value in _stored(bundle, "novelties").items() if value is not None}


def _stored(bundle: Bundle, key: str) -> ScoreOf:
    if SCORES not in bundle.files:
        return {}
    try:
        document = json.loads(bundle.files[SCORES])
        if document["schema"] not in _SCHEMAS:
            raise BundleError(f"{SCORES} has schema {document['schema']!r}, this cada-edge reads schemas {_SCHEMAS}")
        listed = {**_ABSENT_IN_1, **document}[key] if document["schema"] == 1 else document[key]
        figures = {str(digest): _score(value) for digest, value in listed.items()}
        return figures if document["weights"] == weights_sha256(bundle) else {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{SCORES} does not list {key} by image: {error!r}; calibrate without --add") from error


def _score(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def weights_sha256(bundle: Bundle) -> str:
    """Digest of what training left in the bundle: other weights give other scores.

    Neither calibration nor export changes it.
    """
    names = sorted(set(bundle.files) - _AFTER_TRAINING)
    listing = "".join(f"{name} {hashlib.sha256(bundle.files[name]).hexdigest()}\n" for name in names)
    return hashlib.sha256(listing.encode()).hexdigest()
