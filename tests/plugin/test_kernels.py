"""The kernels, compiled for the CPU from the source nvcc compiles, give the specified numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from plugin_kit import Case, make_case

from cada_edge.errors import ConfigError
from cada_edge.export.normalise import DOMAIN, DOMAIN_VERSION, Fusion, normalise_function, normalise_node
from cada_edge.export.plugin.host import HostPlugin
from cada_edge.types import FusionMode, MapSpec

LITE0 = [(40, 32, 32), (112, 16, 16), (320, 8, 8)]
CASES = {
    "lite0-at-256": make_case(LITE0, (64, 64), batch=1, top=0.01),
    "one-scale": make_case([(8, 16, 16)], (16, 16)),
    "odd-sizes": make_case([(7, 9, 13), (33, 5, 7)], (17, 23)),
    "one-cell-layers": make_case([(3, 1, 1), (5, 2, 1)], (3, 4), taps=3, top=0.5),
    "eight-scales": make_case([(4, 4 + i, 8) for i in range(8)], (12, 20)),
    "no-smoothing": make_case([(16, 8, 8)], (16, 16), taps=1),
    "longest-window": make_case([(16, 8, 8)], (33, 20), taps=31),
    "map-beyond-shared-memory": make_case([(8, 10, 10)], (70, 90), batch=1),
    "every-cell-counts": make_case([(8, 6, 6)], (10, 10), top=1.0),
    "one-channel": make_case([(1, 8, 8)], (8, 8)),
    "shrinking": make_case([(4, 40, 30)], (16, 16)),
    "distances": make_case(LITE0, (64, 64), "distances", batch=3),
    "odd-distances": make_case([(1, 9, 13), (1, 5, 7)], (17, 23), "distances"),
    "half": make_case(LITE0, (64, 64), batch=1, half=True),
    "odd-half": make_case([(7, 9, 13), (33, 6, 10)], (17, 23), half=True),
}
SUM_GAP = 1e-6  # of a score: the body adds its cells in float32, in an order that ONNX leaves open
CHANNEL_STEPS = 16  # of 2**-23, float32's at 1.0; at most 8 were measured
GAP = 1e-5  # of aligned values of order 1; the spread of 0.3 enlarges distances' rounding threefold


def run(host: HostPlugin, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Map and score of the kernels."""
    return host.run(case.inputs, case.u, case.gamma, case.fusion.attributes())


@pytest.mark.parametrize("name", CASES)
def test_the_kernels_agree_with_float64(host: HostPlugin, name: str) -> None:
    """Every size, type and number of scales stays within rounding of the same mathematics in float64."""
    for got, wanted in zip(run(host, CASES[name]), CASES[name].expected(), strict=True):
        np.testing.assert_allclose(got, wanted, atol=GAP, rtol=GAP)


@pytest.mark.parametrize("name", CASES)
def test_upsampling_smoothing_and_alignment_are_the_function_body_s_bits(host: HostPlugin, name: str) -> None:
    """From the same distances the kernels and ONNX Runtime make the same map, bit for bit, at every size."""
    case = from_distances(CASES[name])
    (maps, score), (body_map, body_score) = run(host, case), by_onnx(case)
    assert maps.tobytes() == body_map.tobytes()
    np.testing.assert_allclose(score, body_score, rtol=SUM_GAP)


def test_infinite_distances_give_the_function_body_s_bits_too(host: HostPlugin) -> None:
    """A neighbour without a share has no say in either, be it infinite; elsewhere both spread it alike."""
    case = from_distances(CASES["odd-sizes"])
    case.inputs[0][0, 0, 1] = np.inf
    case.inputs[1][1, -1, -1] = -np.inf
    maps, body_map = run(host, case)[0], by_onnx(case)[0]
    assert np.isinf(maps).any()
    np.testing.assert_array_equal(maps, body_map)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.fusion.mode == "features"])
def test_the_order_of_channels_is_all_that_sets_them_apart(host: HostPlugin, name: str) -> None:
    """Where cosines are summed too, the maps differ by a few roundings at most; docs/plugin.md says why."""
    case = CASES[name]
    (maps, score), (body_map, body_score) = run(host, case), by_onnx(case)
    assert np.abs(maps.astype(np.float64) - body_map).max() <= CHANNEL_STEPS * np.spacing(np.float32(1))
    assert np.abs(score.astype(np.float64) - body_score).max() <= CHANNEL_STEPS * np.spacing(np.float32(1))


def from_distances(case: Case) -> Case:
    """The same sizes, levels, window and head, with distances for features."""
    spec, rng = case.fusion.spec, np.random.default_rng(1)
    inputs = [rng.gamma(2.0, 0.5, (len(case.u), *size)).astype(np.float32) for size in case.layers_hw]
    return Case(Fusion("distances", case.fusion.levels, spec), inputs, case.u, case.gamma)


