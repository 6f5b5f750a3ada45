"""asyncua's sessions, told apart: what one client has read in time, another has not.

Reads are answered within `answering`. What a subscription has to tell waits in asyncua until the client's publishing
interval is over, or until it asks: so it is looked at again as it is sent, and a verdict may have become late by then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession

from cada_edge.runtime.links.masks import as_late
from cada_edge.runtime.links.server import ShownBlock, answering
from cada_edge.runtime.registers import StatusBlock

_Read = Callable[[StatusBlock], Any]
_Publish = Callable[..., Awaitable[None]]


@dataclass(frozen=True)
class Variable:
    """One of the variables that show the block.

    Attributes:
        read: its value of a block.
        kind: its type.
        result: whether it tells the result; a subscriber is then told of each result, also of two alike.
    """

    read: _Read
    kind: ua.VariantType
    result: bool = False

    def of(self, block: StatusBlock) -> ua.DataValue:
        """What a reader gets."""
        return ua.DataValue(ua.Variant(self.read(block), self.kind))

    def to_tell(self, block: StatusBlock) -> ua.DataValue:
        """What waits for a subscriber, to be looked at again as it is sent."""
        return ua.DataValue(_Told(self, block))


class _Told(ua.Variant):
    """A value on its way to a subscriber; asyncua sends it where it differs from the one before."""

    def __init__(self, variable: Variable, block: StatusBlock) -> None:
        super().__init__(variable.read(block), variable.kind)
        self.variable, self.block = variable, block

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Told) or (self.variable.result and self.block.seq != other.block.seq):
            return False
        return bool(self.Value == other.Value)

    __hash__ = None  # type: ignore[assignment]  # as of the class above

    def __deepcopy__(self, _memo: dict[int, Any]) -> _Told:
        return self  # asyncua keeps one to compare with; nobody changes it


class Sessions(InternalServer):
    """asyncua's server with sessions of ours.

    Args:
        block: as it may be seen by whoever is being answered.
        variables: that show it, by their nodes; may be filled later.
    """

    def __init__(self, block: ShownBlock, variables: dict[ua.NodeId, Variable]) -> None:
        super().__init__()
        self.block, self.variables = block, variables

    def create_session(self, name: str, user: User | None = None, external: bool = False) -> InternalSession:
        """For a client that asks for one."""
        return _Session(self, name, user or User(role=UserRole.Anonymous), external)


class _Session(InternalSession):
    """One client, also where it comes back on another connection."""

    def __init__(self, server: Sessions, name: str, user: User, external: bool) -> None:
        super().__init__(server, server.aspace, server.subscription_service, name, user=user, external=external)
        self._block, self._variables = server.block, server.variables

    async def read(self, params: ua.ReadParameters) -> list[ua.DataValue]:
        asked = (self._variables.get(one.NodeId) for one in params.NodesToRead if one.AttributeId == _VALUE)
        with answering(self, result=any(variable.result for variable in asked if variable)):
            return await super().read(params)

    async def create_subscription(
        self, params: ua.CreateSubscriptionParameters, callback: _Publish, request_callback: Any = None
    ) -> ua.CreateSubscriptionResult:
        return await super().create_subscription(params, self._looking_again(callback), request_callback)

    async def transfer_subscriptions(  # type: ignore[override]  # as in asyncua's own
        self, params: ua.TransferSubscriptionsParameters, callback: _Publish
    ) -> list[ua.TransferResult]:
        return await super().transfer_subscriptions(params, self._looking_again(callback))

    def republish(self, _params: ua.RepublishParameters) -> ua.NotificationMessage:
        """What was sent before is not sent again: its verdict is old."""
        raise ServiceError(ua.StatusCodes.BadMessageNotAvailable)

    def _looking_again(self, publish: _Publish) -> _Publish:
        async def look_and_publish(result: ua.PublishResult, *request: Any) -> None:
            for data in result.NotificationMessage.NotificationData or ():
                if isinstance(data, ua.DataChangeNotification):
                    self._look_again(data.MonitoredItems)
            await publish(result, *request)

        return look_and_publish

    def _look_again(self, items: list[ua.MonitoredItemNotification]) -> None:
        """Give each value that waited the one that this client may see now."""
        waited = [(item, item.Value.Value) for item in items if isinstance(item.Value.Value, _Told)]
        with answering(self, result=False):
            seq = self._block().seq
        with answering(self, result=any(told.variable.result and told.block.seq == seq for _, told in waited)):
            now = self._block()
        for item, told in waited:
            item.Value = told.variable.of(now if told.block.seq == now.seq else as_late(told.block))


_VALUE = ua.AttributeIds.Value
