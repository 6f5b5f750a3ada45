"""``cada-edge benchmark``: how long an inspection takes here, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer
from rich.console import Console

from cada_edge.bundle import Bundle
from cada_edge.cli._benchmark_tables import show, show_comparison
from cada_edge.cli._outputs import check_output
from cada_edge.cli._progress import stage_progress
from cada_edge.cli._usage import UsageError
from cada_edge.engine_key import Precision
from cada_edge.errors import ConfigError
from cada_edge.runtime.assembly import how
from cada_edge.runtime.benchmark.budget import Budget
from cada_edge.runtime.benchmark.compare import compare_files
from cada_edge.runtime.benchmark.inspection import Target
from cada_edge.runtime.benchmark.line import line_target
from cada_edge.runtime.benchmark.page import write_page
from cada_edge.runtime.benchmark.result import TOTAL, Report
from cada_edge.runtime.benchmark.run import benchmark as run_benchmark
from cada_edge.runtime.benchmark.runner import threshold_of
from cada_edge.runtime.benchmark.setting import Setting, parse_affinity
from cada_edge.runtime.config import LineConfig, load_config

Backend = Literal["auto", "ort", "openvino", "tensorrt", "tensorrt-rtx"]
_BACKENDS: dict[str, Backend] = {name: name for name in get_args(Backend)}
_EXCEEDED = 1
_BESIDE_COMPARE = {"compare", "seed", "fresh"}  # --no-fresh: indeed no process is started


def benchmark(
    context: typer.Context,
    bundle: Annotated[Path | None, typer.Argument(help="Exported bundle with a threshold.", metavar="BUNDLE")] = None,
    *,
    backend: Annotated[Backend | None, typer.Option(help="What runs the model; auto without a line.")] = None,
    precision: Annotated[Precision | None, typer.Option(help="Which of the bundle's graphs runs.")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures in one call of the model; 1 without a line.")] = None,
    cameras: Annotated[int | None, typer.Option(help="Pictures that come at a time; as many as --batch.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads inside an operator; all cores, or as tuned.")] = None,
    affinity: Annotated[str, typer.Option(metavar="0,2-3", help="Cores to run on.")] = "",
    n: Annotated[int, typer.Option("--n", help="Frames counted; p99 needs 299, p99.9 needs 2995.")] = 300,
    warmup: Annotated[int, typer.Option(help="Frames before them that are not counted.")] = 30,
    rate: Annotated[float | None, typer.Option(metavar="FPS", help="Fixed schedule instead of one by one.")] = None,
    images: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Pictures; made-up ones without it.")] = None,
    line: Annotated[Path | None, typer.Option(metavar="line.yaml", help="Measure this line as a whole.")] = None,
    with_sinks: Annotated[
        bool,
        typer.Option("--with-sinks", help="Let the line's sinks and page work too, into its own files and receivers."),
    ] = False,
    against: Annotated[
        str, typer.Option(metavar="BUNDLE|BACKEND", help="Measure this too, in turns, and give the ratio.")
    ] = "",
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="A.json B.json", help="Compare two runs instead of measuring.")
    ] = None,
    budget: Annotated[
        str, typer.Option(metavar="20ms@p99", help="Leave with 1 when camera to signal exceeds it.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of made-up pictures and of the bootstrap.")] = 0,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write figures and raw samples here.")] = None,
    html_out: Annotated[Path | None, typer.Option("--html", help="Write a page with plots here.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh/--no-fresh", help="Also start new processes for cold start and allocations.")
    ] = True,
) -> None:
    """Measure decode, copy, infer, decide and signal, and camera to signal, with their percentiles.

    Without a line, frames of a folder (or made-up ones) go one by one through the line's own parts
    to the registers of a Modbus server. With --rate each frame is due at a fixed time and its
    latency counts from then, so that a stall shows in every frame it held up.
    """
    console = Console()
    if compare is not None:
        _refuse_beside_compare(context)
        show_comparison(compare_files(*compare, seed=seed), console)
        return
    setting = Setting(
        backend or "auto", precision or "fp32", 1 if batch is None else batch, cameras, threads,
        parse_affinity(affinity) if affinity else (), n, warmup, rate, seed,
    )  # fmt: skip
    _refuse_ignored(line, images, with_sinks=with_sinks, fresh=fresh)
    for option, place in (("--json", json_out), ("--html", html_out)):
        check_output(option, place)
    limit = Budget.parse(budget, n) if budget else None
    config = None if line is None else load_config(line)
    targets = [_first(bundle, config, setting, _Said(backend, precision, batch))]
    if against:
        targets.append(_second(against, targets[0], line))
    with stage_progress(Console(stderr=True)) as progress:
        report = run_benchmark(
            targets, images, config, lambda done, total: progress("measure", done, total),
            fresh=fresh, with_sinks=with_sinks,
        )  # fmt: skip
    if limit is not None:
        _hold(report, limit, budget)
    if json_out is not None:
        report.write(json_out)
    if html_out is not None:
        write_page(report, html_out)
    show(report, console)
    if report.budget is not None and not report.budget["kept"]:
        raise typer.Exit(_EXCEEDED)


def _refuse_ignored(line: Path | None, images: Path | None, *, with_sinks: bool, fresh: bool) -> None:
    """What a line alone has, and what a line has of its own."""
    if with_sinks and line is None:
        raise UsageError("--with-sinks: a line's sinks are meant, but there is no line; name it with --line")
    if line is not None and images is not None and not fresh:
        raise UsageError(
            "--images: a line judges pictures of its own sources; others serve for cold start and blocks alone, which "
            "--no-fresh leaves out. Leave out one of the two"
        )


def _refuse_beside_compare(context: typer.Context) -> None:
    """Two files are read, nothing is measured: whatever says how to measure would be ignored."""
    given = [
        one.opts[0] if one.param_type_name == "option" else (one.metavar or one.opts[0])
        for one in context.command.params
        if one.name not in _BESIDE_COMPARE and _was_given(context, one.name or "")
    ]
    if given:
        raise UsageError(f"{', '.join(given)}: --compare only reads two earlier runs and prints; leave that out")


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


@dataclass(frozen=True)
class _Said:
    """What the command line says itself, and a line otherwise."""

    backend: Backend | None
    precision: Precision | None
    batch: int | None


def _first(path: Path | None, config: LineConfig | None, setting: Setting, said: _Said) -> Target:
    """The bundle named, or the line's own; a line's settings hold where the command line says nothing."""
    if config is not None:
        return line_target(config, _of_line(config, setting, said), path)
    if path is None:
        raise UsageError("BUNDLE: got nothing, expected a bundle, --line line.yaml or --compare A.json B.json")
    target = Target(path, Bundle.read(path), setting)
    threshold_of(target.bundle, path)
    return target


def _of_line(config: LineConfig, setting: Setting, said: _Said) -> Setting:
    changed = {"backend": said.backend or config.backend, "precision": said.precision or config.precision}
    used = how(config.model_copy(update={**changed, "batch": said.batch or config.batch}))
    if said.batch not in {None, used.batch}:
        raise ConfigError(
            f"--batch: got {said.batch}, but {used.backend} on a line judges one frame a call; leave it out"
        )
    return replace(
        setting, backend=used.backend, precision=used.precision, batch=used.batch,
        threads=setting.threads or config.threads, cameras=max(len(config.sources), used.batch),
    )  # fmt: skip


def _second(text: str, first: Target, line: Path | None) -> Target:
    """A backend for the same bundle, or another bundle in the same setting."""
    if line is not None or first.setting.rate_fps is not None:
        raise UsageError(
            "--against: measures two in turns, which a line or a fixed rate does not allow; leave them out"
        )
    if text in _BACKENDS:
        return Target(first.path, first.bundle, replace(first.setting, backend=_BACKENDS[text]))
    if not Path(text).exists():
        raise ConfigError(f"--against: got {text!r}, expected a bundle that exists or one of {', '.join(_BACKENDS)}")
    target = Target(Path(text), Bundle.read(Path(text)), first.setting)
    threshold_of(target.bundle, target.path)
    return target


def _hold(report: Report, limit: Budget, text: str) -> None:
    summary = report.subjects[0].summaries()[TOTAL]
    measured_ms = limit.measured(summary) / 1e6
    report.budget = {"text": text, "measured_ms": measured_ms, "kept": limit.kept(summary)}
