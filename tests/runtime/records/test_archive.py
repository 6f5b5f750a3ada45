from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from records_kit import fill, judged, send, small_disk
from runtime_kit import make_bundle, tiny_model

from cada_edge.calibration import weights_sha256
from cada_edge.errors import SinkError
from cada_edge.imaging import read_image, write_png
from cada_edge.runtime.sinks.archive import ArchiveOptions, ImageArchive
from cada_edge.runtime.sinks.archive_index import INDEX, read_index

BUNDLE = make_bundle()


def open_archive(folder: Path, **options: int | None) -> ImageArchive:
    """An archive that does not mind how full this machine's disk is."""
    return ImageArchive(folder, BUNDLE, ArchiveOptions(**{"min_free_bytes": 0, **options}))  # type: ignore[arg-type]  # test options


def names(folder: Path) -> list[str]:
    """Files in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def test_every_reject_and_one_of_so_many_passes_are_kept(tmp_path: Path) -> None:
    """Passes by their frame number; rejects with a panel; the index says what each was."""
    archive = open_archive(tmp_path, keep_passes=4)
    for frame_id in range(10):
        send(archive, judged(255 if frame_id in {3, 8} else 0, frame_id, name="part.png"))
    archive.close()
    assert names(tmp_path / "passes") == ["pass-00000001-cam1-0-part.png", "pass-00000003-cam1-4-part.png"]
    assert names(tmp_path / "rejects") == [
        "reject-00000002-cam1-3-part-panel.png",
        "reject-00000002-cam1-3-part.png",
        "reject-00000004-cam1-8-part-panel.png",
        "reject-00000004-cam1-8-part.png",
    ]
    index = read_index(tmp_path)
    entry = index["reject-00000004-cam1-8-part.png"]
    assert (entry.status, entry.threshold, entry.sampled) == ("ng", 0.5, True)
    assert entry.score == pytest.approx(1.0)
    assert not index["reject-00000002-cam1-3-part.png"].sampled
    assert {e.bundle_sha256 for e in index.values()} == {BUNDLE.sha256}
    assert {e.model_sha256 for e in index.values()} == {weights_sha256(BUNDLE)}


def test_originals_are_bit_for_bit_what_was_judged(tmp_path: Path) -> None:
    """As PNG a pass can be judged again to the same score."""
    archive, part = open_archive(tmp_path, keep_passes=1), judged(60)
    send(archive, part)
    (kept,) = (tmp_path / "passes").iterdir()
    assert part.frame.image is not None
    assert np.array_equal(read_image(kept), part.frame.image)


def test_without_an_option_no_pass_is_kept(tmp_path: Path) -> None:
    """Passes, and frames without a picture, leave nothing."""
    archive = open_archive(tmp_path)
    send(archive, judged(0))
    send(archive, judged(0, image=None))
    assert names(tmp_path / "passes") == names(tmp_path / "rejects") == []


def test_jpeg_saves_room(tmp_path: Path) -> None:
    """With a quality, originals and panels are JPEG."""
    archive = open_archive(tmp_path, quality=80)
    send(archive, judged(255, name="p.png"))
    assert names(tmp_path / "rejects") == ["reject-00000001-cam1-0-p-panel.jpg", "reject-00000001-cam1-0-p.jpg"]


def test_the_oldest_go_first_whatever_they_were(tmp_path: Path) -> None:
    """Within `max_bytes` the newest stay, over a restart too; other files and people's folders are untouched."""
    open_archive(tmp_path).close()
    for place in ("good/reject-00000001-cam1-0-x.png", "bad/pass-00000002-cam1-0-x.png", "passes/mine.png", "note.txt"):
        (tmp_path / place).write_bytes(b"x" * 5000)
    for frame_id in range(12):
        archive = open_archive(tmp_path, keep_passes=1, max_bytes=20_000)
        send(archive, judged(255 if frame_id % 2 else 0, frame_id))
        archive.close()
    kept = [*(tmp_path / "passes").glob("pass-*"), *(tmp_path / "rejects").iterdir()]
    assert sum(path.stat().st_size for path in kept) <= 20_000
    assert {int(path.name.split("-")[1]) for path in kept} <= set(range(6, 13))
    assert max(int(path.name.split("-")[1]) for path in kept) == 12
    assert len(list(tmp_path.glob("good/*")) + list(tmp_path.glob("bad/*"))) == 2
    assert (tmp_path / "note.txt").exists()
    assert (tmp_path / "passes" / "mine.png").exists()


