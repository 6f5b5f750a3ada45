"""``cada-edge source``: what a camera gives, before a line is built on it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cada_edge.cli._outputs import check_output
from cada_edge.cli._usage import UsageError
from cada_edge.errors import ConfigError
from cada_edge.imaging import write_png
from cada_edge.protocols import Source
from cada_edge.runtime.sources.config import SourceConfig
from cada_edge.runtime.sources.device import TriggerMode
from cada_edge.runtime.sources.open import open_configured
from cada_edge.runtime.sources.prepare import flat_field_gain, mean_picture
from cada_edge.runtime.sources.survey import Sighting, Survey, contact_sheet, pictures, survey
from cada_edge.strict_yaml import validated


def source(
    uri: Annotated[str, typer.Argument(help="As in line.yaml: aravis://GV01, a folder.", show_default=False)],
    *,
    frames: Annotated[int, typer.Option(min=1, max=100_000, help="How many to look at.")] = 20,
    timeout_s: Annotated[float, typer.Option(min=0.1, max=86400, help="Give up after so long.")] = 30.0,
    trigger: Annotated[TriggerMode, typer.Option(help="What starts an exposure.")] = "free",
    trigger_line: Annotated[str, typer.Option(help="The camera's input, for --trigger hardware.")] = "Line1",
    roi: Annotated[str | None, typer.Option(help="Region x,y,width,height in the camera's pixels.")] = None,
    rotate: Annotated[int, typer.Option(help="Degrees clockwise: 0, 90, 180 or 270.")] = 0,
    exposure_us: Annotated[float | None, typer.Option(help="Exposure time, microseconds.")] = None,
    gain_db: Annotated[float | None, typer.Option(help="Analogue gain, decibel.")] = None,
    lock_white_balance: Annotated[bool, typer.Option(help="Switch automatic white balance off.")] = False,
    quality: Annotated[bool, typer.Option("--quality", help="Show brightness and sharpness, and limits.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Write the pictures side by side to this PNG.")] = None,
    flat_field: Annotated[Path | None, typer.Option(help="Record the mean of the frames, an empty scene.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for scripts.")] = False,
) -> None:
    """Open a source, look at its frames and show their age, interval, drops, status and size.

    Leaves with 1 when it cannot be opened, or a frame is missing or not ok.
    """
    section = {
        "uri": uri, "trigger": trigger, "trigger_line": trigger_line, "rotate": rotate, "exposure_us": exposure_us,
        "gain_db": gain_db, "lock_white_balance": lock_white_balance, "roi": _region(roi),
        "quality": {} if quality else None,
    }  # fmt: skip
    check_output("--sheet", sheet)
    check_output("--flat-field", flat_field)
    with _from_the_command_line():
        config = validated(SourceConfig, section, "source")
        opened = open_configured(config if flat_field is None else _as_it_comes(config))
    if flat_field is not None:
        _record_flat_field(opened, frames, timeout_s, flat_field)
        return
    try:
        found = survey(opened, frames, timeout_s)
    finally:
        opened.close()
    if sheet is not None:
        write_png(sheet, contact_sheet(found.thumbnails))
    if as_json:
        typer.echo(json.dumps(_facts(found), indent=1))
    else:
        _render(found, quality)
    if not found.whole or set(found.statuses) != {"ok"}:
        raise typer.Exit(1)


def _region(text: str | None) -> dict[str, int] | None:
    """``x,y,width,height`` as a section of line.yaml."""
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"--roi: got {text!r}, expected x,y,width,height in pixels")
    return dict(zip(("x", "y", "width", "height"), map(int, parts), strict=True))


@contextmanager
def _from_the_command_line() -> Iterator[None]:
    """Whatever setting is wrong was given there: name the option. Raises `UsageError`."""
    try:
        yield
    except ConfigError as error:
        lines = [line.removeprefix("source: ").partition(": ") for line in str(error).splitlines()]
        raise UsageError("; ".join(f"{_option(field)}{colon}{rest}" for field, colon, rest in lines)) from error


def _option(field: str) -> str:
    """``--roi width`` for ``roi.width``; what is no field stays as it is."""
    name, _, rest = field.partition(".")
    if name == "uri":
        return "URI"
    known = name in SourceConfig.model_fields
    return f"--{name.replace('_', '-')} {rest}".rstrip() if known else field


def _as_it_comes(config: SourceConfig) -> SourceConfig:
    """For a flat field, which is of the camera's own pictures."""
    return config.model_copy(update={"roi": None, "rotate": 0, "quality": None})


