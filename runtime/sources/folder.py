"""A folder of pictures as a source: for trials, replays and tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

from cada_edge.errors import DataError, SourceError
from cada_edge.imaging import read_image
from cada_edge.runtime.sources.pace import Pace
from cada_edge.types import Frame

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class FolderSource:
    """Every picture of a folder and its sub-folders, in the order of their paths.

    Gives every frame, oldest first; drops none. A picture that cannot be read becomes an
    ``incomplete`` frame, so that its part is undecided. The list is made once.

    Args:
        folder: where the pictures are.
        source_id: name of the source in verdicts.
        fps: frames per second; ``None`` gives the next one whenever it is asked for.
        loop: start again after the last one.

    Raises:
        SourceError: no such folder, or no picture in it.
    """

    def __init__(self, folder: Path, source_id: str = "folder", fps: float | None = None, loop: bool = False) -> None:
        self._folder, self._source_id, self._loop = folder, source_id, loop
        self._pace, self._stop, self._ended = Pace(fps), threading.Event(), False
        self._paths = _pictures(folder)

    def __len__(self) -> int:
        return len(self._paths)

    def frames(self) -> Iterator[Frame]:
        """Yield the pictures; for ever with `loop`."""
        frame_id = 0
        while True:
            for path in self._paths:
                if not self._pace.wait(self._stop):
                    return
                yield self._read(path, frame_id)
                frame_id += 1
            if not self._loop:
                break
        self._ended = True

    def healthy(self) -> bool:
        """False after the last picture or `close`."""
        return not (self._ended or self._stop.is_set())

    def close(self) -> None:
        """End `frames`. Safe to call twice."""
        self._stop.set()

    def _read(self, path: Path, frame_id: int) -> Frame:
        captured_ns = time.monotonic_ns()
        try:
            image = read_image(path)
        except DataError:
            image = None  # the frame says so; its verdict is undecided
        return Frame(
            image=image,
            source_id=self._source_id,
            frame_id=frame_id,
            t_capture_ns=captured_ns,
            t_arrival_ns=time.monotonic_ns(),
            status="ok" if image is not None else "incomplete",
            name=path.relative_to(self._folder).as_posix(),
        )


def _pictures(folder: Path) -> list[Path]:
    try:
        found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    except OSError as error:
        raise SourceError(f"{folder}: cannot list the folder: {error.strerror}") from error
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder; check the source's uri")
    if not found:
        raise SourceError(f"{folder}: no picture in it; expected files ending in {', '.join(sorted(SUFFIXES))}")
    return found
