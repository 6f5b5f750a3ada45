"""``cada-edge service``: the systemd unit of a line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cada_edge.runtime.config import load_config
from cada_edge.runtime.service import Service


def service(
    config: Annotated[Path, typer.Argument(help="The line.yaml to run at boot.", show_default=False)],
    *,
    user: Annotated[str, typer.Option(help="System user that runs it.")] = "cada-edge",
) -> None:
    """Print a hardened systemd unit, watchdog included, that runs a line at boot.

    Nothing is installed: the head of the unit says how. It fits this installation and this line.yaml;
    print it again when either moves or its ports or folders change.
    """
    typer.echo(Service(load_config(config), config.resolve(), user).unit(), nl=False)
