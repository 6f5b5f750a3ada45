"""GObject introspection, through which GStreamer and Aravis are spoken to.

Debian, Ubuntu and JetPack bring PyGObject as ``python3-gi`` for the system's own Python. A
virtual environment of that Python can load it from there, and only it: nothing else of the
system's packages becomes importable.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from cada_edge.errors import MissingDependencyError

_SYSTEM = Path("/usr/lib/python3/dist-packages/gi")


def require(namespace: str, version: str, packages: str) -> Any:
    """A namespace such as ``Gst``, loaded.

    Args:
        namespace: its name.
        version: its API version.
        packages: the Debian packages that bring it, for the message.

    Raises:
        MissingDependencyError: PyGObject or the namespace is not there.
    """
    try:
        gi = _gi()
        gi.require_version(namespace, version)
        return import_module(f"gi.repository.{namespace}")
    except (ImportError, ValueError) as error:
        running = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise MissingDependencyError(
            f"{namespace} {version} cannot be loaded: {error}; run: apt install python3-gi {packages} "
            f"(python3-gi serves the system's own Python, this is {running}; for another one: "
            "pip install 'cada-edge[gi]')"
        ) from error


def _gi() -> Any:
    """PyGObject: this environment's, else the system's."""
    try:
        return import_module("gi")
    except ModuleNotFoundError:
        if not (_SYSTEM / "__init__.py").is_file():
            raise
    spec = spec_from_file_location("gi", _SYSTEM / "__init__.py", submodule_search_locations=[str(_SYSTEM)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{_SYSTEM} cannot be loaded")
    module = module_from_spec(spec)
    sys.modules["gi"] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:  # made for another Python: leave nothing half loaded behind
        del sys.modules["gi"]
        raise
    return module
