"""Edges of wires as moments: what was set at once counts at once, however it came to be seen. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import NamedTuple

from cada_edge.runtime.links.pins import Edge

SETTLE_NS = 2_000_000  # edges this close may be of one moment
KNOWN_AFTER_NS = 2 * SETTLE_NS  # by then every edge has reached us, also one that its interrupt was late to tell


class Moment(NamedTuple):
    """Lines that changed together.

    Attributes:
        rose: lines that became active.
        fell: lines that became inactive.
        after_ns: monotonic time at which none of them had changed.
        at_ns: monotonic time by which all of them had.
    """

    rose: frozenset[int]
    fell: frozenset[int]
    after_ns: int
    at_ns: int


class Moments:
    """Gathers edges into moments. An edge that changes nothing is none; a line changes once in a moment, and what one
    look at the lines found is not torn apart.

    Args:
        levels: of every line.
    """

    def __init__(self, levels: Mapping[int, bool]) -> None:
        self._levels = dict(levels)
        self._edges: list[Edge] = []

    @property
    def levels(self) -> Mapping[int, bool]:
        """As of the moment that was handed out last."""
        return self._levels

    def add(self, edges: Iterable[Edge]) -> None:
        """Edges came in; one of another line may be older than one that came before."""
        self._edges = sorted([*self._edges, *edges], key=lambda edge: (edge.at_ns, edge.after_ns))

    def absorb(self, until_ns: int) -> int:
        """Let edges that may be of this time, and those close to them, be part of the levels and of no moment.

        Gives back until when nothing else may belong to them.
        """
        rest: list[Edge] = []
        for edge in self._edges:
            if edge.after_ns > until_ns:
                rest.append(edge)
                continue
            self._levels[edge.line] = edge.rose
            until_ns = max(until_ns, edge.at_ns + SETTLE_NS)
        self._edges = rest
        return until_ns

    def next(self, now_ns: int) -> Moment | None:
        """The oldest moment that is over, where `add` has had every edge there was at `now_ns`."""
        group: list[Edge] = []
        used = 0
        for _, look in groupby(self._edges, key=lambda edge: (edge.at_ns, edge.after_ns)):
            edges = list(look)
            lines = {edge.line for edge in group}
            if group and any(edge.after_ns > group[-1].at_ns + SETTLE_NS or edge.line in lines for edge in edges):
                break
            used += len(edges)
            group += [edge for edge in edges if edge.rose != self._levels[edge.line]]
        if group and now_ns < group[-1].at_ns + KNOWN_AFTER_NS:
            return None
        del self._edges[:used]
        if not group:
            return None
        self._levels.update({edge.line: edge.rose for edge in group})
        return Moment(
            frozenset(edge.line for edge in group if edge.rose),
            frozenset(edge.line for edge in group if not edge.rose),
            min(edge.after_ns for edge in group),
            group[-1].at_ns,
        )

    def until_ns(self, now_ns: int) -> int:
        """Until when at least the levels stood, where `add` has had every edge there was at `now_ns`."""
        return min([now_ns - KNOWN_AFTER_NS, *(edge.after_ns for edge in self._edges)])
