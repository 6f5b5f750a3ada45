from __future__ import annotations

import json
from pathlib import Path

import pytest
from runtime_kit import write_line

from cada_edge.cli.app import run


def code_of(*arguments: str) -> int:
    """The exit code of ``cada-edge check``."""
    with pytest.raises(SystemExit) as ended:
        run(["check", *arguments])
    return int(ended.value.code or 0)


def test_a_good_line_leaves_with_0_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Model and source stand in the table, and the last line says that it can run."""
    assert code_of(str(write_line(tmp_path)), "--frames", "2") == 0
    shown = capsys.readouterr().out
    assert "bundle" in shown
    assert "the line can run." in shown


def test_a_failing_line_leaves_with_1_and_json_names_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A script reads which dial failed."""
    line = write_line(tmp_path, sources=[{"uri": "folder:nowhere"}])
    assert code_of(str(line), "--json") == 1
    facts = json.loads(capsys.readouterr().out)
    assert [one["what"] for one in facts["findings"] if one["state"] == "fail"] == ["cam1"]


def test_a_wrong_line_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As with every other command."""
    assert code_of(str(write_line(tmp_path, colour="red"))) == 1
    assert "colour: unknown key" in capsys.readouterr().err
