"""Descriptors of pictures, encoded once for all cells that see them through the same encoder."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cada_edge.bench.claims import claim
from cada_edge.errors import DataError
from cada_edge.evaluation import Describe
from cada_edge.imaging import write_atomic
from cada_edge.types import Float32Array, UInt8Array


class SharedDescriptors:
    """A `Describe` that remembers every picture by the digest of its pixels, in a file.

    Args:
        path: of the file, ``.npz``; made by `save`.
        open_describe: opens the encoder; called when a picture is not known, and never otherwise.

    Raises `DataError` when the file is there and damaged.
    """

    def __init__(self, path: Path, open_describe: Callable[[], Describe]) -> None:
        self._path, self._open = path, open_describe
        self._describe: Describe | None = None
        self._rows = _read(path)
        self._stored = len(self._rows)

    def __call__(self, pictures: UInt8Array) -> Float32Array:
        """Pictures uint8 (N, H, W, 3) to descriptors float32 (N, D)."""
        digests = [hashlib.sha256(picture.tobytes()).digest() for picture in pictures]
        new = [index for index, digest in enumerate(digests) if digest not in self._rows]
        if new:
            self._describe = self._describe or self._open()
            found = self._describe(pictures[new])
            self._rows.update(zip([digests[index] for index in new], found, strict=True))
        return np.stack([self._rows[digest] for digest in digests])

    def save(self) -> None:
        """Add what was learned to the file; what other processes added meanwhile is kept."""
        if len(self._rows) == self._stored:
            return
        with claim(self._path.with_suffix(".lock"), wait=True):
            rows = {**_read(self._path), **self._rows}
            stream = io.BytesIO()
            keys = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), 32)
            np.savez(stream, keys=keys, rows=np.stack(list(rows.values())))
            write_atomic(self._path, stream.getvalue())
        self._stored = len(self._rows)


def _read(path: Path) -> dict[bytes, Float32Array]:
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {key.tobytes(): row for key, row in zip(stored["keys"], stored["rows"], strict=True)}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged ({error}); delete it: it only saves work") from error
