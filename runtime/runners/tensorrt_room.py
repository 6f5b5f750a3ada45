"""What TensorRT says when the GPU has no room left, and what to do about it.

TensorRT gives no status: it returns nothing and writes to the log. So its words are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from cada_edge.errors import EngineError

_NO_ROOM = re.compile(
    r"out ?of ?memory|could not be allocated|within workspace limit|failure with error:? 2\b", re.IGNORECASE
)
FREE_ROOM = "the GPU is out of memory: use a smaller batch, or end other programs on the GPU"


def lacks_room(said: str) -> bool:
    """Whether the log speaks of memory: CUDA's words, the allocator's, the builder's, or status 2 of CUDA's start."""
    return _NO_ROOM.search(said) is not None


def what_to_do(said: str, otherwise: str) -> str:
    """Advice for what TensorRT `said`: to make room, or `otherwise`."""
    return FREE_ROOM if lacks_room(said) else otherwise


def started(make: Callable[[], Any], name: str, said: Callable[[], str]) -> Any:
    """What `make` makes: TensorRT's builder or runtime.

    Where CUDA cannot be set up, on a GPU without free memory for instance, their constructors raise
    `TypeError` ("factory function returned nullptr") and the log has the reason.

    Args:
        make: calls the constructor.
        name: of TensorRT, for the message.
        said: gives the log's words.

    Raises `EngineError`.
    """
    try:
        return make()
    except TypeError as error:
        words = said()
        advice = what_to_do(words, "see nvidia-smi, and whether the driver fits this TensorRT's CUDA")
        raise EngineError(f"{name} cannot be started on this machine: {words}; {advice}") from error
