"""``cada-edge registers``: the register map of this version."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from cada_edge.cli._outputs import check_output
from cada_edge.imaging import write_atomic
from cada_edge.runtime.register_map import rendered


class Form(str, Enum):
    """What to write."""

    MD = "md"
    CSV = "csv"
    JSON = "json"


def registers(
    *,
    out: Annotated[Path | None, typer.Option(help="File to write; standard output unless said.")] = None,
    form: Annotated[Form, typer.Option("--format", help="Markdown, CSV for tag import, or JSON.")] = Form.MD,
) -> None:
    """Print the words of both blocks, with addresses and meanings, as this version has them."""
    check_output("--out", out)
    text = rendered(form.value)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_atomic(out, text.encode())
