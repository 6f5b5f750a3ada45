"""Fixtures of the runtime's tests; their helpers are in `runtime_kit`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from runtime_kit import Plc, make_bundle

from cada_edge.bundle import Bundle


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
