"""A small untrained model as a bundle, and its exported graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="export needs the train extra")

from precision_kit import QUICK, open_ort

from cada_edge.bundle import MODEL, Bundle, Manifest  # after the skip
from cada_edge.data.dataset import Dataset, Item
from cada_edge.export import export_onnx
from cada_edge.export.precision import add_precisions
from cada_edge.export.precision_report import PrecisionReport
from cada_edge.models import UnifiedModel
from cada_edge.models.store import components, model_files
from cada_edge.types import UInt8Array


def to_bundle(model: UnifiedModel) -> Bundle:
    """The bundle that training would write of `model`."""
    detector, head = components(model)
    return Bundle(Manifest(model.spec, model.map_spec, detector, head), model_files(model))


@pytest.fixture(scope="session")
def model(build_model: Callable[..., UnifiedModel]) -> UnifiedModel:
    """The model under export."""
    return build_model()


@pytest.fixture(scope="session")
def bundle(model: UnifiedModel) -> Bundle:
    """Its bundle, not exported yet."""
    return to_bundle(model)


@pytest.fixture(scope="session")
def content(model: UnifiedModel) -> bytes:
    """Its exported graph."""
    return export_onnx(model)


@pytest.fixture
def graph(content: bytes) -> onnx.ModelProto:
    """The exported graph, parsed; each test has its own."""
    return onnx.load_from_string(content)


@pytest.fixture(scope="session")
def batch() -> UInt8Array:
    """Five pictures of noise, uint8 (5, 64, 64, 3)."""
    return np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)


@pytest.fixture(scope="session")
def seen_line(bundle: Bundle, content: bytes, tiny_line: Dataset) -> Bundle:
    """An exported bundle that was trained on the train images of three small products."""
    seen = [item.sha256 for item in tiny_line.train()]
    return bundle.with_file(MODEL, content).with_roles({"fit": seen, "align": []})


@pytest.fixture(scope="session")
def good(tiny_line: Dataset) -> tuple[Item, ...]:
    """Its good images: 24 seen, 9 held out."""
    return tuple(item for item in tiny_line.items if item.defect is None)


@pytest.fixture(scope="session")
def made(seen_line: Bundle, good: tuple[Item, ...]) -> tuple[Bundle, PrecisionReport]:
    """The bundle with both precisions."""
    return add_precisions(seen_line, ["int8", "fp16"], good, open_ort, QUICK)
