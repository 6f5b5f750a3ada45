"""Every block that this process asks of glibc, native code included, by way of its own ``mtrace``.

glibc (2.34 and newer) ships ``libc_malloc_debug.so.0``; preloaded, it writes a line to the file
named by ``MALLOC_TRACE`` for each block. Marks in the stream are blocks of sizes that nobody else
asks for. Blocks taken straight from the kernel (mmap) do not show.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LIBRARY = "libc_malloc_debug.so.0"
MARK_BYTES = 1_000_003  # and the next few; prime, and no picture's size
LARGE_BYTES = 4096
_BLOCK = re.compile(r"^@ .* [+>] 0x[0-9a-f]+ 0x([0-9a-f]+)$")
# The functions have no default version, so the name alone finds others.
_VERSIONS = (b"GLIBC_2.2.5", b"GLIBC_2.17", b"GLIBC_2.0", b"GLIBC_2.4")


@dataclass
class Blocks:
    """Of one stage, all frames together.

    Attributes:
        count: blocks.
        large: of these with more than 4 KiB.
        large_bytes: in those.
    """

    count: int = 0
    large: int = 0
    large_bytes: int = 0

    def add(self, size: int) -> None:
        """One block."""
        self.count += 1
        self.large += size > LARGE_BYTES
        self.large_bytes += size if size > LARGE_BYTES else 0


def environment(trace: Path) -> dict[str, str] | None:
    """Variables under which a new process can trace; ``None`` where glibc's library is missing."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    return {**os.environ, "LD_PRELOAD": LIBRARY, "MALLOC_TRACE": str(trace)}


class Tracer:
    """Switches the trace on and off and sets marks, in a process started with `environment`."""

    def __init__(self) -> None:
        call = ctypes.CFUNCTYPE(None)
        self._start, self._stop = call(_address(b"mtrace")), call(_address(b"muntrace"))
        self._malloc = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t)(_address(b"malloc"))
        self._free = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_address(b"free"))

    def start(self) -> None:
        """From now on."""
        self._start()

    def stop(self) -> None:
        """Until now; the file is complete."""
        self._stop()

    def mark(self, number: int) -> None:
        """What follows is of stage `number`, 0 to 99."""
        self._free(self._malloc(MARK_BYTES + number))


def _address(name: bytes) -> int:
    """Of a function of the preloaded library. Raises `OSError` where it has none."""
    find = ctypes.CDLL(None).dlvsym
    find.restype, find.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
    handle = ctypes.CDLL(LIBRARY)._handle  # noqa: SLF001  # ctypes gives it no other way
    for version in _VERSIONS:
        if address := find(handle, name, version):
            return int(address)
    raise OSError(f"{LIBRARY} has no {name.decode()}")


def parse(lines: Iterable[str]) -> dict[int, Blocks]:
    """Blocks by stage; what comes before the first mark is left out."""
    found: dict[int, Blocks] = {}
    stage: int | None = None
    for size in _sizes(lines):
        if MARK_BYTES <= size < MARK_BYTES + 100:
            stage = size - MARK_BYTES
            found.setdefault(stage, Blocks())
        elif stage is not None:
            found[stage].add(size)
    return found


def _sizes(lines: Iterable[str]) -> Iterator[int]:
    for line in lines:
        if match := _BLOCK.match(line.rstrip()):
            yield int(match[1], 16)
