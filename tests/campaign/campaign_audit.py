"""After a campaign: what the records hold, and what the other PLC was written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from campaign_modbus import samples
from campaign_plc import Notes, passing

from cada_edge.errors import CadaEdgeError
from cada_edge.runtime.registers import decode

WRITING_NS = 100_000_000  # from the registers back to the pipeline, and into the database


@dataclass(frozen=True)
class Lost:
    """A result that the PLC took and the records do not hold.

    Attributes:
        trigger_id: of it.
        when_ns: the PLC read it, monotonic.
        fault: the last that had begun `WRITING_NS` later.
    """

    trigger_id: int
    when_ns: int
    fault: str = ""


def lost_records(records: Path, notes: Notes) -> list[Lost]:
    """Results that the PLC took, with the very same bits, less those in the database."""
    with closing(sqlite3.connect(records)) as database:
        rows = database.execute("SELECT trigger_id, seq, result FROM results WHERE seq > 0").fetchall()
    known = {tuple(row) for row in rows}
    taken = [part for part in notes.parts.values() if part.seq]
    return [Lost(p.number, p.shown_ns) for p in taken if (p.number, p.seq, int(p.result)) not in known]


def written_violations(log: Path, notes: Notes, deadline_s: float) -> list[tuple[int, str]]:
    """What the other PLC should never have been written: when, and what."""
    found: list[tuple[int, str]] = []
    told: set[int] = set()
    before = 0
    for when_ns, words in samples(log):
        try:
            block = decode(words)
        except CadaEdgeError as error:
            found.append((when_ns, f"written PLC: {error}"))
            continue
        shown = block.trigger_id if passing(block) else 0
        part = notes.parts.get(shown)
        if shown and (part is None or not part.good or not part.shown_in(block)):
            found.append((when_ns, f"written PLC: PASS for the wrong part: {part}, score {block.score * 255:.1f}"))
        elif part is not None and shown != before:
            if shown in told:
                found.append((when_ns, f"written PLC: PASS again: {part}"))
            elif part.taken_ns and when_ns > part.taken_ns + int(deadline_s * 1e9):
                late_ms = (when_ns - part.taken_ns) / 1e6
                found.append((when_ns, f"written PLC: late PASS, {late_ms:.0f} ms after its trigger: {part}"))
            told.add(shown)
        before = shown
    return found
