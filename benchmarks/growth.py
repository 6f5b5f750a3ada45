"""How time and memory grow with image size, batch, cameras, products, archive and training images.

    python benchmarks/growth.py --work runs/growth --json growth.json --plot docs/growth.png [--parts size,products]

Everything is synthetic: models trained for a few steps on made-up pictures, since the weights decide
what is right and not how long it takes. What is compared is measured in turns, A B C A B C, with one
thread; memory is that of a new process. Training runs in processes of its own, for as long as
``--training-s`` says; what was left out is in the file.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from growth_plot import plot

from cada_edge.bundle import MODEL, Bundle
from cada_edge.data.readers import read_dataset
from cada_edge.export.onnx import export_onnx
from cada_edge.imaging import write_atomic, write_jpeg
from cada_edge.models import RevDistConfig, load_model
from cada_edge.runtime.benchmark.fresh import cold_start
from cada_edge.runtime.benchmark.inspection import Target, measure
from cada_edge.runtime.benchmark.machine import machine, state
from cada_edge.runtime.benchmark.pictures import made_up
from cada_edge.runtime.benchmark.result import TOTAL, Samples
from cada_edge.runtime.benchmark.setting import Setting
from cada_edge.runtime.benchmark.stats import ratio
from cada_edge.runtime.sinks.archive import ArchiveOptions, ImageArchive
from cada_edge.training import AugmentConfig, FitConfig, TrainConfig, train
from cada_edge.types import Frame, Threshold, Verdict

Row = dict[str, Any]
SIZES, BATCHES, CAMERAS, PRODUCTS = (128, 192, 256, 384, 512), (1, 2, 4, 8, 16), (1, 2, 4, 8), (10, 30, 100)
ARCHIVED, TRAINING = (100, 1000, 10_000), (100, 300, 1000, 3000, 10_000, 20_000)
TRAINING_PX, STEPS, WINDOW = 128, 20, 100
LIMIT = Threshold(1.0, 0.01, 0.05, 0.95, 100, "order-statistic", "0" * 64)


def write_pictures(folder: Path, products: int, each: int, side_px: int) -> Path:
    """Good pictures in MVTec AD layout: every product has shades of its own, every picture its own noise."""
    for product in range(products):
        place, rng = folder / f"p{product:03d}" / "train" / "good", np.random.default_rng(product)
        place.mkdir(parents=True, exist_ok=True)
        shade = made_up(rng, side_px).astype(np.int16)
        for number in range(each):
            noise = rng.integers(-6, 7, (side_px, side_px, 1), np.int16)
            write_jpeg(place / f"{number:05d}.jpg", np.asarray(np.clip(shade + noise, 0, 255), np.uint8))
    return folder


def small_bundle(work: Path, name: str, products: int, size: int, each: int) -> Path:
    """A bundle trained for a few steps, exported, with a threshold."""
    path = work / f"{name}.cada"
    if not path.exists():
        data = write_pictures(work / f"{name}-pictures", products, each, size)
        config = TrainConfig(
            size_hw=(size, size), detector=RevDistConfig(), fit=FitConfig(iterations=4, batch_size=4),
            augment=AugmentConfig(copies=0), device="cpu",
        )  # fmt: skip
        bundle = train(config, read_dataset(data, "auto").train(), work / f"{name}.work", lambda *_: None)
        if bundle is None:
            raise RuntimeError("training gave no bundle to this process")
        exported = bundle.with_file(MODEL, export_onnx(load_model(bundle)))
        replace(exported, manifest=replace(exported.manifest, threshold=LIMIT)).write(path)
    return path


def target(path: Path, n: int, **changes: Any) -> Target:
    """How a bundle is measured."""
    setting = Setting(**{"backend": "ort", "threads": 1, "n": n, "warmup": 10, **changes})
    return Target(path, Bundle.read(path), setting)


def rows(name: str, values: Sequence[int], targets: Sequence[Target], picture: Path) -> list[Row]:
    """Latency of each, measured in turns, and memory of a new process."""
    found = measure(targets, [picture], lambda _done, _total: None)
    return [
        {name: value, **_row(*each, found[0], picture)} for value, *each in zip(values, targets, found, strict=True)
    ]


def _row(measured: Target, samples: Samples, first: Samples, picture: Path) -> Row:
    fresh = cold_start(measured, picture, runs=1)[0]
    pair = samples.stages["infer"], first.stages["infer"]
    return {
        "infer": samples.summaries()["infer"].to_json(),
        "total": samples.summaries()[TOTAL].to_json(),
        "infer_p50_to_first": asdict(ratio(*pair, 0.5, paired=len(pair[0]) == len(pair[1]))),
        "rss_mb": fresh["rss_bytes"] / 1e6,
        "peak_mb": fresh["peak_bytes"] / 1e6,
        "bundle_mb": measured.path.stat().st_size / 1e6,
    }


def by_size(work: Path, n: int, picture: Path) -> list[Row]:
    """Side of the input, pixels."""
    return rows("size", SIZES, [target(small_bundle(work, f"s{s}", 2, s, 12), n) for s in SIZES], picture)


def by_batch(work: Path, n: int, picture: Path) -> list[Row]:
    """Pictures in one call."""
    path = small_bundle(work, "s256", 2, 256, 12)
    return rows("batch", BATCHES, [target(path, n, batch=b, cameras=b) for b in BATCHES], picture)


def by_cameras(work: Path, n: int, picture: Path) -> list[Row]:
    """Pictures that come at a time, judged one by one."""
    path = small_bundle(work, "s256", 2, 256, 12)
    return rows("cameras", CAMERAS, [target(path, n, cameras=c) for c in CAMERAS], picture)


def by_products(work: Path, n: int, picture: Path) -> list[Row]:
    """Products that one model was trained on."""
    return rows("products", PRODUCTS, [target(small_bundle(work, f"p{p}", p, 256, 4), n) for p in PRODUCTS], picture)


def by_archive(work: Path, _n: int, _picture: Path) -> list[Row]:
    """Pictures in the archive, each a reject with its panel's place in the index; the last hundred are timed."""
    bundle = Bundle.read(small_bundle(work, "s256", 2, 256, 12))
    folder, image = work / f"archive-{os.getpid()}", made_up(np.random.default_rng(0), 64)
    archive, times, found = ImageArchive(folder, bundle, ArchiveOptions(quality=80)), list[int](), list[Row]()
    for number in range(1, ARCHIVED[-1] + 1):
        now_ns = time.monotonic_ns()
        verdict = Verdict("ng", 2.0, 1.0, "cam1", number, now_ns, now_ns, "score above threshold")
        archive.send(verdict, Frame(image, "cam1", number, now_ns, now_ns), None)
        times.append(time.monotonic_ns() - now_ns)
        if number in ARCHIVED:
            begun_ns = time.monotonic_ns()
            ImageArchive(folder, bundle, ArchiveOptions(quality=80)).close()
            opened_ms = (time.monotonic_ns() - begun_ns) / 1e6
            last = np.array(times[-WINDOW:]) / 1e6
            found.append({"archived": number, "send_p50_ms": float(np.median(last)), "open_ms": opened_ms})
    archive.close()
    return found


