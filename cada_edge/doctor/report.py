"""The doctor's findings as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "note", "missing"]


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        area: ``machine``, or the extra that needs it.
        name: package or part looked at.
        state: ``ok``; ``note`` for something to know that stops nothing required;
            ``missing`` for something absent or unfit.
        found: what is there, in words.
        mend: the command or step that changes it; empty where none is needed.
        required: without it, `cada-edge run` cannot work.
    """

    area: str
    name: str
    state: State
    found: str
    mend: str = ""
    required: bool = False


@dataclass(frozen=True)
class Report:
    """All findings, in the order they were made."""

    checks: tuple[Check, ...]

    @property
    def runtime_ready(self) -> bool:
        """True when nothing that `cada-edge run` requires is missing."""
        return not any(c.required and c.state == "missing" for c in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types: ``{"runtime_ready": bool, "checks": [...]}``."""
        return {"schema": 1, "runtime_ready": self.runtime_ready, "checks": [asdict(c) for c in self.checks]}
