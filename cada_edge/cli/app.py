"""The ``cada-edge`` program: commands by name, errors as one line, exit codes.

Exit codes, the same for every command (docs/operations.md says them to users): 0 done, and every
check passed; 1 an error, one line on standard error, or a check that failed; 2 the command line has
to change, the message names the option; 3 `predict` judged every picture and one is not ok; 130
interrupted; 141 nobody read the output any more. Every option can also come from the environment,
as ``CADA_EDGE_<COMMAND>_<OPTION>``; the command line wins.

Only the module of the command that was called is imported, so that ``cada-edge run`` never
pays for torch and ``cada-edge --help`` for nothing.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from cada_edge.cli._usage import UsageError
from cada_edge.errors import CadaEdgeError, ConfigError
from cada_edge.interrupts import forget_put_off, is_interrupt
from cada_edge.version import __version__

ENVIRONMENT_PREFIX = "CADA_EDGE"
DEBUG_VARIABLE = f"{ENVIRONMENT_PREFIX}_DEBUG"
# Fields whose option has another name.
OPTION_OF = {
    "AugmentConfig.copies": "augment_copies",
    "EvaluateConfig.targets_frr": "target_frr",
    "SynthConfig.size_px": "size",
    "EncoderConfig.name": "encoder",
    "EncoderConfig.weights": "encoder_weights",
    "GateTolerance.auroc": "max_auroc_fall",
    "GateTolerance.false_rejects": "max_false_rejects",
    "GateTolerance.flips": "max_flips",
    "ImageSpec.size_hw": "size",
}
FAILED, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141
EXIT_CODES = (
    "Every command leaves with 0: done, checks passed; 1: an error or a failed check; 2: wrong usage, the message "
    "names the option; 3: `predict` found a part that is not ok; 130: interrupted."
)
_EMPTY = re.compile(r"(--[a-z0-9-]+=)?")
_WRONG_VALUE = re.compile(r"--[a-z0-9-]+( [\w.]+)?: (got|unknown) ")  # of an option


@dataclass(frozen=True)
class Command:
    """A command: the function of its name in ``cada_edge.cli.<name>``, a dash in it an underscore there.

    Attributes:
        extra: the optional dependencies that bring its imports.
        summary: its line in ``cada-edge --help``.
    """

    extra: str
    summary: str


COMMANDS = {
    "synthesize": Command("runtime", "Make a small multi-product line of pictures, with defects, to try things on."),
    "train": Command("train", "Fit one model to folders of good images: DATA in, a bundle out."),
    "wrap": Command("train", "Give a detector made elsewhere (ONNX, anomalib) a CADA head: a bundle like any other."),
    "calibrate": Command("runtime", "Set the bundle's one threshold from held-out good images."),
    "evaluate": Command("evaluate", "Measure a bundle on labelled images and write a report."),
    "bench-accuracy": Command("train", "Train and evaluate a grid of detectors, heads and seeds; write one table."),
    "export": Command("train", "Add ONNX graphs to a bundle, fp32, fp16 and INT8, checked against the model."),
    "bench-ranges": Command("train", "Compare the rules of INT8 ranges by what they do to labelled images."),
    "verify": Command("export", "Run every backend that is here on the same images and compare."),
    "engine": Command("export", "Build a TensorRT engine of the bundle's graph, on the device that will run it."),
    "plugin": Command("export", "Build the TensorRT plugin on this device, or say what a build would use."),
    "benchmark": Command("runtime", "Measure how long an inspection takes here, stage by stage, camera to signal."),
    "tune": Command("runtime", "Find the fastest way to run a bundle on this machine, and keep it."),
    "run": Command("runtime", "Run a line: camera in, verdicts out to the PLC."),
    "check": Command("runtime", "Dial every model, camera, PLC and sink of a line; change nothing."),
    "source": Command("runtime", "Open a camera and show age, drops and quality of its frames; record a flat field."),
    "service": Command("runtime", "Print a systemd unit, watchdog included, that runs a line at boot."),
    "watch": Command("runtime", "Read a running line over Modbus TCP, as its PLC does."),
    "registers": Command("runtime", "Print the register map of this version: words, bits, addresses, meanings."),
    "plc-sim": Command("runtime", "Play the PLC against a station: run handshakes, judge every read."),
    "records": Command("runtime", "Count, time and list what a line has recorded; export it to Parquet."),
    "recalibrate": Command("runtime", "Set the threshold anew from the pictures that a line has archived."),
    "predict": Command("runtime", "Judge single images and show where they differ."),
    "inspect": Command("runtime", "Verify a bundle and show what is in it."),
    "doctor": Command("runtime", "Show what is installed, what is missing and what mends it."),
    "demo": Command("train", "Run the whole job by itself on a small line, PLC client included."),
}


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    called = next((a for a in given if not a.startswith("-")), None)
    with reported(called, debug="--debug" in given):
        _refuse_empty(given)
        program = typer.main.get_command(build(called))
        _name_variables(program, ENVIRONMENT_PREFIX)
        _keep_brackets(program)
        program(given, prog_name="cada-edge")


def _refuse_empty(given: list[str]) -> None:
    """An empty word would be read as the current folder. Raises `UsageError`."""
    for place, word in enumerate(given):
        if _EMPTY.fullmatch(word):
            what = word.rstrip("=") or (given[place - 1] if place else "")
            after = f"{what}: " if what.startswith("--") else f"argument {place}: "
            raise UsageError(f"{after}got nothing, expected a value; is a variable of your shell unset?")


def build(called: str | None) -> typer.Typer:
    """The program, with `called` imported and every other command known by its summary."""
    program = typer.Typer(
        name="cada-edge",
        help="Visual inspection on the line: one model, one threshold, every product, no labels.",
        epilog=EXIT_CODES,
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    program.callback()(_options)
    for name, command in COMMANDS.items():
        function = _load(name) if name == called else _placeholder
        program.command(name, short_help=command.summary)(function)
    return program


def _name_variables(command: Any, prefix: str) -> None:
    """Name each option's variable as the option is written, ``--set`` of `train` ``CADA_EDGE_TRAIN_SET``."""
    for option in (one for one in command.params if one.param_type_name == "option"):
        option.envvar = f"{prefix}_{option.opts[0].lstrip('-')}".replace("-", "_").upper()
    for name, below in getattr(command, "commands", {}).items():
        _name_variables(below, f"{prefix}_{name}")


