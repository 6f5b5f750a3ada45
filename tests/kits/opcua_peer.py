"""A PLC that is an OPC UA server with one variable per field, by asyncua; some of signed types, as PLCs have them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from typing import Any

from asyncua import Server, ua

from cada_edge.runtime.control import decode_control
from cada_edge.runtime.links.opcua import CONTROL_FIELDS, TAIL_FIELD
from cada_edge.runtime.registers import TAIL, OfflineReason, ResultFlag, StatusBlock, StatusFlag, encode, field_names

_FLOATS = {"score": ua.VariantType.Float, "threshold": ua.VariantType.Double}
_LONG = dict.fromkeys(("trigger_id", "rejected", "unknown", "total"), ua.VariantType.UInt32)
_TYPES = {**_FLOATS, **_LONG, "encoder": ua.VariantType.Int32, "checksum": ua.VariantType.Int16}
_BITS = {ua.VariantType.Int16: 16, ua.VariantType.Int32: 32}


class Memory:
    """Variables ``ns=2;s=CadaEdge.Status.<field>`` and the same for Control; place is ``host:port``."""

    def __init__(self, _kind: str, place: str) -> None:
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)
        self._server, self._ids = Server(), dict[str, ua.NodeId]()
        self._loop, up = asyncio.new_event_loop(), threading.Event()
        threading.Thread(target=lambda: self._loop.run_until_complete(self._serve(place, up)), daemon=True).start()
        up.wait(30)

    def status(self) -> Sequence[int]:
        """The fields as words, read one after the other as a program must: `seq_tail` first, `seq` last."""
        tail = self._value(f"Status.{TAIL_FIELD}")
        names = sorted(field_names(), key="seq".__eq__)
        values: dict[str, Any] = {name: self._value(f"Status.{name}") for name in names}
        for name, convert in (("flags", StatusFlag), ("offline", OfflineReason), ("result", ResultFlag)):
            values[name] = convert(values[name])
        words = encode(StatusBlock(**values))
        words[TAIL] = tail
        return words

    def control(self, words: Sequence[int]) -> None:
        """One variable after the other."""
        block = decode_control(words)
        values = {f"Control.{name}": int(getattr(block, name)) for name in CONTROL_FIELDS}
        asyncio.run_coroutine_threadsafe(self._set(values), self._loop).result(20)

    def _value(self, name: str) -> Any:
        value = self._server.iserver.aspace.read_attribute_value(self._ids[name], ua.AttributeIds.Value).Value
        assert value is not None
        bits = _BITS.get(value.VariantType, 0)
        return value.Value & ((1 << bits) - 1) if bits else value.Value

    async def _set(self, values: dict[str, int]) -> None:
        for name, value in values.items():
            kind = ua.VariantType.UInt32 if name.endswith(("trigger_id", "encoder")) else ua.VariantType.UInt16
            await self._server.get_node(self._ids[name]).write_value(ua.Variant(value, kind))

    async def _serve(self, place: str, up: threading.Event) -> None:
        await self._server.init()
        self._server.set_endpoint(f"opc.tcp://{place}/plc")
        self._server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        space = await self._server.register_namespace("plc")
        names = [f"Status.{name}" for name in (*field_names(), TAIL_FIELD)]
        names += [f"Control.{name}" for name in CONTROL_FIELDS]
        for name in names:
            await self._add(space, name)
        async with self._server:
            up.set()
            await asyncio.Event().wait()

    async def _add(self, space: int, name: str) -> None:
        group, field = name.split(".")
        kind = _TYPES.get(field, ua.VariantType.UInt16)
        if group == "Control" and field == "encoder":
            kind = ua.VariantType.UInt32
        nodeid = ua.NodeId.from_string(f"ns={space};s=CadaEdge.{name}")
        zero = ua.Variant(0.0 if field in _FLOATS else 0, kind)
        node = await self._server.nodes.objects.add_variable(nodeid, name, zero)
        await node.set_writable()
        self._ids[name] = nodeid
