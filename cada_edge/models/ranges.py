"""Range checks of settings: one error form for every frozen settings object."""

from __future__ import annotations

import math
from typing import Any

from cada_edge.errors import ConfigError


def check_ranges(settings: object, **limits: tuple[float, float]) -> None:
    """Raise `ConfigError` unless each named attribute is a number within its closed interval.

    Where both limits are whole numbers, so must the value be.
    """
    for name, (low, high) in limits.items():
        value: Any = getattr(settings, name)
        where = f"{type(settings).__name__}.{name}"
        whole = isinstance(low, int) and isinstance(high, int)
        if not _is_number(value, whole):
            raise ConfigError(f"{where}: got {value!r}, expected {'a whole number' if whole else 'a number'}")
        if not low <= value <= high:
            raise ConfigError(f"{where}: got {value}, expected {low}..{high}")


def _is_number(value: Any, whole: bool) -> bool:
    kinds = int if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
