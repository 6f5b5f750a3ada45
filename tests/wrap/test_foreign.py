from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from cada_edge.errors import ConfigError, DataError, ExportError, UnsafeFileError, UnsupportedOpError
from cada_edge.export import ForeignOptions, open_foreign
from cada_edge.export.signature import understand
from cada_edge.models.foreign_model import open_graph, run_graph

Make = Callable[..., ModelProto]
Save = Callable[[ModelProto], Path]


def test_an_ordinary_graph_needs_no_options(make_graph: Make, save: Save) -> None:
    """Input, layout, sizes, map and a free batch are found; scores beside the map are left out."""
    found = open_foreign(save(make_graph()))
    assert (found.config.layout, found.config.element, found.config.one_by_one) == ("NCHW", "float32", False)
    assert (found.config.size_hw, found.config.map_hw) == ((96, 96), (24, 24))
    assert len(onnx.load_model_from_string(found.content).graph.output) == 1
    assert len(found.source["sha256"]) == 64


def test_bytes_with_channels_last_are_fed_as_they_are(make_graph: Make) -> None:
    """A uint8 NHWC graph gets 0..255."""
    config = understand(make_graph(layout="NHWC", element=TensorProto.UINT8), ForeignOptions()).config
    assert (config.layout, config.element, config.std) == ("NHWC", "uint8", (1.0, 1.0, 1.0))


def test_a_free_input_size_can_be_chosen(make_graph: Make) -> None:
    """Where the graph leaves height and width open, the option decides; where not, it may not contradict."""
    free = make_graph(side="S")
    assert understand(free, ForeignOptions(size_hw=(64, 64))).config.size_hw == (64, 64)
    with pytest.raises(ConfigError, match="got 64, but the graph takes 96"):
        understand(make_graph(), ForeignOptions(size_hw=(64, 64)))


def test_several_maps_must_be_told_apart(make_graph: Make) -> None:
    """Two outputs that may be the map are an error that names both; the option picks one."""
    proto = make_graph((helper.make_node("Identity", ["raw"], ["first"]),))
    proto.graph.output[1].name = "first"
    proto.graph.node.append(helper.make_node("Neg", ["raw"], ["second"]))
    proto.graph.output.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, None))
    with pytest.raises(ConfigError, match=r"--map-output.*'first', 'second'"):
        understand(proto, ForeignOptions())
    assert understand(proto, ForeignOptions(output="second")).source["output"] == "second"


def test_a_graph_without_a_map_says_what_it_has(make_graph: Make) -> None:
    """A classifier is refused with the shape of its output."""
    proto = make_graph()
    del proto.graph.output[1]
    with pytest.raises(ConfigError, match=r"no output is an anomaly map.*\(1, 1, 1, 1\)"):
        understand(proto, ForeignOptions())


def test_an_unclear_layout_is_asked_for(make_graph: Make) -> None:
    """A shape with two sides of 3, or none, does not tell where the channels are."""
    proto = make_graph()
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "C"
    with pytest.raises(ConfigError, match="--layout"):
        understand(proto, ForeignOptions())
    assert understand(proto, ForeignOptions(layout="NCHW")).config.layout == "NCHW"


def test_a_clamped_map_is_taken_before_the_clamp(make_graph: Make) -> None:
    """A post-processor's clamp to 0..1 cuts nothing off, unless it is asked for."""
    picture = np.random.default_rng(0).random((1, 3, 96, 96), np.float32)
    opened = understand(make_graph("clamped"), ForeignOptions())
    kept = understand(make_graph("clamped"), ForeignOptions(keep_clamp=True))
    assert run_graph(open_graph(opened.content), picture).max() > 1
    assert run_graph(open_graph(kept.content), picture).max() == 1
    assert any("clamp" in note for note in opened.notes)


@pytest.mark.parametrize("nodes", [[(["a"], ["b"]), (["b"], ["a"])], [([], ["a"])], [(["raw"], []), (["a"], ["a"])]])
def test_a_map_that_comes_from_nowhere_is_refused(make_graph: Make, nodes: list[tuple[list[str], list[str]]]) -> None:
    """A graph that feeds itself, or copies nothing, is an error; the search for a clamp does not follow it."""
    proto = make_graph()
    proto.graph.node.extend(helper.make_node("Identity", source, target) for source, target in nodes)
    with pytest.raises(ExportError, match="not valid ONNX"):
        understand(proto, ForeignOptions(output="a"))


