"""``cada-edge train``: good images of many products in, one bundle out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from cada_edge.cli._progress import stage_progress
from cada_edge.cli._usage import UsageError

if TYPE_CHECKING:
    from cada_edge.bundle import Bundle
    from cada_edge.data.dataset import Dataset
    from cada_edge.training import TrainConfig
    from cada_edge.training.extend import Base


# Options that an extension takes from its bundle, by parameter name; some are called otherwise.
_FIXED_BY_BASE = (
    "detector",
    "settings",
    "encoder",
    "encoder_weights",
    "strides",
    "size",
    "resize",
    "augment_copies",
    "flip_horizontal",
    "flip_vertical",
    "rotate_deg",
)
_OPTION_NAMES = {"settings": "--set"}
FEW_ALIGNED = 8  # below it a mean and a spread over look-alikes are guesses


def train(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(help="Good images: one folder, or folders in MVTec AD layout.")],
    out: Annotated[Path, typer.Option(help="Bundle to write.")] = Path("line.cada"),
    *,
    layout: Annotated[str, typer.Option(help="How DATA is laid out; 'auto', or as `evaluate` has it.")] = "auto",
    extend: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE",
            help="Add the new products in DATA to this bundle; DATA holds its old images too. The settings are the "
            "bundle's, with fewer and gentler steps; --iterations, --learning-rate, --batch-size, --device and --seed "
            "may differ.",
        ),
    ] = None,
    detector: Annotated[
        str, typer.Option(help="'revdist', 'patch-memory', 'transformer' or 'flow'; see the README's table.")
    ] = "revdist",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="One setting of the detector, such as width=32; repeatable."),
    ] = None,
    encoder: Annotated[str, typer.Option(help="Any timm model name.")] = "tf_efficientnet_lite0",
    encoder_weights: Annotated[
        str, typer.Option(help="'pretrained', or a .safetensors file for machines without network.")
    ] = "pretrained",
    strides: Annotated[
        str | None, typer.Option(help="Feature strides used, comma-separated. [what suits the detector]")
    ] = None,
    size: Annotated[int, typer.Option(help="Model input, pixels a side, a multiple of 32.")] = 256,
    resize: Annotated[str, typer.Option(help="'stretch' or 'letterbox' (keeps the aspect ratio).")] = "stretch",
    iterations: Annotated[
        int | None, typer.Option(help="Optimiser steps over all products together. [what suits the detector]")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images per step, over all processes. [what suits the detector]")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate. [what suits the detector]")] = None,
    augment_copies: Annotated[int, typer.Option(help="Augmented views per image beside the original.")] = 1,
    flip_horizontal: Annotated[bool, typer.Option(help="Mirrored parts are good parts, left to right.")] = False,
    flip_vertical: Annotated[bool, typer.Option(help="Mirrored parts are good parts, top to bottom.")] = False,
    rotate_deg: Annotated[float, typer.Option(help="Largest rotation that leaves a good part good.")] = 2.0,
    device: Annotated[str, typer.Option(help="'auto', 'cpu' or 'cuda[:N]'.")] = "auto",
    seed: Annotated[int | None, typer.Option(help="Same seed, data and versions: same bundle. [0]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is already at --out.")] = False,
    keep_work: Annotated[bool, typer.Option(help="Keep features and checkpoints in OUT.work.")] = False,
) -> None:
    """Train one model on folders of good images of many products, mixed and unlabelled.

    Interrupted, run the same command again: it goes on where it stopped. On several GPUs or
    machines start it with torchrun: ``torchrun --nproc-per-node 2 -m cada_edge train DATA``.
    """
    from cada_edge.models import EncoderConfig  # noqa: PLC0415  # heavy, and only this command needs it
    from cada_edge.training import AugmentConfig, TrainConfig, fit_config, trained_class  # noqa: PLC0415
    from cada_edge.training.extend import Base  # noqa: PLC0415

    wanted = {"iterations": iterations, "batch_size": batch_size, "learning_rate": learning_rate}
    steps: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    rest: dict[str, Any] = {"device": device} if seed is None else {"device": device, "seed": seed}
    check_out(out, force)
    earlier = None if extend is None else _earlier(extend, context)
    base = None if earlier is None else Base.of(earlier)
    if base is not None:
        config = base.settings(**steps, **rest)
    else:
        strides_used = _strides(strides) if strides else trained_class(detector).default_strides
        wanted_settings = parse_settings(settings or [])
        with _named_by_set(wanted_settings):
            config = TrainConfig.of_kind(
                detector,
                wanted_settings,
                size_hw=(size, size),
                resize=resize,
                encoder=EncoderConfig(encoder, strides_used, encoder_weights),
                augment=AugmentConfig(
                    copies=augment_copies,
                    rotate_deg=rotate_deg,
                    flip_horizontal=flip_horizontal,
                    flip_vertical=flip_vertical,
                ),
                fit=fit_config(detector, **steps),
                **rest,
            )
    console = Console(stderr=True, quiet=os.environ.get("RANK", "0") != "0")
    dataset = _dataset(data, layout, console)
    bundle = _train(config, base, dataset, out, console)
    if bundle is None:
        return
    bundle.write(out)
    if not keep_work:
        _discard(out)
    _tell(bundle, out, data, console)
    if earlier is not None:
        _show_change(earlier, bundle, dataset, console)


def _tell(bundle: Bundle, out: Path, data: Path, console: Console) -> None:
    """What was written, what to doubt in it, and what comes next."""
    aligned, held = (len(bundle.roles()[role]) for role in ("align", "calibrate"))
    console.print(f"wrote {out} (content digest {bundle.sha256[:12]})")
    if aligned < FEW_ALIGNED:
        console.print(
            f"warning: only {aligned} good image(s) set the scale of scores, expected {FEW_ALIGNED} or more; "
            "judge nothing by this model before it has seen more",
            style="yellow",
        )
    console.print(f"next: cada-edge calibrate {out} {data} --target-frr {supported_rate(held):g}", soft_wrap=True)


def _dataset(data: Path, layout: str, console: Console) -> Dataset:
    from cada_edge.data.readers import read_dataset  # noqa: PLC0415

    dataset = read_dataset(data, layout)
    console.print(f"{len(dataset.train())} good images in {data}; {len(dataset.ignored)} other files ignored")
    return dataset


def _train(config: TrainConfig, base: Base | None, dataset: Dataset, out: Path, console: Console) -> Bundle | None:
    from cada_edge.data.dataset import check  # noqa: PLC0415
    from cada_edge.training import train as run_training  # noqa: PLC0415

    work, items = _work(out), dataset.train()
    try:
        with stage_progress(console) as progress:
            check(items, lambda done, total: progress("check images", done, total))
            return run_training(config, items, work, progress, base=base)
    except KeyboardInterrupt:
        if work.exists():
            console.print(f"stopped; what is done is kept in {work}: the same command goes on from there")
        raise


def _work(out: Path) -> Path:
    return out.with_name(f"{out.name}.work")


def _discard(out: Path) -> None:
    from cada_edge.training.train import discard_work  # noqa: PLC0415

    discard_work(_work(out))


def _earlier(extend: Path, context: typer.Context) -> Bundle:
    """The bundle to extend. Raises `UsageError` for settings that cannot change from it to its extension."""
    from cada_edge.bundle import Bundle  # noqa: PLC0415

    given = [name for name in _FIXED_BY_BASE if _was_given(context, name)]
    if given:
        options = ", ".join(_OPTION_NAMES.get(name, f"--{name.replace('_', '-')}") for name in given)
        raise UsageError(f"{options}: fixed by the bundle that --extend names; leave them out, or train afresh")
    return Bundle.read(extend)


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _show_change(earlier: Bundle, bundle: Bundle, dataset: Dataset, console: Console) -> None:
    """Judge the same images by the old and the new model, and print what became of each product."""
    from cada_edge.cli._extension import show  # noqa: PLC0415
    from cada_edge.cli._runner import open_runner  # noqa: PLC0415
    from cada_edge.errors import DataError  # noqa: PLC0415
    from cada_edge.evaluation.extension import compare  # noqa: PLC0415

    try:
        with open_runner(earlier) as before, open_runner(bundle) as after, stage_progress(console) as progress:
            change = compare(((earlier, before), (bundle, after)), dataset, progress=progress)
    except DataError as error:  # the bundle is written and good; only the table has nothing to stand on
        console.print(f"no table of before and after: {error}", style="yellow", markup=False)
        return
    show(change, console)


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """``["width=32", "groups=[[8,16]]"]`` to a dictionary; values are JSON. Raises `ConfigError`."""
    from cada_edge.errors import ConfigError  # noqa: PLC0415

    found: dict[str, Any] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            found[name] = json.loads(value)
        except ValueError as error:
            raise ConfigError(f"--set: got {pair!r}, expected NAME=VALUE, VALUE in JSON, such as width=32") from error
    return found


@contextmanager
def _named_by_set(settings: dict[str, Any]) -> Iterator[None]:
    """Name a detector's setting that is wrong as the option that gave it. Raises `ConfigError`."""
    from cada_edge.errors import ConfigError  # noqa: PLC0415

    try:
        yield
    except ConfigError as error:
        field, colon, rest = str(error).partition(": ")
        _, dot, name = field.rpartition(".")
        if dot and name in settings:
            raise ConfigError(f"--set {name}{colon}{rest}") from error
        if rest.startswith("unknown keys"):
            raise ConfigError(f"--set{colon}{rest}") from error
        raise


def _strides(text: str) -> tuple[int, ...]:
    """Parse ``8,16,32``. Raises `ConfigError`."""
    from cada_edge.errors import ConfigError  # noqa: PLC0415

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--strides: got {text!r}, expected whole numbers such as 8,16,32") from error


def check_out(out: Path, force: bool) -> None:
    """Fail before the long work, not after it. Raises `DataError`."""
    from cada_edge.errors import DataError  # noqa: PLC0415

    if not out.name:
        raise DataError(f"--out {str(out)!r} is no file name; expected one such as line.cada")
    if not out.parent.is_dir():
        raise DataError(f"--out {out}: folder {out.parent} does not exist")
    if not os.access(out.parent, os.W_OK):
        raise DataError(f"--out {out}: folder {out.parent} cannot be written")
    if out.is_dir() or (out.exists() and not force):
        advice = "name another file" if out.is_dir() else "name another file, or replace it with --force"
        raise DataError(f"--out {out} exists; {advice}")


def supported_rate(images: int) -> float:
    """The lowest usual false-reject rate that so many calibration images support."""
    return next((rate for rate in (0.01, 0.02, 0.05, 0.1, 0.2) if images + 1 >= 1 / rate), 0.5)
