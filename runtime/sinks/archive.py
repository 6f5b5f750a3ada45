"""Pictures kept: every reject, some of the passes, within bytes, age and free space."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cada_edge.calibration.record import weights_sha256
from cada_edge.errors import DataError, SinkError
from cada_edge.heatmap import panel
from cada_edge.imaging import write_atomic, write_jpeg, write_png
from cada_edge.runtime.records.clock import WallClock
from cada_edge.runtime.records.rows import iso_time, wall_us
from cada_edge.runtime.sinks.append import LineFile
from cada_edge.runtime.sinks.archive_index import (
    FOLDERS,
    INDEX,
    PASSES,
    PICTURES,
    REJECTS,
    Entry,
    present,
    read_index,
)
from cada_edge.runtime.sinks.images import safe_name
from cada_edge.runtime.sinks.own_files import FileLimits, OwnFiles
from cada_edge.types import Frame, Prediction, UInt8Array, Verdict

if TYPE_CHECKING:
    from cada_edge.bundle import Bundle

_NAME = re.compile(r"(?:pass|reject)-(\d{8,12})-.+")
_SLACK_LINES = 1000


@dataclass(frozen=True)
class ArchiveOptions:
    """What is kept.

    Attributes:
        keep_passes: 1 of so many parts that passed, by frame number; ``None`` keeps none.
        quality: of JPEG, 1..95; ``None`` writes PNG, bit for bit what was judged.
        max_bytes: of all pictures; beyond, the oldest go first.
        max_days: age of a picture; ``None`` for no limit.
        min_free_bytes: below so much free space nothing is archived.
    """

    keep_passes: int | None = None
    quality: int | None = None
    max_bytes: int = 10 << 30
    max_days: float | None = None
    min_free_bytes: int = 1 << 30


class ImageArchive:
    """Saves parts as their camera saw them, with a line in the index for each.

    Files are ``rejects/reject-<number>-<source>-<frame>-<name>.png`` with ``...-panel.png`` beside them and
    ``passes/pass-<number>-...``, each written whole or not at all. Its own oldest files
    go first; what lies in ``good`` and ``bad`` is people's, like every file of another name.

    Args:
        folder: made with its sub-folders if it does not exist.
        bundle: that judges.
        options: what is kept.
        clock: judges age.

    Raises:
        SinkError: the folder cannot be made or, in `send`, a file not be written, or too little space is free.
    """

    def __init__(
        self, folder: Path, bundle: Bundle, options: ArchiveOptions | None = None, clock: WallClock | None = None
    ) -> None:
        self._folder, self._options, self._failed = folder, options or ArchiveOptions(), False
        self.use_bundle(bundle)
        try:
            for name in FOLDERS:
                (folder / name).mkdir(parents=True, exist_ok=True)
            found = sorted(_own(folder), key=_number)
            limits = FileLimits(max_bytes=self._options.max_bytes, max_days=self._options.max_days)
            self._files = OwnFiles(found, limits, clock)
            names = [*found, *map(Path, self._compact())]
        except (OSError, DataError) as error:
            raise SinkError(f"{folder}: cannot keep pictures here: {error}; check sinks.archive.dir") from error
        self._number = 1 + max(map(_number, names), default=0)
        self._index = LineFile(folder / INDEX)

    def use_bundle(self, bundle: Bundle) -> None:
        """Pictures from now on were judged by `bundle`."""
        self._spec = bundle.manifest.spec
        self._bundle_sha256, self._model_sha256 = bundle.sha256, weights_sha256(bundle)

    def send(self, verdict: Verdict, frame: Frame, prediction: Prediction | None) -> None:
        """Save the picture of a reject, or of a pass whose turn it is; nothing without a picture."""
        sampled = self._options.keep_passes is not None and verdict.frame_id % self._options.keep_passes == 0
        if frame.image is None or (verdict.passed and not sampled):
            return
        saved = False
        try:
            self._check_space()
            self._save(verdict, frame.image, prediction, sampled)
            self._files.trim()
            saved = True
        except (DataError, OSError) as error:
            raise SinkError(
                f"picture not archived: {error}; free some space or lower sinks.archive.max_bytes"
            ) from error
        finally:
            self._failed = not saved  # not before it is known: others look meanwhile

    def tend(self) -> None:
        """Delete what is too old; to be called now and then. Raises `SinkError`."""
        try:
            self._files.trim()
            if self._lines > 2 * len(self._files) + _SLACK_LINES:
                self._index.close()
                self._compact()
                self._index = LineFile(self._folder / INDEX)
        except (DataError, OSError) as error:
            raise SinkError(f"{self._folder}: cannot be tidied: {error}; check its owner and mode") from error

    def healthy(self) -> bool:
        """False after a picture that could not be saved, until one can be."""
        return not self._failed

    def close(self) -> None:
        """Close the index. Safe to call twice."""
        self._index.close()

    def _check_space(self) -> None:
        free, limit = shutil.disk_usage(self._folder).free, self._options.min_free_bytes
        if free < limit:
            raise DataError(
                f"{self._folder}: {free >> 20} MiB are free, sinks.archive.min_free_bytes is {limit >> 20} MiB"
            )

    def _save(self, verdict: Verdict, image: UInt8Array, prediction: Prediction | None, sampled: bool) -> None:
        kind, place = ("pass", PASSES) if verdict.passed else ("reject", REJECTS)
        stem = f"{kind}-{self._number:08d}-{safe_name(verdict.source_id)}-{verdict.frame_id}-{safe_name(verdict.name)}"
        usable = prediction if prediction is not None and len(prediction) == 1 and prediction.finite()[0] else None
        path = self._folder / place / f"{stem}{'.png' if self._options.quality is None else '.jpg'}"
        self._number += 1
        # First the line: a picture without one would be of unknown kind, a line without a picture does no harm.
        self._index.append(self._entry(path.name, verdict, usable, sampled).to_line())
        self._lines += 1
        self._write(path, image)
        if usable is not None and not verdict.passed:
            drawn = panel(image, usable.map[0], verdict.score, verdict.threshold, verdict.status, spec=self._spec)
            self._write(path.with_name(f"{stem}-panel{path.suffix}"), drawn)

    def _write(self, path: Path, image: UInt8Array) -> None:
        if self._options.quality is None:
            write_png(path, image)
        else:
            write_jpeg(path, image, self._options.quality)
        self._files.add(path)

    def _entry(self, file: str, verdict: Verdict, prediction: Prediction | None, sampled: bool) -> Entry:
        return Entry(
            file=file,
            time=iso_time(wall_us(verdict.t_decided_ns)),
            source_id=verdict.source_id,
            frame_id=verdict.frame_id,
            name=verdict.name,
            status=verdict.status,
            score=verdict.score,
            threshold=verdict.threshold,
            novelty=float(prediction.novelty[0]) if prediction else None,
            reason=verdict.reason,
            sampled=sampled,
            bundle_sha256=self._bundle_sha256,
            model_sha256=self._model_sha256,
        )

    def _compact(self) -> list[str]:
        """Drop torn lines and those of pictures that have gone; returns the names in the index before."""
        self._lines, path = 0, self._folder / INDEX
        if not path.exists():
            return []
        index, here = read_index(self._folder), present(self._folder)
        kept = [entry.to_line() for name, entry in index.items() if name in here]
        content = "".join(kept).encode()
        if content != path.read_bytes():
            write_atomic(path, content)
        self._lines = len(kept)
        return list(index)


def _own(folder: Path) -> list[Path]:
    """Pictures and panels of an earlier run in the folders that are ours."""
    found = [path for name in (PASSES, REJECTS) for path in (folder / name).iterdir()]
    return [path for path in found if path.suffix in PICTURES and _NAME.fullmatch(path.stem)]


def _number(path: Path) -> int:
    """The running number in a name of ours; 0 for another's."""
    match = _NAME.fullmatch(path.stem)
    return int(match[1]) if match else 0
