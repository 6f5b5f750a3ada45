from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from runtime_kit import CELLS, SIDE, make_bundle, picture, tiny_model

from cada_edge.bundle import MODEL, Bundle
from cada_edge.errors import BundleError, EngineError, UnsafeFileError
from cada_edge.onnx_wire import refuse_external_data
from cada_edge.protocols import Runner
from cada_edge.runtime.runners.ort import OrtRunner


def outside(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """The tensor as if its bytes were in /etc/passwd."""
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def secret() -> onnx.TensorProto:
    """A tensor that lives in another file."""
    return outside(helper.make_tensor("secret", TensorProto.FLOAT, [], [1.0]))


def in_initializer(model: onnx.ModelProto) -> None:
    """Hide it among the weights."""
    model.graph.initializer.append(secret())


def in_constant(model: onnx.ModelProto) -> None:
    """Hide it in a constant."""
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=secret()))


def in_function(model: onnx.ModelProto) -> None:
    """Hide it in a function's body."""
    model.functions[0].node.append(helper.make_node("Constant", [], ["c"], value=secret()))


def in_branch(model: onnx.ModelProto) -> None:
    """Hide it in a branch."""
    branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=secret())], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["zero"], ["d"], then_branch=branch, else_branch=branch))


def test_the_graph_gives_scores_maps_and_alignment(bundle: Bundle) -> None:
    """A batch of two pictures gives one prediction with the documented shapes and values."""
    with OrtRunner(bundle, threads=1) as runner:
        prediction = runner.infer(np.stack([picture(0), picture(51)]))
    assert prediction.score.tolist() == pytest.approx([0.0, 0.2])
    assert prediction.map.shape == (2, CELLS, CELLS)
    assert prediction.u.tolist() == [0.0, 0.0]
    assert prediction.gamma.tolist() == [1.0, 1.0]


def test_it_is_a_runner(bundle: Bundle) -> None:
    """It has every method the line asks of a runner."""
    with OrtRunner(bundle) as runner:
        assert isinstance(runner, Runner)
        assert runner.spec == bundle.manifest.spec
        assert runner.map_spec == bundle.manifest.map_spec


def test_the_same_picture_gives_the_same_numbers(bundle: Bundle) -> None:
    """Two sessions agree to the last bit, and the arrays of one call survive the next."""
    batch = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    with OrtRunner(bundle, 1) as one, OrtRunner(bundle, 2) as two:
        first = one.infer(batch)
        kept = first.map.copy()
        one.infer(255 - batch)
        assert np.array_equal(first.map, kept)
        assert np.array_equal(two.infer(batch).map, kept)


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, SIDE, SIDE, 3), np.float32),
        np.zeros((SIDE, SIDE, 3), np.uint8),
        np.zeros((0, SIDE, SIDE, 3), np.uint8),
        np.zeros((1, SIDE, SIDE + 1, 3), np.uint8),
        np.zeros((1, 3, SIDE, SIDE), np.uint8),
    ],
)
def test_a_wrong_batch_is_refused(bundle: Bundle, batch: np.ndarray) -> None:
    """The error holds both shapes and names the function that prepares pictures."""
    with OrtRunner(bundle) as runner, pytest.raises(EngineError, match=r"expected uint8 \('N', 32, 32, 3\).*prepare"):
        runner.infer(batch)


def test_a_closed_runner_says_so(bundle: Bundle) -> None:
    """Using it after `close`, which may be called twice, is an error of ours."""
    runner = OrtRunner(bundle)
    runner.close()
    runner.close()
    with pytest.raises(EngineError, match="closed"):
        runner.infer(picture(0)[None])


def test_a_graph_of_another_size_is_refused() -> None:
    """The message shows what the graph has and what the bundle says."""
    with pytest.raises(EngineError, match=r"64, 64, 3.*32, 32, 3"):
        OrtRunner(make_bundle(tiny_model(side=64)))


def test_a_graph_with_other_outputs_is_refused() -> None:
    """A graph that lacks an output cannot be loaded by accident."""
    model = tiny_model()
    del model.graph.output[3]
    with pytest.raises(EngineError, match=r"expected .*gamma"):
        OrtRunner(make_bundle(model))


def test_a_fixed_batch_is_respected() -> None:
    """A graph exported for two images at a time takes two and refuses one."""
    model = tiny_model()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    with OrtRunner(make_bundle(model)) as runner:
        assert len(runner.infer(np.stack([picture(0)] * 2))) == 2
        with pytest.raises(EngineError, match=r"\(2, 32, 32, 3\)"):
            runner.infer(picture(0)[None])


def test_a_bundle_without_a_graph_names_the_command(bundle: Bundle) -> None:
    """A bundle fresh from training says how to get its graph."""
    with pytest.raises(BundleError, match="cada-edge export"):
        OrtRunner(Bundle(bundle.manifest, {}))


def test_an_absent_provider_is_never_replaced(bundle: Bundle) -> None:
    """Asking for a device that is not there fails; it does not run on the CPU in silence."""
    with pytest.raises(EngineError, match="NoSuchExecutionProvider"):
        OrtRunner(bundle, providers=["NoSuchExecutionProvider", "CPUExecutionProvider"])


@pytest.mark.parametrize("plant", [in_initializer, in_constant, in_function, in_branch])
def test_weights_in_other_files_are_refused(plant: Callable[[onnx.ModelProto], None]) -> None:
    """A graph cannot make the device read a file, wherever the reference hides."""
    model = tiny_model()
    plant(model)
    with pytest.raises(UnsafeFileError, match="another file"):
        OrtRunner(make_bundle(model))


def test_a_field_number_of_too_many_bits_is_refused() -> None:
    """Field 13 + 2**29 is field 13, external data, to parsers that keep 32 bits: it is not skipped."""
    tensor = b"\xea\x80\x80\x80\x10\x00"  # key (13 << 3 | 2) + 2**32, length 0
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    with pytest.raises(UnsafeFileError, match="field number"):
        refuse_external_data(b"\x3a" + bytes([len(graph)]) + graph)


def test_only_onnx_is_loaded() -> None:
    """Bytes that are ONNX to the check and ONNX Runtime's own format by their mark are read as ONNX."""
    twofold = b"\x0a\x06\x00\x00ORTM" + b"\x12\x40" + bytes(64)
    refuse_external_data(twofold)
    with pytest.raises(EngineError, match="protobuf"):
        OrtRunner(make_bundle().with_file(MODEL, twofold))


def test_a_whole_model_passes_the_check() -> None:
    """The check says nothing about a model that holds its weights."""
    refuse_external_data(tiny_model().SerializeToString())


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_judged_without_a_crash(data: bytes) -> None:
    """Arbitrary bytes are either walked through or refused with our error."""
    try:
        refuse_external_data(data)
    except UnsafeFileError as error:
        assert "export it again" in str(error)  # noqa: PT017  # either outcome is right


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_truncated_graph_is_refused(bundle: Bundle, cut: int) -> None:
    """A model cut short gives one clear error."""
    with pytest.raises((UnsafeFileError, EngineError), match="export it again"):
        OrtRunner(bundle.with_file(MODEL, bundle.files[MODEL][:-cut]))


def test_threads_are_for_the_cores_of_the_process() -> None:
    """A process that may use one core of several gets one thread, not one for each core of the machine."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        runner = OrtRunner(make_bundle())
    finally:
        os.sched_setaffinity(0, before)
    with runner:
        threads = runner._session.get_session_options().intra_op_num_threads
    assert threads == (0 if os.cpu_count() == 1 else 1)
