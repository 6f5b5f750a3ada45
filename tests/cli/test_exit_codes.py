"""One scheme of exit codes for every command, as docs/operations.md has it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from runtime_kit import make_bundle, picture, write_line

from cada_edge.cli import app
from cada_edge.imaging import write_png

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def cada_edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """The program in a folder with a bundle, pictures, a line, and what is none of these: exit code, standard error."""
    bundle = make_bundle().with_roles({"fit": (), "align": (), "calibrate": ()})
    write_line(tmp_path, bundle, links=[{"kind": "modbus-server", "port": 0}])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.cada").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text.cada").write_text("hello")
    (tmp_path / "cut.cada").write_bytes((tmp_path / "line.cada").read_bytes()[:300])
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            app.run(list(arguments))
        code = left.value.code
        return (code if isinstance(code, int) else 0), capfd.readouterr().err

    return call


ERRORS = {
    "inspect absent.cada": "absent.cada: cannot read the bundle: No such file or directory; check the path",
    "inspect empty": "empty is not a cada-edge bundle: it has no bundle.json; name the .cada file itself",
    "inspect empty.cada": "empty.cada is not a whole bundle: it is empty; name what `cada-edge train` wrote",
    "inspect text.cada": "text.cada is not a whole bundle: it begins with b'hell', a bundle with b'PK",
    "inspect cut.cada": "cut.cada is not a whole bundle: it was cut off or damaged",
    "inspect pipe": "pipe: cannot read the bundle: it is a device or a pipe; name a file",
    "calibrate line.cada images --out pipe": "--out pipe: is a device or a pipe; name a file",
    "registers --out pipe": "--out pipe: is a device or a pipe; name a file",
    "demo --out text.cada": "--out text.cada: text.cada is no folder; name another",
    "predict line.cada absent.png": "1 of 1 images could not be judged: absent.png: cannot read the file",
    "predict line.cada empty": "1 of 1 images could not be judged: empty: ",
    "predict line.cada images/0.png absent.png": "1 of 2 images could not be judged: absent.png",
    "predict line.cada images/1.png empty.cada": "1 of 2 images could not be judged: empty.cada",
    "predict line.cada images/0.png --precision int8": "model.int8.onnx",
    "calibrate line.cada images --out none/x.cada": "--out none/x.cada: folder none does not exist",
    "calibrate line.cada images --out images": "--out images: is a folder of something else",
    "calibrate line.cada images": "--target-frr: 4 good images cannot support 1 %",
    "evaluate line.cada images --report none/r.html": "--report none/r.html: folder none does not exist",
    "evaluate line.cada images --json empty": "--json empty: is a folder; name a file in it",
    "records absent.sqlite": "absent.sqlite: there is no such file; give the file that sinks.records.sqlite",
    "records empty": "empty: is a folder; give the file that sinks.records.sqlite",
    "records line.yaml": "line.yaml: cannot read the records",
    "records line.yaml --parquet empty": "--parquet empty: is a folder; name a file in it",
    "registers --out none/map.md": "--out none/map.md: folder none does not exist; make it",
    "registers --out empty": "--out empty: is a folder; name a file in it",
    "source images --sheet empty": "--sheet empty: is a folder",
    "source absent": "absent: no such folder",
    "check absent.yaml": "absent.yaml: cannot read",
    "run empty.cada": "empty.cada: got nothing",
    "service absent.yaml": "absent.yaml: cannot read",
    "train absent --out new.cada": "absent: does not exist",
    "train images --out none/x.cada": "folder none does not exist",
    "benchmark --line empty.cada": "empty.cada: got nothing",
    "verify absent.cada": "absent.cada: cannot read the bundle",
    "export absent.cada --images images": "absent.cada: cannot read the bundle",
}
USAGE = {
    "nothing": "nothing",
    "inspect": "bundle",
    "inspect line.cada --nothing": "--nothing",
    "predict line.cada images/0.png --backend nothing": "openvino",
    "predict line.cada images/0.png --backend torch --precision fp16": "--precision: got 'fp16'",
    "train images --out new.cada --size 50": "--size: got (50, 50)",
    "train images --out new.cada --size x": "--size",
    "train images --out new.cada --set width": "--set: got 'width'",
    "train images --out new.cada --set width=-5": "--set width: got -5",
    "train images --out new.cada --set colour=1": "--set: unknown keys ['colour']",
    "train images --out new.cada --detector none": "--detector: got 'none'",
    "train images --out new.cada --layout none": "--layout: got 'none'",
    "train images --out new.cada --extend line.cada --size 64": "--size: fixed by the bundle",
    "calibrate line.cada images --target-frr 2": "--target-frr: got 2.0",
    "calibrate line.cada images --confidence nan": "--confidence: got nan",
    "evaluate": "BUNDLE DATA",
    "evaluate line.cada images --target-frr 2": "--target-frr: got 2.0",
    "evaluate --dataset none --root images": "--dataset: got 'none'",
    "export line.cada --precision int4": "--precision: got 'int4'",
    "export line.cada --precision fp16": "--images: got none",
    "synthesize new --size 3": "--size: got 3",
    "synthesize new --products 0": "--products: got 0",
    "records line.yaml --since 999999d": "--since: got '999999d'",
    "records line.yaml --last -1": "--last",
    "service line.yaml --user a,b": "--user: got 'a,b'",
    "source images --roi 1,2": "--roi: got '1,2'",
    "source images --roi 0,0,0,9": "--roi width: got 0",
    "source images --rotate 45": "--rotate: got 45",
    "source nowhere://1": "unknown scheme 'nowhere'",
    "source images --timeout-s inf": "--timeout-s",
    "tune line.cada --threads 0": "--threads: got (0,)",
    "benchmark": "BUNDLE: got nothing",
    "benchmark line.cada --n 0": "--n: got 0",
    "benchmark line.cada --with-sinks": "--with-sinks",
    "benchmark --line line.yaml --images images --no-fresh": "--images: a line judges pictures of its own",
    "watch --port 0": "--port",
    "run line.yaml --max-frames 0": "--max-frames",
}


@pytest.mark.parametrize("words", ERRORS)
def test_what_is_missing_or_broken_is_one_line_and_1(cada_edge: Call, words: str) -> None:
    """It names the thing and what to do, and writes nothing."""
    before = sorted(Path().rglob("*"))
    code, error = cada_edge(*words.split())
    assert (code, "Traceback" in error) == (1, False), error
    told = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(told) == 1, error
    assert ERRORS[words] in told[0]
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("words", USAGE)
def test_a_wrong_command_line_is_2(cada_edge: Call, words: str) -> None:
    """Whichever command it is, and whoever finds out, typer or the library: the option is named."""
    code, error = cada_edge(*words.split())
    assert (code, "Traceback" in error, error.startswith("\n")) == (2, False, False), error
    assert USAGE[words] in " ".join(error.split())


def test_a_part_that_is_not_ok_is_3_and_nothing_else_is(cada_edge: Call) -> None:
    """A script tells a bad part from a good one and both from a picture that is not there."""
    assert cada_edge("predict", "line.cada", "images/0.png")[0] == 0
    assert cada_edge("predict", "line.cada", "images/0.png", "images/1.png") == (3, "")
    assert cada_edge("predict", "line.cada", "images/1.png", "absent.png")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("train", ""), "argument 1"), (("inspect", "line.cada", "--json", ""), "--json"), (("train", "--out="), "--out")],
)
def test_an_empty_word_is_not_the_current_folder(cada_edge: Call, arguments: tuple[str, ...], named: str) -> None:
    """`cada-edge train "$UNSET"` trains on nothing."""
    code, error = cada_edge(*arguments)
    assert (code, error) == (2, f"error: {named}: got nothing, expected a value; is a variable of your shell unset?\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_bundle_that_may_not_be_read_says_what_to_do(cada_edge: Call, tmp_path: Path) -> None:
    """Permission denied is the machine's matter, and mended there."""
    (tmp_path / "line.cada").chmod(0)
    code, error = cada_edge("inspect", "line.cada")
    assert (code, "make it readable for this user" in error) == (1, True)


def test_predict_is_read_in_a_narrow_window_and_by_other_programs(
    cada_edge: Call, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line an image whatever its path is, the path last; nothing is folded at 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    far = tmp_path / ("deep" * 20) / "part.png"
    far.parent.mkdir()
    write_png(far, picture(200))
    with pytest.raises(SystemExit):
        app.run(["predict", "line.cada", "images/0.png", str(far), "--out", "maps"])
    lines = capfd.readouterr().out.splitlines()
    assert lines[1].split() == ["ok", "0.0000", "0.5000", "images/0.png"]
    assert lines[2].split() == ["ng", "0.7843", "0.5000", str(far)]
    assert lines[3:] == ["2 heatmaps in maps"]


def test_predict_runs_with_openvino(cada_edge: Call) -> None:
    """Every backend of a line judges single images too."""
    pytest.importorskip("openvino")
    assert cada_edge("predict", "line.cada", "images/0.png", "--backend", "openvino") == (0, "")
    make_bundle(threshold=None).write("bare.cada")
    assert cada_edge("predict", "bare.cada", "images/0.png", "--backend", "openvino") == (3, "")
