"""What is installed, what is missing, and the command that mends it. Changes nothing.

::

    examine() -> Report
      |- requirements.py   every extra's packages, from the installed metadata
      `- machine.py        Python, cores, ONNX Runtime, OpenCV, CUDA, TensorRT, disk
"""

from __future__ import annotations

from pathlib import Path

from cada_edge.doctor import machine, requirements
from cada_edge.doctor.report import Check, Report

__all__ = ["Check", "Report", "examine"]


def examine(folder: Path) -> Report:
    """Look at this installation and machine; `folder` is where results would be written."""
    return Report((*machine.checks(folder), *requirements.checks()))
