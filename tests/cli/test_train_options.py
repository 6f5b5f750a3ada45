"""What `cada-edge train` refuses before the long work, and what it advises after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cada_edge.cli.train import check_out, supported_rate
from cada_edge.errors import DataError


@pytest.mark.parametrize(
    ("out", "message"), [(".", "no file name"), ("", "no file name"), ("/no/such/x.cada", "not exist")]
)
def test_a_place_that_cannot_hold_a_bundle_is_refused(out: str, message: str) -> None:
    """A folder, nothing, or a missing parent folder is named at once."""
    with pytest.raises(DataError, match=message):
        check_out(Path(out), force=False)


def test_what_exists_is_replaced_by_force_only(tmp_path: Path) -> None:
    """A bundle, or somebody's notes, survive a forgotten --out; a folder survives --force too."""
    there = tmp_path / "line.cada"
    there.write_text("mine")
    with pytest.raises(DataError, match="--force"):
        check_out(there, force=False)
    check_out(there, force=True)
    with pytest.raises(DataError, match="name another file"):
        check_out(tmp_path, force=True)


@pytest.mark.parametrize(("images", "rate"), [(233, 0.01), (99, 0.01), (98, 0.02), (30, 0.05), (9, 0.1), (1, 0.5)])
def test_the_advised_rate_is_one_the_images_support(images: int, rate: float) -> None:
    """n images support a rate of 1 / (n + 1) and above."""
    assert supported_rate(images) == rate
