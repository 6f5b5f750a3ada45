"""Which backend runs a bundle, and the commands' words when none can."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cada_edge.bundle import Bundle
from cada_edge.cli import _runner
from cada_edge.cli.app import run
from cada_edge.data.dataset import Dataset
from cada_edge.errors import BundleError, MissingDependencyError
from cada_edge.protocols import Runner


def only(monkeypatch: pytest.MonkeyPatch, *installed: str) -> None:
    """Let this machine look as if it had only these backends."""
    monkeypatch.setattr(_runner, "find_spec", lambda name: name in installed)


def test_auto_prefers_the_exported_graph(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime runs an exported bundle, torch one that is not."""
    only(monkeypatch, "onnxruntime", "torch")
    assert _runner.pick_backend(bundle.with_file("model.onnx", b""), "auto") == "ort"
    assert _runner.pick_backend(bundle, "auto") == "torch"


def test_a_named_backend_is_never_replaced(bundle: Bundle) -> None:
    """Asking for ONNX Runtime on a bundle without a graph is an error that says what to do."""
    with pytest.raises(BundleError, match="cada-edge export"):
        _runner.open_runner(bundle, "ort")


def test_without_torch_the_message_names_both_ways_out(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Export it elsewhere, or install torch here."""
    only(monkeypatch, "onnxruntime")
    with pytest.raises(MissingDependencyError, match=r"cada-edge export.*cada-edge\[train\]"):
        _runner.pick_backend(bundle, "auto")


@pytest.mark.parametrize("backend", ["ort", "torch"])
def test_an_absent_package_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, backend: _runner.Backend) -> None:
    """The message holds the command that installs it."""
    only(monkeypatch)
    with pytest.raises(MissingDependencyError, match="pip install"):
        _runner.open_runner(bundle.with_file("model.onnx", b""), backend)


@pytest.mark.parametrize("command", ["calibrate", "evaluate"])
def test_a_bundle_that_is_not_there_is_one_line(
    command: str, good: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 and the path, no traceback."""
    with pytest.raises(SystemExit) as left:
        run([command, str(tmp_path / "no.cada"), str(good.root)])
    assert left.value.code == 1
    assert "no.cada" in capsys.readouterr().err


@pytest.fixture
def source(bundle: Bundle, runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle on disk; the command runs it through the weightless runner."""
    monkeypatch.setattr("cada_edge.cli.calibrate.open_runner", lambda *_: runner)
    bundle.write(tmp_path / "line.cada")
    return tmp_path / "line.cada"


def test_calibrate_writes_the_threshold(source: Path, good: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    """--out gets the calibrated bundle, --json the result; the input stays as it was."""
    target = source.with_name("calibrated.cada")
    with pytest.raises(SystemExit) as left:
        run(["calibrate", str(source), str(good.root), "--target-frr", "0.05", "--out", str(target), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (left.value.code, document["n_used"], document["n_seen_in_training"]) == (0, 20, 40)
    written = Bundle.read(target).manifest.threshold
    assert written is not None
    assert written.value == document["threshold"]["value"]
    assert Bundle.read(source).manifest.threshold is None


def test_too_few_images_leave_the_bundle_alone(
    source: Path, bundle: Bundle, good: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    """20 images cannot support 1 %: the message names the options, nothing is written."""
    with pytest.raises(SystemExit) as left:
        run(["calibrate", str(source), str(good.root)])
    assert left.value.code == 1
    assert "at least 99, ask for 4.77 % or more" in capsys.readouterr().err
    assert Bundle.read(source).sha256 == bundle.sha256
