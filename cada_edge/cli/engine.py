"""``cada-edge engine``: a TensorRT engine of a bundle's graph, beside the bundle."""

from __future__ import annotations

import json
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
from cada_edge.engine_key import Flavour, Precision, graph_name, how_to_get
from cada_edge.engine_store import StoredEngine, engines_folder, stored_engines
from cada_edge.errors import BundleError, ConfigError, PluginMissingError
from cada_edge.export.engine import EngineConfig, build_engine
from cada_edge.export.plugin import cached_plugin


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
    INT8 as `cada-edge export` wrote it.
    """
    folder = engines_folder(bundle)
    if action is Action.info:
        _info(bundle, stored_engines(folder), as_json)
        return
    loaded, sizes = Bundle.read(bundle), parse_batch(batch)
    loaded.file(graph_name(precision), how_to_get(precision))
    config = EngineConfig(backend, precision, sizes, target, workspace_mib, dla_core)
    config = replace(config, plugin=_library(plugin))
    with stage_progress(Console(stderr=True)) as progress:
        built = build_engine(loaded, folder, config, progress)
    _show([built], as_json)


def _info(bundle: Path, found: list[StoredEngine], as_json: bool) -> None:
    if found or as_json:
        _show(found, as_json)
        return
    if not bundle.is_file():
        raise BundleError(f"{bundle} is not there, nor are engines beside it; give the path of a bundle")
    typer.echo(f"no engine beside {bundle}; on the device that will run it: cada-edge engine build {bundle}")


def _library(plugin: str) -> Path | None:
    """The plugin library to build with. Where none was built nothing does without in silence: `PluginMissingError`."""
    if plugin == "none":
        return None
    found = cached_plugin() if plugin == "auto" else Path(plugin)
    if found is None:
        raise PluginMissingError("no plugin library was built here; run: cada-edge plugin build, or say --plugin none")
    return found


def parse_batch(text: str) -> tuple[int, int, int]:
    """``4`` as (4, 4, 4), ``1,2,8`` as (1, 2, 8). Raises `ConfigError`."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise ConfigError(f"batch: got {text!r}, expected one number or three such as 1,2,8")
    first, usual, last = numbers * 3 if len(numbers) == 1 else numbers
    return first, usual, last


def _show(engines: list[StoredEngine], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([_row(e) for e in engines], indent=1))
        return
    table = Table("TensorRT", "GPU", "type", "batch", "plugin", "convs", "MiB", "key", box=SIMPLE_HEAD, pad_edge=False)
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
        )
    console = Console(soft_wrap=True, markup=False)
    console.print(table)
    for folder in dict.fromkeys(one.folder.parent for one in engines):
        console.print(f"in {folder}", highlight=False)


def _row(one: StoredEngine) -> dict[str, Any]:
    return {"folder": str(one.folder), **json.loads(one.record.to_json())}
