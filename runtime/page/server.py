"""The page's process: takes what the pipeline sends, shows it to whoever looks.

Runs as ``python -m cada_edge.runtime.page``, niceness 10, with one end of a socket pair.
It ends with the pipeline: when the other end closes, nothing is left to show.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket

import cv2

from cada_edge.errors import LineError
from cada_edge.runtime.page.config import PageConfig
from cada_edge.runtime.page.http import Connections
from cada_edge.runtime.page.site import Site
from cada_edge.runtime.page.wire import PREFIX, Message, sizes

_BACKLOG = 16


async def serve(pipe: socket.socket, config: PageConfig) -> None:
    """Serve until `pipe` ends. Raises `OSError` when the address cannot be had."""
    site = Site(config.host, config.names)
    connections = Connections(site, config.max_connections)
    server = await asyncio.start_server(connections.serve, config.host, config.port, backlog=_BACKLOG)
    async with server:
        reader, writer = await asyncio.open_connection(sock=pipe)
        port = server.sockets[0].getsockname()[1]
        writer.write(json.dumps({"port": port}).encode() + b"\n")
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # the pipeline has ended
            while True:
                site.take(await _message(reader))
        await connections.end()


async def _message(reader: asyncio.StreamReader) -> Message:
    header, first, second = sizes(await reader.readexactly(PREFIX.size))
    text = await reader.readexactly(header)
    return Message(json.loads(text), await reader.readexactly(first), await reader.readexactly(second))


def main() -> int:
    """Entry of the process. Exit code 1: it cannot listen (the pipe says why), or got nonsense."""
    parser = argparse.ArgumentParser(prog="cada-edge-page")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--config", type=PageConfig.model_validate_json, required=True)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    pipe = socket.socket(fileno=arguments.fd)
    try:
        asyncio.run(serve(pipe, arguments.config))
    except OSError as error:
        with contextlib.suppress(OSError):  # the pipeline went in the meantime: nobody to tell
            pipe.send(json.dumps({"errno": error.errno, "error": error.strerror or str(error)}).encode() + b"\n")
        return 1
    except LineError:  # a pipeline of another version: it notices the end and says so
        return 1
    return 0
