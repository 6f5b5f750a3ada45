from __future__ import annotations

import numpy as np

from cada_edge.runtime.runners.reuse import Reused
from cada_edge.types import Float32Array


def of(value: float, side: int = 4) -> Float32Array:
    """A result."""
    return np.full((1, side, side), value, np.float32)


def place(array: Float32Array) -> int:
    """Where its numbers lie in memory."""
    return int(array.__array_interface__["data"][0])


def test_memory_that_nobody_holds_is_used_again() -> None:
    """Result after result lies in the same place, as long as each is let go first."""
    reused = Reused()
    places = {place(reused.copy(of(value))) for value in range(5)}
    assert len(places) == 1


def test_a_result_that_is_held_never_changes() -> None:
    """Whoever keeps an array, or a view of one, keeps its numbers, however many results follow."""
    reused = Reused()
    whole = reused.copy(of(1.0))
    row, flat = reused.copy(of(2.0))[0, 1], reused.copy(of(3.0)).reshape(-1)
    for value in range(20):
        later = [reused.copy(of(10.0 + value)) for _ in range(12)]
        assert len({place(one) for one in later}) == 12
    assert (whole == 1.0).all()
    assert (row == 2.0).all()
    assert (flat == 3.0).all()


def test_results_of_other_shapes_do_not_meet() -> None:
    """A batch of another size gets memory of its own."""
    reused = Reused()
    assert reused.copy(of(1.0)).shape == (1, 4, 4)
    assert reused.copy(of(2.0, side=8)).shape == (1, 8, 8)
