from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from runtime_kit import picture
from source_kit import fake_camera

from cada_edge.cli.app import run
from cada_edge.imaging import read_image, write_png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures of a shaded scene with noise."""
    (tmp_path / "images").mkdir()
    light = np.linspace(60, 160, 48)[None, :, None] * np.ones((40, 1, 3))
    for index in range(6):
        noise = np.random.default_rng(index).normal(0, 4, light.shape)
        write_png(tmp_path / "images" / f"{index}.png", np.clip(light + noise, 0, 255).astype(np.uint8))
    return tmp_path / "images"


def code_of(*arguments: str) -> int:
    """The exit code of ``cada-edge source``."""
    with pytest.raises(SystemExit) as ended:
        run(["source", *arguments])
    return int(ended.value.code or 0)


def test_it_shows_what_the_frames_are(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON object holds every frame with age, status and size, as it would reach the model."""
    assert code_of(str(folder), "--frames", "6", "--roi", "8,4,32,24", "--rotate", "90", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["frames"], facts["complete"], facts["statuses"], facts["drops"]) == (6, True, {"ok": 6}, 0)
    assert all(one["size"] == [24, 32] and one["age_ms"] >= 0 for one in facts["sightings"])
    assert facts["interval_ms"]["p50"] > 0


def test_it_suggests_limits_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table names the figures, and a line to copy into line.yaml stands below it."""
    assert code_of(str(folder), "--frames", "6", "--quality") == 0
    shown = capsys.readouterr().out
    assert "sharp" in shown
    assert "age p50" in shown
    assert "quality: {min_brightness: " in shown


def test_a_poor_picture_leaves_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A black picture is told, and a script notices."""
    write_png(tmp_path / "0.png", picture(0))
    assert code_of(str(tmp_path), "--frames", "1", "--quality") == 1
    assert "too dark" in capsys.readouterr().out


def test_too_few_frames_leave_with_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A source that ends, or a trigger that never comes, is not a success."""
    assert code_of(str(folder), "--frames", "7") == 1
    assert "only 6 frames" in capsys.readouterr().out


def test_it_records_a_flat_field_that_a_line_can_use(folder: Path, tmp_path: Path) -> None:
    """The file is the mean of whole pictures, whatever region is set, without their noise."""
    flat = tmp_path / "flat.png"
    assert code_of(str(folder), "--frames", "6", "--flat-field", str(flat), "--roi", "0,0,8,8") == 0
    scene = read_image(flat)
    assert scene.shape == (40, 48, 3)
    assert scene.std(axis=0).mean() < read_image(folder / "0.png").std(axis=0).mean() / 2


def test_the_contact_sheet_holds_every_picture(folder: Path, tmp_path: Path) -> None:
    """Six pictures stand in two rows of four, on grey."""
    assert code_of(str(folder), "--frames", "6", "--sheet", str(tmp_path / "sheet.png")) == 0
    assert read_image(tmp_path / "sheet.png").shape == (2 * 44 + 4, 4 * 52 + 4, 3)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--roi", "1,2,3"], 2, "x,y,width,height"),
        (["--rotate", "45"], 2, "--rotate: got 45"),
        (["--trigger", "software"], 2, "trigger cannot be set"),
        (["--roi", "0,0,9000,9000"], 1, "set a smaller roi"),
    ],
)
def test_a_wrong_option_says_what_is_wrong(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, words: str
) -> None:
    """Each mistake has its own words and no traceback."""
    assert code_of(str(folder), "--frames", "2", *options) == code
    said = capsys.readouterr()
    assert words in " ".join((said.out + said.err).split())


@pytest.mark.peer
def test_a_triggered_camera_is_triggered(capsys: pytest.CaptureFixture[str]) -> None:
    """Each frame shown is the answer to a trigger of its own."""
    with fake_camera():
        code = code_of("aravis://127.0.0.1", "--frames", "8", "--trigger", "software", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in facts["sightings"]] == list(range(8))
    assert (code == 0) == (facts["statuses"] == {"ok": 8})
    assert facts["statuses"]["ok"] >= 4
