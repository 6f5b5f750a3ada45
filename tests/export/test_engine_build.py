from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
import typer
from engine_kit import needs_builder
from onnx import TensorProto, helper
from typer.testing import CliRunner

from cada_edge.bundle import MODEL, Bundle
from cada_edge.cli.engine import parse_batch
from cada_edge.engine_key import Flavour, graph_name
from cada_edge.engine_store import StoredEngine, engines_folder, survey
from cada_edge.errors import (
    BundleError,
    CadaEdgeError,
    ConfigError,
    EngineError,
    MissingDependencyError,
    NoDeviceError,
    PluginMissingError,
    UnsupportedOpError,
)
from cada_edge.export.engine import EngineConfig, build_engine
from cada_edge.export.plugin import plugin_path
from cada_edge.export.trt_graph import for_parser
from cada_edge.trt import TensorRT


@pytest.fixture(scope="module")
def exported(bundle: Bundle, content: bytes) -> Bundle:
    """The small bundle with its graph."""
    return bundle.with_file(MODEL, content)


def build(bundle: Bundle, folder: Path, **settings: object) -> StoredEngine:
    """An RTX engine for an RTX 3060's architecture."""
    config = EngineConfig("tensorrt-rtx", **{"target": "8.6", **settings})  # type: ignore[arg-type]  # each test names its own
    return build_engine(bundle, folder, config)


def convolutions(content: bytes) -> int:
    """Convolutions of a graph, those in the bodies of its functions included."""
    graph = onnx.load_from_string(for_parser(content, "model.onnx", plugin=False)[0]).graph
    return sum(node.op_type == "Conv" for node in graph.node)


def tail(op_type: str, domain: str = "") -> bytes:
    """Pixels, a cast and one operator."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], name="cast", to=TensorProto.FLOAT),
        helper.make_node(op_type, ["x"], ["y"], name="the-last", domain=domain),
    ]
    shape: list[str | int | None] = ["N", 64, 64, 3]
    graph = helper.make_graph(
        nodes, "g", [value("image", TensorProto.UINT8, shape)], [value("y", TensorProto.FLOAT, None)]
    )
    imports = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return bytes(helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString())


@needs_builder
@pytest.mark.parametrize("target", ["sm_86", "8.9", "120"])
def test_an_engine_is_built_for_each_architecture_without_a_gpu(
    exported: Bundle, content: bytes, tmp_path: Path, target: str
) -> None:
    """The builder's log shows every convolution of the graph, in FP32; what is stored can be read back."""
    folder = engines_folder(tmp_path / "line.cada")
    seen: list[tuple[str, int, int]] = []
    config = EngineConfig("tensorrt-rtx", batch=(1, 2, 4), target=target)
    built = build_engine(exported, folder, config, lambda *step: seen.append(step))
    assert built.record.kernels.convolutions == {"Float": convolutions(content)}
    assert built.record.kernels.plugins == 0
    assert built.record.key.batch == (1, 2, 4)
    assert survey(folder).engines == (built,)
    assert len(built.plan()) == built.record.plan_bytes
    assert ("Building engine", 6, 6) in seen


@needs_builder
def test_the_same_graph_built_twice_has_one_place(exported: Bundle, tmp_path: Path) -> None:
    """A rebuild replaces the engine of its key and leaves the others."""
    first = build(exported, tmp_path)
    other = build(exported, tmp_path, batch=(2, 2, 2))
    again = build(exported, tmp_path)
    assert first.folder == again.folder != other.folder
    assert {e.folder for e in survey(tmp_path).engines} == {first.folder, other.folder}


@needs_builder
@pytest.mark.parametrize("domain", ["", "somebody"])
def test_an_operator_that_tensorrt_lacks_is_named(exported: Bundle, tmp_path: Path, domain: str) -> None:
    """The operator and its node, and what to do instead."""
    with pytest.raises(UnsupportedOpError, match=r"Det \(node 'the-last'\).*--backend ort"):
        build(exported.with_file(MODEL, tail("Det", domain)), tmp_path)


@needs_builder
def test_an_architecture_that_the_builder_lacks_is_refused(exported: Bundle, tmp_path: Path) -> None:
    """TensorRT-RTX knows no Orin; the message shows what it knows."""
    with pytest.raises(EngineError, match=r"cannot build for SM87.*SM86"):
        build(exported, tmp_path, target="8.7")


@needs_builder
def test_a_dla_core_that_is_not_there_is_refused(exported: Bundle, tmp_path: Path) -> None:
    """No build for another unit in its place."""
    half = exported.with_file(graph_name("fp16"), exported.file(MODEL))
    with pytest.raises(EngineError, match="DLA core 0 was asked for"):
        build(half, tmp_path, precision="fp16", dla_core=0)


@needs_builder
def test_a_failed_build_leaves_nothing_behind(exported: Bundle, tmp_path: Path) -> None:
    """Neither a plan nor a sidecar of an engine that does not exist."""
    with pytest.raises(EngineError, match="could not build"):
        build(exported, tmp_path, workspace_mib=1, batch=(1, 1, 1024), target="8.6", plugin=None)
    assert survey(tmp_path).engines == ()


@needs_builder
def test_a_plugin_library_that_is_not_there_is_named(exported: Bundle, tmp_path: Path) -> None:
    """With the command that builds it."""
    with pytest.raises(PluginMissingError, match=r"nowhere.so is not there.*cada-edge plugin build"):
        build(exported, tmp_path, plugin=tmp_path / "nowhere.so")


