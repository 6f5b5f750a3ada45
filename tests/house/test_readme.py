"""The README is true: its commands run, its links lead somewhere, its tables match the code."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from cada_edge.cli.app import COMMANDS
from cada_edge.runtime import registers
from cada_edge.runtime.config import LineConfig, load_config

CHECKOUT = Path(os.environ.get("CADA_EDGE_CHECKOUT") or Path(__file__).resolve().parents[2])
TEXT = (CHECKOUT / "README.md").read_text()
NOT_RUN = "# not run"
# The README shows the commands people type; the environment, which every option can come from,
# makes them small enough for a test.
SMALL = {
    "CADA_EDGE_SYNTHESIZE_PRODUCTS": "2",
    "CADA_EDGE_SYNTHESIZE_TRAIN": "16",
    "CADA_EDGE_SYNTHESIZE_TEST_GOOD": "2",
    "CADA_EDGE_SYNTHESIZE_TEST_DEFECT": "2",
    "CADA_EDGE_SYNTHESIZE_SIZE": "64",
    "CADA_EDGE_TRAIN_SIZE": "64",
    "CADA_EDGE_TRAIN_ITERATIONS": "5",
    "CADA_EDGE_TRAIN_SET": "width=8",
    "CADA_EDGE_CALIBRATE_ALLOW_SMALL": "1",
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "160",
}


@dataclass(frozen=True)
class Block:
    """One fenced block of the README."""

    language: str
    text: str

    @property
    def first_line(self) -> str:
        """What decides how the block is used: a file name or `# not run` as a comment."""
        return self.text.split("\n", 1)[0]


def blocks(language: str) -> list[Block]:
    """The README's fenced blocks of one language, in order."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    return [Block(*match) for match in found if match[0] == language]


def file_block(name: str) -> str:
    """The block that begins with ``# name``."""
    return next(b.text for language in ("yaml", "python") for b in blocks(language) if b.first_line == f"# {name}")


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command_folder(path: Path) -> Path:
    """A folder with `cada-edge` and `python` of this interpreter, to be first on PATH."""
    path.mkdir()
    for name, module in {"cada-edge": "-m cada_edge", "python": ""}.items():
        script = path / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return path


def run(script: str, folder: Path, environment: dict[str, str], timeout_s: float) -> tuple[int, str]:
    """Run a script in bash with its own process group, which ends with it."""
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output = process.communicate(timeout=timeout_s)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output = process.communicate()[0] + f"\n[no end after {timeout_s} s]"
    return process.returncode, output


@pytest.mark.slow
def test_every_command_runs(tmp_path: Path) -> None:
    """Copied one after the other into a shell, the README's commands all succeed."""
    if find_spec("torch") is None:
        pytest.skip("the README trains a model; pip install 'cada-edge[train]' brings what that needs")
    port = str(free_port())
    for name in ("line.yaml", "plc.py"):
        (tmp_path / name).write_text(file_block(name).replace("5020", port))
    path = f"{command_folder(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}"
    root = str(CHECKOUT) if "CADA_EDGE_CHECKOUT" not in os.environ else ""
    environment = {**os.environ, **SMALL, "PATH": path, "PYTHONPATH": root}
    for block in blocks("bash"):
        if not block.first_line.startswith(NOT_RUN):
            code, output = run(block.text, tmp_path, environment, timeout_s=180)
            assert code == 0, f"{block.text}\nleft with {code}:\n{output}"
    assert (tmp_path / "verdicts.csv").stat().st_size > 0
    assert list((tmp_path / "heatmaps").iterdir())


def test_every_command_named_exists() -> None:
    """`cada-edge <command>` in the README, the changelog and the Makefile is a command of the program."""
    texts = TEXT + (CHECKOUT / "CHANGELOG.md").read_text() + (CHECKOUT / "Makefile").read_text()
    named = set(re.findall(r"cada-edge ([a-z]+)\b(?=[ `$\n])", texts))
    assert named - {"is", "and", "does", "shows"} <= set(COMMANDS)
    missing = {name for name in COMMANDS if f"cada-edge {name}" not in texts}
    assert missing == set()


def test_every_command_of_the_program_has_a_module() -> None:
    """No command in the help is a promise only."""
    assert [name for name in COMMANDS if find_spec(f"cada_edge.cli.{name.replace('-', '_')}") is None] == []


def test_every_relative_link_leads_somewhere() -> None:
    """Links within the project resolve."""
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", TEXT + (CHECKOUT / "CHANGELOG.md").read_text())
    assert [link for link in links if not (CHECKOUT / link).exists()] == []


def test_the_example_line_is_valid(tmp_path: Path) -> None:
    """The line.yaml shown is what the runtime accepts."""
    (tmp_path / "line.yaml").write_text(file_block("line.yaml"))
    line = load_config(tmp_path / "line.yaml")
    assert [(link.kind, link.station) for link in line.links] == [("modbus-server", None)]


def test_the_example_line_shows_every_setting_of_the_top_level() -> None:
    """Nobody has to read the source to find a setting of the line itself."""
    shown = set(yaml.safe_load(file_block("line.yaml")))
    known = {field.alias or name for name, field in LineConfig.model_fields.items()} - {"base_dir", "max_frames"}
    assert shown == known


def table_rows() -> dict[str, tuple[int, str]]:
    """The register table: field -> (first word, meaning)."""
    section = TEXT.split("## What the PLC sees")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d+)(?:-\d+)? \| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE)
    return {name.strip(): (int(word), meaning) for word, name, meaning in rows if int(word) != registers.TAIL}


def test_the_register_table_is_the_codec() -> None:
    """Each field stands at the word at which the encoder writes it."""
    rows = table_rows()
    fields = set(registers.field_names()) - {"flags", "offline", "result"}
    assert fields <= rows.keys()
    blank = registers.StatusBlock(score=0.0)
    before = registers.encode(blank)
    for name in fields:
        changes: dict[str, Any] = {name: 1.0 if name in {"score", "threshold"} else 70}
        after = registers.encode(replace(blank, **changes))
        first = next(i for i in range(registers.WORDS) if after[i] != before[i])
        assert rows[name][0] <= first <= rows[name][0] + 1, name


@pytest.mark.parametrize(("row", "flags"), [("flags", registers.StatusFlag), ("result", registers.ResultFlag)])
def test_the_flag_bits_are_the_codec(row: str, flags: type[registers.StatusFlag | registers.ResultFlag]) -> None:
    """Each bit is named as in the code, at its number."""
    shown = {name: int(bit) for bit, name in re.findall(r"(?:bit )?(\d+) ([A-Z][A-Z0-9_]+)", table_rows()[row][1])}
    assert shown == {str(flag.name): int(flag).bit_length() - 1 for flag in flags}
