"""The accuracy gate for people: one HTML file that needs nothing else, beside its figures and pictures."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from cada_edge.errors import DataError
from cada_edge.export.gate_report import GateReport, Shown
from cada_edge.export.precision_report import PrecisionReport
from cada_edge.export.worst import triple, worst_sheet
from cada_edge.heatmap import LIMIT, colours
from cada_edge.imaging import write_atomic, write_png
from cada_edge.types import ImageSpec, UInt8Array

PAGE = "precision.html"
_QUALITY = 88


@dataclass(frozen=True)
class Tile:
    """One image on which the graphs differ, its three pictures as data URIs."""

    shown: Shown
    pictures: tuple[str, ...]


def write_gate(report: PrecisionReport, spec: ImageSpec, folder: Path) -> None:
    """Write ``precision.html``, ``precision.json`` and, per precision, ``worst-<precision>.png`` into `folder`.

    Raises `DataError` when the folder cannot be written or an image not be read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot make the folder: {error.strerror}; choose another --report") from error
    for gate in report.gates:
        write_png(folder / f"worst-{gate.precision}.png", worst_sheet(gate, spec))
    write_atomic(folder / "precision.json", (json.dumps(report.to_json(), indent=1) + "\n").encode())
    write_atomic(folder / PAGE, render_page(report, spec).encode())


def render_page(report: PrecisionReport, spec: ImageSpec) -> str:
    """Figures, tolerances, worst images and how INT8 came about, as HTML. Raises `DataError` as `write_gate`."""
    environment = Environment(
        loader=PackageLoader("cada_edge.export", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    effects = report.int8.selection.effects if report.int8 else ()
    return environment.get_template("gate_page.html.j2").render(
        report=report,
        tiles={gate.precision: _tiles(gate, spec) for gate in report.gates},
        most=max((one.score_rms for one in effects), default=1.0) or 1.0,
        scale=_uri(".png", colours(np.repeat(np.linspace(0, LIMIT, 240, dtype=np.float32)[None], 12, axis=0))),
        limit=LIMIT,
        spec=spec,
    )


def _tiles(gate: GateReport, spec: ImageSpec) -> list[Tile]:
    return [Tile(one, tuple(_uri(".jpg", picture) for picture in triple(one, spec))) for one in gate.worst]


def _uri(suffix: str, image: UInt8Array) -> str:
    """The picture inside the page; uint8 (H, W, 3) RGB."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY] if suffix == ".jpg" else []
    done, content = cv2.imencode(suffix, image[:, :, ::-1], settings)
    if not done:
        raise DataError(f"a picture of {image.shape} cannot be written as {suffix}")
    kind = {".jpg": "jpeg", ".png": "png"}[suffix]
    return f"data:image/{kind};base64,{base64.b64encode(content.tobytes()).decode()}"
