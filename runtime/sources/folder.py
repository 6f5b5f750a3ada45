"""A folder of pictures as a source: for trials, replays and tests."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from cada_edge.errors import SourceError
from cada_edge.runtime.sources.ahead import ReadAhead
from cada_edge.runtime.sources.pace import Pace
from cada_edge.types import Frame

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class FolderSource:
    """Every picture of a folder and its sub-folders, in the order of their paths.

    Gives every frame, oldest first; drops none. A picture that cannot be read becomes an
    ``incomplete`` frame, so that its part is undecided. The list is made once. The picture after
    the one given is read meanwhile (see `ReadAhead`); it is captured when it is asked for.

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
        ahead = ReadAhead()
        try:
            yield from self._all(ahead)
        finally:
            ahead.close()

    def healthy(self) -> bool:
        """False after the last picture or `close`."""
        return not (self._ended or self._stop.is_set())

    def close(self) -> None:
        """End `frames`. Safe to call twice."""
        self._stop.set()

    def _all(self, ahead: ReadAhead) -> Iterator[Frame]:
        for frame_id in itertools.count():
            if not self._pace.wait(self._stop):
                return
            frame = self._read(ahead, frame_id)
            if (following := self._path(frame_id + 1)) is not None:
                ahead.want(following)
            yield frame
            if following is None:
                self._ended = True
                return

    def _path(self, frame_id: int) -> Path | None:
        """Of a frame; ``None`` after the last."""
        last = not self._loop and frame_id >= len(self._paths)
        return None if last else self._paths[frame_id % len(self._paths)]

    def _read(self, ahead: ReadAhead, frame_id: int) -> Frame:
        captured_ns, path = time.monotonic_ns(), self._paths[frame_id % len(self._paths)]
        image = ahead.take(path)
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
