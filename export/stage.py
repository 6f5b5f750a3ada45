"""From a trained bundle to one that any ONNX runtime can run, gated by parity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import onnx
import torch

from cada_edge.bundle import MODEL, Bundle, Stage, data_sha256
from cada_edge.engine_key import PRECISIONS, graph_name
from cada_edge.export.cases import made_up
from cada_edge.export.compose import export_foreign
from cada_edge.export.onnx import export_onnx
from cada_edge.export.parity import ParityReport, Tolerance, check_parity
from cada_edge.export.precision_config import PRECISION_STAGE
from cada_edge.imaging import image_digest, prepare, read_image
from cada_edge.models import TorchRunner, load_model
from cada_edge.models.foreign_model import ForeignModel
from cada_edge.protocols import Runner
from cada_edge.types import ImageSpec, UInt8Array, require
from cada_edge.version import __version__

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ExportConfig:
    """How strictly an export is checked.

    Attributes:
        tolerance: of the parity gate.
        noise_images: made-up pictures compared beside the given ones, >= 1: they need no
            data and drive the graph where good parts do not.
        batch_size: images per batch in the check.
        seed: of the made-up pictures.
    """

    tolerance: Tolerance = field(default_factory=Tolerance)
    noise_images: int = 8
    batch_size: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in {"noise_images": 1, "batch_size": 1, "seed": 0}.items():
            value = getattr(self, name)
            require(isinstance(value, int) and value >= low, f"ExportConfig.{name}", value, f"an integer >= {low}")


def export(
    bundle: Bundle,
    open_candidate: Callable[[Bundle], Runner],
    images: Sequence[Path] = (),
    config: ExportConfig | None = None,
    progress: Progress | None = None,
) -> tuple[Bundle, ParityReport]:
    """Add ``model.onnx`` to a bundle, if it agrees with the model on every image.

    Args:
        bundle: trained; calibrated or not.
        open_candidate: opens the new bundle the way the line will, e.g. ``OrtRunner``. It is
            an argument because a runtime may import this package's files, never the reverse.
        images: pictures to compare on, beside the made-up ones.
        config: default `ExportConfig()`.
        progress: called with (images done, images in all).

    Returns:
        The bundle with the graph and an ``export`` line of provenance, and the report.

    Raises:
        ExportError, UnsupportedOpError: the model has no portable graph.
        ParityError: the graph and the model disagree; there is then no new bundle.
        DataError: one of `images` cannot be read.
    """
    config = config or ExportConfig()
    loaded = load_model(bundle)
    graph = export_foreign(loaded) if isinstance(loaded, ForeignModel) else export_onnx(loaded)
    candidate = _with_graph(bundle, graph)
    threshold = bundle.manifest.threshold
    total = config.noise_images + len(images)
    pictures = _counted(_pictures(bundle.manifest.spec, images, config), total, progress)
    with TorchRunner(bundle, "cpu") as model, open_candidate(candidate) as runner:
        report = check_parity(
            model,
            runner,
            pictures,
            tolerance=config.tolerance,
            threshold=threshold.value if threshold else None,
            batch_size=config.batch_size,
        )
    report.require()
    return candidate.with_stage(_stage(config, images, report, _opset(graph))), report


def _with_graph(bundle: Bundle, graph: bytes) -> Bundle:
    """The bundle with this graph; graphs of lower precision that were made of another one go."""
    if bundle.files.get(MODEL) == graph:
        return bundle
    typed = {graph_name(precision) for precision in PRECISIONS}
    kept = {name: content for name, content in bundle.files.items() if name not in typed}
    stages = tuple(stage for stage in bundle.manifest.provenance if stage.name != PRECISION_STAGE)
    return replace(bundle, files={**kept, MODEL: graph}, manifest=replace(bundle.manifest, provenance=stages))


def _opset(graph: bytes) -> int:
    """Version of the standard operators, which a foreign detector may raise."""
    versions: list[int] = [e.version for e in onnx.load_model_from_string(graph).opset_import if not e.domain]
    return versions[0]


def _stage(config: ExportConfig, images: Sequence[Path], report: ParityReport, opset: int) -> Stage:
    versions = {"torch": torch.__version__, "onnx": onnx.__version__}
    return Stage(
        name="export",
        version=__version__,
        config={**asdict(config), "opset": opset},
        data_sha256=data_sha256(map(image_digest, images)) if images else "",
        seed=config.seed,
        results={"versions": versions, "parity": report.to_json()},
    )


def _pictures(spec: ImageSpec, images: Sequence[Path], config: ExportConfig) -> Iterator[tuple[str, UInt8Array]]:
    yield from made_up(spec, config.noise_images, config.seed)
    for path in images:
        yield path.name, prepare(read_image(path), spec)


def _counted(
    pictures: Iterator[tuple[str, UInt8Array]], total: int, progress: Progress | None
) -> Iterator[tuple[str, UInt8Array]]:
    for done, picture in enumerate(pictures, 1):
        yield picture
        if progress:
            progress(done, total)
