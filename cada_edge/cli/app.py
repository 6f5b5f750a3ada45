"""The ``cada-edge`` program: commands by name, errors as one line, exit codes.

Exit codes: 0 done; 1 the library refused (`CadaEdgeError`); 2 wrong usage; 130 interrupted.
A command's module is imported when it is called, so that ``cada-edge run`` never pays for torch.
"""

from __future__ import annotations

import sys
from importlib import import_module

import typer
from rich.console import Console

from cada_edge.errors import CadaEdgeError, MissingDependencyError

# command -> (module under cada_edge.cli with a function of that name, extra that brings its imports)
COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("train", "train"),
    "calibrate": ("calibrate", "runtime"),
    "evaluate": ("evaluate", "evaluate"),
    "export": ("export", "train"),
    "run": ("run", "runtime"),
    "predict": ("predict", "runtime"),
    "inspect": ("inspect", "runtime"),
    "doctor": ("doctor", "runtime"),
    "synthesize": ("synthesize", "runtime"),
}


def run() -> None:
    raise NotImplementedError
