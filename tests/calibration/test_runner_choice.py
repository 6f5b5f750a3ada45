"""Which backend runs a bundle, and the commands' words when none can."""

from __future__ import annotations

from pathlib import Path

import pytest

from cada_edge.bundle import Bundle
from cada_edge.cli import _runner
from cada_edge.cli.app import run
from cada_edge.data.dataset import Dataset
from cada_edge.errors import BundleError, MissingDependencyError


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
