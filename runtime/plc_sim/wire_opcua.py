"""A simulated PLC that is a client of our OPC UA server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from asyncua import Client, Node, ua
from asyncua.ua.uaerrors import UaError

from cada_edge.errors import LinkError
from cada_edge.runtime.control import decode_control
from cada_edge.runtime.links.config import OpcUaServerConfig
from cada_edge.runtime.links.opcua import CONTROL_FIELDS
from cada_edge.runtime.links.opcua_server import NAMESPACE, kind_of

_TIMEOUT_S = 3.0
_BROKEN = (UaError, OSError, ValueError, AttributeError, AssertionError)  # what asyncua raises, or trips over
_Result = TypeVar("_Result")


class OpcUaClient:
    """A PLC that polls a link of kind ``opcua-server``: the whole block as one variable, control in one request.

    Args:
        config: of the link; one with a certificate takes no client without, so that this is for links without.
    """

    def __init__(self, config: OpcUaServerConfig) -> None:
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # each failure is raised; once is enough
        self._peer = f"opc.tcp://{config.host}:{config.port}/cada-edge"
        self._loop = asyncio.new_event_loop()
        self._client: Client | None = None
        self._words: Node | None = None
        self._control: list[Node] = []

    def open(self) -> None:
        """Connect. Raises `LinkError`."""
        self._run(self._connect())

    def read(self) -> Sequence[int] | None:
        """The variable ``CadaEdge.Status.words``. Raises `LinkError`."""
        if self._words is None:
            raise LinkError(f"{self._peer}: not open")
        found = self._run(self._words.read_value())
        return [int(word) for word in found]

    def write(self, words: Sequence[int]) -> None:
        """Every control variable in one request. Raises `LinkError`."""
        block = decode_control(words)
        values = {name: int(getattr(block, name)) for name in CONTROL_FIELDS}
        data = [ua.DataValue(ua.Variant(value, kind_of(name))) for name, value in values.items()]
        if self._client is None:
            raise LinkError(f"{self._peer}: not open")
        self._run(self._client.write_values(self._control, data))

    def close(self) -> None:
        """Disconnect."""
        client, self._client, self._words = self._client, None, None
        if client is not None:
            client.disconnect_socket()
            self._loop.run_until_complete(_cancel_all())

    async def _connect(self) -> None:
        client = self._client = Client(self._peer, timeout=_TIMEOUT_S)
        await client.connect()
        space = await client.get_namespace_index(NAMESPACE)
        self._words = client.get_node(f"ns={space};s=CadaEdge.Status.words")
        self._control = [client.get_node(f"ns={space};s=CadaEdge.Control.{name}") for name in CONTROL_FIELDS]

    def _run(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        try:
            return self._loop.run_until_complete(asyncio.wait_for(call, 2 * _TIMEOUT_S))
        except (*_BROKEN, asyncio.TimeoutError) as error:
            raise LinkError(
                f"{self._peer}: {type(error).__name__}: {error}; is `cada-edge run` up, does line.yaml name this host "
                "and port in a link of kind opcua-server without a certificate, and has the link control: true?"
            ) from error


async def _cancel_all() -> None:
    """End what the client left running in this loop."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
