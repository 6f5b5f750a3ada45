"""The program: quick to start, one line per error, exit codes as documented."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from cada_edge import __version__
from cada_edge.cli import app
from cada_edge.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[2]


def program(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `cada-edge` with `arguments` in a fresh interpreter, or `code`."""
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "cada_edge"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CADA_EDGE_")}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, env=environment)


def test_help_lists_every_command_and_loads_none() -> None:
    """--help names each command with its line and imports neither torch nor any command."""
    code = (
        "import sys; from cada_edge.cli.app import run\n"
        "try: run(['--help'])\n"
        "except SystemExit: print(sorted(m for m in sys.modules if m == 'torch' or m.startswith('cada_edge.cli.')))\n"
    )
    done = program(code=code)
    assert "['cada_edge.cli._usage', 'cada_edge.cli.app']" in done.stdout
    for name, command in app.COMMANDS.items():
        assert name in done.stdout
        assert command.summary.split()[0] in done.stdout


@pytest.mark.parametrize("name", ["run", "predict", "inspect", "calibrate", "synthesize", "doctor"])
def test_a_runtime_command_never_loads_torch(name: str) -> None:
    """Commands a line needs import no training package, so that they work where none is installed."""
    code = f"import sys; import cada_edge.cli.{name}; print(sorted({{'torch', 'timm', 'sklearn'}} & set(sys.modules)))"
    assert program(code=code).stdout.strip() == "[]"


def help_texts(command: Any) -> list[str]:
    """What was written as help of a command and its options, as it was written."""
    return [one.help for one in (command, *command.params) if getattr(one, "help", None)]


@pytest.mark.parametrize("name", sorted(app.COMMANDS))
def test_every_command_explains_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cada-edge <command> --help` works for each command of the table, and swallows no text in brackets."""
    monkeypatch.setenv("COLUMNS", "400")  # no text goes on in the next row
    done = program(name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"cada-edge {name}" in done.stdout
    written: Any = typer.main.get_command(app.build(name))
    for text in help_texts(written.commands[name]):
        for bracketed in re.findall(r"\[[^]]*\]", text):
            assert bracketed in done.stdout


def test_version() -> None:
    """--version is one line and success."""
    done = program("--version")
    assert (done.returncode, done.stdout) == (0, f"cada-edge {__version__}\n")


@pytest.mark.parametrize("arguments", [("nothing",), ("--nothing",), ("inspect",), ("inspect", "a", "--nothing")])
def test_wrong_usage_leaves_with_2(arguments: tuple[str, ...]) -> None:
    """What cannot be understood is wrong usage, with a pointer to the help."""
    done = program(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_an_error_of_ours_is_one_line(tmp_path: Path) -> None:
    """A refused input leaves with 1 and exactly one line on stderr."""
    done = program("inspect", str(tmp_path / "absent.cada"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_debug_shows_where_it_came_from(tmp_path: Path) -> None:
    """--debug and CADA_EDGE_DEBUG=1 give the traceback."""
    done = program("--debug", "inspect", str(tmp_path / "absent.cada"))
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "DataError" in done.stderr


def leaves_with(error: BaseException | type[BaseException], called: str = "run") -> int | str | None:
    """The exit code that an exception inside a command becomes."""
    with pytest.raises(SystemExit) as left, app.reported(called):
        raise error
    return left.value.code


def test_ctrl_c_is_one_line_and_130(capfd: pytest.CaptureFixture[str]) -> None:
    """An interrupt is no error and no traceback."""
    assert leaves_with(KeyboardInterrupt) == 130
    assert capfd.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("error", [ConfigError("a: [red]x[/] is wrong"), DataError("b.png: is no picture")])
def test_messages_are_printed_as_they_are(error: Exception, capfd: pytest.CaptureFixture[str]) -> None:
    """Brackets in a message are not taken for colours."""
    assert leaves_with(error) == 1
    assert capfd.readouterr().err == f"error: {error}\n"


@pytest.mark.parametrize(
    ("command", "field", "shown"),
    [
        ("train", "ImageSpec.size_hw", "--size"),
        ("train", "AugmentConfig.copies", "--augment-copies"),
        ("train", "FitConfig.batch_size", "--batch-size"),
        ("calibrate", "target_frr", "--target-frr"),
        ("calibrate", "ImageSpec.size_hw", "ImageSpec.size_hw"),  # no option of this command
        ("run", "line.yaml: sources", "line.yaml: sources"),
    ],
)
def test_an_error_names_the_option_that_was_given(
    command: str, field: str, shown: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A setting of the library goes by the name of the option that sets it, where the command has one."""
    assert leaves_with(ConfigError(f"{field}: got 1, expected 2"), command) == (2 if shown.startswith("--") else 1)
    assert capfd.readouterr().err == f"error: {shown}: got 1, expected 2\n"


@pytest.mark.parametrize(("command", "extra"), [("run", "runtime"), ("train", "train"), ("evaluate", "evaluate")])
def test_a_missing_package_comes_with_its_command(command: str, extra: str, capfd: pytest.CaptureFixture[str]) -> None:
    """An absent optional package names the extra that brings it."""
    assert leaves_with(ModuleNotFoundError("No module named 'thing'", name="thing"), command) == 1
    line = f"`{command}` needs the package 'thing'; install it with: pip install 'cada-edge[{extra}]'"
    assert line in capfd.readouterr().err


def test_a_missing_module_of_ours_is_a_bug_and_looks_like_one() -> None:
    """Only other people's packages are excused."""
    with pytest.raises(ModuleNotFoundError), app.reported("run"):
        raise ModuleNotFoundError("No module named 'cada_edge.nothing'", name="cada_edge.nothing")


def test_a_closed_pipe_is_quiet() -> None:
    """`cada-edge ... | head` leaves no traceback."""
    pipe = f'"{sys.executable}" -m cada_edge doctor --json | true; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert int(done.stdout.split()[-1]) in {0, 1, 141}  # whether the pipe closes before or after is the system's choice


def test_without_the_runtime_extra_the_program_says_how_to_get_it() -> None:
    """Where typer is absent, `cada-edge` names the extra instead of a traceback."""
    code = "import sys; sys.modules['typer'] = None\nfrom cada_edge.__main__ import main\nmain()"
    done = program(code=code)
    assert done.returncode == 1
    assert done.stderr == "error: the command line needs 'typer'; install it with: pip install 'cada-edge[runtime]'\n"


def test_an_option_can_come_from_the_environment(tmp_path: Path) -> None:
    """CADA_EDGE_<COMMAND>_<OPTION> sets an option; the README's test relies on it."""
    environment = {**os.environ, "CADA_EDGE_DOCTOR_JSON": "1"}
    command = [sys.executable, "-m", "cada_edge", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.startswith("{")


def test_the_program_is_a_typer_app() -> None:
    """`build` can be used by a program that embeds the commands."""
    assert isinstance(app.build(None), typer.Typer)
