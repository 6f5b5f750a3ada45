"""From a bundle to files for a device: ONNX, checked against the model before it is kept.

Names are looked up when they are first used, because torch is slow to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cada_edge.export.anomalib import from_anomalib
    from cada_edge.export.onnx import export_onnx
    from cada_edge.export.parity import Difference, ParityReport, Tolerance, check_parity
    from cada_edge.export.signature import ForeignOptions, open_foreign
    from cada_edge.export.stage import ExportConfig, export

_HOME = {
    "Difference": "parity",
    "ExportConfig": "stage",
    "ForeignOptions": "signature",
    "ParityReport": "parity",
    "Tolerance": "parity",
    "check_parity": "parity",
    "export": "stage",
    "export_onnx": "onnx",
    "from_anomalib": "anomalib",
    "open_foreign": "signature",
}

__all__ = [
    "Difference",
    "ExportConfig",
    "ForeignOptions",
    "ParityReport",
    "Tolerance",
    "check_parity",
    "export",
    "export_onnx",
    "from_anomalib",
    "open_foreign",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
