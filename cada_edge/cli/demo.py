"""``cada-edge demo``: the whole job, each step the command a user would type."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
import yaml
from rich.console import Console

from cada_edge.cli._outputs import check_folder_output
from cada_edge.data.dataset import scan
from cada_edge.errors import CadaEdgeError, ConfigError, DataError

_STOP_TIMEOUT_S = 20.0
_BELT_FPS = 6.0  # well within one small processor


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo leaves behind.")] = Path("demo"),
    *,
    data: Annotated[
        Path | None, typer.Option(help="Your images, in MVTec AD layout; without it a small line is drawn.")
    ] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Training steps; fewer on the small line.")] = None,
    size: Annotated[int, typer.Option(help="Model input, pixels a side.")] = 256,
    products: Annotated[int, typer.Option(min=3, help="Products of the small line.")] = 4,
    images: Annotated[int, typer.Option(min=12, help="Good training images of each of them.")] = 60,
    verdicts: Annotated[int, typer.Option(min=1, help="Verdicts the Modbus client waits for.")] = 40,
    seed: Annotated[int, typer.Option(help="Of the drawing and the training.")] = 0,
) -> None:
    """Run the whole job: data, train, export, calibrate, evaluate, run the line, read it over Modbus.

    Run again after an interruption, it goes on with the step that was not finished. A folder
    that holds the demo of other pictures or options is refused.
    """
    console = Console(highlight=False, soft_wrap=True)
    check_folder_output("--out", out)
    out.mkdir(parents=True, exist_ok=True)
    job = _Job(console, out, (data or out / "parts").resolve())
    steps = iterations or (1000 if data else 240)
    drawn = {} if data else {"products": products, "images": images}
    job.claim({"data": str(data.resolve()) if data else None, "size": size, "iterations": steps, "seed": seed, **drawn})
    if data is None and not job.data.is_dir():
        quarter = str(max(6, images // 4))
        job.step("draw a line of products", "synthesize", job.data, "--products", products, "--train", images,
                 "--test-good", quarter, "--test-defect", quarter, "--size", size, "--seed", seed)  # fmt: skip
    if not job.bundle.exists():
        job.step("train one model on all of them", "train", job.data, "--out", job.bundle, "--size", size,
                 "--iterations", steps, "--seed", seed)  # fmt: skip
    job.step("export it, checked against PyTorch", "export", job.bundle, "--images", job.data)
    job.step("set one threshold from good images it has not seen", "calibrate", job.bundle, job.data,
             "--target-frr", "0.05")  # fmt: skip
    report = out / "report.html"
    job.step("measure it on good and defective parts", "evaluate", job.bundle, job.data, "--report", report,
             "--json", out / "evaluation.json")  # fmt: skip
    _stream(job, verdicts)
    console.print(
        f"\n[bold]Done.[/] Open {report} in a browser; {job.bundle} and {out / 'line.yaml'} are yours to keep."
    )


@dataclass(frozen=True)
class _Job:
    """One demo: where it talks, where it writes, what it looks at."""

    console: Console
    out: Path
    data: Path

    @property
    def bundle(self) -> Path:
        return self.out / "line.cada"

    def claim(self, options: dict[str, object]) -> None:
        """Note what the model in this folder is made from. Raises `ConfigError` when it holds another one."""
        note = self.out / "demo.json"
        try:
            found = json.loads(note.read_text()) if note.exists() else options
        except ValueError as error:
            raise ConfigError(f"{note} is damaged ({error}); delete {self.out} or use another --out") from error
        if found != options or (self.bundle.exists() and not note.exists()):
            raise ConfigError(
                f"--out {self.out}: holds a model made otherwise ({found if note.exists() else 'unknown how'}, "
                f"now {options}); use another --out or delete that folder"
            )
        note.write_text(json.dumps(options))

    def step(self, title: str, *arguments: object) -> None:
        """Show and run one command. Raises `CadaEdgeError` when it fails."""
        words = [str(argument) for argument in arguments]
        self.console.print(f"\n[bold]{title}[/]\n[dim]$ cada-edge {shlex.join(words)}[/]")
        code = subprocess.run(_command(*words), check=False).returncode  # noqa: S603  # our own program
        if code:
            raise CadaEdgeError(f"demo stopped: `cada-edge {words[0]}` left with {code}; its message stands above")


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "cada_edge", *words]


def _stream(job: _Job, verdicts: int) -> None:
    """Run the line in one process and read it over Modbus from another."""
    port = _free_port()
    line = job.out / "line.yaml"
    line.write_text(yaml.safe_dump(_line(job, port), sort_keys=False))
    job.console.print(
        f"\n[bold]run the line, and read its verdicts over Modbus TCP[/]\n[dim]$ cada-edge run {line} &[/]"
    )
    with (job.out / "line.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  # our own program
            _command("run", str(line)), stdout=log, stderr=subprocess.STDOUT
        )
        try:
            with _leave_on_sigterm():
                job.step(
                    "a Modbus client in a process of its own", "watch", "127.0.0.1", "--port", port, "--count", verdicts
                )
                _independent(job, port)
        except CadaEdgeError as error:
            raise CadaEdgeError(f"{error}; what the line itself said is in {log.name}") from error
        finally:
            code = _stop(process)
    if code:
        raise CadaEdgeError(f"demo stopped: `cada-edge run` left with {code}; see {job.out / 'line.log'}")


@contextmanager
def _leave_on_sigterm() -> Iterator[None]:
    """Make SIGTERM an ordinary exit, so that the line does not run on alone."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(process: subprocess.Popen[bytes]) -> int:
    """Ask the line to end, insist after a while; its exit code."""
    process.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT_S)
    finally:
        process.kill()  # nothing happens to one that has left
    return process.wait()


