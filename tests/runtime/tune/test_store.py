from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from runtime_kit import make_bundle, tiny_model

from cada_edge.bundle import Bundle
from cada_edge.errors import ConfigError
from cada_edge.runtime.runners.how import How, LocalOptions
from cada_edge.runtime.tune.store import Choice, Entry, Key, choice, keep, places, read, tuned

CHOICE = Choice(
    backend="ort",
    threads=1,
    level="extended",
    inline=True,
    spin=False,
    p50_ms=1.5,
    ratio=(0.8, 0.7, 0.9),
    made_at="now",
)
AUTO = How("auto")
TUNED = How("ort", threads=1, graph=LocalOptions("extended", spin=False))


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Bundle, Path]:
    """A bundle and its file; the user's cache is a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make_bundle().write(tmp_path / "line.cada")
    return Bundle.read(tmp_path / "line.cada"), tmp_path / "line.cada"


def entry(bundle: Bundle, **changes: Any) -> Entry:
    """Of this machine, but for `changes`."""
    return Entry(key=Key.here(bundle, "fp32").model_copy(update=changes), choice=CHOICE)


def test_what_was_kept_is_what_auto_takes(line: tuple[Bundle, Path]) -> None:
    """Backend, threads and options; threads that somebody asked for stay."""
    bundle, path = line
    assert tuned(bundle, path, AUTO) == How("ort")
    assert keep(bundle, path, entry(bundle)) == path.with_name("line.cada.tune.json")
    assert tuned(bundle, path, AUTO) == TUNED
    assert tuned(bundle, path, How("auto", threads=3)).threads == 3
    assert tuned(bundle, path, How("auto", "int8")) == How("ort", "int8")


@pytest.mark.parametrize(
    "changes", [{"processor": "another"}, {"cores": 77}, {"onnxruntime": "1.0"}, {"bundle_sha256": "0" * 64}]
)
def test_a_stale_choice_is_ignored_with_a_line_that_says_why(
    line: tuple[Bundle, Path], changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Another machine, other libraries, another bundle: ONNX Runtime as it comes, and both values in the log."""
    bundle, path = line
    keep(bundle, path, entry(bundle, **changes))
    assert tuned(bundle, path, AUTO) == How("ort")
    (told,) = capsys.readouterr().err.splitlines()
    ((name, old),) = changes.items()
    assert f"{name} was {old}, is " in json.loads(told)["reason"]


@pytest.mark.parametrize(
    "content", ["", "[1]", "{", '{"schema": 2}', '{"schema": 1, "kind": "x", "entries": []}', "[" * 100_000]
)
def test_a_damaged_file_is_ignored_with_a_line(
    line: tuple[Bundle, Path], content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever lies there, the line runs as if it did not, and says so."""
    bundle, path = line
    path.with_name("line.cada.tune.json").write_text(content)
    assert tuned(bundle, path, AUTO) == How("ort")
    assert "tune ignored" in capsys.readouterr().err


def test_a_file_can_name_no_other_backend(line: tuple[Bundle, Path]) -> None:
    """A hostile file chooses among ways we know, or is refused."""
    bundle, path = line
    place = keep(bundle, path, entry(bundle))
    document = json.loads(place.read_text())
    for name, value in (("backend", "tensorrt"), ("threads", 10_000), ("level", "none"), ("library", "/tmp/x.so")):
        changed = json.loads(json.dumps(document))
        changed["entries"][0]["choice"][name] = value
        place.write_text(json.dumps(changed))
        with pytest.raises(ConfigError, match=name):
            read(place)


def test_machines_that_share_a_folder_do_not_lose_each_others_choice(line: tuple[Bundle, Path]) -> None:
    """A new choice takes the place of one with its own key alone."""
    bundle, path = line
    keep(bundle, path, entry(bundle, processor="another"))
    keep(bundle, path, entry(bundle))
    place = keep(bundle, path, entry(bundle))
    assert len(read(place).entries) == 2
    assert choice(place, Key.here(bundle, "fp32")) == CHOICE


def test_where_the_bundle_cannot_have_a_neighbour_the_cache_serves(
    line: tuple[Bundle, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle in a folder that nobody may write to is tuned all the same."""
    bundle, path = line
    beside, cached = places(bundle, path)
    beside.mkdir()  # no file can take this place
    assert keep(bundle, path, entry(bundle)) == cached
    assert tuned(bundle, path, AUTO) == TUNED


def test_another_bundle_of_the_same_name_does_not_inherit(line: tuple[Bundle, Path]) -> None:
    """A bundle that was replaced is run as it comes until it is tuned."""
    bundle, path = line
    keep(bundle, path, entry(bundle))
    other = make_bundle(tiny_model(scale=300.0))
    assert tuned(other, path, AUTO) == How("ort")


def test_fewer_cores_are_another_machine(line: tuple[Bundle, Path]) -> None:
    """What was measured on two cores does not hold for a process that may use one."""
    bundle, path = line
    cores = os.sched_getaffinity(0)
    keep(bundle, path, entry(bundle, cores=len(cores) + 1))
    assert tuned(bundle, path, AUTO) == How("ort")
