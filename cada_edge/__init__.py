"""cada-edge: visual inspection with one model and one threshold for every product.

The names below need numpy alone. Everything heavier lives in a sub-package that imports
its own dependencies: `cada_edge.training`, `cada_edge.calibration`, `cada_edge.export`,
`cada_edge.evaluation`, `cada_edge.runtime`.
"""

from cada_edge.alignment import image_score, normalise
from cada_edge.bundle import Bundle, Component, Manifest, Stage
from cada_edge.decision import decide
from cada_edge.errors import CadaEdgeError
from cada_edge.protocols import Runner, Sink, Source
from cada_edge.types import Frame, ImageSpec, MapSpec, Prediction, Threshold, Verdict
from cada_edge.version import __version__

__all__ = [
    "Bundle",
    "CadaEdgeError",
    "Component",
    "Frame",
    "ImageSpec",
    "Manifest",
    "MapSpec",
    "Prediction",
    "Runner",
    "Sink",
    "Source",
    "Stage",
    "Threshold",
    "Verdict",
    "__version__",
    "decide",
    "image_score",
    "normalise",
]
