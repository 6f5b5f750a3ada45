"""The views of one part, from several cameras, until all are there."""

from __future__ import annotations

from collections.abc import Sequence

from cada_edge.runtime.judge import Judgement


class Parts:
    """Collects the part under way at one station; a picture of a later part drops what there was of it. Pure.

    Args:
        sources: ids of the cameras, each of which must see every part; at least one.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources = frozenset(sources)
        self._part = 0
        self._taken: set[str] = set()
        self._views: dict[str, Judgement] = {}

    def taken(self, source: str, part: int) -> bool:
        """A picture of `part` has come; true for the last one that was missing."""
        if not self._follow(part) or source in self._taken:
            return False
        self._taken.add(source)
        return self._taken == self._sources

    def judged(self, source: str, part: int, judgement: Judgement) -> list[Judgement]:
        """A view of `part` was judged; all of them once the last one is, else none."""
        if not self._follow(part):
            return []
        self._views[source] = judgement
        return list(self._views.values()) if self._views.keys() == self._sources else []

    def _follow(self, part: int) -> bool:
        """Whether `part` is under way; a newer one takes its place."""
        if part > self._part:
            self._part = part
            self._taken.clear()
            self._views.clear()
        return part == self._part
