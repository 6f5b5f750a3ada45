"""NVIDIA's two TensorRT modules behind one face: what builder and runner both need of them.

From TensorRT 10.3 to 11.x, and of TensorRT-RTX, only what all of them have is used. Nothing
is imported before `TensorRT.load`.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cada_edge.engine_key import Flavour
from cada_edge.errors import EngineError, MissingDependencyError, PluginMissingError

PLUGIN_NAME, PLUGIN_NAMESPACE = "CadaNormalize", ""
_MODULES: dict[Flavour, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_RTX_LIBRARY = "libtensorrt_rtx.so"


@dataclass(frozen=True)
class TensorRT:
    """One of the modules.

    Attributes:
        flavour: which.
        api: the imported module.
    """

    flavour: Flavour
    api: Any

    @staticmethod
    def load(flavour: Flavour) -> TensorRT:
        """Import the module. Raises `MissingDependencyError`, or `EngineError` when it is there and does not load."""
        name = _MODULES[flavour]
        if find_spec(name) is None:
            raise MissingDependencyError(
                f"the Python module {name} is not installed; on a Jetson: sudo apt-get install python3-libnvinfer, "
                f"and a virtual environment made with --system-site-packages; elsewhere: "
                f"pip install 'cada-edge[{flavour}]'"
            )
        try:
            return TensorRT(flavour, import_module(name))
        except (ImportError, OSError) as error:
            raise EngineError(f"{name} is installed and does not load: {error}; install its libraries again") from error

    @property
    def version(self) -> str:
        """The release, such as ``10.3.0.30``."""
        return str(self.api.__version__)

    def logger(self, take: Callable[[str, str], None]) -> Any:
        """An ILogger that hands each (severity, message) to `take`, severity as ``ERROR`` or ``VERBOSE``."""
        api = self.api

        class _Logger(api.ILogger):  # type: ignore[misc, name-defined]  # its base is known at run time only
            def __init__(self) -> None:
                api.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                take(str(severity.name), message)

        return _Logger()

    def load_plugin(self, owner: Any, library: Path, version: str) -> None:
        """Register the plugin of `library` with a builder or runtime.

        `load_library` returns nothing, silently, for a library it cannot use, so both the
        handle and the creator are looked at.

        Args:
            owner: whose registry takes it.
            library: the shared library.
            version: of the plugin that the graph or engine names.

        Raises:
            PluginMissingError: the file is absent, is no plugin library, or holds another version.
            EngineError: TensorRT-RTX would end the process on loading any plugin here.
        """
        again = "build it here: cada-edge plugin build"
        if not library.is_file():
            raise PluginMissingError(f"the plugin library {library} is not there; {again}")
        if self.flavour == "tensorrt-rtx":
            require_rtx_link()
        registry = owner.get_plugin_registry()
        if registry.load_library(str(library.resolve())) is None:
            raise PluginMissingError(f"{library} is no TensorRT plugin library for this machine; {again}")
        if registry.get_creator(PLUGIN_NAME, version, PLUGIN_NAMESPACE) is None:
            found = sorted(str(c.plugin_version) for c in registry.all_creators if c.name == PLUGIN_NAME)
            if any(_newer(one, version) for one in found):
                again = "the graph is of an older cada-edge: run cada-edge export, then cada-edge engine build again"
            raise PluginMissingError(
                f"{library} has {PLUGIN_NAME} of version {' and '.join(found) or 'none'}, needed is {version}; {again}"
            )


def _newer(found: str, needed: str) -> bool:
    """Whether a plugin is of a later version than a graph needs; versions are whole numbers as text."""
    return found.isdecimal() and needed.isdecimal() and int(found) > int(needed)


def require_rtx_link() -> None:
    """Raise `EngineError` where TensorRT-RTX could not load a plugin and would end the process.

    Its wheel lacks the name without a number, under which it opens itself as soon as it
    gets a plugin library.
    """
    spec = find_spec("tensorrt_rtx_libs")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else None
    if folder is None or (folder / _RTX_LIBRARY).exists():
        return
    try:
        ctypes.CDLL(_RTX_LIBRARY)
    except OSError:
        raise EngineError(
            f"TensorRT-RTX finds no {_RTX_LIBRARY} and could not load a plugin; give its library that name once: "
            f"ln -s {_RTX_LIBRARY}.1 {folder / _RTX_LIBRARY}"
        ) from None


def file_sha256(path: Path) -> str:
    """sha256 of a library, 64 hex digits. Raises `PluginMissingError` when it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        said = error.strerror or error
        raise PluginMissingError(f"{path} cannot be read: {said}; build it here: cada-edge plugin build") from error
