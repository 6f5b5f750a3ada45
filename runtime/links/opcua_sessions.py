"""asyncua's sessions, told apart: what one client has read in time, another has not.

Reads are answered within `answering`. What a subscription has to tell waits in asyncua until the client's publishing
interval is over, or until it asks: so it is looked at again as it is sent, and a verdict may have become late by then.
A session may outlive its connection: what it was told last on the old one may never have arrived.
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
        """What waits for a subscriber: late, unless it is looked at again as it is sent."""
        return ua.DataValue(_Told(self, block, self.read(as_late(block))))


class _Told(ua.Variant):
    """A value on its way to a subscriber; asyncua sends it where it differs from the one before.

    Its value is that of a late result, so that a way to the client on which nobody looks again tells no PASS.
    """

    def __init__(self, variable: Variable, block: StatusBlock, value: Any) -> None:
        super().__init__(value, variable.kind)
        self.variable, self.block = variable, block

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Told) or (self.variable.result and self.block.seq != other.block.seq):
            return False
        return bool(self.variable.read(self.block) == other.variable.read(other.block))

    __hash__ = None  # type: ignore[assignment]  # as of the class above

    def __deepcopy__(self, _memo: dict[int, Any]) -> _Told:
        """What asyncua keeps to compare with, also by a client's deadband, and never sends: the value as decided."""
        return _Told(self.variable, self.block, self.variable.read(self.block))


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


class _Connection:
    """What a session has told since it was last activated."""


class _LookAgain:
    """A way to the client on which what waited is looked at again."""

    def __init__(self, look: Callable[[list[ua.MonitoredItemNotification]], None], publish: _Publish) -> None:
        self._look, self._publish = look, publish

    async def __call__(self, result: ua.PublishResult, *request: Any) -> None:
        """As asyncua publishes."""
        for data in result.NotificationMessage.NotificationData or ():
            if isinstance(data, ua.DataChangeNotification):
                self._look(data.MonitoredItems)
        await self._publish(result, *request)


class _Session(InternalSession):
    """One client; on another connection it counts as another reader."""

    def __init__(self, server: Sessions, name: str, user: User, external: bool) -> None:
        super().__init__(server, server.aspace, server.subscription_service, name, user=user, external=external)
        self._block, self._variables = server.block, server.variables
        self._reader = _Connection()

    def activate_session(
        self, params: ua.ActivateSessionParameters, peer_certificate: bytes | None
    ) -> ua.ActivateSessionResult:
        """On whatever connection: what an earlier one was told may never have arrived."""
        try:
            return super().activate_session(params, peer_certificate)
        finally:  # asyncua gave the subscriptions to the new connection before it asked whether that may be
            self._reader = _Connection()
            for subscription in self.subscription_service.subscriptions.values():
                publish = subscription.pub_result_callback
                if subscription.session_id == self.session_id and not isinstance(publish, _LookAgain):
                    subscription.pub_result_callback = self._looking_again(publish)

    async def read(self, params: ua.ReadParameters) -> list[ua.DataValue]:
        asked = (self._variables.get(one.NodeId) for one in params.NodesToRead if one.AttributeId == _VALUE)
        with answering(self._reader, result=any(variable.result for variable in asked if variable)):
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

    def _looking_again(self, publish: _Publish) -> _LookAgain:
        return _LookAgain(self._look_again, publish)

    def _look_again(self, items: list[ua.MonitoredItemNotification]) -> None:
        """Give each value that waited the one that this client may see now."""
        waited = [(item, item.Value.Value) for item in items if isinstance(item.Value.Value, _Told)]
        seqs = frozenset(told.block.seq for _, told in waited if told.variable.result)
        with answering(self._reader, result=True, seqs=seqs):
            now = self._block()  # once: time passes as one looks, and another result may stand there after it
        for item, told in waited:
            item.Value = told.variable.of(now if told.block.seq == now.seq else as_late(told.block))


_VALUE = ua.AttributeIds.Value
