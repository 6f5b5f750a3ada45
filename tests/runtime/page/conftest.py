"""Lines to look at: each a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from page_kit import Lines


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Started lines are killed after the test."""
    started = Lines()
    yield started
    started.close()
