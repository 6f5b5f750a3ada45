"""An Allen-Bradley controller with tags CadaStatus INT[32] and CadaControl INT[16], by cpppo's simulator."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from cpppo.dotdict import dotdict
from cpppo.server.enip import device
from cpppo.server.enip.main import main

_TAGS: dict[str, Any] = {}


class _Tag(device.Attribute):  # type: ignore[misc]  # cpppo has no types
    def __init__(self, name: str, *args: Any, **kwds: Any) -> None:
        super().__init__(name, *args, **kwds)
        _TAGS[name] = self


class Memory:
    """Two tags; place is ``host:port``."""

    def __init__(self, _kind: str, place: str) -> None:
        tags = ["CadaStatus=INT[32]", "CadaControl=INT[16]"]
        control = dotdict(done=False, disable=False, timeout=1.0, latency=0.05)
        arguments = {"argv": ["--address", place, *tags], "attribute_class": _Tag, "server": {"control": control}}
        threading.Thread(target=main, kwargs=arguments, daemon=True).start()
        while "address" not in control or len(_TAGS) < len(tags):
            time.sleep(0.01)

    def status(self) -> Sequence[int]:
        """The tag's values without their sign."""
        return [word & 0xFFFF for word in list(_TAGS["CadaStatus"].value)]

    def control(self, words: Sequence[int]) -> None:
        """The tag's values, as INT."""
        _TAGS["CadaControl"].value[:] = [word - 0x10000 if word > 0x7FFF else word for word in words]
