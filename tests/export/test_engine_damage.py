"""Damaged engines are named by `engine info`, `verify` and the runner, on machines with and without a driver."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from engine_kit import build_fake, install
from fake_cuda import FakeGpu
from typer.testing import CliRunner

from cada_edge.bundle import MODEL, Bundle
from cada_edge.cli.engine import engine as engine_command
from cada_edge.cli.verify import verify as verify_command
from cada_edge.engine_store import PLAN, PLUGIN, SIDECAR, StoredEngine, engines_folder, survey
from cada_edge.errors import CadaEdgeError, EngineError, EngineMismatchError, PluginMissingError
from cada_edge.runtime.runners.tensorrt import TensorRTRunner

LIBRARY = b"a library"


def truncate(stored: StoredEngine) -> None:
    """Let a disk that filled up have cut the plan."""
    (stored.folder / PLAN).write_bytes(stored.plan()[:-100])


def change(stored: StoredEngine) -> None:
    """Flip one bit of the plan; its size stays."""
    plan = stored.plan()
    (stored.folder / PLAN).write_bytes(plan[:-1] + bytes([plan[-1] ^ 1]))


def swap_plugin(stored: StoredEngine) -> None:
    """Put another library in place of the plugin."""
    (stored.folder / PLUGIN).write_bytes(b"another library")


def spoil(stored: StoredEngine) -> None:
    """Leave half of the sidecar."""
    sidecar = stored.folder / SIDECAR
    sidecar.write_bytes(sidecar.read_bytes()[:200])


def vanish(stored: StoredEngine) -> None:
    """Leave no sidecar, as a build that was cut off does."""
    (stored.folder / SIDECAR).unlink()


FILES: dict[str, tuple[Callable[[StoredEngine], None], str]] = {
    "truncated": (truncate, "model.engine is truncated or changed"),
    "changed": (change, "model.engine is truncated or changed"),
    "no-plan": (lambda stored: (stored.folder / PLAN).unlink(), "model.engine: cannot read it"),
    "other-plugin": (swap_plugin, "plugin.so has sha256"),
    "no-plugin": (lambda stored: (stored.folder / PLUGIN).unlink(), "plugin.so: cannot read it"),
}
SIDECARS: dict[str, tuple[Callable[[StoredEngine], None], str]] = {
    "corrupt-sidecar": (spoil, "is not an engine's sidecar"),
    "no-sidecar": (vanish, "has a plan and no model.engine.json"),
}


@pytest.fixture(scope="module")
def exported(bundle: Bundle, content: bytes) -> Bundle:
    """The small bundle with its graph."""
    return bundle.with_file(MODEL, content)


@pytest.fixture
def line(exported: Bundle, tmp_path: Path) -> Path:
    """Where the bundle is."""
    exported.write(tmp_path / "line.cada")
    return tmp_path / "line.cada"


@pytest.fixture(params=[True, False], ids=["gpu", "no-driver"])
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the GPU that is none has a driver."""
    gpu = FakeGpu()
    gpu.driver = request.param
    install(monkeypatch, gpu)
    return gpu.driver


def cli(command: Callable[..., None], *arguments: str) -> tuple[int, str]:
    """Exit code and what a command prints."""
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, arguments)
    assert not isinstance(done.exception, CadaEdgeError), done.exception
    return done.exit_code, done.stdout


def verified(line: Path) -> tuple[int, dict[str, Any]]:
    """Exit code and report of `verify`."""
    code, text = cli(verify_command, str(line), "--json")
    return code, json.loads(text)


@pytest.mark.parametrize("damage", FILES)
def test_a_damaged_file_fails_verify_with_or_without_a_driver(
    exported: Bundle, line: Path, driver: bool, damage: str
) -> None:
    """It is a finding of its own, never "not here", and every other backend is still compared."""
    break_it, told = FILES[damage]
    break_it(build_fake(exported, line, LIBRARY))
    code, report = verified(line)
    assert code == 1
    assert told in report["failed"].pop("tensorrt fp32")
    assert report["failed"] == {}
    assert {"onnxruntime fp32", "plugin on the CPU"} <= {row["name"] for row in report["rows"] if row["passed"]}


@pytest.mark.parametrize("damage", SIDECARS)
def test_a_damaged_sidecar_is_one_finding_and_hides_no_engine(
    exported: Bundle, line: Path, driver: bool, damage: str
) -> None:
    """The sound engine beside it is still run where there is a driver, and the rest anywhere."""
    break_it, told = SIDECARS[damage]
    broken = build_fake(exported, line, batch=(1, 1, 1))
    build_fake(exported, line, batch=(1, 4, 4))
    break_it(broken)
    code, report = verified(line)
    assert code == 1
    assert told in report["failed"].pop(f"engine {broken.folder.name}")
    assert report["failed"] == {}
    passed = {row["name"] for row in report["rows"] if row["passed"]}
    assert {"onnxruntime fp32", "plugin on the CPU"} <= passed
    assert ("tensorrt fp32" in passed) is driver


