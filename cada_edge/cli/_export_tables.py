"""What `export` found, for reading."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cada_edge.export.gate_report import GateReport
from cada_edge.export.int8 import Int8Report
from cada_edge.export.parity import OUTPUTS, ParityReport
from cada_edge.export.precision_report import PrecisionReport


def figures(title: str, headings: Sequence[str], *, left: Collection[str]) -> Table:
    """An empty table of figures, its columns to the right but for those in `left`."""
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in left else "right")
    return table


def show_parity(report: ParityReport, written: Path, console: Console) -> None:
    """The graph against PyTorch."""
    title = f"ONNX Runtime against PyTorch on {report.images} images"
    table = figures(title, ("output", "max", "p99", "mean", "allowed"), left={"output"})
    for name in OUTPUTS:
        gap = getattr(report, name)
        allowed = getattr(report.tolerance, name)
        table.add_row(name, *(f"{v:.2e}" for v in (gap.max, gap.p99, gap.mean, allowed)))
    console.print(table)
    flips = f"{report.flips} verdicts differ at the threshold" if report.threshold is not None else "no threshold yet"
    _say(console, f"Worst: {report.worst_output} of {report.worst_image}; {flips}. Written to {written}.")


def show_precisions(report: PrecisionReport, console: Console) -> None:
    """Lower precisions against float32."""
    gate = report.gates[0]
    title = f"Against fp32 on {gate.good} held-out good images, each also damaged"
    headings = ("graph", "MB", "AUROC", "fp32", "flips", "score rms", "worst product")
    table = figures(title, headings, left={"graph", "worst product"})
    for one in report.gates:
        table.add_row(one.precision, f"{report.sizes[one.precision] / 1e6:.1f}", *_cells(one))
    console.print(table)
    if report.int8:
        _show_int8(report.int8, console)


def _cells(gate: GateReport) -> tuple[str, ...]:
    worst = gate.products[0]
    product = f"{worst.product or 'all'}: {worst.before} -> {worst.after} false rejects of {worst.images}"
    figures = (f"{gate.auroc[1]:.4f}", f"{gate.auroc[0]:.4f}", f"{gate.flips} ({gate.flip_rate:.2%})")
    return (*figures, f"{gate.score_rms:.4f}", product)


def _show_int8(report: Int8Report, console: Console) -> None:
    title = "INT8 in every layer that could be: what a range method does to scores"
    table = figures(title, ("ranges", "score rms", "score max", "flips"), left={"ranges"})
    for one in report.methods:
        table.add_row(one.method, f"{one.score_rms:.4f}", f"{one.score_max:.4f}", str(one.flips))
    console.print(table)
    left_out = ", ".join(name for name in report.selection.kept) or "none"
    _say(
        console,
        f"INT8 in {len(report.selection.chosen)} of {report.convolutions} convolutions, ranges by {report.method} "
        f"from {len(report.images)} images. Left out for what they do to scores: {left_out}.",
    )


def _say(console: Console, text: str) -> None:
    console.print(text, style="dim", soft_wrap=True, highlight=False, markup=False)
