"""``cada-edge tune``: find the fastest way to run a bundle on this machine, and keep it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cada_edge.bundle import Bundle
from cada_edge.cli._export_tables import figures
from cada_edge.cli._progress import stage_progress
from cada_edge.engine_key import Precision
from cada_edge.errors import ConfigError
from cada_edge.runtime.benchmark.pictures import pictures
from cada_edge.runtime.tune.parity import Movement
from cada_edge.runtime.tune.search import Other, Tried, TuneOptions, Tuning
from cada_edge.runtime.tune.search import tune as search
from cada_edge.runtime.tune.store import Entry, Key, keep

_MOST_IMAGES = 32


def tune(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    *,
    precision: Annotated[Precision, typer.Option(help="Which of the bundle's graphs.")] = "fp32",
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Pictures to be decided alike; made-up ones without it.")
    ] = None,
    threads: Annotated[str, typer.Option(metavar="1,2", help="Numbers of threads to try.")] = "",
    n: Annotated[int, typer.Option("--n", help="Calls of each of the best.")] = 150,
    screen: Annotated[int, typer.Option(help="Calls of every way before.")] = 20,
    seed: Annotated[int, typer.Option(help="Of made-up pictures and of the bootstrap.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure and show, but keep nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Measure ONNX Runtime and OpenVINO with their options in turns, and keep the fastest.

    Only a way that decides every picture as ONNX Runtime does counts, and it takes the place of
    ONNX Runtime as it comes only if it is faster with 95 % confidence. `run`, `benchmark` and
    `check` use it where the backend is `auto`; on another machine, or after an update, it is
    ignored until you run this again. Other precisions that the bundle holds are measured too and
    shown with what they do to verdicts; taking one is your decision. Nothing else should run meanwhile.
    """
    checked, options = Bundle.read(bundle), TuneOptions(precision, screen, n, _counts(threads), seed)
    with pictures(images, seed) as paths, stage_progress(Console(stderr=True, quiet=as_json)) as progress:
        found = search(checked, bundle, paths[:_MOST_IMAGES], options, progress)
    entry = Entry(key=Key.here(checked, precision), choice=found.choice())
    place = None if dry_run else keep(checked, bundle, entry)
    if as_json:
        typer.echo(json.dumps(_document(found, entry, place), indent=1))
    else:
        _render(found, place, Console())


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",")})) if text else ()
    except ValueError:
        raise ConfigError(f"--threads: got {text!r}, expected numbers such as 1,2") from None


def _document(found: Tuning, entry: Entry, place: Path | None) -> dict[str, object]:
    others = [{**_figures(one.tried), "moved": one.moved and _moved(one.moved)} for one in found.others]
    return {
        **entry.model_dump(mode="json"),
        "verdicts": found.verdicts,
        "tried": [_figures(one) for one in found.tried],
        "others": others,
        "file": None if place is None else str(place),
    }


def _moved(one: Movement) -> dict[str, object]:
    """No distance where a score is not finite: JSON has no word for that."""
    return {**asdict(one), "score_rms": one.score_rms if math.isfinite(one.score_rms) else None}


def _figures(one: Tried) -> dict[str, object]:
    return {
        "name": one.candidate.name,
        "p50_ms": None if one.p50_ns is None else one.p50_ns / 1e6,
        "calls": len(one.final_ns or one.screen_ns),
        "ratio": None if one.ratio is None else [one.ratio.value, one.ratio.low, one.ratio.high],
        "refused": one.refused,
    }


def _render(found: Tuning, place: Path | None, console: Console) -> None:
    table = figures("Ways to run it, in turns", ("way", "p50, ms", "calls", "to the default (95 %)", ""), left={"way"})
    for one in sorted(found.tried, key=lambda one: (bool(one.refused), not one.final_ns, one.p50_ns or 0.0)):
        table.add_row(*_row(one, chosen=one is found.best))
    console.print(table)
    decided = ", ".join(f"{count} {status}" for status, count in sorted(found.verdicts.items()))
    console.print(f"Decided alike by all that are not refused: {decided}.", highlight=False)
    if found.best is found.tried[0]:
        console.print("No way is faster with 95 % confidence: ONNX Runtime stays as it comes.")
    if found.others:
        _render_others(found.others, found.best.candidate.how.precision, console)
    if place is not None:
        console.print(f"Kept in {place} for backend: auto.", soft_wrap=True, highlight=False, markup=False)


def _render_others(others: Sequence[Other], precision: Precision, console: Console) -> None:
    headings = ("precision, backend", "p50, ms", "to the chosen (95 %)", "other verdicts", "scores moved, rms")
    table = figures("Other precisions, not chosen", headings, left={"precision, backend"})
    for one in others:
        name, p50, _, beside, refused = _row(one.tried, chosen=False)
        moved = one.moved
        last = (refused, "") if moved is None else (f"{moved.verdicts} of {moved.pictures}", f"{moved.score_rms:.4f}")
        table.add_row(name, p50, beside, *last)
    console.print(table)
    console.print(
        f"Verdicts and scores against {precision} on the same pictures. Taking one is up to you: name backend and "
        "precision in line.yaml, once you have judged pictures with defects by it.",
        highlight=False,
    )


def _row(one: Tried, *, chosen: bool) -> tuple[str, ...]:
    p50 = "" if one.p50_ns is None else f"{one.p50_ns / 1e6:.2f}"
    beside = "" if one.ratio is None else f"{one.ratio.value:.3f} ({one.ratio.low:.3f} to {one.ratio.high:.3f})"
    remark = one.refused or ("chosen" if chosen else "")
    return one.candidate.name, p50, str(len(one.final_ns or one.screen_ns) or ""), beside, remark
