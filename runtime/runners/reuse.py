"""Arrays for results that are used again once nobody else holds them."""

from __future__ import annotations

import sys

import numpy as np

from cada_edge.types import Float32Array

_KEPT = 8  # arrays; where more are held, the oldest is let go


class Reused:
    """Copies of results into memory that is kept, for one thread at a time.

    An array that was handed out belongs to whoever asked, for as long as they hold it or a view of
    it: views count as holders of their array. Only then it is filled again.
    """

    def __init__(self) -> None:
        self._arrays: list[Float32Array] = []
        self._alone = _holders([np.empty(0, np.float32)], 0)  # as this Python counts one that only a list holds

    def copy(self, found: Float32Array) -> Float32Array:
        """`found`, of any shape, in an array that nobody else holds."""
        kept = self._free(found.shape)
        np.copyto(kept, found)
        return kept

    def _free(self, shape: tuple[int, ...]) -> Float32Array:
        for number in range(len(self._arrays)):
            if self._arrays[number].shape == shape and _holders(self._arrays, number) == self._alone:
                return self._arrays[number]
        new = np.empty(shape, np.float32)
        if len(self._arrays) == _KEPT:
            self._arrays.pop(0)
        self._arrays.append(new)
        return new


def _holders(arrays: list[Float32Array], number: int) -> int:
    return sys.getrefcount(arrays[number])
