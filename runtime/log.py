"""One JSON object a line on standard error: what the line has to tell people and collectors."""

from __future__ import annotations

import sys
from typing import Any, TextIO

import structlog


def make_logger(stream: TextIO | None = None) -> Any:
    """A structlog logger writing JSON lines to `stream`, standard error by default.

    Standard output is left to results that a script reads.
    """
    return structlog.wrap_logger(
        structlog.WriteLogger(stream or sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(default=str),
        ],
    )


def log_problem(component: str, message: str, count: int) -> None:
    """Log a fault that did not stop the line; for `cada_edge.runtime.health.Problems`."""
    make_logger().error("problem", component=component, message=message, count=count)
