"""``cada-edge evaluate --dataset``: from a data set to a calibrated bundle, for `evaluate` to judge."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from cada_edge.bench.paper import prepare
from cada_edge.bundle import Bundle
from cada_edge.cli._progress import stage_progress
from cada_edge.cli.train import check_out
from cada_edge.data.dataset import Dataset
from cada_edge.data.readers import read_dataset
from cada_edge.models import EncoderConfig
from cada_edge.training import TrainConfig, fit_config, trained_class


def train_config(
    *,
    detector: str | None,
    encoder: str | None,
    encoder_weights: str | None,
    size: int | None,
    iterations: int | None,
    device: str | None,
    seed: int | None,
) -> TrainConfig:
    """What suits the detector, with what was asked for. Raises `ConfigError` or `BundleError`."""
    kind = detector or "revdist"
    named = {"name": encoder, "weights": encoder_weights}
    fields: dict[str, Any] = {"size_hw": (size, size) if size else None, "device": device, "seed": seed}
    return TrainConfig.of_kind(
        kind,
        encoder=EncoderConfig(strides=trained_class(kind).default_strides, **_given(named)),
        fit=fit_config(kind, **_given({"iterations": iterations})),
        **_given(fields),
    )


def prepared(
    layout: str, root: Path, config: TrainConfig, *, target_frr: float, out: Path, console: Console
) -> tuple[Bundle, Dataset]:
    """The data set, and the bundle at `out` made from it. Raises `CadaEdgeError`."""
    if not out.exists():
        check_out(out, force=False)
    try:
        with stage_progress(console) as progress:
            dataset = read_dataset(root, layout, partial(progress, "read images"))
            bundle = prepare(dataset, config, target_frr, out, progress)
    except KeyboardInterrupt:
        console.print(f"stopped; what is done is kept in {out.name} and {out.name}.work: the same command goes on")
        raise
    products, train, test = dataset.products(), dataset.train(), dataset.test()
    console.print(f"{out}: one model of {len(products)} products from {len(train)} images; {len(test)} test images")
    return bundle, dataset


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
