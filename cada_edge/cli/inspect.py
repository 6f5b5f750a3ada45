"""``cada-edge inspect``: what a bundle is, once every byte of it is verified."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cada_edge.bundle import Bundle, Stage
from cada_edge.cli._summary import describe
from cada_edge.runtime.runners.how import How
from cada_edge.runtime.tune.store import kept


def inspect(
    bundle: Annotated[Path, typer.Argument(help="A bundle: zip or directory.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Verify a bundle and show what is in it; leaves with 1 when it cannot be trusted."""
    checked = Bundle.read(bundle)
    summary = describe(checked)
    choice = kept(checked, bundle, "fp32")
    how = asdict(How("ort") if choice is None else choice.applied(How("auto")))
    runs = {key: how[key] for key in ("backend", "threads", "graph")}
    summary["runs_here"] = {**runs, "tuned": choice is not None}
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
    else:
        _render(bundle, summary, checked.manifest.provenance, Console(soft_wrap=True, markup=False))


def _render(path: Path, summary: dict[str, Any], stages: tuple[Stage, ...], console: Console) -> None:
    console.print(f"{path}: verified, sha256 {summary['sha256']}", highlight=False)
    facts = Table(show_header=False, box=None)
    for name in ("input", "score", "detector", "head", "threshold", "images", "exported"):
        facts.add_row(name, summary["words"][name])
    facts.add_row("runs here", _way(summary["runs_here"]))
    console.print(facts)
    files = Table("file", "bytes", "sha256 begins")
    for file in summary["files"]:
        files.add_row(file["name"], f"{file['bytes']:,}", file["sha256"][:16])
    console.print(files)
    for stage in stages:
        _render_stage(stage, console)


def _way(runs: dict[str, Any]) -> str:
    """What `backend: auto` means on this machine."""
    plain = asdict(How("ort"))
    if not runs["tuned"]:
        return "with ONNX Runtime as it comes; `cada-edge tune` looks for something faster"
    if all(runs[key] == plain[key] for key in runs if key != "tuned"):
        return "with ONNX Runtime as it comes; `cada-edge tune` ran and found nothing faster"
    return f"with {runs['backend']}, {runs['threads'] or 'all'} threads, as `cada-edge tune` found"


def _render_stage(stage: Stage, console: Console) -> None:
    seed = "" if stage.seed is None else f", seed {stage.seed}"
    data = f", images {stage.data_sha256[:16]}" if stage.data_sha256 else ""
    console.print(f"{stage.name}: by cada-edge {stage.version}{seed}{data} (settings: --json)", highlight=False)
    for key, value in stage.results.items():
        console.print(f"  {key}: {value}", highlight=False)
