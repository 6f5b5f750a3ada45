"""Verdicts as structured log lines."""

from __future__ import annotations

from typing import Any

from cada_edge.errors import SinkError
from cada_edge.runtime.log import make_logger
from cada_edge.types import Frame, Prediction, Verdict


class LogSink:
    """Logs every verdict: ``ok`` at info, the others at warning."""

    def __init__(self, logger: Any = None) -> None:
        self._logger = logger or make_logger()
        self._failed = False

    def send(self, verdict: Verdict, frame: Frame, prediction: Prediction | None) -> None:  # noqa: ARG002  # Sink
        """Write one line. Raises `SinkError` if the stream takes it no more."""
        write = self._logger.info if verdict.passed else self._logger.warning
        try:
            write(
                "verdict",
                status=verdict.status,
                score=verdict.score,
                threshold=verdict.threshold,
                source=verdict.source_id,
                frame=verdict.frame_id,
                name=verdict.name,
                reason=verdict.reason,
                latency_ms=round((verdict.t_decided_ns - verdict.t_capture_ns) / 1e6, 2),
            )
        except (OSError, ValueError) as error:  # ValueError: the stream was closed
            self._failed = True
            raise SinkError(f"the log takes no more lines: {error}") from error
        self._failed = False

    def healthy(self) -> bool:
        """False after a line that could not be written."""
        return not self._failed

    def close(self) -> None:
        """Nothing to release: the stream is not ours."""
