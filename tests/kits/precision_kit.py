"""Settings with which a small untrained model gets its lower precisions."""

from __future__ import annotations

from collections.abc import Mapping

from cada_edge.bundle import Bundle
from cada_edge.engine_key import Precision
from cada_edge.export.gate_report import GateTolerance
from cada_edge.export.precision_config import PrecisionConfig
from cada_edge.runtime.runners.ort import OrtRunner

WIDE = GateTolerance(auroc=1.0, flips=1.0, false_rejects=1.0)
LOOSE: Mapping[Precision, GateTolerance] = {"fp16": WIDE, "int8": WIDE}
# An untrained model's scores are large and coarse: what is proven here is the way, not the figures.
QUICK = PrecisionConfig(
    calibration_images=16,
    range_method="mse",
    score_budget=1e3,
    probe_images=1,
    gate_images=4,
    tolerances=LOOSE,
)


def open_ort(bundle: Bundle, precision: Precision) -> OrtRunner:
    """The runner of the line."""
    return OrtRunner(bundle, threads=1, precision=precision)
