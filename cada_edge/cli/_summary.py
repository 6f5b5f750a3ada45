"""A bundle described: for people in words, for scripts as JSON."""

from __future__ import annotations

import hashlib
from typing import Any

from cada_edge.bundle import IMAGES, MODEL, SCHEMA, Bundle
from cada_edge.calibration.threshold import describe as describe_threshold
from cada_edge.types import Threshold, to_json


def describe(bundle: Bundle) -> dict[str, Any]:
    """Everything worth knowing of a bundle as plain JSON types; ``words`` holds sentences.

    Raises `BundleError` when ``images.json`` is there but unreadable.
    """
    manifest = bundle.manifest
    roles = role_counts(bundle)
    return {
        "schema": SCHEMA,
        "sha256": bundle.sha256,
        "spec": to_json(manifest.spec),
        "map_spec": to_json(manifest.map_spec),
        "detector": to_json(manifest.detector),
        "head": to_json(manifest.head),
        "threshold": to_json(manifest.threshold) if manifest.threshold else None,
        "roles": roles,
        "exported": MODEL in bundle.files,
        "files": [
            {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in sorted(bundle.files.items())
        ],
        "provenance": [to_json(stage) for stage in manifest.provenance],
        "words": _words(bundle, roles),
    }


def guarantee(threshold: Threshold | None) -> str:
    """The operating point in one sentence, with what is promised."""
    if threshold is None:
        return "none: every part is undecided, a reject, until `cada-edge calibrate` has run"
    return f"{describe_threshold(threshold)} Rule: {threshold.method}."


def role_counts(bundle: Bundle) -> dict[str, int]:
    """Number of images per role (fit, align, calibrate, threshold); empty when the bundle keeps no list."""
    if IMAGES not in bundle.files:
        return {}
    return {role: len(digests) for role, digests in bundle.roles().items()}


def _words(bundle: Bundle, roles: dict[str, int]) -> dict[str, str]:
    spec, map_spec = bundle.manifest.spec, bundle.manifest.map_spec
    height, width = spec.size_hw
    rows, columns = map_spec.size_hw
    return {
        "input": f"uint8 RGB, {height} x {width} px (height x width), resized by {spec.resize}",
        "score": f"mean of the {map_spec.top_k} highest of {rows} x {columns} cells; 1.0 is a normal part's maximum",
        "detector": f"{bundle.manifest.detector.kind} {_settings(bundle.manifest.detector.config)}",
        "head": f"{bundle.manifest.head.kind} {_settings(bundle.manifest.head.config)}",
        "threshold": guarantee(bundle.manifest.threshold),
        "images": ", ".join(f"{count} to {role}" for role, count in roles.items()) or "not recorded",
        "exported": "yes, model.onnx is inside" if MODEL in bundle.files else "no: run `cada-edge export`",
    }


def _settings(config: Any) -> str:
    return "(" + ", ".join(f"{key} {value}" for key, value in config.items()) + ")"