def by_training(work: Path, counts: Sequence[int], budget_s: float) -> list[Row]:
    """Training images: seconds and peak memory of `cada-edge train`, a few steps each; stops when the time is up."""
    found, begun_s = list[Row](), time.monotonic()
    pictures = work / "training"
    for count in counts:
        left_s = budget_s - (time.monotonic() - begun_s)
        expected_s = found[-1]["seconds"] * count / found[-1]["images"] if found else 0.0
        if expected_s > left_s:
            found.append({"images": count, "left_out": f"about {expected_s:.0f} s, {left_s:.0f} s were left"})
            continue
        write_pictures(pictures / str(count), 10, count // 10, TRAINING_PX)
        found.append({"images": count, **_trained(work, pictures / str(count), count)})
    return found


def _trained(work: Path, data: Path, count: int) -> Row:
    out = work / f"t{count}-{os.getpid()}.cada"
    command = [
        sys.executable, "-m", "cada_edge", "train", str(data), "--out", str(out), "--size", str(TRAINING_PX),
        "--iterations", str(STEPS), "--augment-copies", "0", "--device", "cpu",
    ]  # fmt: skip
    begun_s = time.monotonic()
    child = os.posix_spawn(sys.executable, command, os.environ)
    _, status, used = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"training on {count} images ended with {os.waitstatus_to_exitcode(status)}")
    return {
        "seconds": time.monotonic() - begun_s,
        "peak_mb": used.ru_maxrss / 1e3,
        "bundle_mb": out.stat().st_size / 1e6,
    }


def _merged(before: Sequence[Row], measured: Sequence[Row]) -> list[Row]:
    """What was measured now, and what was before of other numbers of images."""
    by_count = {row["images"]: row for row in (*before, *measured)}
    return [by_count[count] for count in sorted(by_count)]


PARTS: dict[str, Callable[[Path, int, Path], list[Row]]] = {
    "size": by_size, "batch": by_batch, "cameras": by_cameras, "products": by_products, "archive": by_archive,
}  # fmt: skip

ALL = ",".join((*PARTS, "training"))


def main(  # noqa: PLR0917  # options of a command line
    work: Annotated[Path, typer.Option(help="Where bundles and pictures are kept.")] = Path("runs/growth"),
    parts: Annotated[str, typer.Option(help="What to measure, by comma; nothing to plot alone.")] = ",".join(
        (*PARTS, "training")
    ),
    n: Annotated[int, typer.Option("--n", help="Rounds.")] = 300,
    training_s: Annotated[float, typer.Option(help="Seconds for training.")] = 600.0,
    training_images: Annotated[str, typer.Option(help="To train on; other numbers in the file stay.")] = ",".join(
        map(str, TRAINING)
    ),
    out: Annotated[Path, typer.Option("--json", help="Figures; parts that are in it and not measured stay.")] = Path(
        "growth.json"
    ),
    picture_of_all: Annotated[Path | None, typer.Option("--plot", help="A picture of all parts, PNG or SVG.")] = None,
) -> None:
    """Measure, write and plot."""
    work.mkdir(parents=True, exist_ok=True)
    picture = work / "picture.jpg"
    write_jpeg(picture, made_up(np.random.default_rng(0)))
    found: Row = json.loads(out.read_text()) if out.exists() else {}
    for part in filter(None, parts.split(",")):
        before = state()
        if part == "training":
            measured = by_training(work, [int(count) for count in training_images.split(",")], training_s)
            measured = _merged(found.get(part, {}).get("rows", []), measured)
        else:
            measured = PARTS[part](work, n, picture)
        found[part] = {"n": n, "rows": measured, "machine": machine(), "state": {"before": before, "after": state()}}
        write_atomic(out, (json.dumps(found, indent=1) + "\n").encode())
        typer.echo(f"{part}: {json.dumps(measured)}")
    if picture_of_all is not None:
        plot(found, picture_of_all)


if __name__ == "__main__":
    typer.run(main)
