"""Which address shows what: from a checked request to an answer, without any I/O."""

from __future__ import annotations

import ipaddress
import json
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import resources
from urllib.parse import unquote_to_bytes

from cada_edge.errors import LineError, MissingDependencyError
from cada_edge.runtime.page.pictures import Album, scale
from cada_edge.runtime.page.wire import Message
from cada_edge.runtime.status import LineStatus

STALE_S = 1.5  # with a browser that asks twice a second, what is old looks old within two
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/chart.js": ("chart.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_TEXT, _JPEG = "text/plain; charset=utf-8", "image/jpeg"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)


@dataclass(frozen=True)
class Response:
    """Status, body and its type, and headers beside the `HEADERS` every answer has."""

    status: int
    body: bytes
    kind: str = _TEXT
    headers: tuple[tuple[str, str], ...] = ()


def refusal(status: int, words: str, *headers: tuple[str, str]) -> Response:
    """An answer that says in one line why there is no other."""
    return Response(status, f"{words}\n".encode(), headers=headers)


@dataclass
class Site:
    """Everything the page shows.

    Attributes:
        host: address listened on; a name among those people may type.
        names: further names.
        album: pictures.
    """

    host: str
    names: tuple[str, ...] = ()
    album: Album = field(default_factory=Album)

    def __post_init__(self) -> None:
        folder = resources.files("cada_edge.runtime.page")
        self._files = {path: Response(200, (folder / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
        self._files["/scale.png"] = Response(200, scale(), "image/png")
        self._hosts = {name.lower() for name in ("localhost", socket.gethostname(), self.host, *self.names)}
        self._status: LineStatus | None = None
        self._status_json = b"null"

    def take(self, message: Message) -> None:
        """Show what the pipeline sent. Raises `LineError` for a message that makes no sense."""
        if message.kind == "status":
            self._status, self._status_json = LineStatus.from_json(message.first), message.first
        elif message.kind == "picture":
            self.album.put(message.snapshot())
        elif message.kind == "thumbnail":
            self.album.put_thumbnail(message.snapshot())
        else:
            raise LineError(f"message of kind {message.kind!r}; is the sender of another version?")

    def answer(self, method: str, target: bytes, host: str) -> Response:
        """The answer to a request: `target` as in its first line, `host` as in its header."""
        if method not in ("GET", "HEAD"):
            return refusal(405, "this page is read only: GET and HEAD alone", ("Allow", "GET, HEAD"))
        if not self._is_ours(host):
            return refusal(421, "no such host here; add the name to page.names of line.yaml")
        path = _path(target)
        if path is None:
            return refusal(400, "the address is no path")
        if path in self._files:
            return self._files[path]
        show = self._shown(path, _whole(target.partition(b"?")[2].decode("ascii", "replace")))
        return refusal(404, "nothing here") if show is None else show()

    def age_s(self) -> float:
        """Since the pipeline's last sign of life; infinite before the first."""
        return float("inf") if self._status is None else time.monotonic() - self._status.alive_mono_s

    def _shown(self, path: str, number: int) -> Callable[[], Response] | None:
        """What makes the answer for a path that is no file; pictures may name the `number` of a part."""
        simple = {"/status.json": self._state, "/healthz": self._health, "/metrics": self._metrics}
        if path in simple:
            return simple[path]
        folder, _, name = path[1:].partition("/")
        if not name.endswith(".jpg"):
            return None
        return {
            "image": lambda: _picture(self.album.picture(name[:-4], number)),
            "heatmap": lambda: _picture(self.album.heatmap(name[:-4], number)),
            "reject": lambda: _picture(self.album.thumbnail(_whole(name[:-4]))),
        }.get(folder)

    def _state(self) -> Response:
        age_s = self.age_s()
        shown = {
            source: {"part": asdict(part), "heatmap": has_map} for source, (part, has_map) in self.album.parts().items()
        }
        head = {
            "now_mono_s": time.monotonic(),
            "now_unix_s": time.time(),
            "age_s": None if self._status is None else round(age_s, 3),
            "stale": age_s > STALE_S,
            "pictures": shown,
            "thumbnails": self.album.numbers(),
        }
        body = json.dumps(head).encode()[:-1] + b', "status": ' + self._status_json + b"}"
        return Response(200, body, "application/json")

    def _health(self) -> Response:
        age_s = self.age_s()
        if age_s <= STALE_S:
            return Response(200, b"ok\n")
        return refusal(503, "the pipeline has not spoken yet" if self._status is None else f"silent for {age_s:.1f} s")

    def _metrics(self) -> Response:
        try:
            from cada_edge.runtime import metrics  # noqa: PLC0415  # belongs to an extra of its own
        except MissingDependencyError as error:
            return refusal(501, str(error))
        if self._status is None:
            return refusal(503, "the pipeline has not spoken yet")
        return Response(200, metrics.render(self._status, time.monotonic()), metrics.CONTENT_TYPE)

    def _is_ours(self, host: str) -> bool:
        """False for a name that is not ours: a stranger's site may have pointed its own name here.

        An address needs no list: nobody can point an address elsewhere.
        """
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        name = name.strip("[]").lower().rstrip(".")
        return name in self._hosts or name.removesuffix(".local") in self._hosts or _is_address(name)


def _picture(data: bytes | None) -> Response:
    return refusal(404, "no such picture") if data is None else Response(200, data, _JPEG)


def _path(target: bytes) -> str | None:
    """The path of a request, decoded; ``None`` for anything that does not start with a slash or is no UTF-8."""
    path = target.partition(b"?")[0]
    if not path.startswith(b"/"):
        return None
    try:
        return unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return None


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else -1


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