def test_a_sound_engine_is_no_finding_without_a_driver(
    exported: Bundle, line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one for another GPU: its files are whole, and the rest is for its own device to say."""
    gpu = FakeGpu()
    gpu.driver = False
    install(monkeypatch, gpu)
    build_fake(exported, line, LIBRARY, compute_capability="11.0")
    code, report = verified(line)
    assert (code, report["failed"]) == (0, {})
    assert "tensorrt fp32" in report["absent"]


def test_an_engine_of_an_older_graph_fails_verify_without_a_driver(
    exported: Bundle, line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After training again the old engine would judge by the old weights; the runner refuses it, and verify says so."""
    gpu = FakeGpu()
    gpu.driver = False
    install(monkeypatch, gpu)
    build_fake(exported, line, onnx_sha256="0" * 64)
    code, report = verified(line)
    assert code == 1
    assert "is of another graph: onnx_sha256 is 000000000000..." in report["failed"]["tensorrt fp32"]


@pytest.mark.parametrize("damage", [*FILES, *SIDECARS])
def test_info_shows_what_is_damaged_and_leaves_with_1(exported: Bundle, line: Path, damage: str) -> None:
    """In the table and in JSON, beside a sound engine, which is shown as such."""
    break_it, told = {**FILES, **SIDECARS}[damage]
    broken = build_fake(exported, line, LIBRARY)
    sound = build_fake(exported, line, batch=(1, 1, 1))
    break_it(broken)
    code, table = cli(engine_command, "info", str(line))
    assert code == 1
    assert f"{broken.folder.name}: DAMAGED: " in table
    assert told in table
    code, text = cli(engine_command, "info", str(line), "--json")
    rows = {Path(row["folder"]).name: row["damaged"] for row in json.loads(text)}
    assert code == 1
    assert rows.keys() == {broken.folder.name, sound.folder.name}
    assert rows[sound.folder.name] is None
    assert told in rows[broken.folder.name]


def test_info_cuts_nothing_short_on_a_narrow_terminal(exported: Bundle, line: Path) -> None:
    """A key, the name of a folder, is folded over two lines where it finds no room in one."""
    name = build_fake(exported, line, LIBRARY, flavour="tensorrt-rtx").folder.name
    _, table = cli(engine_command, "info", str(line))
    assert "\u2026" not in table
    assert any(name[:at] in table and name[at:] in table for at in range(4, 17))


def test_info_of_sound_engines_leaves_with_0(exported: Bundle, line: Path) -> None:
    """Every file is held to its sidecar, and each row says ok."""
    build_fake(exported, line, LIBRARY)
    code, table = cli(engine_command, "info", str(line))
    assert code == 0
    assert "ok" in table
    assert "DAMAGED" not in table


@pytest.mark.parametrize("damage", FILES)
def test_the_runner_refuses_a_damaged_file(
    exported: Bundle, line: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """Before TensorRT sees a byte of it."""
    install(monkeypatch, gpu := FakeGpu())
    break_it, told = FILES[damage]
    library = b"" if "plugin" not in damage else LIBRARY
    break_it(build_fake(exported, line, library))
    with pytest.raises(EngineError, match=told.replace("plugin.so: cannot read it", "plugin.so cannot be read")):
        TensorRTRunner(exported, line)
    assert gpu.blocks == {}


def test_a_plugin_that_is_gone_asks_for_an_engine_too(
    exported: Bundle, line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new library alone would be another one than the engine was built with."""
    install(monkeypatch, FakeGpu())
    vanished = build_fake(exported, line, LIBRARY)
    (vanished.folder / PLUGIN).unlink()
    with pytest.raises(PluginMissingError, match=r"plugin build, and then the engine: cada-edge engine build"):
        TensorRTRunner(exported, line)


@pytest.mark.parametrize("damage", SIDECARS)
def test_the_runner_names_a_damaged_sidecar_where_no_sound_engine_fits(
    exported: Bundle, line: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """It may have been the right one. A sound engine of the right kind runs in spite of it."""
    install(monkeypatch, FakeGpu())
    break_it, told = SIDECARS[damage]
    broken = build_fake(exported, line)
    break_it(broken)
    with pytest.raises(EngineError, match=rf"no engine yet \(.*{told}.*cada-edge engine build"):
        TensorRTRunner(exported, line)
    build_fake(exported, line, compute_capability="11.0")
    with pytest.raises(EngineMismatchError, match=rf"compute_capability is 11.0.*{told}.*cada-edge engine build"):
        TensorRTRunner(exported, line)
    build_fake(exported, line, batch=(1, 1, 1))
    with TensorRTRunner(exported, line) as runner:
        assert runner.engine.record.key.batch == (1, 1, 1)
    assert list(survey(engines_folder(line)).unreadable) == [broken.folder]
