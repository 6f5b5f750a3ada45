"""cada-edge's graphs, their bare encoder, anomalib's and AnomaVision's detectors, in turns, in one process.

    pip install anomalib==2.7.0 onnxscript openvino     # beside cada-edge's train extra; openvino is optional
    pip install --no-deps anomavision==3.6.2 && pip install easydict scikit-image      # optional
    PYTHONPATH=.:tests/peers python benchmarks/peers.py line.cada [more.cada ...] --data DATA --work runs/peers

Every subject gets the same picture in the same round, in a new random order each round, with the same
number of threads, at batch 1, pixels in and score out. The first subject is the floor: all ratios are to
it, paired, with their 95 % interval. What is a peer's own and what is not: `peer_subjects`,
`peer_inferencers` and, for how they are fitted, `tests/peers/anomalib_peers.py`. Here they are fitted on
``--images-per-product`` good images, and Reverse Distillation for one step: that changes no time.
PatchCore's bank is filled up to the size that it has where its accuracy is measured.

``--accuracy`` takes ``peers.json`` of `anomalib_peers.py` and ``cada-edge evaluate BUNDLE DATA --json``
of each bundle as it is given here, and sets both beside the times.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from anomalib_peers import Benchmark
from peer_settings import PeerSettings, installed
from peer_stage import Call, Stage, Timed
from peer_subjects import MODELS, bank_size, ours, peer
from peer_table import Subject, duels, read_accuracies, rows, to_markdown

from cada_edge.bundle import Bundle
from cada_edge.data.dataset import scan
from cada_edge.imaging import write_atomic
from cada_edge.runtime.benchmark.machine import machine, state

PAUSE_S = 0.005  # until the threads of the subject before have stopped spinning for more work
WARM_UP = 5  # rounds; each subject was called once before


def subjects(bundles: list[Path], data: Path | None, names: list[str], images: int, stage: Stage) -> Timed:
    """Ours, then the peers on `images` good images of each product in `data`."""
    yield from ours(bundles, stage)
    if data is None:
        return
    settings = PeerSettings(reverse_distillation_steps=1)
    source = Benchmark.of(data, settings, images, stage.work, lambda *_: None)
    bank = bank_size(settings, len({item.sha256 for item in scan(data).train()}))
    for name in names:
        yield from peer(name, source, bank, stage)


def in_turns(calls: Mapping[Subject, Call], n: int) -> dict[Subject, list[int]]:
    """ns of `n` runs of each, every round in another order: nobody always follows the same one's caches and heat."""
    times: dict[Subject, list[int]] = {who: [] for who in calls}
    for turn, order in enumerate(_orders(list(calls), n + WARM_UP)):
        for who in order:
            time.sleep(PAUSE_S)
            start_ns = time.perf_counter_ns()
            calls[who]()
            if turn >= WARM_UP:
                times[who].append(time.perf_counter_ns() - start_ns)
    return times


def _orders(who: list[Subject], rounds: int) -> Iterator[list[Subject]]:
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        yield [who[i] for i in rng.permutation(len(who))]


def _default_models() -> str:
    peers = installed()
    return ",".join(name for name in MODELS if not name.startswith("anomavision") or "anomavision_default" in peers)


def main(  # noqa: PLR0917  # options of a command line
    bundles: Annotated[list[Path], typer.Argument(help="Exported bundles of one encoder.")],
    data: Annotated[Path | None, typer.Option(help="Good images for the peers, MVTec AD layout.")] = None,
    work: Annotated[Path, typer.Option(help="Where encoded images and exports are kept.")] = Path("runs/peers"),
    models: Annotated[str, typer.Option(help="Peers, by comma.")] = _default_models(),
    images_per_product: Annotated[int, typer.Option(help="That the peers are fitted on.")] = 4,
    n: Annotated[int, typer.Option("--n", help="Rounds.")] = 300,
    threads: Annotated[int, typer.Option(help="Of every runtime.")] = 1,
    accuracy: Annotated[list[Path] | None, typer.Option(help="JSON to set beside the times; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option("--json", help="Figures and raw samples.")] = None,
) -> None:
    """Print Markdown tables of all subjects."""
    names = models.split(",")
    if unknown := sorted(set(names) - set(MODELS)):
        raise typer.BadParameter(f"--models: unknown {unknown}, expected some of {list(MODELS)}")
    accuracies = read_accuracies(accuracy or [])
    torch.set_num_threads(threads)
    spec = Bundle.read(bundles[0]).manifest.spec
    image = np.random.default_rng(0).integers(0, 256, (1, *spec.size_hw, 3), np.uint8)
    calls = dict(subjects(bundles, data, names, images_per_product, Stage(image, threads, work)))
    before = state()
    times = in_turns(calls, n)
    found, samples = rows(times, accuracies), {who.name: values for who, values in times.items()}
    fights = duels(times, found)
    if out is not None:
        about = {"threads": threads, "n": n, "machine": machine(), "state": {"before": before, "after": state()}}
        figures = {"rows": [row.to_json() for row in found], "duels": [asdict(duel) for duel in fights]}
        write_atomic(out, json.dumps({**about, **figures, "samples_ns": samples}, indent=1).encode())
    typer.echo(to_markdown(found, fights))


if __name__ == "__main__":
    typer.run(main)
