"""Pictures of the parts that did not pass, within a limit of files and bytes; `archive` keeps passes too."""

from __future__ import annotations

import re
from pathlib import Path

from cada_edge.errors import DataError, SinkError
from cada_edge.heatmap import panel
from cada_edge.imaging import write_png
from cada_edge.runtime.sinks.own_files import FileLimits, OwnFiles
from cada_edge.types import Frame, ImageSpec, Prediction, UInt8Array, Verdict

PREFIX = "reject-"
_HOSTILE = re.compile(r"[^A-Za-z0-9_-]+")
_STEM_CHARS = 60


class RejectImages:
    """Saves the original and, where there is a prediction, a heatmap panel beside it.

    Files are named ``reject-<number>-<source>-<frame>-<name>.png`` and
    ``...-panel.png``, each written whole or not at all. Beyond `max_files` or `max_bytes`
    the oldest of its own files are deleted; files of other names are never touched.

    Args:
        folder: made if it does not exist.
        spec: how pictures become the model's input, to lay maps back on them.
        max_files: > 0, originals and panels together.
        max_bytes: > 0.

    Raises:
        SinkError: the folder cannot be made or, in `send`, a file not be written.
    """

    def __init__(self, folder: Path, spec: ImageSpec, max_files: int = 1000, max_bytes: int = 1 << 30) -> None:
        self._spec, self._folder, self._failed = spec, folder, False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found = sorted(folder.glob(f"{PREFIX}*.png"))
            self._kept = OwnFiles(found, FileLimits(max_files, max_bytes))
        except OSError as error:
            raise SinkError(f"{folder}: cannot keep rejects here: {error.strerror}; check sinks.rejects.dir") from error
        self._number = 1 + max((_number(path) for path in found), default=0)

    def send(self, verdict: Verdict, frame: Frame, prediction: Prediction | None) -> None:
        """Save a part that did not pass; does nothing for one that did, or without a picture."""
        if verdict.passed or frame.image is None:
            return
        stem = f"{PREFIX}{self._number:08d}-{safe_name(frame.source_id)}-{frame.frame_id}-{safe_name(frame.name)}"
        self._number, saved = self._number + 1, False
        try:
            self._keep(self._folder / f"{stem}.png", frame.image)
            if prediction is not None and prediction.finite()[0]:
                self._keep(self._folder / f"{stem}-panel.png", self._panel(verdict, frame.image, prediction))
            self._kept.trim()
            saved = True
        except (DataError, OSError) as error:
            raise SinkError(f"reject not saved: {error}; free some space or lower sinks.rejects.max_bytes") from error
        finally:
            self._failed = not saved  # not before it is known: others look meanwhile

    def healthy(self) -> bool:
        """False after a picture that could not be saved, until one can be."""
        return not self._failed

    def close(self) -> None:
        """Nothing to release."""

    def _keep(self, path: Path, image: UInt8Array) -> None:
        write_png(path, image)
        self._kept.add(path)

    def _panel(self, verdict: Verdict, image: UInt8Array, prediction: Prediction) -> UInt8Array:
        return panel(image, prediction.map[0], verdict.score, verdict.threshold, verdict.status, spec=self._spec)


def safe_name(text: str) -> str:
    """Letters, digits, ``_`` and ``-`` of `text`, at most 60: no path, no hidden file, no shell trick."""
    stem = text.rpartition(".")[0] or text
    return _HOSTILE.sub("_", stem).strip("_")[-_STEM_CHARS:] or "unnamed"


def _number(path: Path) -> int:
    digits = path.name[len(PREFIX) :].partition("-")[0]
    return int(digits) if digits.isascii() and digits.isdigit() else 0