@pytest.mark.parametrize("tail", ["batch-coupled", "batch-of-one"])
def test_pictures_that_cannot_share_a_batch_go_one_by_one(make_graph: Make, tail: str) -> None:
    """A map that depends on its neighbours in the batch, or a hidden batch of one, is found out by running it."""
    assert understand(make_graph(tail), ForeignOptions()).config.one_by_one


def test_a_declared_batch_of_one_is_freed_where_that_is_safe(make_graph: Make) -> None:
    """A fixed first dimension that nothing inside depends on is no reason to go one by one."""
    assert not understand(make_graph(batch=1), ForeignOptions()).config.one_by_one
    with pytest.raises(ConfigError, match="takes 8 pictures at a time"):
        understand(make_graph(batch=8), ForeignOptions())


@pytest.mark.parametrize(
    ("node", "name"),
    [
        (helper.make_node("RandomNormalLike", ["raw"], ["anomaly_map"]), "RandomNormalLike"),
        (helper.make_node("Secret", ["raw"], ["anomaly_map"], domain="com.vendor"), "com.vendor::Secret"),
    ],
)
def test_what_engines_may_not_run_is_refused(make_graph: Make, node: NodeProto, name: str) -> None:
    """Random numbers and operators of other domains are named in the error, before anything runs."""
    with pytest.raises(UnsupportedOpError, match=name):
        understand(make_graph((node,)), ForeignOptions(output="anomaly_map"))


def test_sub_graphs_are_refused(make_graph: Make) -> None:
    """A graph with a branch is not taken: nothing inside it was checked."""
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=value)],
        "branch",
        [],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["raw"], ["anomaly_map"], then_branch=branch, else_branch=branch)
    with pytest.raises(UnsupportedOpError, match=r"If \(1x\)"):
        understand(make_graph((node,)), ForeignOptions(output="anomaly_map"))


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x80\x02"])
def test_a_checkpoint_is_never_loaded(tmp_path: Path, start: bytes) -> None:
    """A .ckpt or .pt, whatever its name, is refused unread with the way to export it."""
    path = tmp_path / "model.onnx"
    path.write_bytes(start + bytes(100))
    with pytest.raises(UnsafeFileError, match=r"never loaded.*anomalib export"):
        open_foreign(path)


@pytest.mark.parametrize("content", [b"", b"no onnx at all"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """Bytes that are no graph are one clear error."""
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not an ONNX file"):
        open_foreign(path)


def test_weights_beside_the_file_are_taken_in(make_graph: Make, tmp_path: Path) -> None:
    """What exporters write as FILE.onnx.data ends up inside."""
    path = tmp_path / "model.onnx"
    onnx.save(make_graph(), path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    picture = np.random.default_rng(0).random((1, 3, 96, 96), np.float32)
    inside = run_graph(open_graph(understand(make_graph(), ForeignOptions()).content), picture)
    assert np.array_equal(run_graph(open_graph(open_foreign(path).content), picture), inside)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", ".."])
def test_weights_elsewhere_are_refused(make_graph: Make, save: Save, location: str) -> None:
    """A graph cannot make us read a file outside its own folder."""
    proto = make_graph()
    proto.graph.initializer[0].ClearField("raw_data")
    proto.graph.initializer[0].data_location = TensorProto.EXTERNAL
    proto.graph.initializer[0].external_data.add(key="location", value=location)
    path = save(make_graph())
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(UnsafeFileError, match="own folder"):
        open_foreign(path)


def test_a_link_is_no_weights_file(make_graph: Make, tmp_path: Path) -> None:
    """A link beside the file may lead anywhere, so it is not followed."""
    path = tmp_path / "model.onnx"
    onnx.save(make_graph(), path, save_as_external_data=True, location="w.data", size_threshold=0)
    (tmp_path / "w.data").rename(tmp_path / "real")
    (tmp_path / "w.data").symlink_to(tmp_path / "real")
    with pytest.raises(UnsafeFileError, match="not a link"):
        open_foreign(path)


def test_an_old_opset_is_refused(make_graph: Make) -> None:
    """Operators of ten years ago meant other things."""
    with pytest.raises(ExportError, match="opset 9"):
        understand(make_graph(opset=9), ForeignOptions(output="anomaly_map"))
