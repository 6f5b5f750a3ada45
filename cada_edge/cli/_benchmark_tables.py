"""What `benchmark` shows in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console

from cada_edge.cli._export_tables import figures
from cada_edge.runtime.benchmark.compare import Comparison
from cada_edge.runtime.benchmark.page import HEADINGS, cells
from cada_edge.runtime.benchmark.result import Report, Samples


def show(report: Report, console: Console) -> None:
    """Tables of every subject, ratios, cold start, allocations, machine and warnings."""
    for one in report.subjects:
        _stages(one, console)
    if report.ratios:
        names = [one.name for one in report.subjects]
        title = " over ".join(names) if len(names) > 1 else "Camera to signal over the model's own time"
        _show_ratios(report.ratios, title, console, pair=len(names) > 1)
    for line in (*_conditions(report.about), *_warnings(report)):
        console.print(line, style="dim", soft_wrap=True, highlight=False, markup=False)
    if report.budget is not None:
        word, style = ("kept", "green") if report.budget["kept"] else ("EXCEEDED", "red")
        text = f"budget {report.budget['text']}: {word} at {report.budget['measured_ms']:.3f} ms"
        console.print(text, style=style, highlight=False)


def show_comparison(found: Comparison, console: Console) -> None:
    """The ratios of two earlier runs, and in one line what was not alike."""
    found_ratios = {name: asdict(one) for name, one in found.ratios.items()}
    _show_ratios(found_ratios, f"{found.ours.name} over {found.theirs.name}", console, pair=True)
    told = "; ".join(f"{name}: {ours} and {theirs}" for name, (ours, theirs) in found.differences.items())
    text = f"not alike: {told}" if told else "measured alike: same bundle, settings and kind of machine"
    console.print(text, style="yellow" if told else "dim", soft_wrap=True, highlight=False, markup=False)


def _show_ratios(ratios: Mapping[str, Mapping[str, float]], title: str, console: Console, *, pair: bool) -> None:
    """First over second, each with its interval; of a `pair` also whether they differ."""
    table = figures(title, ("", "ratio", "95 %", "differs")[: 4 if pair else 3], left={""})
    for name, one in ratios.items():
        differs = "" if one["low"] <= 1 <= one["high"] else "yes"
        row = (name, f"{one['value']:.3f}", f"{one['low']:.3f} to {one['high']:.3f}", differs)
        table.add_row(*row[: 4 if pair else 3])
    console.print(table)


def _stages(one: Samples, console: Console) -> None:
    table = figures(f"{one.name}, ms, {one.fps:.1f} frames a second", HEADINGS, left={"stage"})
    for name, summary in one.summaries().items():
        table.add_row(*cells(name, summary))
    console.print(table)


def _conditions(about: Mapping[str, Any]) -> list[str]:
    machine, before = about["machine"], about["state"]["before"]
    lines = [f"{machine['cpu']}, {len(machine['usable_cores'])} of {machine['cores']} cores, load {before['load_1m']}"]
    if line := about.get("line"):
        lines.insert(0, _line(line))
    if cold := about.get("cold_start"):
        best = {key: min(run[key] for run in cold) for key in cold[0]}
        lines.append(
            f"cold start: {best['first_verdict_ms']:.0f} ms from process to first verdict, its frame "
            f"{best['first_frame_ms']:.1f} ms (warm {best['warm_frame_ms']:.1f}); {best['rss_bytes'] / 1e6:.0f} MB, "
            f"peak {best['peak_bytes'] / 1e6:.0f} MB (best of {len(cold)} processes)"
        )
    if blocks := about.get("allocations"):
        lines.append(_blocks(blocks))
    return lines


def _line(facts: Mapping[str, Any]) -> str:
    sources = ", ".join(f"{name} {label}" for name, label in facts["sources"].items())
    if left_out := facts["sinks_left_out"]:
        names = ", ".join(left_out)
        sinks = f"sinks left out ({names}); --with-sinks measures them too, into the line's own files and receivers"
    else:
        sinks = f"sinks measured too: {', '.join(facts['sinks_measured'])}" if facts["sinks_measured"] else "no sinks"
    return f"line of {sources}; {sinks}"


def _blocks(found: Mapping[str, Any]) -> str:
    if found["per_frame"] is None:
        return f"blocks per frame: {found['how']}"
    each = (
        f"{name} {one['large']:.1f} ({one['large_bytes'] / 1e6:.2f} MB)" for name, one in found["per_frame"].items()
    )
    return f"blocks over 4 KiB per frame: {', '.join(each)}; Python's peak {found['python_peak_bytes'] / 1e3:.0f} kB"


def _warnings(report: Report) -> list[str]:
    return [*report.about["state"]["throttled"], *(note for one in report.subjects for note in one.notes)]
