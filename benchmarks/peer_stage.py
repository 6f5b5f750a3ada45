"""What every subject of the comparison with peers shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import typer
from peer_table import Subject

from cada_edge.types import UInt8Array

Call = Callable[[], object]
Timed = Iterator[tuple[Subject, Call]]


@dataclass(frozen=True)
class Stage:
    """What all subjects share.

    Attributes:
        image: uint8 (1, H, W, 3).
        threads: of every runtime.
        work: where peers export to.
    """

    image: UInt8Array
    threads: int
    work: Path

    @property
    def example(self) -> torch.Tensor:
        """The picture for torch."""
        return torch.from_numpy(self.image)

    def folder(self, who: Subject) -> Path:
        """A folder for what one model exports to."""
        folder = self.work.absolute() / "export" / "".join(c if c.isalnum() else "_" for c in who.model)
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def attempt(who: Subject, make: Callable[[], Call]) -> Timed:
    """The subject, called once; where that fails, one line that says why, and nothing."""
    try:
        call = make()
        call()
    except Exception as error:  # noqa: BLE001  # whatever a peer's own export or a runtime may raise
        reason = (str(error).strip() or "no reason given").splitlines()[-1]
        typer.echo(f"{who.name}: left out: {type(error).__name__}: {reason}", err=True)
        return
    typer.echo(f"{who.name}: ready", err=True)
    yield who, call
