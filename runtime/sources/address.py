"""A source's URI, taken apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cada_edge.errors import ConfigError


@dataclass(frozen=True)
class Address:
    """Where a source is.

    Attributes:
        scheme: lower case.
        uri: as given; may hold a password.
        label: the same for people, without password.
        target: what stands between ``://`` and ``?``, percent signs decoded.
        base_dir: what a relative path is relative to.
        options: after the ``?``.
    """

    scheme: str
    uri: str
    label: str
    target: str
    base_dir: Path
    options: Mapping[str, str]

    @property
    def path(self) -> Path:
        """The target as a path."""
        return self.base_dir / self.target


def number(address: Address, name: str) -> float | None:
    """An option as a positive number; ``None`` where absent. Raises `ConfigError`."""
    text = address.options.get(name)
    try:
        value = None if text is None else float(text)
    except ValueError as error:
        raise ConfigError(f"source uri {address.label}: {name} is {text!r}, expected a number") from error
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{name}: got {value!r}, expected a number > 0")
    return value
