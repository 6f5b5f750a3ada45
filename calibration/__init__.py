"""Good images in, numbers out: the threshold (later INT8 ranges and drift)."""

from cada_edge.calibration.calibrate import CalibrateConfig, CalibrationResult, ProductRejects, Selection, calibrate
from cada_edge.calibration.inference import Judged, judge
from cada_edge.calibration.threshold import Method, calibrate_threshold, describe, frr_bound, images_needed

__all__ = [
    "CalibrateConfig",
    "CalibrationResult",
    "Judged",
    "Method",
    "ProductRejects",
    "Selection",
    "calibrate",
    "calibrate_threshold",
    "describe",
    "frr_bound",
    "images_needed",
    "judge",
]
