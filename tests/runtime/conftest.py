"""Fixtures of the runtime's tests; their helpers are in `runtime_kit`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves it out

from runtime_kit import Plc, make_bundle  # after the path is set

from cada_edge.bundle import Bundle  # after the path is set


@pytest.fixture
def plc() -> Iterator[Callable[[int], Plc]]:
    """Connect to a port; hung up at the end."""
    connected: list[Plc] = []

    def connect(port: int) -> Plc:
        connected.append(Plc(port))
        return connected[-1]

    yield connect
    for one in connected:
        one.close()


@pytest.fixture
def bundle() -> Bundle:
    """A bundle with a model and a threshold of 0.5."""
    return make_bundle()
