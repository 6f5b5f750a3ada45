"""Where a command writes, tested before it works."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cada_edge.cli._outputs import check_bundle_output, check_folder_output, check_output
from cada_edge.errors import DataError
from cada_edge.files import is_special
from cada_edge.imaging import write_atomic


@pytest.mark.parametrize("check", [check_output, check_bundle_output, check_folder_output])
def test_what_the_system_says_of_a_path_is_one_error(tmp_path: Path, check: object) -> None:
    """A name that is too long names the option, the path and the reason."""
    assert callable(check)
    with pytest.raises(DataError, match=r"--out .*too long"):
        check("--out", tmp_path / ("a" * 300))


def test_a_name_that_is_too_long_cannot_be_written(tmp_path: Path) -> None:
    """`write_atomic` says so in its own error, and leaves nothing behind."""
    with pytest.raises(DataError, match="too long"):
        write_atomic(tmp_path / ("a" * 300), b"x")
    assert not list(tmp_path.iterdir())


def test_special_is_what_must_not_be_replaced(tmp_path: Path) -> None:
    """A pipe and a device are; files, folders, nothing and what nobody can look at are not."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("x")
    told = {path: is_special(path) for path in (tmp_path / "pipe", Path("/dev/null"), tmp_path / "file", tmp_path)}
    assert list(told.values()) == [True, True, False, False]
    assert not is_special(tmp_path / "absent")
    assert not is_special(tmp_path / ("a" * 300))