def _independent(job: _Job, port: int) -> None:
    """The same block through mbpoll (libmodbus), which shares no code with us."""
    program = shutil.which("mbpoll")
    if program is None:
        job.console.print(
            "[dim]mbpoll is not installed; with it (apt install mbpoll) a second, foreign client reads too[/]"
        )
        return
    command = [program, "-1", "-m", "tcp", "-p", str(port), "-t", "4", "-r", "101", "-c", "25", "127.0.0.1"]
    job.console.print(f"\n[bold]the same words through a foreign client[/]\n[dim]$ {shlex.join(command)}[/]")
    try:
        subprocess.run(command, check=True, timeout=30)  # noqa: S603  # found by name on the path
    except subprocess.SubprocessError as error:
        raise CadaEdgeError(f"demo stopped: the foreign client could not read the block: {error}") from error


def _line(job: _Job, port: int) -> dict[str, object]:
    """A line.yaml whose one camera sees every product's test images in turn."""
    belt = _belt(job)
    return {
        "schema": 1,
        "bundle": job.bundle.name,
        "deadline_ms": 900,
        "sources": [{"id": "cam1", "uri": f"folder:{quote(str(belt))}?fps={_BELT_FPS:g}&loop=1"}],
        "sinks": {
            "modbus": {"host": "127.0.0.1", "port": port},
            "log": {},
            "records": {"jsonl": "verdicts.jsonl"},
            "rejects": {"dir": "rejects", "max_files": 200},
        },
    }


def _belt(job: _Job) -> Path:
    """A folder of links to the test images, in the order in which the parts pass: one of each product after the other.

    Raises `DataError` where there are none.
    """
    of_product: dict[Path, list[Path]] = {}
    for item in scan(job.data).test():
        of_product.setdefault(item.path.parent.parent, []).append(item.path)
    if not of_product:
        raise DataError(f"{job.data}: no test images to stream; expected <product>/test/<kind>/*.png")
    belt = job.out.resolve() / "belt"
    _clear(belt)
    rounds = zip_longest(*(of_product[folder] for folder in sorted(of_product)))
    for index, path in enumerate(path for one in rounds for path in one if path is not None):
        name = "-".join((f"{index:05}", *path.relative_to(path.parents[3]).parts))
        (belt / name).symlink_to(path.resolve())
    return belt


def _clear(belt: Path) -> None:
    """An empty folder, without the links of a run before. Raises `DataError` where anything else lies there."""
    if belt.is_symlink() or (belt.exists() and not (belt.is_dir() and all(one.is_symlink() for one in belt.iterdir()))):
        raise DataError(f"{belt}: is no folder of links that the demo made; move it, or give --out another folder")
    belt.mkdir(exist_ok=True)
    for link in belt.iterdir():
        link.unlink()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
