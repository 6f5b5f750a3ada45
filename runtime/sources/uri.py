"""One line of text to a source: ``folder:///images?fps=25&loop=1``, ``rtsp://...``, a plain path.

==========================  =====================================================
``folder:///abs/dir``       pictures; options ``fps``, ``loop``
``video:///abs/file``       a video file, every frame; options ``fps``, ``loop``
``v4l2:///dev/video0``      a camera of this machine
``csi://0``                 a Jetson's CSI sensor; options ``width``, ``height``, ``fps``
``gst://<pipeline>``        any GStreamer pipeline, as for ``gst-launch-1.0``, without its sink
``rtsp://host/stream``      a network camera; also ``rtsps``
``aravis://GV01``           GigE Vision or USB3 Vision by serial number, address or full name
``pylon://24012345``        a Basler camera by serial number
``gentl:///abs/maker.cti``  any camera with a GenTL producer; option ``serial``
a plain path                a folder, a video file or ``/dev/video*``
==========================  =====================================================

Cameras give the newest frame, or one for each trigger. ``folder:``, ``video:`` and
``gentl:`` take relative paths too (``folder:images``). ``aravis``, ``pylon`` and ``gentl``
take ``pixel_format`` and ``fps``; ``aravis`` also ``packet_size``, bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit, urlunsplit

from cada_edge.errors import ConfigError, SourceError
from cada_edge.protocols import Source
from cada_edge.runtime.sources.address import Address, number
from cada_edge.runtime.sources.camera import CameraOptions, CameraSource
from cada_edge.runtime.sources.device import GENICAM, CameraSettings, OpenDevice, TriggerMode
from cada_edge.runtime.sources.folder import FolderSource
from cada_edge.runtime.sources.opencv import VideoSource, open_video
from cada_edge.runtime.sources.triggered import HardwareTriggeredSource, SoftwareTriggeredSource


@dataclass(frozen=True)
class CameraKind:
    """One scheme of cameras.

    Attributes:
        module: under `cada_edge.runtime.sources`, with ``opener(address, settings)``; imported
            only for such a camera, so that its packages need not be there otherwise.
        options: what may stand after the ``?``.
        able: fields of `CameraSettings` that can be set.
        raw: its pictures come with the sensor's noise, so that two are never equal.
        takes_query: whether the ``?`` is the camera's own.
    """

    module: str
    options: frozenset[str] = frozenset()
    able: frozenset[str] = frozenset()
    raw: bool = True
    takes_query: bool = False


_GENICAM_OPTIONS = frozenset({"pixel_format", "fps"})
CAMERAS = {
    "v4l2": CameraKind("v4l2", able=frozenset({"exposure_us", "lock_white_balance"})),
    "csi": CameraKind("gstreamer", frozenset({"width", "height", "fps"}), GENICAM - {"trigger"}),
    "gst": CameraKind("gstreamer", raw=False, takes_query=True),
    "rtsp": CameraKind("rtsp", raw=False, takes_query=True),
    "rtsps": CameraKind("rtsp", raw=False, takes_query=True),
    "aravis": CameraKind("aravis", _GENICAM_OPTIONS | {"packet_size"}, GENICAM),
    "pylon": CameraKind("pylon", _GENICAM_OPTIONS, GENICAM),
    "gentl": CameraKind("gentl", _GENICAM_OPTIONS | {"serial"}, GENICAM),
}
SCHEMES = ("folder", "video", *CAMERAS)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
_DEVICE = re.compile(r"/dev/video\d+")
_TRUE, _FALSE = frozenset({"1", "true", "yes"}), frozenset({"0", "false", "no"})


def open_source(
    uri: str,
    source_id: str = "",
    base_dir: Path | None = None,
    camera: CameraOptions | None = None,
    settings: CameraSettings | None = None,
) -> Source:
    """Open what `uri` names, as it is: see `cada_edge.runtime.sources.open` for region, light and quality.

    Args:
        uri: see the table above.
        source_id: name in verdicts; the scheme where empty.
        base_dir: what relative paths are relative to; the working directory by default.
        camera: stall and back-off of cameras.
        settings: trigger, exposure and the like of cameras.

    Raises:
        ConfigError: an unknown scheme or option, a wrong value, or a setting the source does not have.
        MissingDependencyError: the package for such a camera is not installed.
        SourceError: the folder, file or camera cannot be opened.
    """
    address, wanted = parse(uri, base_dir), settings or CameraSettings()
    name = source_id or address.scheme
    if kind := CAMERAS.get(address.scheme):
        wanted.require(address.label, kind.able)
        open_device: OpenDevice = import_module(f"cada_edge.runtime.sources.{kind.module}").opener(address, wanted)
        return _SOURCES[wanted.trigger](open_device, address.label, name, camera)
    wanted.require(address.label, frozenset())
    fps, loop = number(address, "fps"), _flag(address.options)
    if address.scheme == "folder":
        return FolderSource(address.path, name, fps, loop)
    if not address.path.is_file():
        raise SourceError(f"{address.path}: no such video file; check the source's uri")
    return VideoSource(partial(open_video, address.path), str(address.path), name, fps, loop)


_SOURCES: dict[TriggerMode, type[CameraSource | HardwareTriggeredSource]] = {
    "free": CameraSource,
    "hardware": HardwareTriggeredSource,
    "software": SoftwareTriggeredSource,
}


def parse(uri: str, base_dir: Path | None = None) -> Address:
    """What `uri` says. Raises `ConfigError` for an unknown scheme or option."""
    base = base_dir or Path()
    scheme, rest = _scheme(uri, base)
    kind = CAMERAS.get(scheme)
    if kind is not None and kind.takes_query:
        return Address(scheme, uri, redact(uri), rest.removeprefix("//"), base, {})
    known = kind.options if kind is not None else frozenset({"fps", "loop"})
    target, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(options.keys() - known):
        raise ConfigError(f"source uri {redact(uri)!r}: unknown options {unknown}; known here: {sorted(known)}")
    return Address(scheme, uri, redact(uri), unquote(target).removeprefix("//"), base, options)


def redact(uri: str) -> str:
    """The URI without user, password and query, for messages and logs; of a pipeline its first element alone."""
    if uri.lower().startswith("gst:"):
        return f"gst://{uri[4:].removeprefix('//').split(None, 1)[0]}" if uri[4:].strip("/ ") else "gst:"
    parts = urlsplit(uri)
    if "@" not in parts.netloc and not parts.query:
        return uri
    host = parts.netloc.rpartition("@")[2]
    netloc = f"***@{host}" if "@" in parts.netloc else host
    if not netloc:
        return uri.partition("?")[0]  # a path: `urlunsplit` would write it with one slash
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


def _flag(options: Mapping[str, str]) -> bool:
    text = options.get("loop", "0").lower()
    if text not in _TRUE | _FALSE:
        raise ConfigError(f"source uri: loop is {text!r}, expected 0 or 1")
    return text in _TRUE
