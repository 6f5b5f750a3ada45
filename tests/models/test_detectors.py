"""What every detector promises, and what each family's arithmetic is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="models need the train extra")

from torch import Tensor  # noqa: E402  # after the skip

from cada_edge.errors import ConfigError  # noqa: E402
from cada_edge.models import (  # noqa: E402
    FeatureFlow,
    FlowConfig,
    PatchMemory,
    PatchMemoryConfig,
    RevDistConfig,
    TransformerConfig,
    detector_class,
)
from cada_edge.models.detector import Detector, LayeredDetector, class_of_settings, resample  # noqa: E402
from cada_edge.models.flow import _Coupling  # noqa: E402
from cada_edge.models.patch_memory import nearest_distance  # noqa: E402
from cada_edge.models.transformer import _LinearAttention  # noqa: E402
from cada_edge.training.fit_memory import coreset  # noqa: E402
from cada_edge.types import MapSpec  # noqa: E402

CHANNELS, STRIDES, SPEC = [6, 10, 12], (8, 16, 32), MapSpec((16, 16))
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "revdist": {"width": 8, "bottleneck": 8},
    "revdist separable": {"width": 8, "bottleneck": 8, "separable": True},
    "patch-memory": {"bank_size": 20},
    "transformer": {"width": 16, "depth": 2, "heads": 2},
    "flow": {"steps": 2, "width": 8},
}
KINDS = sorted(SETTINGS)  # the kind of a detector, then what is special


def _features(count: int = 2, height: int = 64, width: int = 96, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(count, c, height // s, width // s, generator=generator)
        for c, s in zip(CHANNELS, STRIDES, strict=True)
    ]


def _class(kind: str) -> type[Detector]:
    return detector_class(kind.split(maxsplit=1)[0])


def _detector(kind: str) -> LayeredDetector:
    torch.manual_seed(0)
    detector = _class(kind).build(dict(SETTINGS[kind]), CHANNELS, STRIDES, SPEC)
    assert isinstance(detector, LayeredDetector)
    if isinstance(detector, PatchMemory):
        detector.remember(
            [x.flatten(2).transpose(1, 2).flatten(0, 1)[:20] for x in detector.patches(_features(seed=1))]
        )
    return detector.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_gives_one_map_per_image(kind: str) -> None:
    """Features of any aspect ratio give finite, non-negative maps of the agreed size."""
    maps = _detector(kind)(_features()).detach()
    assert maps.shape == (2, 16, 16)
    assert bool(maps.isfinite().all())
    assert float(maps.min()) >= 0


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_judged_alike_alone_and_in_a_batch(kind: str) -> None:
    """No detector lets one image's map depend on its neighbours in the batch."""
    detector, features = _detector(kind), _features(3)
    torch.testing.assert_close(detector(features)[1:2], detector([x[1:2] for x in features]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_rebuild_the_same_detector(kind: str) -> None:
    """What `config` says and the weights are enough to rebuild a detector, bank sizes included."""
    detector = _detector(kind)
    again = _class(kind).build(detector.config(), CHANNELS, STRIDES, SPEC)
    again.load_state_dict(detector.state_dict())
    assert torch.equal(again.eval()(_features()), detector(_features()))


@pytest.mark.parametrize("kind", KINDS)
def test_settings_know_their_detector(kind: str) -> None:
    """A settings object alone says which detector it belongs to."""
    cls = _class(kind)
    assert class_of_settings(cls.settings_type()) is cls


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (lambda: RevDistConfig(separable=1), "true or false"),  # type: ignore[arg-type]  # the wrong type is the point
        (lambda: TransformerConfig(width=10, heads=4), "multiple of heads"),
        (lambda: TransformerConfig(dropout=1.5), "dropout"),
        (lambda: FlowConfig(steps=0), "steps"),
        (lambda: FlowConfig(width=1.5), "whole number"),  # type: ignore[arg-type]  # the wrong type is the point
        (lambda: PatchMemoryConfig(groups=()), "at least one stride"),
        (lambda: PatchMemoryConfig(groups="all"), "lists of strides"),  # type: ignore[arg-type]  # likewise
    ],
)
def test_settings_out_of_range_are_refused(settings: Any, what: str) -> None:
    """A setting out of range is named before anything is built."""
    with pytest.raises(ConfigError, match=what):
        settings()


