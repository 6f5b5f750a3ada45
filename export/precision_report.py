"""What came of the graphs of lower precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cada_edge.engine_key import Precision
from cada_edge.export.gate_report import GateReport
from cada_edge.export.int8 import Int8Report


@dataclass(frozen=True)
class PrecisionReport:
    """What `add_precisions` did.

    Attributes:
        gates: one per precision, in the order made.
        int8: how INT8 came about, or None without it.
        sizes: bytes of every graph, fp32 included.
    """

    gates: tuple[GateReport, ...]
    int8: Int8Report | None
    sizes: Mapping[Precision, int]

    def __bool__(self) -> bool:
        return all(self.gates)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, by precision."""
        found: dict[str, Any] = {gate.precision: {"gate": gate.to_json()} for gate in self.gates}
        if self.int8 and "int8" in found:
            found["int8"]["calibration"] = self.int8.to_json()
        return {**found, "bytes": dict(self.sizes), "passed": bool(self)}
