from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records_kit import judged, send
from runtime_kit import make_bundle
from typer.testing import CliRunner, Result

from cada_edge.bundle import Bundle
from cada_edge.calibration import weights_sha256
from cada_edge.cli.app import build
from cada_edge.errors import DataError
from cada_edge.runtime.sinks.archive import ArchiveOptions, ImageArchive
from cada_edge.runtime.sinks.archive_index import archived_good

BUNDLE = make_bundle().with_roles({"fit": [], "align": []})
MODEL = weights_sha256(BUNDLE)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Of 240 frames every second pass and every reject (each twentieth); no two pictures are the same."""
    folder = tmp_path / "archive"
    sink = ImageArchive(folder, BUNDLE, ArchiveOptions(keep_passes=2, min_free_bytes=0))
    for frame_id in range(240):
        level = 200 if frame_id % 20 in {10, 15} and frame_id < 60 else 20 + frame_id % 90
        picture = np.full((32, 32, 3), level, np.uint8)
        picture[0, :16, 0] += np.array([frame_id >> bit & 1 for bit in range(16)], np.uint8)
        send(sink, judged(level, frame_id, image=picture))
    sink.close()
    BUNDLE.write(tmp_path / "line.cada")
    return folder


def move(folder: Path, start: str, to: str, count: int = 1000) -> int:
    """As a person would: pictures of that kind into another folder; returns how many."""
    source = folder / ("passes" if start == "pass" else "rejects")
    chosen = [path for path in sorted(source.glob(f"{start}-*")) if "-panel" not in path.name][:count]
    for path in chosen:
        path.rename(folder / to / path.name)
    return len(chosen)


def command(folder: Path, *arguments: str) -> Result:
    """Run ``cada-edge recalibrate`` on the bundle beside the archive."""
    given = ["recalibrate", str(folder.parent / "line.cada"), "--from-archive", str(folder), "--backend", "ort"]
    return CliRunner().invoke(build("recalibrate"), [*given, *arguments])


def as_json(folder: Path, *arguments: str) -> dict[str, Any]:
    """Its JSON."""
    done = command(folder, "--json", "--target-frr", "0.05", *arguments)
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def test_passes_and_a_fair_share_of_good_rejects_calibrate(archive: Path) -> None:
    """Of six good rejects the three whose frames would have been kept count; panels and bad passes do not."""
    assert move(archive, "reject", "good") == 6
    assert move(archive, "pass", "bad", 7) == 7
    found = archived_good(archive, MODEL)
    assert (found.n_passes, found.n_good, found.n_unsampled, found.n_bad) == (117 - 7, 3, 3, 7)
    assert len(found.items) == 113
    assert {item.product for item in found.items} == {"cam1"}


def test_the_bundle_gets_a_new_threshold_and_the_old_one_is_kept(archive: Path) -> None:
    """Old and new threshold, guarantee and drift are told; the bundle before lies beside the new one."""
    move(archive, "reject", "good")
    out = as_json(archive)
    new, old = Bundle.read(archive.parent / "line.cada"), Bundle.read(out["backup"])
    assert old.sha256 == BUNDLE.sha256
    assert new.manifest.threshold is not None
    assert out["before"]["threshold"]["value"] == 0.5
    assert out["threshold"]["value"] == new.manifest.threshold.value != 0.5
    assert out["threshold"]["n_images"] == out["archive"]["n_passes"] + 3 == 120
    assert weights_sha256(new) == MODEL


def test_the_threshold_is_the_one_that_the_line_would_have_found(archive: Path) -> None:
    """Judged again, an archived picture has the very score it had on the line."""
    move(archive, "reject", "good")
    out = as_json(archive, "--dry-run", "--target-frr", "0.1")
    index = [json.loads(line) for line in (archive / "index.jsonl").read_text().splitlines()]
    scores = sorted(entry["score"] for entry in index if entry["sampled"])
    assert out["threshold"]["value"] in scores
    assert sum(score > out["threshold"]["value"] for score in scores) <= 0.1 * len(scores)


def test_passes_alone_are_warned_of(archive: Path) -> None:
    """Without good rejects the threshold can only fall; that is said."""
    out = as_json(archive, "--dry-run")
    assert any("can only fall" in line for line in out["warnings"])
    assert out["threshold"]["value"] < 0.5


def test_a_dry_run_writes_nothing(archive: Path) -> None:
    """Neither bundle nor backup."""
    before = sorted(path.name for path in archive.parent.iterdir())
    assert as_json(archive, "--dry-run")["bundle"] is None
    assert sorted(path.name for path in archive.parent.iterdir()) == before
    assert Bundle.read(archive.parent / "line.cada").sha256 == BUNDLE.sha256


def test_another_place_leaves_the_bundle_alone(archive: Path) -> None:
    """With --out there is no backup and no change."""
    out = as_json(archive, "--out", str(archive.parent / "new.cada"))
    assert (out["backup"], out["bundle"]) == (None, str(archive.parent / "new.cada"))
    assert Bundle.read(archive.parent / "line.cada").sha256 == BUNDLE.sha256


def test_a_recalibrated_bundle_still_owns_its_archive(archive: Path) -> None:
    """Its threshold has changed, its model has not: the archive goes on serving it."""
    as_json(archive)
    assert as_json(archive, "--dry-run")["archive"]["n_foreign"] == 0


def test_an_archive_of_another_model_is_refused(archive: Path) -> None:
    """With both models named, and the bundle untouched."""
    other = BUNDLE.with_file("head.safetensors", b"\x02\0\0\0\0\0\0\0{}")
    other.write(archive.parent / "line.cada")
    done = command(archive)
    assert done.exit_code == 1
    assert f"judged by another model ({MODEL[:12]})" in done.stderr
    assert Bundle.read(archive.parent / "line.cada").sha256 == other.sha256


def test_pictures_of_an_earlier_model_are_left_out(archive: Path) -> None:
    """In an archive of two models each bundle takes its own."""
    other = BUNDLE.with_file("head.safetensors", b"\x02\0\0\0\0\0\0\0{}")
    sink = ImageArchive(archive, other, ArchiveOptions(keep_passes=1, min_free_bytes=0))
    send(sink, judged(33, 7))
    sink.close()
    assert archived_good(archive, MODEL).n_foreign == 1
    assert len(archived_good(archive, weights_sha256(other)).items) == 1


def test_pictures_that_nobody_knows_are_left_out(archive: Path) -> None:
    """What a person puts into `good` from elsewhere is counted and not used: `calibrate --add` takes such."""
    known = next((archive / "passes").iterdir())
    (archive / "good" / "from-my-phone.png").write_bytes(known.read_bytes())
    found = archived_good(archive, MODEL)
    assert (found.n_unknown, found.n_good) == (1, 0)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    """The message names the setting."""
    with pytest.raises(DataError, match=r"sinks\.archive\.dir"):
        archived_good(tmp_path, MODEL)


def test_an_archive_without_passes_says_what_to_set(tmp_path: Path) -> None:
    """No passes were kept: nothing to calibrate on."""
    ImageArchive(tmp_path, BUNDLE, ArchiveOptions(min_free_bytes=0)).close()
    (tmp_path / "index.jsonl").touch()
    with pytest.raises(DataError, match="keep_passes"):
        archived_good(tmp_path, MODEL)


def test_people_are_told_the_same(archive: Path) -> None:
    """Counts, guarantee and where the old bundle is kept."""
    move(archive, "reject", "good")
    done = command(archive, "--target-frr", "0.05")
    assert "117 passes and 3 good rejects count" in done.stdout
    assert "Threshold before 0.5, now " in done.stdout
    assert "is kept as" in done.stdout