def test_a_memory_needs_the_strides_it_joins() -> None:
    """Strides that the encoder does not give are named."""
    with pytest.raises(ConfigError, match=r"strides \[4\]"):
        PatchMemory(PatchMemoryConfig(groups=((4, 8),), grid_stride=8), CHANNELS, STRIDES, SPEC)


def test_nearest_distance_is_the_distance_to_the_nearest_patch() -> None:
    """The matrix product gives what comparing with every patch gives."""
    cells, bank = torch.randn(2, 5, 3, 4), torch.randn(7, 5)
    brute = (cells.permute(0, 2, 3, 1)[..., None, :] - bank).norm(dim=-1).amin(dim=-1)
    torch.testing.assert_close(nearest_distance(cells, bank), brute, atol=1e-3, rtol=1e-3)


def test_a_remembered_image_has_no_anomaly() -> None:
    """Every patch of an image in the bank is at distance zero, up to the floor."""
    detector = _detector("patch-memory")
    assert isinstance(detector, PatchMemory)
    features = _features(1)
    detector.remember([x.flatten(2).transpose(1, 2)[0] for x in detector.patches(features)])
    assert float(detector(features).max()) < 2e-2
    assert float(detector(_features(1, seed=9)).mean()) > 0.1


def test_a_coreset_leaves_no_patch_far_from_all() -> None:
    """Greedy k-centre covers the points better than a random choice of the same size."""
    points = torch.cat([torch.randn(400, 4, generator=torch.Generator().manual_seed(0)), 20 + torch.zeros(2, 4)])
    chosen = points[coreset(points, 30, lambda done, total: None)]
    random = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(1))[:30]]
    reach = [float(torch.cdist(points, some).amin(dim=1).max()) for some in (chosen, random)]
    assert reach[0] < 0.5 * reach[1]


def test_a_coupling_states_its_own_jacobian() -> None:
    """The log-determinant a coupling reports is that of its Jacobian."""
    torch.manual_seed(3)
    coupling = _Coupling(6, 8, 1)
    for parameter in coupling.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    cell = torch.randn(1, 6, 1, 1)
    jacobian = torch.autograd.functional.jacobian(lambda x: coupling(x.view(1, 6, 1, 1))[0].flatten(), cell.flatten())
    expected = torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(coupling(cell)[1].sum(), expected, atol=1e-4, rtol=1e-4)


def test_an_untrained_flow_only_rotates() -> None:
    """A fresh flow keeps lengths, so its distance is the mean square of the features."""
    torch.manual_seed(0)
    flow = FeatureFlow(FlowConfig(steps=3, width=8), CHANNELS, STRIDES, SPEC)
    features = _features()
    for distance, x in zip(flow.layer_distances(features), features, strict=True):
        torch.testing.assert_close(distance, x.square().mean(dim=1), atol=1e-4, rtol=1e-4)


def test_linear_attention_is_a_weighted_mean() -> None:
    """Attention without softmax equals the weights phi(q).phi(k), normalised per query."""
    torch.manual_seed(0)
    attention = _LinearAttention(8, 2)
    tokens = torch.randn(1, 5, 8)
    query, key, value = (x.view(1, 5, 2, 4).transpose(1, 2) for x in attention.qkv(tokens).split([8, 8, 8], dim=2))
    phi = torch.nn.functional.elu
    weights = (phi(query) + 1) @ (phi(key) + 1).transpose(2, 3)
    mixed = (weights / weights.sum(dim=3, keepdim=True)) @ value
    expected = attention.out(mixed.transpose(1, 2).reshape(1, 5, 8))
    torch.testing.assert_close(attention(tokens), expected, atol=1e-5, rtol=1e-5)


def test_resampling_averages_whole_cells() -> None:
    """A map that shrinks by a whole factor is averaged, and one of the right size is left alone."""
    x = torch.arange(16.0).view(1, 1, 4, 4)
    torch.testing.assert_close(resample(x, (2, 2)), torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]]))
    assert resample(x, (4, 4)) is x
    assert resample(x, (3, 5)).shape == (1, 1, 3, 5)
