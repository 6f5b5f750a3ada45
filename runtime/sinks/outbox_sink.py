"""A sink whose records go to another machine, by way of an outbox."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from itertools import count
from typing import Any

from cada_edge.runtime.drift import DriftReport
from cada_edge.runtime.records.ledger import plain
from cada_edge.runtime.records.rows import ResultRecord, Row, drift_row, message, result_row, verdict_row
from cada_edge.runtime.sinks.courier import Courier, Delivery
from cada_edge.runtime.sinks.outbox import Outbox
from cada_edge.types import Frame, Prediction, Verdict


class OutboxSink:
    """A sink that puts records into an outbox and lets a thread of its own bring them away.

    Verdicts, results and drift reports leave in the order they came, each at least once.

    Args:
        outbox: closed by `close`; what has not been taken stays in it for the next run.
        courier: started here, stopped by `close`.
        stations: source id to station id.
    """

    def __init__(self, outbox: Outbox, courier: Courier, stations: Mapping[str, str] | None = None) -> None:
        self.outbox, self.courier, self._stations = outbox, courier, stations or {}
        self._run, self._numbers = uuid.uuid4().hex[:12], count(1)
        courier.start()

    def send(self, verdict: Verdict, frame: Frame, prediction: Prediction | None) -> None:
        """Put a verdict in. Raises `SinkError` while the file cannot be written; it is kept in memory."""
        self._put("verdict", verdict_row(verdict, frame, prediction, self._stations.get(verdict.source_id, "")))

    def result(self, record: ResultRecord) -> None:
        """Put a result in. Raises `SinkError` as `send` does."""
        self._put("result", result_row(record))

    def drift(self, report: DriftReport) -> None:
        """Put a test for drift in. Raises `SinkError` as `send` does."""
        self._put("drift", drift_row(report))

    def tend(self) -> None:
        """Write what waits in memory, and count. Raises `SinkError` when some still waits there."""
        self.outbox.flush()
        self.outbox.count()

    def healthy(self) -> bool:
        """False while records can only be kept in memory; one who does not answer costs no record: see `delivery`."""
        return not self.outbox.failing

    def delivery(self) -> Delivery:
        """How bringing them away goes. Never waits; what waits is a second old at most."""
        state = self.courier.state
        reached = True if state.connected else False if state.error else None
        return Delivery(reached, self.outbox.waiting, state.error)

    def close(self) -> None:
        """Bring away what can be brought within a second, then close. Safe to call twice. Raises `SinkError`."""
        self.courier.stop()
        self.outbox.close()

    def _put(self, kind: str, row: Row) -> None:
        clean = dict(zip(row, plain(row), strict=True))
        body: dict[str, Any] = message(kind, clean, record=f"{self._run}-{next(self._numbers)}")
        self.outbox.append(kind, json.dumps(body, allow_nan=False))
        self.courier.wake()