def by_onnx(case: Case) -> list[np.ndarray]:
    """Map and score of the function body in ONNX Runtime."""
    value, number = helper.make_tensor_value_info, TensorProto.FLOAT
    inputs = [
        value(name, TensorProto.FLOAT16 if x.dtype == np.float16 else number, x.shape) for name, x in case.feeds.items()
    ]
    outputs = [value("map", number, [None] * 3), value("score", number, [None])]
    graph = helper.make_graph([normalise_node(case.fusion)], "node", inputs, outputs)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
    proto = helper.make_model(
        graph, opset_imports=imports, functions=[normalise_function(case.fusion, 17, case.layers_hw)], ir_version=8
    )
    onnx.checker.check_model(proto)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, case.feeds)
    return found


def scored(host: HostPlugin, maps: np.ndarray, k: int) -> float:
    """The kernels' score of one map that is neither resized nor smoothed nor moved."""
    cells = maps.size
    spec = MapSpec(maps.shape, smooth_taps=1, top_fraction=k / cells)
    assert spec.top_k == k
    fusion = Fusion("distances", (1.0,), spec)
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    return float(host.run([maps[None].astype(np.float32)], zero, one, fusion.attributes())[1][0])


@pytest.mark.parametrize("k", [1, 7, 50, 99, 100])
@pytest.mark.parametrize("distinct", [1, 2, 5, 100])
def test_equal_cells_enter_the_score_exactly_as_often_as_needed(host: HostPlugin, k: int, distinct: int) -> None:
    """The mean of the k highest cells is exact, whatever ties there are and whichever sign they have."""
    cells = np.random.default_rng(k).integers(-(distinct // 2), distinct - distinct // 2, 100).astype(np.float32)
    wanted = np.sort(cells)[-k:].astype(np.float64).mean()
    assert scored(host, cells.reshape(10, 10), k) == np.float32(wanted)


def test_a_constant_map_scores_its_constant(host: HostPlugin) -> None:
    """Also where it fills more cells than shared memory holds."""
    for shape in ((64, 64), (65, 70)):
        assert scored(host, np.full(shape, 0.375, np.float32), 10) == 0.375


def test_infinite_cells_rank_at_the_ends(host: HostPlugin) -> None:
    """+inf is the highest and makes the score infinite, -inf stays out of it."""
    cells = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    cells[0, 0] = -np.inf
    assert scored(host, cells, 3) == pytest.approx(cells[-1, -3:].mean(), rel=1e-6)
    cells[3, 3] = np.inf
    assert scored(host, cells, 3) == np.inf


@pytest.mark.parametrize("mode", ["features", "distances"])
@pytest.mark.parametrize("where", [0, -2, -1])
def test_a_nan_spoils_its_own_image_only(host: HostPlugin, mode: FusionMode, where: int) -> None:
    """One NaN in a tensor, in u or in gamma gives that image a NaN score, and the others theirs."""
    case = make_case([(8, 8, 8)], (16, 16), mode, batch=3)
    clean = run(host, case)
    arrays = [*case.inputs, case.u, case.gamma]
    arrays[where].reshape(3, -1)[1, 0] = np.nan
    maps, score = run(host, case)
    assert np.isnan(score).tolist() == [False, True, False]
    assert np.isnan(maps[1]).any()
    assert np.array_equal(maps[[0, 2]], clean[0][[0, 2]])
    assert np.array_equal(score[[0, 2]], clean[1][[0, 2]])


def test_infinite_features_give_no_finite_score(host: HostPlugin) -> None:
    """An overflow in the network cannot look like a good part."""
    case = make_case([(8, 8, 8)], (16, 16), half=True)
    case.inputs[1][0, :, 4, 4] = np.inf
    assert np.isnan(run(host, case)[1]).tolist() == [True, False]


def test_vectors_of_zeros_have_distance_one(host: HostPlugin) -> None:
    """Nothing is divided by zero."""
    case = make_case([(8, 8, 8)], (8, 8), taps=1)
    for x in case.inputs:
        x[:] = 0
    maps, _ = run(host, case)
    wanted = (1.0 / case.fusion.levels[0] - case.u) / (case.gamma - case.u)
    np.testing.assert_allclose(maps, np.broadcast_to(wanted[:, None, None], maps.shape), rtol=1e-6)


def test_a_collapsed_spread_is_held_at_its_floor(host: HostPlugin) -> None:
    """gamma below u divides by the shared MIN_SPREAD, as everywhere."""
    case = make_case([(8, 8, 8)], (8, 8), "distances")
    case.gamma[:] = case.u - 1
    np.testing.assert_allclose(run(host, case)[0], case.expected()[0], rtol=1e-5)


def test_a_batch_gives_each_image_what_it_gets_alone(host: HostPlugin) -> None:
    """Bit for bit: an image's numbers depend on no neighbour."""
    case = make_case([(20, 8, 8), (30, 4, 4)], (16, 16), batch=5)
    maps, score = run(host, case)
    for i in range(5):
        alone = Case(case.fusion, [x[i : i + 1] for x in case.inputs], case.u[i : i + 1], case.gamma[i : i + 1])
        one_map, one_score = run(host, alone)
        assert np.array_equal(one_map[0], maps[i])
        assert one_score[0] == score[i]


def test_unaligned_features_take_the_narrow_path(host: HostPlugin) -> None:
    """Pointers that 16-byte loads cannot take give the same bits."""
    case = make_case([(8, 8, 8)], (16, 16))
    shifted = []
    for x in case.inputs:
        room = np.empty(x.size + 1, x.dtype)
        shifted.append(room[1:].reshape(x.shape))
        shifted[-1][:] = x
    both = [run(host, Case(case.fusion, inputs, case.u, case.gamma)) for inputs in (case.inputs, shifted)]
    assert all(np.array_equal(a, b) for a, b in zip(*both, strict=True))


@pytest.mark.parametrize("schedule", [1, 2])
def test_the_order_of_threads_and_blocks_does_not_matter(host: HostPlugin, schedule: int) -> None:
    """Reversed threads, or blocks held at their ticket, give the same bits."""
    case = make_case([(20, 12, 12), (30, 6, 6)], (20, 40), batch=1)
    first = run(host, case)
    host.set_schedule(schedule)
    try:
        again = run(host, case)
    finally:
        host.set_schedule(0)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_two_launches_serve_any_batch_and_number_of_scales(host: HostPlugin, name: str) -> None:
    """From features two kernels, from distances one and the clearing of its tickets, and nothing else."""
    before = host.submitted
    run(host, CASES[name])
    assert host.submitted - before == 2


@pytest.mark.real
def test_real_features_agree_with_float64(host: HostPlugin, real_data: Path) -> None:
    """Features of a real picture and of the same picture blurred, at 256 pixels."""
    torch = pytest.importorskip("torch", reason="features need the train extra")
    from cada_edge.imaging import prepare, read_image
    from cada_edge.models import Encoder, EncoderConfig
    from cada_edge.types import ImageSpec

    path = next(p for p in sorted(real_data.glob("*/train/good/*")) if p.suffix in {".png", ".jpg"})
    net = Encoder(EncoderConfig("tf_efficientnet_lite0", (8, 16, 32), "random"))
    pixels = torch.from_numpy(prepare(read_image(path), ImageSpec())[None].copy()).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        pairs = zip(net(pixels), net(torch.nn.functional.avg_pool2d(pixels, 5, 1, 2)), strict=True)
        inputs = [x.numpy() for pair in pairs for x in pair]
    fusion = Fusion("features", (0.1, 0.1, 0.1), MapSpec())
    case = Case(fusion, inputs, np.array([0.2], np.float32), np.array([0.9], np.float32))
    for got, wanted in zip(run(host, case), case.expected(), strict=True):
        np.testing.assert_allclose(got, wanted, atol=5 * GAP, rtol=5 * GAP)


def test_what_does_not_fit_is_refused_before_it_is_read(host: HostPlugin) -> None:
    """Wrong counts, shapes, dtypes and attributes are errors, not reads beyond an array."""
    case = make_case([(8, 8, 8)], (16, 16))
    attributes = case.fusion.attributes()
    with pytest.raises(ConfigError, match="inputs"):
        host.run(case.inputs[:1], case.u, case.gamma, attributes)
    with pytest.raises(ConfigError, match="inputs"):
        host.run([case.inputs[0], case.inputs[1][:, :4]], case.u, case.gamma, attributes)
    with pytest.raises(ConfigError, match="inputs"):
        host.run(case.inputs, case.u[:1], case.gamma, attributes)
    with pytest.raises(ConfigError, match="top_k: expected"):
        host.run(case.inputs, case.u, case.gamma, {**attributes, "top_k": 257})
    with pytest.raises(ConfigError, match="window: expected an odd"):
        host.run(case.inputs, case.u, case.gamma, {**attributes, "window": [0.5, 0.5]})
    with pytest.raises(ConfigError, match="'window' is missing"):
        host.run(case.inputs, case.u, case.gamma, {k: v for k, v in attributes.items() if k != "window"})
