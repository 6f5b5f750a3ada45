"""Fixtures several test folders share: the real pictures and a small synthetic line."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from cada_edge.data.dataset import Dataset
    from cada_edge.models import UnifiedModel

# The same examples on every run, and no deadline: a busy machine must not fail a test.
settings.register_profile("cada-edge", derandomize=True, deadline=None, database=None)
settings.load_profile("cada-edge")

# A shell that runs the tests in the background has them, and all that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real inspection pictures in MVTec AD layout; skips where it is absent."""
    path = Path(os.environ.get("CADA_EDGE_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"real inspection images are not at {path}; set CADA_EDGE_DATA")
    return path


@pytest.fixture(scope="session")
def tiny_line(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three synthetic products at 96 px: each 8 train, 3 good and 3 defective test images."""
    from cada_edge.data.synthetic import SynthConfig, synthesize

    config = SynthConfig(products=3, train=8, test_good=3, test_defect=3, size_px=96, seed=7)
    return synthesize(config, tmp_path_factory.mktemp("tiny") / "line")


@pytest.fixture(scope="session")
def build_model() -> Callable[..., UnifiedModel]:
    """Build an untrained but well-scaled model: ``build_model(encoder=..., size_px=64, seed=0)``."""
    torch = pytest.importorskip("torch", reason="models need the train extra")
    from cada_edge.models import CadaHead, CadaHeadConfig, Encoder, EncoderConfig, RevDist, RevDistConfig, UnifiedModel
    from cada_edge.types import ImageSpec, MapSpec

    def build(encoder: str = "tf_efficientnet_lite0", size_px: int = 64, seed: int = 0) -> UnifiedModel:
        torch.manual_seed(seed)
        spec, map_spec = ImageSpec((size_px, size_px)), MapSpec((16, 16), top_fraction=0.05)
        net = Encoder(EncoderConfig(encoder, (8, 16), "random"))
        detector = RevDist(RevDistConfig(width=8, bottleneck=8), net.channels, net.strides, map_spec)
        model = UnifiedModel(spec, map_spec, net, detector, CadaHead(CadaHeadConfig(8), sum(net.channels))).eval()
        with torch.no_grad():
            images = torch.randint(0, 256, (4, *spec.size_hw, 3), dtype=torch.uint8)
            features = net(model.standardise(images))
            detector.scaler.set_statistics(
                [x.mean(dim=(0, 2, 3)) for x in features], [x.std(dim=(0, 2, 3)) for x in features]
            )
            model.head.input_std.copy_(torch.cat([x.std().repeat(x.shape[1]) for x in features]))
            model.head.log_mean.copy_(torch.tensor([0.5, 0.5]).log())
            model.head.log_std.fill_(0.2)
        return model

    return build
