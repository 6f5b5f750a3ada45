"""One line of text to a source: ``folder:///images?fps=25&loop=1``, ``rtsp://...``, a plain path.

========================  =====================================================
``folder:///abs/dir``     pictures; options ``fps``, ``loop``
``video:///abs/file``     a video file, every frame; options ``fps``, ``loop``
``v4l2:///dev/video0``    a camera of this machine, newest frame
``rtsp://host/stream``    a network camera, newest frame; also ``rtsps``
a plain path              a folder, a video file or ``/dev/video*``
========================  =====================================================

``folder:`` and ``video:`` take relative paths too (``folder:images``).
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit, urlunsplit

from cada_edge.errors import ConfigError, SourceError
from cada_edge.protocols import Source
from cada_edge.runtime.sources.camera import CameraOptions, CameraSource
from cada_edge.runtime.sources.folder import FolderSource
from cada_edge.runtime.sources.opencv import VideoSource, open_device, open_stream, open_video

SCHEMES = ("folder", "video", "v4l2", "rtsp", "rtsps")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
_DEVICE = re.compile(r"/dev/video\d+")
_TRUE, _FALSE = frozenset({"1", "true", "yes"}), frozenset({"0", "false", "no"})


def open_source(
    uri: str, source_id: str = "", base_dir: Path | None = None, camera: CameraOptions | None = None
) -> Source:
    """Open what `uri` names.

    Args:
        uri: see the table above.
        source_id: name in verdicts; the scheme where empty.
        base_dir: what relative paths are relative to; the working directory by default.
        camera: stall and back-off of live cameras.

    Raises:
        ConfigError: an unknown scheme or option, or a wrong value.
        SourceError: the folder, file or camera cannot be opened.
    """
    base = base_dir or Path()
    scheme, rest = _scheme(uri, base)
    name = source_id or scheme
    if scheme in ("rtsp", "rtsps"):
        return CameraSource(partial(open_stream, uri), redact(uri), name, camera)
    path, options = _path(rest, base), _options(uri, rest, scheme)
    if scheme == "v4l2":
        if not path.exists():
            raise SourceError(f"{path}: no such camera; `ls /dev/video*` shows those connected")
        return CameraSource(partial(open_device, str(path)), str(path), name, camera)
    fps, loop = _fps(options), _flag(options)
    if scheme == "folder":
        return FolderSource(path, name, fps, loop)
    if not path.is_file():
        raise SourceError(f"{path}: no such video file; check the source's uri")
    return VideoSource(partial(open_video, path), str(path), name, fps, loop)


def redact(uri: str) -> str:
    """The URI without user, password and query, for messages and logs."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc and not parts.query:
        return uri
    host = parts.netloc.rpartition("@")[2]
    netloc = f"***@{host}" if "@" in parts.netloc else host
    return urlunsplit(SplitResult(parts.scheme, netloc, parts.path, "", ""))


def _scheme(uri: str, base: Path) -> tuple[str, str]:
    """Scheme and the text after its colon; a plain path gets the scheme it looks like."""
    if match := _SCHEME.fullmatch(uri):
        scheme = match.group(1).lower()
        if scheme not in SCHEMES:
            raise ConfigError(f"source uri {redact(uri)!r}: unknown scheme {scheme!r}, expected one of {SCHEMES}")
        return scheme, match.group(2)
    if not uri:
        raise ConfigError("source uri: got an empty text, expected a path or a uri")
    if _DEVICE.fullmatch(uri):
        return "v4l2", uri
    is_video = bool(Path(uri).suffix) and not (base / uri).is_dir()
    return ("video" if is_video else "folder"), quote(uri)  # a plain path may hold "?" and "%"


def _path(rest: str, base: Path) -> Path:
    text = unquote(rest.partition("?")[0])
    return base / text.removeprefix("//")


def _options(uri: str, rest: str, scheme: str) -> dict[str, str]:
    options = dict(parse_qsl(rest.partition("?")[2], keep_blank_values=True))
    known = {"fps", "loop"} if scheme in ("folder", "video") else set()
    if unknown := sorted(options.keys() - known):
        raise ConfigError(f"source uri {redact(uri)!r}: unknown options {unknown}; known here: {sorted(known)}")
    return options


def _fps(options: dict[str, str]) -> float | None:
    text = options.get("fps")
    try:
        return None if text is None else float(text)
    except ValueError as error:
        raise ConfigError(f"source uri: fps is {text!r}, expected a number") from error


def _flag(options: dict[str, str]) -> bool:
    text = options.get("loop", "0").lower()
    if text not in _TRUE | _FALSE:
        raise ConfigError(f"source uri: loop is {text!r}, expected 0 or 1")
    return text in _TRUE
