"""HTTP/1.1 for a page that is only looked at: h11 reads it, small limits hold it.

A request has neither body nor upgrade. Its head fits into 8 KiB and is here within five
seconds; an idle connection is closed after fifteen, an answer nobody takes after ten.
"""

from __future__ import annotations

import asyncio
import contextlib

from cada_edge.errors import MissingDependencyError
from cada_edge.runtime.page.site import HEADERS, Response, Site, refusal

try:
    import h11
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "the operator's page needs the package 'h11'; install it with: pip install 'cada-edge[page]'"
    ) from error

HEAD_BYTES, HEAD_S, IDLE_S, SEND_S = 8192, 5.0, 15.0, 10.0
REQUESTS_PER_CONNECTION = 10_000
_READ_BYTES, _TURN_S = 8192, 0.01


class Connections:
    """Serves a site to at most `most` connections at a time; one more is closed at once."""

    def __init__(self, site: Site, most: int) -> None:
        self._site, self._most, self._open = site, most, set[asyncio.StreamWriter]()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for `asyncio.start_server`. Never raises for what a client does."""
        if len(self._open) >= self._most:
            writer.transport.abort()
            return
        self._open.add(writer)
        try:
            # What a client breaks, be it the protocol or the connection, costs this connection alone.
            with contextlib.suppress(OSError, TimeoutError, asyncio.TimeoutError, h11.ProtocolError):
                await _Exchange(self._site, reader, writer).run()
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def end(self) -> None:
        """Hang up on everybody, and wait until each has noticed."""
        while self._open:
            for writer in tuple(self._open):
                writer.transport.abort()
            await asyncio.sleep(_TURN_S)


class _Exchange:
    """The requests of one connection, one after the other."""

    def __init__(self, site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._site, self._reader, self._writer = site, reader, writer
        self._state = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)

    async def run(self) -> None:
        for _ in range(REQUESTS_PER_CONNECTION):
            try:
                request = await self._request()
                if request is None:
                    return
                await self._send(self._answer(request), request.method == b"HEAD")
            except h11.RemoteProtocolError as error:
                if self._state.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    await self._send(refusal(error.error_status_hint, "this is no request"), close=True)
                    await self._end()
                return
            if self._state.our_state is not h11.DONE or self._state.their_state is not h11.DONE:
                await self._end()
                return
            self._state.start_next_cycle()
        await self._end()

    async def _request(self) -> h11.Request | None:
        """The next request, whole; ``None`` when the client has gone or sent a body."""
        if self._state.trailing_data[0]:
            data = b""
        else:
            data = await asyncio.wait_for(self._reader.read(_READ_BYTES), IDLE_S)
            self._state.receive_data(data)
        return await asyncio.wait_for(self._head(), HEAD_S)

    async def _head(self) -> h11.Request | None:
        request: h11.Request | None = None
        while True:
            event = self._state.next_event()
            if isinstance(event, h11.Request):
                request = event
                if _has_body(event):
                    return request
            elif isinstance(event, h11.EndOfMessage):
                return request
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                return None
            else:
                self._state.receive_data(await self._reader.read(_READ_BYTES))

    def _answer(self, request: h11.Request) -> Response:
        if _has_body(request):
            return refusal(413, "a request to this page has no body", ("Connection", "close"))
        hosts = [value.decode("ascii", "replace") for name, value in request.headers if name == b"host"]
        return self._site.answer(request.method.decode("ascii"), request.target, hosts[0] if hosts else "")

    async def _send(self, response: Response, head_only: bool = False, close: bool = False) -> None:
        headers = [
            ("Content-Type", response.kind),
            ("Content-Length", str(len(response.body))),
            *HEADERS,
            *response.headers,
            *([("Connection", "close")] if close else []),
        ]
        parts = [self._state.send(h11.Response(status_code=response.status, headers=headers))]
        if not head_only:
            parts.append(self._state.send(h11.Data(data=response.body)))
        parts.append(self._state.send(h11.EndOfMessage()))
        self._writer.write(b"".join(part for part in parts if part))
        await asyncio.wait_for(self._writer.drain(), SEND_S)

    async def _end(self) -> None:
        """Let the client take the last answer before the connection goes."""
        self._writer.close()
        await asyncio.wait_for(self._writer.wait_closed(), SEND_S)


def _has_body(request: h11.Request) -> bool:
    """True for a request that announces a body, an empty one apart, or another protocol."""
    fields = dict(request.headers)
    return b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0" or b"upgrade" in fields
