"""Shake hands with a whole line over Modbus TCP, the PLC being npm's modbus-serial, and judge what the PLC saw.

``python tests/peers/handshake_figures.py BUNDLE IMAGES --cycles 2000 --out handshake.json`` prints a Markdown table.
IMAGES holds pictures of different looks: each must be judged for its own trigger, in order, which their scores show.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sqlite3
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kits"))

from whole_line import line_running, start_master, until_listening, write_line_file

from cada_edge.runtime.registers import WORST_SCORE

DEADLINE_MS, POLL_MS, IDLE_POLLS, WARM_UP = 1000.0, 2.0, 2000, 20
PLC_PRIORITY = 20  # above the line's: a real PLC has a processor of its own
PASS, LATE, NUMBERS = 1, 64, 65535
TIMES = ("trigger to result seen", "less inference", "less picture and inference")
Seen = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """What the records say of one part: its picture, its score and how long each took, ms."""

    name: str
    score: float
    picture_ms: float
    inference_ms: float


def shake_hands(
    folder: Path, bundle: Path, images: Path, cycles: int, idle_polls: int = IDLE_POLLS, **settings: Any
) -> Seen:
    """Run a triggered line in `folder` and a PLC for so many cycles; what the PLC and the records say.

    `settings` go into ``line.yaml``.

    Raises `RuntimeError` if the PLC gave up.
    """
    station = {"id": "st1", "mode": "triggered", "deadline_ms": DEADLINE_MS}
    path, port = write_line_file(folder, bundle, images, stations=[station], **settings)
    with line_running(path) as line:
        until_listening(line, port)
        plc = start_master(port, cycles, idle_polls, POLL_MS, PLC_PRIORITY)
        told = plc.communicate()[0]
        if plc.returncode:
            raise RuntimeError(f"the PLC ended with {plc.returncode}; the line's log is {folder / 'line.log'}")
    return {**json.loads(told), "summary": line.summary, "parts": recorded(folder / "records.sqlite")}


def recorded(database: Path) -> dict[int, Part]:
    """By the trigger's number, for a line whose PLC counts from 1; without a score the worst, as a PLC sees it."""
    rows = "SELECT part, name, coalesce(score, ?), transfer_ms, judged_ms FROM verdicts ORDER BY id"
    with sqlite3.connect(database) as records:
        return {part: Part(*rest) for part, *rest in records.execute(rows, (WORST_SCORE,))}


def violations(seen: Seen, names: list[str]) -> dict[str, int]:
    """Promises of the handshake and how often each was broken; all 0 on a good line."""
    cycles, parts = seen["cycles"], seen["parts"]
    numbers = [one["seq"] for one in cycles]
    late = [one for one in cycles if one["ms"] > DEADLINE_MS or one["result"] & LATE]
    own = [(one, parts.get(one["id"]), names[(one["id"] - 1) % len(names)]) for one in cycles]
    return {
        "torn reads": seen["torn"],
        "sequence gaps": sum(b != a % NUMBERS + 1 for a, b in itertools.pairwise(numbers)),
        "PASS after the deadline": sum(one["result"] & PASS for one in late),
        "result shown twice or without a trigger": seen["unasked"],
        "PASS while offline": seen["pass_offline"],
        "answer with another trigger's number": sum(one["shown_id"] != one["id"] for one in cycles),
        "answer about another part": sum(
            part is None or part.name != name or bool(np.float32(part.score) != np.float32(one["score"]))
            for one, part, name in own
        ),
        "triggers without a record": sum(part is None for _, part, _ in own),
        "deadlines missed (told as reject)": len(late),
    }


def figures(seen: Seen, names: list[str]) -> dict[str, Any]:
    """Violations and times, ms; the first cycles warm up and are left out of the times alone."""
    timed = [(one["ms"], seen["parts"][one["id"]]) for one in seen["cycles"][WARM_UP:] if one["id"] in seen["parts"]]
    values = (
        [ms for ms, _ in timed],
        [ms - part.inference_ms for ms, part in timed],
        [ms - part.inference_ms - part.picture_ms for ms, part in timed],
    )
    return {
        "cycles": len(seen["cycles"]),
        "polls": seen["polls"],
        "violations": violations(seen, names),
        "inference_ms": spread([part.inference_ms for _, part in timed]),
        "times_ms": {name: spread(one) for name, one in zip(TIMES, values, strict=True)},
        "link_ms": {"idle": spread(seen["idle_ms"]), "busy": spread(seen["busy_ms"])},
        "load_1m": os.getloadavg()[0],
        "cpus": os.cpu_count(),
        "problems": seen["summary"]["problems"],
    }


def spread(values: list[float]) -> dict[str, float]:
    """Percentiles and the number of values; empty for none."""
    if not values:
        return {"n": 0}
    points = np.percentile(values, [50, 90, 99, 100])
    return {
        "n": len(values),
        **{k: round(float(v), 3) for k, v in zip(("p50", "p90", "p99", "max"), points, strict=True)},
    }


def markdown(found: dict[str, Any]) -> str:
    """Two tables: times, then promises."""
    rows = {"inference": found["inference_ms"], **found["times_ms"]}
    rows |= {f"one poll, pipeline {state}": one for state, one in found["link_ms"].items()}
    lines = ["| ms | n | p50 | p90 | p99 | max |", "|---|---|---|---|---|---|"]
    for name, one in rows.items():
        cells = [f"{one[key]:.2f}" for key in ("p50", "p90", "p99", "max")] if one["n"] else ["-"] * 4
        lines.append(f"| {name} | {one['n']} | {' | '.join(cells)} |")
    lines += ["", f"| in {found['cycles']} cycles and {found['polls']} reads | count |", "|---|---|"]
    lines += [f"| {name} | {count} |" for name, count in found["violations"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--cycles", type=int, default=2000)
    parser.add_argument("--priority", type=int, default=10, help="plc_priority of the line")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    names = sorted(path.name for path in asked.images.iterdir())
    with tempfile.TemporaryDirectory() as scratch:
        seen = shake_hands(Path(scratch), asked.bundle, asked.images, asked.cycles, plc_priority=asked.priority)
    found = figures(seen, names)
    if asked.out:
        raw = {**seen, "parts": {number: asdict(part) for number, part in seen["parts"].items()}}
        asked.out.write_text(json.dumps({"figures": found, "raw": raw}))
    sys.stdout.write(markdown(found))


if __name__ == "__main__":
    main()