def test_old_pictures_go_by_age(tmp_path: Path) -> None:
    """A picture of last month goes when the archive is tended; one of today stays."""
    archive = open_archive(tmp_path, keep_passes=1)
    send(archive, judged(0, 1))
    archive.close()
    (old,) = (tmp_path / "passes").iterdir()
    os.utime(old, (time.time() - 40 * 86_400,) * 2)
    archive = open_archive(tmp_path, keep_passes=1, max_days=30)
    send(archive, judged(0, 2))
    archive.tend()
    assert [name.split("-")[3] for name in names(tmp_path / "passes")] == ["2"]


def test_too_little_free_space_stops_archiving_only(tmp_path: Path) -> None:
    """Below the limit each picture is refused with both numbers; with space again it goes on."""
    with small_disk(tmp_path / "disk", size_kb=4096) as disk:
        archive = open_archive(disk, keep_passes=1, min_free_bytes=1 << 20)
        send(archive, judged(0, 1))
        ballast = fill(disk)
        with pytest.raises(SinkError, match=r"0 MiB are free, sinks\.archive\.min_free_bytes is 1 MiB"):
            send(archive, judged(0, 2))
        assert not archive.healthy()
        ballast.unlink()
        send(archive, judged(0, 3))
        assert archive.healthy()
        archive.close()
        assert [entry.frame_id for entry in read_index(disk).values()] == [1, 3]


def test_a_full_disk_leaves_no_half_picture(tmp_path: Path) -> None:
    """What cannot be written whole is not there at all, and the index still reads."""
    with small_disk(tmp_path / "disk") as disk:
        archive = open_archive(disk)
        send(archive, judged(255, 1))
        fill(disk)
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        with pytest.raises(SinkError):
            send(archive, judged(255, 2, image=noise))
        for path in (disk / "rejects").iterdir():
            read_image(path)
        assert 1 in [entry.frame_id for entry in read_index(disk).values()]


def test_the_index_forgets_pictures_that_have_gone(tmp_path: Path) -> None:
    """On opening, lines of deleted pictures and torn ones go; lines of pictures that a person has moved stay."""
    archive = open_archive(tmp_path, keep_passes=1)
    for frame_id in range(3):
        send(archive, judged(0, frame_id))
    archive.close()
    first, second, third = sorted((tmp_path / "passes").iterdir())
    first.unlink()
    second.rename(tmp_path / "bad" / second.name)
    with (tmp_path / INDEX).open("a") as stream:
        stream.write('{"file": "../../etc/passwd"}\n{"file": "pass-000')
    open_archive(tmp_path).close()
    lines = [json.loads(line)["file"] for line in (tmp_path / INDEX).read_text().splitlines()]
    assert lines == [second.name, third.name]


def test_numbers_go_on_after_pictures_have_gone(tmp_path: Path) -> None:
    """A name is never used twice while the index knows it."""
    archive = open_archive(tmp_path, keep_passes=1)
    send(archive, judged(0, 1))
    archive.close()
    (only,) = (tmp_path / "passes").iterdir()
    only.rename(tmp_path / "good" / only.name)
    archive = open_archive(tmp_path, keep_passes=1)
    send(archive, judged(0, 1))
    archive.close()
    assert names(tmp_path / "passes")[0].startswith("pass-00000002-")


def test_a_new_bundle_is_named_from_then_on(tmp_path: Path) -> None:
    """After a reload the index tells the new model."""
    other = make_bundle(tiny_model(strangeness=0.5)).with_file("head.safetensors", b"\x02\0\0\0\0\0\0\0{}")
    archive = open_archive(tmp_path, keep_passes=1)
    send(archive, judged(0, 1))
    archive.use_bundle(other)
    send(archive, judged(0, 2))
    archive.close()
    assert [e.model_sha256 for e in read_index(tmp_path).values()] == [weights_sha256(b) for b in (BUNDLE, other)]


def test_hostile_names_stay_in_their_folder(tmp_path: Path) -> None:
    """Path tricks in a frame's name or source become plain letters."""
    archive = open_archive(tmp_path / "archive")
    for name in ("../../etc/passwd", "/abs.png", "a\0b", "..", "", "-rf *;$(x)", os.fsdecode(b"\xff\xfe")):
        send(archive, judged(255, name=name, source_id="../up"))
    archive.close()
    assert names(tmp_path) == ["archive"]
    assert len(names(tmp_path / "archive" / "rejects")) == 14
    assert len(read_index(tmp_path / "archive")) == 7


def test_an_archive_in_a_files_place_is_refused(tmp_path: Path) -> None:
    """The error names the setting."""
    write_png(tmp_path / "x", np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(SinkError, match=r"sinks\.archive\.dir"):
        open_archive(tmp_path / "x")