def _keep_brackets(command: Any) -> None:
    """Have rich print ``[115200]`` in a help text, where it would swallow ``[what suits the detector]`` as a style."""
    for one in (command, *command.params):
        if getattr(one, "help", None):  # an argument of click itself has none
            one.help = escape(one.help)
    for below in getattr(command, "commands", {}).values():
        _keep_brackets(below)


def _show(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cada-edge {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and leave.", is_eager=True, callback=_show)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help=f"Show the traceback of an error (also {DEBUG_VARIABLE}=1).")
    ] = False,
) -> None:
    del version  # its callback has acted
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


def _placeholder() -> None:
    """Stands for a command that was not called; only its name and summary are read."""


def _load(name: str) -> Callable[..., Any]:
    """The function of one command, its errors turned into a line and an exit code."""
    return reported(name)(_function(name))


def _function(name: str) -> Callable[..., Any]:
    word = name.replace("-", "_")
    function: Callable[..., Any] = getattr(import_module(f"cada_edge.cli.{word}"), word)
    return function


@contextmanager
def reported(called: str | None, debug: bool = False) -> Iterator[None]:
    """Turn what we raise on purpose into one line on stderr and an exit code."""
    try:
        yield
        sys.stdout.flush()
    except typer.Exit:  # the command's own answer
        raise
    except BaseException as error:  # noqa: BLE001  # every end of the program; what is no answer of ours is raised again
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit would flush and fail again
        if is_interrupt(error):
            raise SystemExit(_interrupted(error, debug)) from None
        raise SystemExit(_failed(called, error, debug)) from None


def _interrupted(error: BaseException, debug: bool) -> int:
    """Say so; in debug mode also what became of the Ctrl-C on its way."""
    forget_put_off()
    if _debugging(debug) and not isinstance(error, KeyboardInterrupt | SystemExit):
        traceback.print_exception(error)
    return _say("interrupted", INTERRUPTED)


def _failed(called: str | None, error: BaseException, debug: bool) -> int:
    """The exit code for `error`, its line said. A bug is raised again, and in debug mode every error."""
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    if _debugging(debug) or not isinstance(error, ModuleNotFoundError | CadaEdgeError):
        raise error
    if isinstance(error, ModuleNotFoundError):
        return _say(_missing(called, error), FAILED)
    line = _in_options(called, error)
    wrong = isinstance(error, UsageError) or (isinstance(error, ConfigError) and _WRONG_VALUE.match(line))
    return _say(f"error: {line}", USAGE if wrong else FAILED)


def _in_options(called: str | None, error: CadaEdgeError) -> str:
    """The message, its field named as the option that sets it: ``--batch-size`` for ``FitConfig.batch_size``."""
    field, colon, rest = str(error).partition(": ")
    name = OPTION_OF.get(field, field.rpartition(".")[2])
    if called not in COMMANDS or not isinstance(error, ConfigError) or name not in _options_of(called):
        return str(error)
    return f"--{name.replace('_', '-')}{colon}{rest}"


def _options_of(name: str) -> set[str]:
    """Parameters of a command that are options: its keyword-only ones."""
    parameters = signature(_function(name)).parameters.values()
    return {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}


def _debugging(debug: bool) -> bool:
    return debug or os.environ.get(DEBUG_VARIABLE, "0") not in {"", "0"}


def _say(line: str, code: int) -> int:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(line, markup=False, style="red" if line.startswith("error") else None)
    return code


def _missing(called: str | None, error: ModuleNotFoundError) -> str:
    """The message for an absent package. A missing module of our own is a bug: raise it."""
    if called not in COMMANDS or error.name is None or error.name.split(".")[0] == "cada_edge":
        raise error
    extra = COMMANDS[called].extra
    return f"error: `{called}` needs the package {error.name!r}; install it with: pip install 'cada-edge[{extra}]'"
