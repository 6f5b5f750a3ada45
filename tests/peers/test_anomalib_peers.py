from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("anomalib", reason="most peers are anomalib's: pip install anomalib")

import torch  # after the skip, as all below
from anomalib_peers import Benchmark, Timing
from peer_encoder import FromPixels, Layers, SplitLayers, encode
from peer_models import fit, predict
from peer_settings import PeerSettings, installed

from cada_edge.errors import ConfigError
from cada_edge.imaging import prepare, read_image
from cada_edge.training.features import FeatureStore, View

if TYPE_CHECKING:
    from cada_edge.data.dataset import Dataset

pytestmark = pytest.mark.peer
SETTINGS = PeerSettings(size_px=64, patchcore_patches_per_image=4, reverse_distillation_steps=2)


def quiet(*_: object) -> None:
    """Take progress and say nothing."""


@pytest.fixture(scope="module")
def store(tiny_line: Dataset, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Features of the tiny line's good images."""
    views = [View(item.path, item.sha256) for item in tiny_line.train()]
    return encode(SETTINGS, tmp_path_factory.mktemp("features"), views, quiet)


@pytest.fixture
def benchmark_in(tiny_line: Dataset, tmp_path: Path) -> Callable[[PeerSettings], Benchmark]:
    """The tiny line under some settings, always in the same folder."""
    return lambda settings: Benchmark.of(tiny_line.root, settings, None, tmp_path / "peers", quiet)


@pytest.mark.parametrize("name", installed())
def test_a_peer_scores_a_picture_as_it_scores_its_stored_features(name: str, store: FeatureStore) -> None:
    """What was judged from stored features is what the whole model says of the picture itself."""
    peer = fit(name, SETTINGS, store, quiet)
    scores, _ = predict(peer, store, quiet)
    pixels = np.stack([prepare(read_image(view.path), peer.spec) for view in store.views[:4]])
    with torch.inference_mode():
        whole = FromPixels(peer.net, peer.spec)(torch.from_numpy(pixels))[0].flatten().numpy()
    np.testing.assert_allclose(whole, scores[:4], rtol=0.02, atol=1e-4)  # features are stored as float16


def test_dressing_as_a_resnet_loses_nothing(store: FeatureStore) -> None:
    """The positive parts less the negative parts are the standardised features again."""
    mean, std = (values[:3] for values in store.channel_statistics())
    maps = store.rows(np.arange(2), torch.device("cpu"))[:3]
    layers: Layers = SplitLayers(SETTINGS.encoder((4, 8, 16)), ["layer1", "layer2", "layer3"], mean, std)
    for x, dressed, m, s in zip(maps, layers.dress(maps), mean, std, strict=True):
        channels = x.shape[1]
        back = (dressed[:, :channels] - dressed[:, channels : 2 * channels]) * s.view(-1, 1, 1) + m.view(-1, 1, 1)
        torch.testing.assert_close(back, x, rtol=1e-3, atol=1e-3)


def test_a_finished_peer_is_not_fitted_again(benchmark_in: Callable[[PeerSettings], Benchmark]) -> None:
    """The second run reads what the first left, and says the same."""
    first = benchmark_in(SETTINGS).run("padim", Timing(runs=1))
    file = benchmark_in(SETTINGS).out / "padim.npz"
    written = file.stat().st_mtime_ns
    assert benchmark_in(SETTINGS).run("padim", Timing(runs=1)) == first
    assert file.stat().st_mtime_ns == written
    assert first["figures"]["raw"]["pooled"]["image_auroc"]["value"] is not None
    assert first["latency"]["onnxruntime"]["ratio"] > 0


def test_results_of_other_settings_are_refused(benchmark_in: Callable[[PeerSettings], Benchmark]) -> None:
    """Another seed in the same folder is an error that says what to do."""
    benchmark_in(SETTINGS).run("padim", Timing(runs=1))
    with pytest.raises(ConfigError, match="name another --out"):
        benchmark_in(PeerSettings(size_px=64, seed=1)).run("padim", Timing(runs=1))