def _record_flat_field(opened: Source, frames: int, timeout_s: float, path: Path) -> None:
    """The mean of whole pictures as the camera gives them, checked as a line would check it; closes `opened`."""
    try:
        seen = [frame.image for frame in pictures(opened, frames, timeout_s) if frame.image is not None]
    finally:
        opened.close()
    scene = mean_picture(seen)
    gain = flat_field_gain(scene)
    write_png(path, scene)
    Console(soft_wrap=True, markup=False, highlight=False).print(
        f"{path}: mean of {len(seen)} pictures, {scene.shape[1]} x {scene.shape[0]} px; "
        f"gains {gain.min():.2f} to {gain.max():.2f}. In line.yaml: flat_field: {path}"
    )


def _facts(found: Survey) -> dict[str, Any]:
    return {
        "frames": len(found.sightings),
        "complete": found.whole,
        "statuses": found.statuses,
        "drops": found.drops,
        "age_ms": {"p50": found.age_ms(50), "p99": found.age_ms(99)},
        "interval_ms": {"p50": _finite(found.interval_ms(50)), "p99": _finite(found.interval_ms(99))},
        "sightings": [_sighting(one) for one in found.sightings],
    }


def _sighting(one: Sighting) -> dict[str, Any]:
    quality = one.quality
    return {
        "id": one.frame.frame_id,
        "status": one.frame.status,
        "note": one.frame.note,
        "drops": one.frame.drops,
        "size": one.size,
        "age_ms": one.age_ms,
        "interval_ms": one.interval_ms,
        "device_ns": one.frame.t_device_ns,
        "brightness": None if quality is None else quality.brightness,
        "clipped": None if quality is None else quality.clipped,
        "sharpness": None if quality is None else quality.sharpness,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _render(found: Survey, quality: bool) -> None:
    console = Console(soft_wrap=True, markup=False, highlight=False)
    names = ["id", "status", "size", "age ms", "gap ms", "drops"]
    names += ["bright", "clipped", "sharp"] if quality else []
    table = Table(*names)
    for one in found.sightings:
        table.add_row(*_cells(one, quality))
    console.print(table)
    for note, count in Counter(one.frame.note for one in found.sightings if one.frame.note).items():
        console.print(f"{count} x {note}")
    console.print(
        f"age p50 {found.age_ms(50):.1f}, p99 {found.age_ms(99):.1f} ms; "
        f"interval p50 {found.interval_ms(50):.1f}, p99 {found.interval_ms(99):.1f} ms; drops {found.drops}; "
        + ", ".join(f"{count} {status}" for status, count in found.statuses.items())
    )
    if not found.whole:
        console.print(f"only {len(found.sightings)} frames came in time")
    if quality:
        console.print(_advice(found))


def _cells(one: Sighting, quality: bool) -> list[str]:
    size = "-" if one.size is None else f"{one.size[0]}x{one.size[1]}"
    interval = "-" if one.interval_ms is None else f"{one.interval_ms:.1f}"
    cells = [str(one.frame.frame_id), one.frame.status, size, f"{one.age_ms:.1f}", interval, str(one.frame.drops)]
    if quality and (found := one.quality) is not None:
        cells += [f"{found.brightness:.1f}", f"{found.clipped:.4f}", f"{found.sharpness:.1f}"]
    elif quality:
        cells += ["-"] * 3
    return cells


def _advice(found: Survey) -> str:
    """Limits with room on each side of what was seen."""
    dark, bright = found.quality_range(lambda quality: quality.brightness)
    blurred, _ = found.quality_range(lambda quality: quality.sharpness)
    if not math.isfinite(dark):
        return "no whole picture: no limits to suggest"
    limits = {"min_brightness": dark / 2, "max_brightness": (bright + 255) / 2, "min_sharpness": blurred / 2}
    shown = ", ".join(f"{name}: {value:.1f}" for name, value in limits.items())
    return f"with room around these pictures, for line.yaml: quality: {{{shown}}}"
