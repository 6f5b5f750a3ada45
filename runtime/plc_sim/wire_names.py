"""``--wires``: which line of the PLC's end each single wire is on, as one compact option."""

from __future__ import annotations

import re

from cada_edge.errors import ConfigError
from cada_edge.runtime.links.config import LAST_LINE

NAMES = ("pass", "valid", "ready", "busy", "healthy", "trigger", "ack")
EXAMPLE = "pass=3,valid=4,ready=5,healthy=7,trigger=17,ack=18"


def lines_of(text: str) -> dict[str, int]:
    """``pass=3,valid=4`` as ``{"pass_line": 3, "valid_line": 4}``.

    Raises `ConfigError` for a name or number that stands twice, is none, or is missing: ``pass`` must be there.
    """
    lines: dict[str, int] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = (part.strip() for part in item.partition("="))
        if name not in NAMES:
            raise ConfigError(f"--wires: got {item!r}, expected one of {', '.join(NAMES)} with its line: {EXAMPLE}")
        if not re.fullmatch(r"[0-9]{1,4}", number) or int(number) > LAST_LINE:
            raise ConfigError(f"--wires: {name}: got {number!r}, expected the number of a line, 0..{LAST_LINE}")
        if name in lines:
            raise ConfigError(f"--wires: {name} stands twice, on lines {lines[name]} and {number}; leave one out")
        if other := next((one for one, line in lines.items() if line == int(number)), None):
            raise ConfigError(f"--wires: {other} and {name} are both on line {number}; each wire has a line of its own")
        lines[name] = int(number)
    if "pass" not in lines:
        raise ConfigError(f"--wires: got {text!r}, where pass is missing; name the lines of the PLC's end: {EXAMPLE}")
    return {f"{name}_line": line for name, line in lines.items()}
