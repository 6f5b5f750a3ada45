"""The graph passes: what they change, what they leave alone, and that numbers stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from cada_edge.errors import UnsupportedOpError
from cada_edge.export.graph import check_portable, drop_unused, fix_resize_scales, fold_pads, simplify

SIDE = st.integers(0, 2)


def parse(body: str) -> onnx.ModelProto:
    """A model from ONNX's textual syntax."""
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> agraph {body}')


def ops(model: onnx.ModelProto) -> list[str]:
    """Operator names in order."""
    return [n.op_type for n in model.graph.node]


def padded_conv(pads: list[int], value: float = 0.0, mode: str = "constant") -> onnx.ModelProto:
    """Pad followed by a 3x3 convolution with padding of its own, on float32 (N, 2, 6, 6)."""
    weight = np.random.default_rng(0).normal(size=(3, 2, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Pad", ["x", "pads", "value"] if mode == "constant" else ["x", "pads"], ["p"], mode=mode),
        helper.make_node("Conv", ["p", "w"], ["y"], pads=[1, 0, 0, 1], strides=[2, 2]),
    ]
    constants = [
        numpy_helper.from_array(np.array(pads, np.int64), "pads"),
        numpy_helper.from_array(np.array(value, np.float32), "value"),
        numpy_helper.from_array(weight, "w"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 6, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", None, None, None])
    graph = helper.make_graph(nodes, "padded", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """First output of `model` for input x."""
    return np.asarray(next(iter(ReferenceEvaluator(model).run(None, {"x": x}))))


@given(st.tuples(SIDE, SIDE, SIDE, SIDE))
def test_folded_padding_computes_the_same(sides: tuple[int, int, int, int]) -> None:
    """Any zero padding of rows and columns moves into the convolution without a trace in the numbers."""
    top, left, bottom, right = sides
    model = padded_conv([0, 0, top, left, 0, 0, bottom, right])
    x = np.random.default_rng(1).normal(size=(2, 2, 6, 6)).astype(np.float32)
    before = run(model, x)
    fold_pads(model.graph)
    assert ops(model) == ["Conv"]
    np.testing.assert_allclose(run(model, x), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("pads", "value", "mode"),
    [
        ([0, 0, 1, 1, 0, 0, 1, 1], 3.0, "constant"),
        ([0, 0, 1, 1, 0, 0, 1, 1], 0.0, "edge"),
        ([0, 0, -1, 0, 0, 0, 0, 0], 0.0, "constant"),
        ([1, 0, 0, 0, 0, 0, 0, 0], 0.0, "constant"),
    ],
)
def test_other_padding_stays_where_it_is(pads: list[int], value: float, mode: str) -> None:
    """Padding by another value, by edges, by cropping or along the batch cannot be a convolution's."""
    model = padded_conv(pads, value, mode)
    fold_pads(model.graph)
    assert ops(model) == ["Pad", "Conv"]


def test_padding_with_another_reader_stays() -> None:
    """A padded map that is also used elsewhere is kept."""
    model = padded_conv([0, 0, 1, 1, 0, 0, 1, 1])
    model.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, None))
    fold_pads(model.graph)
    assert ops(model) == ["Pad", "Conv"]


def test_arithmetic_on_fixed_sizes_is_folded() -> None:
    """A side taken from the input's shape, and what is computed from it, becomes a constant."""
    model = parse("""(float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) {
        s = Shape(x)
        i = Constant<value = int64 {2}>()
        side = Gather<axis = 0>(s, i)
        f = Cast<to = 1>(side)
        y = Mul(x, f)
    }""")
    simplify(model)
    assert ops(model) == ["Mul"]
    np.testing.assert_array_equal(run(model, np.ones((2, 3, 8, 8), np.float32)), np.full((2, 3, 8, 8), 8.0))


def test_the_batch_size_is_never_folded() -> None:
    """What depends on N is computed at run time."""
    model = parse("""(float[N, 3] x) => (float[N, 3] y) {
        s = Shape(x)
        i = Constant<value = int64 {0}>()
        n = Gather<axis = 0>(s, i)
        f = Cast<to = 1>(n)
        y = Mul(x, f)
    }""")
    simplify(model)
    assert "Gather" in ops(model)
    np.testing.assert_array_equal(run(model, np.ones((5, 3), np.float32)), np.full((5, 3), 5.0))


@pytest.mark.parametrize(("target", "fixed"), [(16, True), (7, False)])
def test_resize_gets_scales_where_they_are_exact(target: int, fixed: bool) -> None:
    """Doubling has an exact factor; 5 to 7 has not and keeps its size computation."""
    model = parse(f"""(float[N, 1, {8 if fixed else 5}, {8 if fixed else 5}] x) => (float[N, 1, {target}, {target}] y)
        <int64[1] zero = {{0}}, int64[1] two = {{2}}, int64[2] hw = {{{target}, {target}}}> {{
        s = Shape(x)
        nc = Slice(s, zero, two)
        sizes = Concat<axis = 0>(nc, hw)
        y = Resize<mode = "linear">(x, , , sizes)
    }}""")
    fix_resize_scales(model)
    drop_unused(model.graph)
    assert (ops(model) == ["Resize"]) is fixed


def test_foreign_operators_are_counted_and_named() -> None:
    """The refusal lists every operator outside the portable set, with its domain."""
    nodes = [
        helper.make_node("NonZero", ["x"], ["a"]),
        helper.make_node("NonZero", ["x"], ["b"]),
        helper.make_node("Magic", ["x"], ["c"], domain="elsewhere"),
        helper.make_node("Relu", ["x"], ["d"]),
    ]
    with pytest.raises(UnsupportedOpError, match=r"NonZero \(2x\), elsewhere::Magic \(1x\)"):
        check_portable(helper.make_graph(nodes, "odd", [], []))


def values(model: onnx.ModelProto, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What a graph of one input and one output makes of `x`."""
    outputs: list[Any] = list(ReferenceEvaluator(model).run(None, {"x": x}))
    return np.asarray(outputs[0], np.float32)


BRANCHING = """(float[N, 4] x) => (float[N, 4] y) <bool yes = {{{taken}}}, float[1] two = {{2}}> {{
    twice = Mul(x, two)
    kept = Identity(twice)
    picked = If(yes) <
        then_branch = plus () => (float[N, 4] p) {{ p = Add(kept, two) }},
        else_branch = same () => (float[N, 4] s) {{ s = Identity(kept) }}
    >
    y = Neg(picked)
}}"""


@pytest.mark.parametrize(("taken", "expected"), [(1, ["Mul", "Add", "Neg"]), (0, ["Mul", "Neg"])])
def test_a_settled_branch_becomes_part_of_the_graph(taken: int, expected: list[str]) -> None:
    """An If on a constant leaves the nodes of the branch it takes, which compute the same."""
    model = parse(BRANCHING.format(taken=taken))
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    before = values(model, x)
    simplify(model)
    onnx.checker.check_model(model)
    assert ops(model) == expected
    np.testing.assert_array_equal(values(model, x), before)


def test_what_an_open_branch_reads_is_kept() -> None:
    """An If that depends on the input stays, with everything its branches take from around it."""
    model = parse(BRANCHING.format(taken=1).replace("yes = {1}, float[1] ", "").replace("<bool two", "<float[1] two"))
    first = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Cast", ["top"], ["yes"], to=TensorProto.BOOL),
    ]
    nodes = [*first, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    before = values(model, x)
    simplify(model)
    onnx.checker.check_model(model)
    assert "If" in ops(model)
    np.testing.assert_array_equal(values(model, x), before)


def test_settled_branches_with_the_same_names_keep_apart() -> None:
    """Two branches that each have a constant of one name compute with their own."""
    branch = "then_branch = {0} () => (float[N] {1}) <float[1] c = {{{2}}}> {{ {1} = Mul(x, c) }}"
    ways = [branch.format("a", "p", 2), branch.format("b", "p", 5)]
    other = "else_branch = e () => (float[N] q) { q = Identity(x) }"
    body = f"two = If(yes) <{ways[0]}, {other}> five = If(yes) <{ways[1]}, {other}> y = Add(two, five)"
    model = parse(f"(float[N] x) => (float[N] y) <bool yes = {{1}}> {{ {body} }}")
    simplify(model)
    onnx.checker.check_model(model)
    np.testing.assert_array_equal(values(model, np.ones(3, np.float32)), [7, 7, 7])
