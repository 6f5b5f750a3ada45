"""Models to bundles and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="models need the train extra")

from cada_edge.bundle import Bundle, Component, Manifest  # noqa: E402  # after the skip
from cada_edge.errors import BundleError, EngineError  # noqa: E402
from cada_edge.models import TorchRunner, UnifiedModel, load_model  # noqa: E402
from cada_edge.models.store import components, model_files  # noqa: E402

Build = Callable[..., UnifiedModel]


@pytest.fixture(scope="module")
def stored(build_model: Build) -> tuple[UnifiedModel, Bundle]:
    """A model and the bundle made of it."""
    model = build_model()
    detector, head = components(model)
    return model, Bundle(Manifest(model.spec, model.map_spec, detector, head), model_files(model))


def test_a_model_survives_its_bundle(stored: tuple[UnifiedModel, Bundle]) -> None:
    """Stored and loaded again, every weight and statistic is the same bit pattern."""
    model, bundle = stored
    loaded = load_model(bundle)
    expected, found = model.state_dict(), loaded.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not loaded.training


def test_same_model_same_bytes(stored: tuple[UnifiedModel, Bundle]) -> None:
    """The files of a model depend on its values alone."""
    model, bundle = stored
    assert model_files(load_model(bundle)) == model_files(model)


def test_the_runner_gives_what_the_model_gives(stored: tuple[UnifiedModel, Bundle]) -> None:
    """`TorchRunner` returns the model's own numbers, in arrays of the caller's."""
    model, bundle = stored
    batch = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    with TorchRunner(bundle, "cpu") as runner, torch.inference_mode():
        prediction, expected = runner.infer(batch), model(torch.from_numpy(batch))
    np.testing.assert_allclose(prediction.score, expected[0].numpy(), atol=1e-6)
    np.testing.assert_allclose(prediction.map, expected[1].numpy(), atol=1e-6)
    assert prediction.map.flags.writeable


def test_the_runner_refuses_a_float_batch(stored: tuple[UnifiedModel, Bundle]) -> None:
    """Pixels are uint8; anything else would be scaled twice."""
    with TorchRunner(stored[1], "cpu") as runner, pytest.raises(EngineError, match="float32"):
        runner.infer(np.zeros((1, 64, 64, 3), np.float32))


@pytest.mark.parametrize("part", ["encoder", "detector", "head"])
def test_a_missing_or_damaged_part_is_a_bundle_error(stored: tuple[UnifiedModel, Bundle], part: str) -> None:
    """Each weight file must be there, whole, and of this architecture."""
    bundle, name = stored[1], f"{part}.safetensors"
    without = replace(bundle, files={k: v for k, v in bundle.files.items() if k != name})
    swapped = bundle.with_file(name, bundle.files["head.safetensors" if part != "head" else "detector.safetensors"])
    for broken in (without, bundle.with_file(name, bundle.files[name][:-7]), swapped):
        with pytest.raises(BundleError, match=name):
            load_model(broken)


@pytest.mark.parametrize("field", ["detector", "head"])
def test_an_unknown_kind_is_a_bundle_error(stored: tuple[UnifiedModel, Bundle], field: str) -> None:
    """A bundle of another detector or head is refused by name."""
    manifest = stored[1].manifest
    config = getattr(manifest, field).config
    other = Component("from-the-future", config)
    changed = replace(manifest, detector=other) if field == "detector" else replace(manifest, head=other)
    with pytest.raises(BundleError, match="from-the-future"):
        load_model(replace(stored[1], manifest=changed))


@pytest.mark.parametrize("config", [{}, {"encoder": {"name": "no_such_net"}, "detector": {}}, {"encoder": 3}])
def test_a_senseless_detector_config_is_a_bundle_error(
    stored: tuple[UnifiedModel, Bundle], config: dict[str, object]
) -> None:
    """Whatever a manifest says of its detector, reading it fails as a `BundleError`."""
    changed = replace(stored[1].manifest, detector=Component("revdist", config))
    with pytest.raises(BundleError):
        load_model(replace(stored[1], manifest=changed))
