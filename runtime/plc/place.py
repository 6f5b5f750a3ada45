"""One station with all that shows and drives it: servers, links and a timer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Literal

from cada_edge.runtime.control import decode_control
from cada_edge.runtime.handshake import Action, Tally
from cada_edge.runtime.links.gate import ReaderGates, Shown
from cada_edge.runtime.links.server import OnControl, Server, ShownBlock, being_answered, for_nobody
from cada_edge.runtime.links.supervisor import BLIND_NS, LinkSupervisor
from cada_edge.runtime.plc.wire import StationSetup
from cada_edge.runtime.registers import Alarm, OfflineReason, ResultFlag, StatusBlock, decode, encode
from cada_edge.runtime.station import Station
from cada_edge.runtime.status import StationStatus

Event = Callable[[Station, int], list[Action]]
OnAction = Callable[[Action, str], None]


class Place:
    """Hands events to a station, its actions to the pipeline and its block to every PLC.

    For the thread of the running event loop, whose clock must be the monotonic one.

    Args:
        setup: of the station.
        on_action: called with each action and the station's id.
    """

    def __init__(self, setup: StationSetup, on_action: OnAction) -> None:
        self.id, self._setup, self._on_action = setup.id, setup, on_action
        self._station = Station(setup.options, setup.tally)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._servers: list[Server] = []
        self._links: list[LinkSupervisor] = []
        self._shown: StatusBlock | None = None
        self._first_seq, self._result_ns = setup.tally.seq, 0
        self._awake_ns = time.monotonic_ns()

    def add_server(self, make: Callable[[ShownBlock, OnControl], Server], control: bool) -> Server:
        """A server that shows the station, and drives it where `control` says so."""
        server = make(self._face(), self.driver(control))
        self._servers.append(server)
        return server

    def add_link(self, link: LinkSupervisor) -> None:
        """A link that shows the station; it is started by its owner."""
        self._links.append(link)
        self._show_to(link)

    def driver(self, control: bool) -> OnControl:
        """What takes the control blocks of a link that may, or may not, drive the station."""
        return self.control if control else _ignore

    def control(self, words: Sequence[int]) -> None:
        """A PLC wrote its block; words that are none change nothing."""
        control = decode_control(words)
        self.do(lambda station, now_ns: station.control(control, now_ns))

    def do(self, event: Event) -> None:
        """Something happened, or nothing but time passing."""
        now_ns = time.monotonic_ns()
        slept, self._awake_ns = now_ns - self._awake_ns > BLIND_NS, now_ns  # a tick is due more often than that
        actions = self._station.blind(now_ns) if slept else []
        for action in actions + event(self._station, now_ns):
            self._on_action(action, self.id)
        if self._station.block != self._shown:
            self._publish()
        self._rearm()

    def tick(self) -> None:
        """Time passed."""
        self.do(lambda station, now_ns: station.tick(now_ns))

    def blind(self) -> None:
        """A link could not look at the PLC's block for a while."""
        self.do(lambda station, now_ns: station.blind(now_ns))

    def close(self) -> None:
        """Let time pass without it."""
        if self._timer is not None:
            self._timer.cancel()

    def tally(self) -> Tally:
        """For the process that comes after this one."""
        return self._station.tally

    def status(self) -> StationStatus:
        """For people."""
        block = self._station.block
        online = block.offline is OfflineReason.NONE
        return StationStatus(
            id=self.id,
            mode=self._setup.options.mode.replace("-", "_"),
            state=self._station.state.name,
            online=online,
            offline_reason="" if online else block.offline.name,
            seq=block.seq,
            judged=block.total,
            rejected=block.rejected,
            unknown=block.unknown,
            missed=block.missed,
            last_result=_in_words(block.result) if block.seq != self._first_seq else "",
            last_result_mono_s=self._result_ns / 1e9 if self._result_ns else None,
            alarms=tuple(alarm.name for alarm in Alarm if alarm in Alarm(block.alarms) and alarm.name),
            sources=self._setup.sources,
        )

    def _publish(self) -> None:
        block = self._station.block
        if self._shown is None or block.seq != self._shown.seq:
            self._result_ns = time.monotonic_ns() if block.seq != self._first_seq else 0
        self._shown = block
        for server in self._servers:
            server.refresh()
        for link in self._links:
            self._show_to(link)

    def _rearm(self) -> None:
        """Have `tick` called when something is due."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._station.wake_ns(time.monotonic_ns()) / 1e9, self.tick)

    def _show_to(self, link: LinkSupervisor) -> None:
        block = self._station.block
        link.show(encode(block), block.seq, self._station.pass_until_ns)

    def _face(self) -> ShownBlock:
        """The block as one server may show it, at the moment it is asked, to the reader who asks."""
        gates = ReaderGates()

        def face() -> StatusBlock:
            # what is shown must not be older than the time at which it is read; the timer and the news
            # that come of it belong to every reader, not to the one who asks
            for_nobody(self.tick)
            block = self._station.block
            shown = Shown(tuple(encode(block)), block.seq, self._station.pass_until_ns)
            words = gates.admit(shown, being_answered(), time.monotonic_ns())
            return block if words is shown.words else decode(words)

        return face


def _ignore(_words: Sequence[int]) -> None:
    """What a PLC writes where it may not drive."""


def _in_words(result: ResultFlag) -> Literal["PASS", "FAIL", "UNKNOWN", "REJECT"]:
    if ResultFlag.PASS in result:
        return "PASS"
    if ResultFlag.FAIL in result:
        return "FAIL"
    return "UNKNOWN" if ResultFlag.UNKNOWN in result else "REJECT"
