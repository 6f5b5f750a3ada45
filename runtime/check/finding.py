"""What was found of one thing that a line would use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One row of the report.

    Attributes:
        area: ``model``, ``source``, ``station``, ``link``, ``sink``, ``page`` or ``host``.
        what: which of them, by id, kind or address.
        state: ``warn`` does not keep the line from running, ``fail`` does, or loses what it should keep.
        found: what was seen, with figures.
        advice: what to do; empty where there is nothing.
        seconds: that finding out took.
    """

    area: str
    what: str
    state: State
    found: str
    advice: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class LineReport:
    """Every finding, in the order of ``line.yaml``."""

    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        """Whether nothing failed."""
        return all(one.state != "fail" for one in self.findings)

    def count(self, state: State) -> int:
        """Findings of a state."""
        return sum(one.state == state for one in self.findings)

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        return {"ready": self.ready, "findings": [asdict(one) for one in self.findings]}


def failed(area: str, what: str, error: BaseException) -> Finding:
    """A refusal. Our messages end with what to do, after a semicolon."""
    text = " ".join(str(error).split()) or type(error).__name__
    found, semicolon, advice = text.rpartition("; ")
    return Finding(area, what, "fail", found if semicolon else text, advice if semicolon else "")


def worst(states: Iterable[State]) -> State:
    """The worst of some states; ``ok`` of none."""
    given = set(states)
    return "fail" if "fail" in given else "warn" if "warn" in given else "ok"
