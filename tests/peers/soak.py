"""Run a whole line at full rate for a long time and say what grew.

``python tests/peers/soak.py BUNDLE IMAGES --minutes 60 --out soak.json --plot soak.png`` prints a Markdown table. The
line has a Modbus server that npm's modbus-serial polls, records, an archive that soon reaches its limit, and the page,
whose status and metrics are fetched every second. The first tenth of the samples of memory, 30 s at least, is left out
of the slope: caches and queues fill then. Latencies are those of the records, of every part.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kits"))

from whole_line import RunningLine, free_port, line_running, start_master, until_listening, usage, write_line_file

PERIOD_S, POLL_MS, WARM_UP_S, BLOCKS = 1.0, 10.0, 30.0, 20
T_95 = 2.101  # Student's t, two-sided 95 %, of 18 degrees of freedom: BLOCKS means and a line through them
ARCHIVE = {"dir": "archive", "keep_passes": 50, "max_bytes": 8 << 20, "min_free_bytes": 0}
MIB = float(1 << 20)


@dataclass(frozen=True)
class Sample:
    """What one process used at a time, s from the start."""

    at_s: float
    role: str
    rss_bytes: int
    handles: int
    threads: int
    database_bytes: int


@dataclass(frozen=True)
class Soak:
    """All that was seen."""

    samples: list[Sample]
    latencies_ms: list[float]
    counts: dict[str, int]
    results: int
    summary: dict[str, Any]
    plc: dict[str, Any] | None
    load_1m: list[float]


def soak(folder: Path, bundle: Path, images: Path, seconds: float, *, peer: bool = True) -> Soak:
    """Run a line in `folder`, look at it every second; `peer` says whether a PLC polls it."""
    page = free_port()
    sinks = {"records": {"sqlite": "records.sqlite"}, "archive": ARCHIVE}
    path, port = write_line_file(folder, bundle, images, sinks=sinks, page={"port": page})
    loads = [os.getloadavg()[0]]
    with line_running(path) as line:
        until_listening(line, port)
        until_listening(line, page)
        plc = start_master(port, 0, 0, POLL_MS) if peer else None
        samples = list(_watch(line, folder, page, seconds))
        told = json.loads(plc.communicate("")[0]) if plc is not None else None
        loads.append(os.getloadavg()[0])
    with sqlite3.connect(folder / "records.sqlite") as records:
        latencies = [row[0] for row in records.execute("SELECT latency_ms FROM verdicts ORDER BY id")]
        counts = dict(records.execute("SELECT status, count(*) FROM verdicts GROUP BY status"))
        (results,) = records.execute("SELECT count(*) FROM results").fetchone()
    return Soak(samples, latencies, counts, results, line.summary, told, loads)


def _watch(line: RunningLine, folder: Path, page: int, seconds: float) -> Iterator[Sample]:
    start_s = time.monotonic()
    while (at_s := time.monotonic() - start_s) < seconds:
        size = sum(one.stat().st_size for one in folder.glob("records.sqlite*"))
        for role, pid in line.pids().items():
            now = usage(pid)
            yield Sample(round(at_s, 2), role, now.rss_bytes, now.handles, now.threads, size)
        for name in ("/status.json", "/metrics"):
            _fetch(page, name)
        time.sleep(max(0.0, PERIOD_S - (time.monotonic() - start_s - at_s)))


def _fetch(port: int, path: str, timeout_s: float = 20.0) -> None:
    """Raises `OSError`, or `RuntimeError` for a page that says nothing of its line for so long."""
    until_s = time.monotonic() + timeout_s
    while (status := _status(port, path)) != 200:  # 503 until the line's first word
        if time.monotonic() > until_s:
            raise RuntimeError(f"{path}: got {status} for {timeout_s} s, expected 200")
        time.sleep(0.1)


def _status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status


def slope(at_s: npt.ArrayLike, rss_bytes: npt.ArrayLike) -> tuple[float, float]:
    """MiB/h with the half width of its 95 % interval, over means of `BLOCKS` blocks: neighbours are not independent."""
    times = np.array([block.mean() for block in np.array_split(np.asarray(at_s, float), BLOCKS)]) / 3600
    sizes = np.array([block.mean() for block in np.array_split(np.asarray(rss_bytes, float), BLOCKS)]) / MIB
    centred = times - times.mean()
    gradient = float(centred @ sizes / (centred @ centred))
    rest = sizes - sizes.mean() - gradient * centred
    error = float(np.sqrt(rest @ rest / (BLOCKS - 2) / (centred @ centred)))
    return gradient, T_95 * error


def figures(seen: Soak) -> dict[str, Any]:
    """What the samples say, by process; latency by tenth; and whether anything was lost."""
    seconds = seen.samples[-1].at_s
    warm_s = max(WARM_UP_S, seconds / 10)
    tenth = max(1, len(seen.latencies_ms) // 10)
    first, last = (np.percentile(part, [50, 99]) for part in (seen.latencies_ms[:tenth], seen.latencies_ms[-tenth:]))
    told = {name: seen.summary[name] for name in ("ok", "ng", "undecided")}
    return {
        "seconds": seconds,
        "warm_up_s": warm_s,
        "parts": len(seen.latencies_ms),
        "parts_per_s": round(len(seen.latencies_ms) / seen.summary["seconds"], 2),
        "processes": {role: _process(seen, role, warm_s) for role in dict.fromkeys(s.role for s in seen.samples)},
        "database_mib": round(seen.samples[-1].database_bytes / MIB, 2),
        "latency_ms": {"first": list(map(float, first)), "last": list(map(float, last))},
        "latency_ratio": [round(float(b / a), 3) for a, b in zip(first, last, strict=True)],
        "verdicts": told,
        "records_equal": seen.counts == {name: count for name, count in told.items() if count},
        "results": seen.results,
        "problems": seen.summary["problems"],
        "plc": {k: seen.plc[k] for k in ("polls", "torn", "unasked")} if seen.plc else None,
        "load_1m": seen.load_1m,
        "cpus": os.cpu_count(),
    }


def _process(seen: Soak, role: str, warm_s: float) -> dict[str, Any]:
    warm = [one for one in seen.samples if one.role == role and one.at_s >= warm_s]
    gradient, margin = slope([one.at_s for one in warm], [one.rss_bytes for one in warm])
    handles, threads = [one.handles for one in warm], [one.threads for one in warm]
    return {
        "samples": len(warm),
        "rss_mib": [round(warm[0].rss_bytes / MIB, 1), round(warm[-1].rss_bytes / MIB, 1)],
        "slope_mib_per_h": [round(gradient, 2), round(margin, 2)],
        "handles": [handles[0], min(handles), max(handles), handles[-1]],
        "threads": [threads[0], min(threads), max(threads), threads[-1]],
    }


def markdown(found: dict[str, Any]) -> str:
    """A table by process, then latency and counts."""
    head = "| process | RSS first, last MiB | slope MiB/h (95 %) | handles first, min, max, last | threads |"
    lines = [head, "|---|---|---|---|---|"]
    for role, one in found["processes"].items():
        gradient, margin = one["slope_mib_per_h"]
        cells = [", ".join(map(str, one[name])) for name in ("rss_mib", "handles", "threads")]
        lines.append(f"| {role} | {cells[0]} | {gradient:+.2f} ± {margin:.2f} | {cells[1]} | {cells[2]} |")
    (a50, a99), (b50, b99) = found["latency_ms"]["first"], found["latency_ms"]["last"]
    r50, r99 = found["latency_ratio"]
    lines += [
        "",
        (
            f"{found['seconds']:.0f} s, the first {found['warm_up_s']:.0f} s left out of memory, handles and threads; "
            f"{found['parts']} parts ({found['parts_per_s']}/s)."
        ),
        "",
        "| latency ms | first tenth | last tenth | ratio |",
        "|---|---|---|---|",
        f"| p50 | {a50:.2f} | {b50:.2f} | {r50:.3f} |",
        f"| p99 | {a99:.2f} | {b99:.2f} | {r99:.3f} |",
        "",
        (
            f"Verdicts {found['verdicts']}; equal to the records: {found['records_equal']}; "
            f"results {found['results']}; problems {found['problems']}; "
            f"PLC {found['plc']}; database {found['database_mib']} MiB; "
            f"load before and after {', '.join(f'{load:.2f}' for load in found['load_1m'])} on {found['cpus']} cores."
        ),
    ]
    return "\n".join(lines) + "\n"


def plot(seen: Soak, path: Path) -> None:
    """Memory by process and the latency of each hundredth of the parts."""
    import matplotlib.pyplot as plt  # for the plot alone

    figure, (memory, latency) = plt.subplots(2, 1, figsize=(8, 6), layout="constrained")
    for role in dict.fromkeys(one.role for one in seen.samples):
        mine = [one for one in seen.samples if one.role == role]
        memory.plot([one.at_s / 60 for one in mine], [one.rss_bytes / MIB for one in mine], label=role)
    memory.set(xlabel="minutes", ylabel="RSS, MiB", ylim=(0, None))
    memory.legend()
    parts = [np.percentile(part, [50, 99]) for part in np.array_split(seen.latencies_ms, 100) if len(part)]
    latency.plot(np.array(parts), label=["p50", "p99"])
    latency.set(xlabel="hundredth of all parts", ylabel="latency, ms", ylim=(0, None))
    latency.legend()
    figure.savefig(path)


def main() -> None:
    """Run, then print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        seen = soak(Path(scratch), asked.bundle, asked.images, asked.minutes * 60)
    found = figures(seen)
    if asked.out:
        asked.out.write_text(json.dumps({"figures": found, "raw": asdict(seen)}))
    if asked.plot:
        plot(seen, asked.plot)
    sys.stdout.write(markdown(found))


if __name__ == "__main__":
    main()
