"""What the torch models promise of shapes, arithmetic and determinism."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="models need the train extra")

from hypothesis import given  # noqa: E402  # after the skip
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as hnp  # noqa: E402

from cada_edge import alignment  # noqa: E402
from cada_edge.errors import BundleError, ConfigError, EngineError  # noqa: E402
from cada_edge.models import CadaHead, CadaHeadConfig, EncoderConfig, RevDistConfig, UnifiedModel  # noqa: E402
from cada_edge.models.detector import cosine_distance, detector_class  # noqa: E402
from cada_edge.models.head import build_head, describe, to_log  # noqa: E402
from cada_edge.models.runner import pick_device  # noqa: E402
from cada_edge.models.unified import Smoother, image_score  # noqa: E402
from cada_edge.protocols import check_batch  # noqa: E402
from cada_edge.types import MIN_SPREAD, ImageSpec, MapSpec  # noqa: E402

Build = Callable[..., UnifiedModel]
MAPS = hnp.arrays(np.float32, (2, 8, 8), elements=st.floats(0, 2, width=32))


@pytest.mark.parametrize("count", [1, 3])
def test_forward_gives_one_score_and_one_map_per_image(build_model: Build, count: int) -> None:
    """A batch of N pixels gives score (N,), map (N, h, w), u, gamma and novelty (N,), all finite."""
    with torch.inference_mode():
        score, aligned, u, gamma, novelty = build_model()(torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8))
    assert score.shape == u.shape == gamma.shape == novelty.shape == (count,)
    assert aligned.shape == (count, 16, 16)
    assert all(t.isfinite().all() for t in (score, aligned, u, gamma, novelty))


def test_forward_is_core_then_alignment(build_model: Build) -> None:
    """The model's output is the reference arithmetic applied to its core."""
    model, images = build_model(), torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        raw, u, gamma, _ = (t.numpy() for t in model.core(images))
        score, aligned, *_ = (t.numpy() for t in model(images))
    np.testing.assert_allclose(aligned, alignment.normalise(raw, u, gamma), atol=1e-6)
    np.testing.assert_allclose(score, alignment.image_score(aligned, model.map_spec), atol=1e-6)


def test_same_seed_same_model(build_model: Build) -> None:
    """Equal seeds give equal weights and outputs, another seed does not."""
    images = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        first, again, other = (build_model(seed=s)(images)[1] for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_image_is_judged_alike_alone_and_in_a_batch(build_model: Build) -> None:
    """Neighbours in a batch do not change an image's score."""
    model, images = build_model(), torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        together, alone = model(images)[0][1:2], model(images[1:2])[0]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_encoder_stays_frozen_and_in_eval_mode(build_model: Build) -> None:
    """Training the whole model never moves the encoder's weights or batch statistics."""
    model = build_model().train()
    assert not model.encoder.training
    assert not any(p.requires_grad for p in model.encoder.parameters())


@given(hnp.arrays(np.float32, (3, 6), elements=st.floats(-1e6, 1e6, width=32)))
def test_gamma_is_always_above_u(descriptor: np.ndarray) -> None:
    """Whatever the features, the head predicts 0 < u and gamma - u >= MIN_SPREAD, up to rounding."""
    torch.manual_seed(0)
    u, gamma = CadaHead(CadaHeadConfig(8), 6)(torch.from_numpy(descriptor)).unbind(dim=1)
    assert (u > 0).all()
    assert (gamma > u).all()
    assert (gamma - u >= MIN_SPREAD - 1e-5 * gamma).all()


def test_head_targets_round_trip_through_logarithms() -> None:
    """What `to_log` makes of (u, gamma) is what the head turns back into them."""
    u, gamma = torch.tensor([0.1, 0.4]), torch.tensor([0.3, 1.5])
    level, spread = to_log(u, gamma).exp().unbind(dim=1)
    torch.testing.assert_close((level, level + spread), (u, gamma))


def test_descriptor_is_blind_to_where_things_are() -> None:
    """Moving cells about leaves the descriptor as it is."""
    x = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(describe([x]), describe([x.flip(2).roll(1, 3)]))


@given(MAPS, st.sampled_from([1, 3, 5]))
def test_smoother_is_the_reference_smoothing(maps: np.ndarray, taps: int) -> None:
    """The torch smoother and `alignment.smooth` agree."""
    spec = MapSpec((8, 8), smooth_taps=taps)
    found = Smoother(spec)(torch.from_numpy(maps)).numpy()
    np.testing.assert_allclose(found, alignment.smooth(maps, spec), atol=1e-5)


@given(MAPS, st.floats(0.001, 1.0))
def test_image_score_is_the_reference_score(maps: np.ndarray, fraction: float) -> None:
    """The torch score and `alignment.image_score` agree for any top fraction."""
    spec = MapSpec((8, 8), top_fraction=fraction)
    found = image_score(torch.from_numpy(maps), spec).numpy()
    np.testing.assert_allclose(found, alignment.image_score(maps, spec), atol=1e-5)


def test_cosine_distance_spans_zero_to_two() -> None:
    """Equal directions are 0 apart, opposite ones 2, and a zero vector does not divide by zero."""
    a = torch.randn(1, 5, 2, 2)
    torch.testing.assert_close(cosine_distance(a, 3 * a), torch.zeros(1, 2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(cosine_distance(a, -a), torch.full((1, 2, 2), 2.0), atol=1e-5, rtol=0)
    assert cosine_distance(a, torch.zeros_like(a)).isfinite().all()


def test_unknown_kinds_are_bundle_errors() -> None:
    """A bundle of a detector or head this version lacks says which ones there are."""
    with pytest.raises(BundleError, match="revdist"):
        detector_class("patchcore")
    with pytest.raises(BundleError, match="cada-mlp"):
        build_head("oracle", {}, 4)


@pytest.mark.parametrize(
    "build",
    [
        lambda: RevDistConfig(width=0),
        lambda: CadaHeadConfig(hidden=-1),
        lambda: EncoderConfig(strides=(16, 8)),
        lambda: pick_device("abacus"),
    ],
)
def test_senseless_settings_are_config_errors(build: Callable[[], object]) -> None:
    """A setting out of range is refused when it is made."""
    with pytest.raises(ConfigError):
        build()


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 64, 64, 3), np.float32),
        np.zeros((0, 64, 64, 3), np.uint8),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((1, 32, 64, 3), np.uint8),
        np.zeros((1, 3, 64, 64), np.uint8),
    ],
)
def test_every_runner_refuses_a_wrong_batch(batch: np.ndarray) -> None:
    """Another dtype, rank, size or channel order is an `EngineError` with both shapes."""
    with pytest.raises(EngineError, match="expected uint8"):
        check_batch(batch, ImageSpec((64, 64)))


@pytest.mark.parametrize(
    ("size", "got", "words"),
    [
        (2, 1, r"takes 2 pictures at a time, \(2, 64, 64, 3\); set `batch: 2` in line.yaml"),
        (1, 3, r"takes 1 picture at a time, \(1, 64, 64, 3\); set `batch: 1` in line.yaml"),
    ],
)
def test_a_fixed_batch_size_is_held(size: int, got: int, words: str) -> None:
    """Where the graph fixes N, another N is refused, with what to write into the line's file."""
    with pytest.raises(EngineError, match=words) as refused:
        check_batch(np.zeros((got, 64, 64, 3), np.uint8), ImageSpec((64, 64)), size=size)
    assert "prepare" not in str(refused.value)
