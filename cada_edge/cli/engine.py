"""``cada-edge engine``: a TensorRT engine of a bundle's graph, beside the bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cada_edge.bundle import Bundle
from cada_edge.cli._progress import stage_progress
from cada_edge.cuda_device import compute_capability
from cada_edge.engine_key import Flavour, Precision, graph_name, how_to_get, parse_capability
from cada_edge.engine_store import StoredEngine, Survey, engines_folder, survey
from cada_edge.errors import BundleError, ConfigError, EngineError, PluginMissingError
from cada_edge.export.engine import EngineConfig, build_engine
from cada_edge.export.plugin import architectures_of, built_plugins, cached_plugin

_DAMAGED = 1


class Action(str, Enum):
    """What to do."""

    build = "build"
    info = "info"


def engine(
    action: Annotated[Action, typer.Argument(help="build: compile one here; info: show those that are there.")],
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", metavar="BUNDLE")],
    *,
    backend: Annotated[Flavour, typer.Option(help="Whose engine: TensorRT's or TensorRT-RTX's.")] = "tensorrt",
    precision: Annotated[Precision, typer.Option(help="Which of the bundle's graphs.")] = "fp32",
    batch: Annotated[
        str, typer.Option(metavar="N | MIN,USUAL,MAX", help="Pictures in one call; three numbers for a range.")
    ] = "1",
    target: Annotated[
        str | None,
        typer.Option(metavar="8.6", help="Compute capability to build for; this machine's GPU if not given."),
    ] = None,
    plugin: Annotated[
        str, typer.Option(metavar="auto | none | FILE.so", help="none: ordinary operators do the plugin's work.")
    ] = "auto",
    workspace_mib: Annotated[int | None, typer.Option(min=1, help="Scratch memory that kernels may use.")] = None,
    dla_core: Annotated[int | None, typer.Option(min=0, help="DLA core, where TensorRT has DLA on the device.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the sidecars say as JSON.")] = False,
) -> None:
    """Build a TensorRT engine, on the device that will run it, and keep it beside the bundle.

    An engine fits one device and one TensorRT release, so it is no part of the bundle: it
    lies in BUNDLE.engines, under its key. The types are those of the graph: FP32, FP16 or
    INT8 as `cada-edge export` wrote it. info holds every plan and plugin to its sidecar, on any
    machine, and leaves with 1 where one is damaged.
    """
    folder = engines_folder(bundle)
    if action is Action.info:
        _info(bundle, survey(folder), as_json)
        return
    loaded, sizes = Bundle.read(bundle), parse_batch(batch)
    loaded.file(graph_name(precision), how_to_get(precision))
    config = EngineConfig(backend, precision, sizes, target, workspace_mib, dla_core)
    config = replace(config, plugin=_library(plugin, target))
    with stage_progress(Console(stderr=True)) as progress:
        built = build_engine(loaded, folder, config, progress)
    _show([built], {}, as_json)


def _info(bundle: Path, found: Survey, as_json: bool) -> None:
    if found.engines or found.unreadable or as_json:
        damaged = {**found.unreadable, **_damaged(found.engines)}
        _show(found.engines, damaged, as_json)
        if damaged:
            raise typer.Exit(_DAMAGED)
        return
    if not bundle.is_file():
        raise BundleError(f"{bundle} is not there, nor are engines beside it; give the path of a bundle")
    typer.echo(f"no engine beside {bundle}; on the device that will run it: cada-edge engine build {bundle}")


def _damaged(engines: Sequence[StoredEngine]) -> dict[Path, str]:
    """Folders of those whose plan or plugin is not what the sidecar says, and how it differs."""
    found = {}
    for one in engines:
        try:
            one.check()
        except EngineError as error:  # noqa: PERF203  # a handful of files
            found[one.folder] = str(error)
    return found


def _library(plugin: str, target: str | None) -> Path | None:
    """The plugin library to build with. Where none was built nothing does without in silence: `PluginMissingError`."""
    if plugin == "none":
        return None
    gpu = _gpu(target)
    found = cached_plugin(gpu) if plugin == "auto" else Path(plugin)
    if found is None and gpu and (built := built_plugins()):
        have, arch = " and ".join(map(architectures_of, built)), gpu.replace(".", "")
        raise PluginMissingError(
            f"the plugin libraries built here are for {have}, the engine is for a GPU of {gpu}; "
            f"run: cada-edge plugin build --arch {arch}, or say --plugin none"
        )
    if found is None:
        raise PluginMissingError("no plugin library was built here; run: cada-edge plugin build, or say --plugin none")
    return found


def _gpu(target: str | None) -> str | None:
    """Compute capability that is built for; None without a driver, of which the build speaks."""
    if target is not None:
        return parse_capability(target)
    try:
        return compute_capability()
    except EngineError:
        return None


def parse_batch(text: str) -> tuple[int, int, int]:
    """``4`` as (4, 4, 4), ``1,2,8`` as (1, 2, 8). Raises `ConfigError`."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise ConfigError(f"--batch: got {text!r}, expected one number or three such as 1,2,8")
    first, usual, last = numbers * 3 if len(numbers) == 1 else numbers
    return first, usual, last


def _show(engines: Sequence[StoredEngine], damaged: Mapping[Path, str], as_json: bool) -> None:
    if as_json:
        unreadable = [folder for folder in damaged if folder not in {one.folder for one in engines}]
        rows = [{"folder": str(folder), "damaged": damaged[folder]} for folder in unreadable]
        rows += [_row(one, damaged.get(one.folder)) for one in engines]
        typer.echo(json.dumps(rows, indent=1))
        return
    console = Console(soft_wrap=True, markup=False)
    if engines:
        console.print(_table(engines, damaged))
    for folder in dict.fromkeys(path.parent for path in (*(one.folder for one in engines), *damaged)):
        console.print(f"in {folder}", highlight=False)
    for folder, why in damaged.items():
        console.print(f"{folder.name}: DAMAGED: {why}", highlight=False)


def _table(engines: Sequence[StoredEngine], damaged: Mapping[Path, str]) -> Table:
    headings = ("TensorRT", "GPU", "type", "batch", "plugin", "convs", "MiB", "key", "files")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")  # a cut key names no folder
    for one in engines:
        record, key = one.record, one.record.key
        convolutions = "\n".join(f"{count} {kind}" for kind, count in record.kernels.convolutions.items()) or "-"
        table.add_row(
            f"{key.flavour}\n{key.version}",
            f"{key.compute_capability}{' + DLA' if key.core == 'dla' else ''}",
            key.precision,
            ",".join(map(str, key.batch)),
            f"{record.kernels.plugins} layer" if key.plugin_sha256 else "no",
            convolutions,
            f"{record.plan_bytes / 2**20:.1f}",
            one.folder.name,
            "DAMAGED" if one.folder in damaged else "ok",
        )
    return table


def _row(one: StoredEngine, damaged: str | None) -> dict[str, Any]:
    return {"folder": str(one.folder), "damaged": damaged, **json.loads(one.record.to_json())}
