"""``cada-edge plugin``: build the TensorRT plugin on this device, or say what is there."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cada_edge.export.plugin import cached_plugin, plugin_sha256
from cada_edge.export.plugin.build import build_plugin, situation


class Action(str, Enum):
    """What to do."""

    build = "build"
    info = "info"


def plugin(
    action: Annotated[Action, typer.Argument(help="build: compile it here, once; info: say what is there.")],
    headers: Annotated[Path | None, typer.Option(help="Folder with TensorRT's NvInferRuntime.h.")] = None,
    arch: Annotated[str | None, typer.Option(help="GPUs: 87 Orin, 110 Thor, 86-real;120. Default: this one's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Copy the library to this file too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Compile CadaNormalize, the fused last node of the graph, for this device's TensorRT and GPU."""
    console = Console(soft_wrap=True, markup=False)
    if action is Action.info:
        facts = {**situation(headers), "library": str(cached_plugin() or "none; run cada-edge plugin build")}
    else:
        with Console(stderr=True).status("compiling, about a minute on a Jetson"):
            facts = {"library": str(build_plugin(headers, arch, out))}
    facts["source_sha256"] = plugin_sha256()
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
    elif action is Action.build:
        console.print(facts["library"], highlight=False)
    else:
        _render(facts, console)


def _render(facts: dict[str, str], console: Console) -> None:
    width = max(map(len, facts))
    for name, value in facts.items():
        console.print(f"{name:<{width}}  {value}", highlight=False)
