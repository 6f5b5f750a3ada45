"""Good images in, numbers out: the threshold, each product's rate, drift (later INT8 ranges)."""

from cada_edge.calibration.calibrate import Before, CalibrateConfig, CalibrationResult, Selection, calibrate
from cada_edge.calibration.drift import Drift, score_drift
from cada_edge.calibration.inference import Judged, judge
from cada_edge.calibration.points import RatePoint, rate_points
from cada_edge.calibration.products import ProductRejects, product_rejects, product_warnings
from cada_edge.calibration.record import stored_novelties, stored_scores, weights_sha256
from cada_edge.calibration.threshold import (
    Method,
    calibrate_threshold,
    clopper_pearson,
    describe,
    frr_bound,
    images_needed,
)

__all__ = [
    "Before",
    "CalibrateConfig",
    "CalibrationResult",
    "Drift",
    "Judged",
    "Method",
    "ProductRejects",
    "RatePoint",
    "Selection",
    "calibrate",
    "calibrate_threshold",
    "clopper_pearson",
    "describe",
    "frr_bound",
    "images_needed",
    "judge",
    "product_rejects",
    "product_warnings",
    "rate_points",
    "score_drift",
    "stored_novelties",
    "stored_scores",
    "weights_sha256",
]
