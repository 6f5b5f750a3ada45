"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from cada_edge.imaging import write_atomic
from cada_edge.runtime.benchmark.result import TOTAL, Report, Samples
from cada_edge.runtime.benchmark.stats import QUANTILES, Summary
from cada_edge.runtime.benchmark.svg import Series, cdf, histogram, timeline

HEADINGS = ("stage", "n", *QUANTILES, "max", "jitter")


def write_page(report: Report, path: Path) -> None:
    """Write the report to `path`, whole or not at all. Raises `DataError`."""
    write_atomic(path, render(report).encode())


def render(report: Report) -> str:
    """The report as HTML text; every subject has at least one frame."""
    series = [_series(one) for one in report.subjects]
    title = "Benchmark of " + " against ".join(one.name for one in report.subjects)
    page = Template((files("cada_edge.runtime.benchmark") / "page.html").read_text())
    return page.substitute(
        title=escape(title),
        head=_head(report),
        tables="".join(_table(one) for one in report.subjects),
        ratios=_ratios(report.ratios),
        histogram=histogram(series),
        timeline=timeline(series),
        cdf=cdf(series),
        facts=_facts(report.about),
    )


def cells(name: str, summary: Summary) -> tuple[str, ...]:
    """A row under `HEADINGS`, ms; a dash for what the number of frames does not support."""
    times = (*summary.quantiles.values(), summary.max, summary.jitter)
    return (name, str(summary.n), *("-" if value is None else f"{value / 1e6:.3f}" for value in times))


def _series(one: Samples) -> Series:
    starts = np.asarray(one.starts_ns, np.float64)
    return Series(one.name, (starts - starts.min()) / 1e9, np.asarray(one.stages[TOTAL], np.float64) / 1e6)


def _head(report: Report) -> str:
    about, lines = report.about, []
    loop = about["setting"]["rate_fps"]
    how = "closed loop: the next frame starts when the last is shown" if loop is None else (
        f"open loop at {loop:g} frames a second and camera: latency counts from when a frame was due"
    )  # fmt: skip
    lines.append(f"<p>cada-edge {escape(about['version'])}, {escape(about['made_at'])}; {how}. Times in ms.</p>")
    lines += [f'<p class="warn">{escape(reason)}</p>' for reason in about["state"]["throttled"]]
    lines += [f'<p class="warn">{escape(note)}</p>' for one in report.subjects for note in one.notes]
    if report.budget is not None:
        kept = "kept" if report.budget["kept"] else "EXCEEDED"
        budget = f"budget {report.budget['text']}: {kept} at {report.budget['measured_ms']:.3f} ms"
        lines.append(f'<p class="{"" if report.budget["kept"] else "warn"}">{escape(budget)}</p>')
    return "".join(lines)


def _table(one: Samples) -> str:
    head = "".join(f"<th>{name}</th>" for name in HEADINGS)
    rows = []
    for name, summary in one.summaries().items():
        row = "".join(f"<td>{cell}</td>" for cell in cells(name, summary))
        rows.append(f'<tr class="{"total" if name == TOTAL else ""}">{row}</tr>')
    body = f"<div class=wide><table><tr>{head}</tr>{''.join(rows)}</table></div>"
    verdicts = ", ".join(f"{count} {status}" for status, count in sorted(one.verdicts.items()))
    return f"<h2>{escape(one.name)}</h2>{body}<p>{one.fps:.1f} frames a second; {escape(verdicts)}</p>"


def _ratios(ratios: Mapping[str, Mapping[str, float]]) -> str:
    if not ratios:
        return ""
    rows = [
        f"<tr><td>{escape(name)}</td><td>{one['value']:.3f}</td><td>{one['low']:.3f} to {one['high']:.3f}</td></tr>"
        for name, one in ratios.items()
    ]
    return f"<h2>Ratios</h2><table><tr><th></th><th>ratio</th><th>95 %</th></tr>{''.join(rows)}</table>"


def _facts(about: Mapping[str, Any]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in _flat(about))
    return f"<dl>{rows}</dl>"


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Leaves of nested objects, each with its path."""
    if isinstance(value, Mapping):
        return [pair for key, below in value.items() for pair in _flat(below, f"{name}.{key}".lstrip("."))]
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return [pair for i, below in enumerate(value, 1) for pair in _flat(below, f"{name} {i}")]
    return [(name, "not known" if value is None else str(value))]
