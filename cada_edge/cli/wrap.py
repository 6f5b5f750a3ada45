"""``cada-edge wrap``: a detector made elsewhere, given a CADA head and one ONNX graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from cada_edge.cli._progress import stage_progress
from cada_edge.cli._usage import UsageError
from cada_edge.cli.train import check_out, supported_rate
from cada_edge.data.dataset import check, scan
from cada_edge.errors import ConfigError
from cada_edge.export import ForeignOptions, export, open_foreign
from cada_edge.models import EncoderConfig
from cada_edge.models.foreign import ForeignGraph, Layout
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.training import AugmentConfig
from cada_edge.training.wrap import WrapConfig
from cada_edge.training.wrap import wrap as run_wrap

Triple = tuple[float, float, float]
Pixels = Literal["unit", "byte", "signed", "imagenet"]

# Mean and std in 0..255 units, RGB; see torchvision's documentation of its pretrained models for the last.
_PIXELS: dict[Pixels, tuple[Triple, Triple]] = {
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "byte": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "signed": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
_COMPARED_IMAGES = 16
_HELD_OUT = (
    "These images must be new to the detector: maps of images it was trained on are too low, so is the head then."
)


def wrap(
    foreign: Annotated[Path, typer.Argument(metavar="FOREIGN.onnx", help="A detector that gives an anomaly map.")],
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Good images it was NOT trained on; folders as in train.")
    ],
    out: Annotated[Path, typer.Option(help="Bundle to write.")] = Path("line.cada"),
    *,
    input_name: Annotated[str | None, typer.Option("--input", help="Name of its input, if it has several.")] = None,
    map_output: Annotated[str | None, typer.Option(help="Name of the map, if several outputs could be it.")] = None,
    layout: Annotated[Layout | None, typer.Option(help="Of its input, where the shape does not tell.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Pixels a side, where its input leaves them free (then 256).")
    ] = None,
    pixels: Annotated[
        Pixels | None,
        typer.Option(
            help="What it is fed: 0..1 (unit, the default for floats, and what anomalib exports want), 0..255 (byte), "
            "-1..1 (signed), or standardised (imagenet)."
        ),
    ] = None,
    mean: Annotated[str | None, typer.Option(help="Instead of --pixels: R,G,B in 0..255 units.")] = None,
    std: Annotated[str | None, typer.Option(help="Instead of --pixels: R,G,B in 0..255 units.")] = None,
    bgr: Annotated[bool, typer.Option("--bgr", help="It wants blue first; --mean and --std are then B,G,R.")] = False,
    keep_clamp: Annotated[bool, typer.Option("--keep-clamp", help="Take a map clamped to 0..1 as it is.")] = False,
    encoder: Annotated[str, typer.Option(help="What the head looks through: any timm model name.")] = (
        "tf_efficientnet_lite0"
    ),
    encoder_weights: Annotated[str, typer.Option(help="'pretrained', or a .safetensors file.")] = "pretrained",
    resize: Annotated[str, typer.Option(help="'stretch' or 'letterbox' (keeps the aspect ratio).")] = "stretch",
    augment_copies: Annotated[int, typer.Option(help="Varied views per image beside the original.")] = 1,
    seed: Annotated[int, typer.Option(help="Same seed, images, graph and versions: same bundle.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is already at --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Give a detector made elsewhere a CADA head, and write a bundle that calibrates, evaluates and runs as any.

    FOREIGN.onnx is anything with a picture in and a map out, for instance what
    `anomalib export --export_type onnx` writes; scores and masks beside the map are not used.
    """
    check_out(out, force)
    options = ForeignOptions(
        input=input_name,
        output=map_output,
        layout=layout,
        size_hw=None if size is None else (size, size),
        order="bgr" if bgr else "rgb",
        keep_clamp=keep_clamp,
        **_normalisation(pixels, mean, std, bgr=bgr),
    )
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    graph = open_foreign(foreign, options)
    for note in (*graph.notes, _HELD_OUT):
        console.print(note, markup=False)
    items = scan(data).train()
    config = WrapConfig(
        resize, EncoderConfig(encoder, weights=encoder_weights), augment=AugmentConfig(copies=augment_copies), seed=seed
    )
    with stage_progress(console) as progress:
        check(items, lambda done, total: progress("check images", done, total))
        bundle = run_wrap(config, graph, items, progress)
        paths = [item.path for item in items[:: max(1, len(items) // _COMPARED_IMAGES)]][:_COMPARED_IMAGES]
        exported, _ = export(bundle, OrtRunner, paths, None, lambda done, total: progress("compare", done, total))
    exported.write(out)
    if as_json:
        typer.echo(json.dumps(_facts(graph, out, exported.sha256, exported.roles())))
    console.print(f"wrote {out} (content digest {exported.sha256[:12]})")
    rate = supported_rate(len(exported.roles()["calibrate"]))
    console.print(f"next: cada-edge calibrate {out} {data} --target-frr {rate:g}")


def _facts(graph: ForeignGraph, out: Path, digest: str, roles: dict[str, frozenset[str]]) -> dict[str, object]:
    images = {role: len(digests) for role, digests in roles.items()}
    return {"bundle": str(out), "sha256": digest, "foreign": graph.source, "notes": list(graph.notes), "images": images}


def _normalisation(
    pixels: Pixels | None, mean: str | None, std: str | None, *, bgr: bool
) -> dict[Literal["mean", "std"], Triple]:
    """Mean and std in the graph's channel order; empty where nothing was said."""
    if pixels is not None:
        if mean is not None or std is not None:
            raise UsageError("--pixels: already says mean and std; give it, or --mean and --std")
        named_mean, named_std = (triple[::-1] if bgr else triple for triple in _PIXELS[pixels])
        return {"mean": named_mean, "std": named_std}
    given: dict[Literal["mean", "std"], str | None] = {"mean": mean, "std": std}
    return {name: _triple(f"--{name}", text) for name, text in given.items() if text is not None}


def _triple(option: str, text: str) -> Triple:
    try:
        first, second, third = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{option}: got {text!r}, expected three numbers such as 127.5,127.5,127.5") from error
    return first, second, third
