"""anomalib's detectors and AnomaVision's PaDiM on the same images, split, encoder weights and figures as cada-edge.

    pip install anomalib==2.7.0 openvino      # beside cada-edge's train extra; openvino is optional
    pip install --no-deps anomavision==3.6.2 && pip install easydict scikit-image   # optional; see below
    python tests/peers/anomalib_peers.py DATA --out peers

One model of each kind is fitted on the good images of all products together, without product
names, and judged as `cada-edge evaluate --protocol absolute` judges a bundle: thresholds from
good images held out by cada-edge's own roles, all test images in one pool. ``peers.md`` and
``peers.json`` are left in the folder. Each finished peer is kept there, so that the same
command goes on after an interruption. On one core of a CPU: about an hour for ten products.

What is anomalib's: the torch models, their losses, optimiser settings, coreset, maps and image
scores. What is not: the loop around them (their Engine reads its own folder layouts and would
split the images its own way), the encoder's weights, and for want of hours the number of steps
of Reverse Distillation and the candidates of PatchCore's bank; see `peer_settings.PeerSettings`.
Reverse Distillation refuses any encoder but a ResNet; `peer_encoder.SplitLayers` says how it is
given this one. Their post-processor is one rising line for all images, clipped at 0 and 1: it
changes no ranking but at its ends, and ``post_processed_pooled`` in ``peers.json`` shows how
little.

AnomaVision 3.6.2 pins an older numpy and brings two web frameworks, hence ``--no-deps``. Its PaDiM runs
as it is, `fit` and distance included; `peer_anomavision` says how it is given this encoder, for it
knows ResNets alone. It is judged twice: with its own defaults (strides 4 and 8, 50 channels) and on the
strides and with the number of channels that anomalib's PaDiM has here. It has no post-processor.

Latency is the median ratio to the bare encoder (strides 8, 16 and 32), in turns, in one
process, batch 1.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import peer_figures
import peer_latency
import torch
import typer
from peer_encoder import Tick, encode
from peer_figures import Scored
from peer_models import fit, post_process, predict
from peer_settings import ANOMAVISION, NAMES, PeerSettings, installed
from rich.console import Console

from cada_edge.cli._progress import stage_progress
from cada_edge.data.dataset import Item, scan
from cada_edge.data.split import Role, RoleFractions, assign_roles
from cada_edge.errors import ConfigError
from cada_edge.imaging import write_atomic
from cada_edge.models.head import describe
from cada_edge.training.features import FeatureStore, View
from cada_edge.training.look_alikes import look_alike_groups
from cada_edge.types import Float32Array

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Timing:
    """How latency is measured.

    Attributes:
        runs: timed runs of each graph.
        threads: of each backend.
    """

    runs: int = 100
    threads: int = 1


@dataclass(frozen=True)
class Benchmark:
    """One run of this script.

    Attributes:
        settings: of the peers.
        train: good images, each once.
        test: test images that are byte-identical to none of them.
        out: where results are kept.
        progress: called with (what, done, total).
    """

    settings: PeerSettings
    train: tuple[Item, ...]
    test: tuple[Item, ...]
    out: Path
    progress: Progress

    @staticmethod
    def of(data: Path, settings: PeerSettings, limit: int | None, out: Path, progress: Progress) -> Benchmark:
        """Scan `data`; `limit` keeps that many training, good and defective images of each product."""
        dataset = scan(data)
        train = tuple({item.sha256: item for item in _first(dataset.train(), limit)}.values())
        seen = {item.sha256 for item in train}
        test = tuple(item for item in _first(dataset.test(), limit) if item.sha256 not in seen)
        out.mkdir(parents=True, exist_ok=True)
        return Benchmark(settings, train, test, out, progress)

    def key(self, name: str | None = None) -> str:
        """Digest of all that determines the roles or, with a name, the scores of that peer."""
        digests = [item.sha256 for item in (*self.train, *self.test)]
        return hashlib.sha256(json.dumps([self.settings.of(name), digests]).encode()).hexdigest()

    def tick(self, stage: str) -> Tick:
        """Progress of one stage."""
        return lambda done, total: self.progress(stage, done, total)

    @cached_property
    def store(self) -> FeatureStore:
        """Features of all images, training then test."""
        items = [View(item.path, item.sha256) for item in (*self.train, *self.test)]
        return encode(self.settings, self.out / "features", items, self.tick("encode images"))

    @cached_property
    def roles(self) -> dict[str, Role]:
        """Digest to role, by the rule of `cada-edge train`; kept on disk."""
        file = self.out / "roles.json"
        if not file.exists():
            kept = {"key": self.key(), "roles": self._assign()}
            write_atomic(file, json.dumps(kept).encode())
        return cast("dict[str, Role]", self._read(file, self.key())["roles"])

    def _assign(self) -> dict[str, Role]:
        digests = [item.sha256 for item in self.train]
        batches = self.store.select(digests).batches(torch.device("cpu"))
        groups = look_alike_groups(torch.cat([describe(features[1:]) for features in batches]))  # strides 8, 16, 32
        return assign_roles(
            digests, RoleFractions(), self.settings.seed, dict(zip(digests, groups.tolist(), strict=True))
        )

    def run(self, name: str, timing: Timing) -> dict[str, Any]:
        """The stored result of one peer, made first where there is none."""
        file = self.out / f"{name}.json"
        if not file.exists():
            self._make(name, timing, file)
        kept = self._read(file, self.key(name))
        held = tuple(item for item in self.train if self.roles[item.sha256] != "fit")
        calibrate = {digest for digest, role in self.roles.items() if role == "calibrate"}
        with np.load(file.with_suffix(".npz"), allow_pickle=False) as arrays:
            good = Scored(held, arrays["held_scores"], arrays["held_maps"])
            test = Scored(self.test, arrays["test_scores"], arrays["test_maps"])
            return {
                **kept,
                "title": self.settings.title(name),
                "figures": peer_figures.figures(good, test, calibrate, arrays["post_processed"]),
            }

    def _make(self, name: str, timing: Timing, file: Path) -> None:
        fitting, held = ([d for d, role in self.roles.items() if (role == "fit") == mine] for mine in (True, False))
        start = time.monotonic()
        peer = fit(name, self.settings, self.store.select(fitting), self.tick(f"fit {name}"))
        fit_s = time.monotonic() - start
        arrays: dict[str, Float32Array] = {}
        for part, digests in (("held", held), ("test", [item.sha256 for item in self.test])):
            found = predict(peer, self.store.select(digests), self.tick(f"judge {part} by {name}"))
            arrays[f"{part}_scores"], arrays[f"{part}_maps"] = found
        scores, defective = arrays["test_scores"], [item.defect is not None for item in self.test]
        arrays["post_processed"] = scores if name in ANOMAVISION else post_process(scores, defective)
        latency = peer_latency.compare(peer, self.settings.encoder((8, 16, 32)), timing.runs, timing.threads)
        stream = io.BytesIO()
        np.savez_compressed(stream, **cast("dict[str, Any]", arrays))
        write_atomic(file.with_suffix(".npz"), stream.getvalue())
        kept = {"setting": self._setting(name), "fit_s": fit_s, "timing": asdict(timing)}
        write_atomic(file, json.dumps({"key": self.key(name), **kept, "latency": latency}).encode())

    def _setting(self, name: str) -> dict[str, Any]:
        packages = ("anomavision" if name in ANOMAVISION else "anomalib", "torch", "timm", "onnxruntime")
        versions = {package: importlib.metadata.version(package) for package in packages}
        return {**self.settings.of(name), **versions, "train": len(self.train), "test": len(self.test)}

    @staticmethod
    def _read(file: Path, key: str) -> dict[str, Any]:
        kept: dict[str, Any] = json.loads(file.read_text())
        if kept["key"] != key:
            raise ConfigError(
                f"{file} was made with other images or settings ({kept['key'][:12]}, now {key[:12]}); "
                "remove it or name another --out"
            )
        return kept


def _first(items: tuple[Item, ...], limit: int | None) -> tuple[Item, ...]:
    """At most `limit` good and `limit` defective ones of each product, in order."""
    counts: Counter[tuple[str, bool]] = Counter()
    kept = []
    for item in items:
        kind = (item.product, item.defect is None)
        counts[kind] += 1
        if limit is None or counts[kind] <= limit:
            kept.append(item)
    return tuple(kept)


def main(  # noqa: PLR0917  # options of a command line
    data: Annotated[Path, typer.Argument(help="Images in MVTec AD layout.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    models: Annotated[str, typer.Option(help="Which, by comma.")] = ",".join(installed()),
    seed: Annotated[int, typer.Option(help="Of the split and of every random choice.")] = 0,
    size: Annotated[int, typer.Option(help="Side of the model input, pixels.")] = 256,
    steps: Annotated[
        int, typer.Option(help="Training steps of Reverse Distillation.")
    ] = PeerSettings.reverse_distillation_steps,
    images_per_product: Annotated[int | None, typer.Option(help="At most so many of each kind, for a try.")] = None,
    runs: Annotated[int, typer.Option(help="Timed runs per backend.")] = Timing.runs,
    threads: Annotated[int, typer.Option(help="Threads of torch, ONNX Runtime and OpenVINO.")] = Timing.threads,
) -> None:
    """Fit, judge and time the peers; print the tables."""
    names, known = models.split(","), [*NAMES, *ANOMAVISION]
    if unknown := sorted(set(names) - set(known)):
        raise typer.BadParameter(f"--models: unknown {unknown}, expected some of {known}")
    torch.set_num_threads(threads)
    settings = PeerSettings(size_px=size, seed=seed, reverse_distillation_steps=steps)
    with stage_progress(Console(stderr=True)) as progress:
        benchmark = Benchmark.of(data, settings, images_per_product, out, progress)
        results = {name: benchmark.run(name, Timing(runs, threads)) for name in names}
    tables = peer_figures.to_markdown(results)
    write_atomic(out / "peers.json", json.dumps(results, indent=1).encode())
    write_atomic(out / "peers.md", tables.encode())
    typer.echo(tables)


if __name__ == "__main__":
    typer.run(main)