@needs_builder
@pytest.mark.parametrize("library", ["/proc/self/mem", f"/{'x' * 300}"])
def test_a_plugin_library_that_cannot_be_read_is_named(exported: Bundle, tmp_path: Path, library: str) -> None:
    """One error with the option and the file: one that gives an input error, one that cannot even be looked at."""
    config = EngineConfig(flavour="tensorrt-rtx", target="8.6", plugin=Path(library))
    with pytest.raises(EngineError, match=f"--plugin {library}: cannot read it"):
        build_engine(exported, tmp_path, config)


@needs_builder
def test_ctrl_c_ends_a_build(exported: Bundle, tmp_path: Path) -> None:
    """An interrupt that reaches the progress display stops the builder and stores nothing."""

    def interrupt(*_: object) -> None:
        import _thread

        _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt):
        build_engine(exported, tmp_path, EngineConfig("tensorrt-rtx", target="8.6"), interrupt)
    assert survey(tmp_path).engines == ()


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt-rtx"])
def test_an_absent_tensorrt_names_what_brings_it(flavour: Flavour) -> None:
    """On a Jetson the package of JetPack, elsewhere the extra."""
    if find_spec(flavour.replace("-", "_")) is not None:
        pytest.skip(f"{flavour} is installed here")
    with pytest.raises(MissingDependencyError, match=rf"python3-libnvinfer.*cada-edge\[{flavour}\]"):
        TensorRT.load(flavour)


def test_a_bundle_without_that_precision_names_the_command(bundle: Bundle, tmp_path: Path) -> None:
    """The graph is looked for before any builder is."""
    with pytest.raises(BundleError, match=r"model.int8.onnx; run `cada-edge export .*--precision int8`"):
        build(bundle, tmp_path, precision="int8")


@pytest.mark.parametrize(
    "wrong",
    [
        {"flavour": "trt"},
        {"precision": "fp8"},
        {"batch": (0, 1, 1)},
        {"workspace_mib": 0},
        {"dla_core": -1, "precision": "fp16"},
        {"dla_core": 0, "precision": "fp32"},
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(wrong: dict[str, object]) -> None:
    """Before anything is opened."""
    with pytest.raises(ConfigError, match=f"EngineConfig.{next(iter(wrong))}"):
        EngineConfig(**wrong)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(("text", "batch"), [("4", (4, 4, 4)), ("1,2,8", (1, 2, 8))])
def test_a_batch_is_one_number_or_three(text: str, batch: tuple[int, int, int]) -> None:
    """As the command line takes it."""
    assert parse_batch(text) == batch


@pytest.mark.parametrize("text", ["", "1,2", "a", "1,2,3,4"])
def test_any_other_batch_is_refused(text: str) -> None:
    """With an example of what is right."""
    with pytest.raises(ConfigError, match="1,2,8"):
        parse_batch(text)


def test_without_a_gpu_rtx_says_how_to_name_one(exported: Bundle, tmp_path: Path) -> None:
    """It builds for other machines; TensorRT itself does not, and says to go to the device."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

    def nobody() -> str:
        raise NoDeviceError("this machine has no NVIDIA driver")

    with pytest.raises(NoDeviceError, match=r"no NVIDIA driver, or name the GPU to build for, such as --target 8\.6"):
        build_engine(exported, tmp_path, EngineConfig("tensorrt-rtx"), here=nobody)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere.cada",), r"nowhere\.cada"),
        (("line.cada", "--precision", "int8"), r"no model\.int8\.onnx.*--precision int8"),
        (("line.cada", "--batch", "0"), "expected three integers, 1 <= smallest"),
        (("line.cada",), "no plugin library was built here; run: cada-edge plugin build, or say --plugin none"),
    ],
)
def test_the_first_thing_that_is_missing_is_named_first(
    exported: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str
) -> None:
    """Bundle, graph and wishes, then the plugin: nobody builds a plugin to learn that the bundle is not there."""
    from cada_edge.cli.engine import engine as command

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CADA_EDGE_PLUGIN", raising=False)
    exported.write(tmp_path / "line.cada")
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, ["build", str(tmp_path / words[0]), *words[1:]])
    assert isinstance(done.exception, CadaEdgeError)
    assert re.search(told, str(done.exception))


def test_a_plugin_for_other_gpus_is_not_built_into_an_engine(
    exported: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the libraries are for, what the engine is for, and the command that brings one."""
    from cada_edge.cli.engine import engine as command

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CADA_EDGE_PLUGIN", raising=False)
    library = plugin_path("10.3.0", "87-real")
    library.parent.mkdir(parents=True)
    library.write_bytes(b"library")
    exported.write(tmp_path / "line.cada")
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, ["build", str(tmp_path / "line.cada"), "--target", "sm_86"])
    assert isinstance(done.exception, PluginMissingError)
    assert "are for 87-real, the engine is for a GPU of 8.6; run: cada-edge plugin build --arch 86" in str(
        done.exception
    )


def test_info_without_engines_is_no_empty_table(bundle: Bundle, tmp_path: Path) -> None:
    """It says which command builds one; a bundle that is not there is an error."""
    from cada_edge.cli.engine import engine as command

    app = typer.Typer()
    app.command()(command)
    line = tmp_path / "line.cada"
    missing = CliRunner().invoke(app, ["info", str(line)])
    assert isinstance(missing.exception, BundleError)
    bundle.write(line)
    done = CliRunner().invoke(app, ["info", str(line)])
    assert f"cada-edge engine build {line}" in done.output
    assert json.loads(CliRunner().invoke(app, ["info", str(line), "--json"]).output) == []
