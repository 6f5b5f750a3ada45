"""What every link that writes into a PLC keeps, each against a PLC of its own kind that is a real process."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from link_kit import CONTROL, Plc, pattern
from link_plcs import PLCS, wired
from runtime_kit import wait_until
from wire_kit import garble, stall

from cada_edge.errors import LinkError
from cada_edge.runtime.links.assembly import make_link
from cada_edge.runtime.links.link import Link
from cada_edge.runtime.links.supervisor import LinkState, LinkSupervisor
from cada_edge.runtime.registers import (
    Alarm,
    OfflineReason,
    ResultFlag,
    StatusBlock,
    StatusFlag,
    decode,
    encode,
    safe,
)

_SLACK_S = 3.0  # what a busy machine may add to a time-out
_EVERY_BIT = StatusBlock(
    StatusFlag.ONLINE | StatusFlag.ERROR,
    OfflineReason.RELOADING,
    heartbeat=0x8001,
    result=ResultFlag.REJECT | ResultFlag.UNKNOWN,
    seq=0xFFFE,
    trigger_id=0xFEDC_BA98,
    score=-1.5e-3,
    threshold=3.0e38,
    result_ms=0x8000,
    frame_age_ms=0xFFFF,
    error=5,
    recipe=0x7FFF,
    waiting=8,
    total=0xFFFF_FFFF,
    rejected=0x8000_0000,
    unknown=0x7FFF_FFFF,
    encoder=0x0001_0000,
    checksum=0xABCD,
    missed=0xFF00,
    alarms=Alarm.FEATURE_DRIFT,
)


@pytest.fixture(scope="module", params=PLCS)
def plc(request: pytest.FixtureRequest) -> Iterator[Plc]:
    """One PLC per kind and maker, up and running."""
    with ExitStack() as stack:
        made = request.param(stack)
        stack.callback(made.kill)
        made.start()
        yield made


@pytest.fixture
def link(plc: Plc) -> Iterator[Link]:
    """An open link to it."""
    made = make_link(plc.config)
    made.open()
    yield made
    made.close()


def _supervised(plc: Plc, stack: ExitStack) -> LinkSupervisor:
    supervisor = LinkSupervisor(make_link(plc.config), plc.config.kind, lambda _words: None, poll_s=0.02)
    stack.callback(supervisor.close)
    supervisor.start()
    return supervisor


def _up(supervisor: LinkSupervisor) -> bool:
    return supervisor.health.state is LinkState.UP


def test_every_word_arrives_as_it_was_written(plc: Plc, link: Link) -> None:
    """The PLC holds the 32 words, with signs, floats and both halves of long numbers in place."""
    link.write_status(encode(_EVERY_BIT))
    assert plc.status() == encode(_EVERY_BIT)


def test_control_words_come_back(plc: Plc, link: Link) -> None:
    """What the PLC's program set is read exactly, again after it changed."""
    plc.ask(CONTROL)
    assert list(link.read_control() or ()) == CONTROL
    plc.ask([0] * 16)
    assert list(link.read_control() or ()) == [0] * 16


def test_a_link_without_control_reads_none(plc: Plc) -> None:
    """`control: false` keeps the PLC from driving the station over this link."""
    shows = make_link(plc.config.model_copy(update={"control": False}))
    shows.open()
    assert shows.read_control() is None
    shows.write_status(pattern(3))
    shows.close()
    assert plc.status() == pattern(3)


def test_no_torn_block_looks_whole(plc: Plc, link: Link) -> None:
    """A program that reads all the time never finds halves of two blocks under one number."""
    link.write_status(pattern(1))
    plc.ask("watch")
    for seq in range(2, 62):
        link.write_status(pattern(seq))
    watched = plc.ask("watched")
    assert watched["unseen"] == 0
    assert watched["samples"] > 20
    assert len(watched["numbers"]) > 2


def test_a_frozen_plc_is_an_error_within_the_time_out(plc: Plc, link: Link) -> None:
    """Whoever writes into a PLC that hangs is told, and can open the link again once it goes on."""
    plc.freeze()
    try:
        started_s = time.monotonic()
        with pytest.raises(LinkError):
            link.write_status(pattern(1))
        assert time.monotonic() - started_s < plc.config.timeout_ms / 1000 + _SLACK_S
        link.close()
        with pytest.raises(LinkError):
            _open_and_write(link)
        link.close()
    finally:
        plc.thaw()
    wait_until(lambda: _works(link))
    link.write_status(pattern(9))
    assert plc.status() == pattern(9)


def test_a_dead_plc_is_an_error(plc: Plc, link: Link) -> None:
    """A PLC that went away is a `LinkError` for the open link and for a new one; one that came back is not."""
    plc.kill()
    with pytest.raises(LinkError):
        link.write_status(pattern(1))
    link.close()
    with pytest.raises(LinkError):
        _open_and_write(link)
    link.close()
    plc.start()
    wait_until(lambda: _works(link))


def test_a_plc_that_came_back_sees_the_present_alone(plc: Plc) -> None:
    """After a restart the supervisor connects by itself; nothing that was decided meanwhile is shown as valid."""
    with ExitStack() as stack:
        supervisor = _supervised(plc, stack)
        supervisor.show(pattern(1), 1, None)
        wait_until(lambda: _up(supervisor))
        plc.kill()
        for seq in range(2, 8):
            supervisor.show(pattern(seq), seq, None)
        wait_until(lambda: not _up(supervisor))
        plc.start()
        plc.ask("watch")
        wait_until(lambda: _up(supervisor))
        assert set(plc.ask("watched")["numbers"]) <= {0, 7}
        shown = decode(plc.status())
        assert shown.seq == 7
        assert StatusFlag.RESULTS_VALID not in shown.flags
        assert shown.result == ResultFlag.UNKNOWN | ResultFlag.REJECT
        supervisor.show(pattern(8), 8, None)
        wait_until(lambda: plc.status() == pattern(8))


def test_leaving_takes_the_pass_away(plc: Plc) -> None:
    """A line that ends leaves REJECT, offline and nothing valid in the PLC."""
    with ExitStack() as stack:
        supervisor = _supervised(plc, stack)
        supervisor.show(pattern(1), 1, None)
        wait_until(lambda: _up(supervisor))
        supervisor.show(pattern(2), 2, None)
        wait_until(lambda: plc.status() == pattern(2))
    assert plc.status() == encode(safe(decode(pattern(2)), OfflineReason.STOPPED))


def test_garbage_is_an_error_and_no_crash(plc: Plc) -> None:
    """Answers with wrong bytes, cut short or too long end in `LinkError`, in time, and in nothing else."""
    chance = random.Random(7)
    with wired(plc) as (wire, config):
        link = make_link(config.model_copy(update={"timeout_ms": 60}))
        for round_ in range(12):
            wire.spoil = garble(chance) if round_ % 3 == 0 else None
            started_s = time.monotonic()
            try:
                link.open()
                wire.spoil = garble(chance)
                for seq in range(1, 4):
                    link.write_status(pattern(seq))
                    link.read_control()
            except LinkError as error:
                assert str(error)  # noqa: PT017  # an answer may have come through unharmed, and is no error then
            link.close()
            assert time.monotonic() - started_s < 20 * 0.06 + _SLACK_S


def test_a_plc_that_drips_does_not_hold_the_link(plc: Plc) -> None:
    """An answer that comes byte by byte, each in time, is as late as none."""
    with wired(plc) as (wire, config):
        link = make_link(config.model_copy(update={"timeout_ms": 100}))
        link.open()
        wire.drip_s = 0.05
        started_s = time.monotonic()
        with pytest.raises(LinkError):
            link.read_control()
        assert time.monotonic() - started_s < 1.2
        link.close()


def test_a_silent_plc_is_an_error_while_it_is_read(plc: Plc) -> None:
    """A wire that swallows answers is a `LinkError` for reads too, and closing does not wait for it."""
    with wired(plc) as (wire, config):
        link = make_link(config.model_copy(update={"timeout_ms": 100}))
        link.open()
        wire.spoil = stall
        with pytest.raises(LinkError):
            link.read_control()
        link.close()
        link.close()


def test_a_link_that_is_not_open_says_so(plc: Plc) -> None:
    """Without `open` a write is a `LinkError`, and `close` is nothing."""
    link = make_link(plc.config)
    with pytest.raises(LinkError):
        link.write_status(pattern(1))
    link.close()


def test_links_leave_no_thread_behind(plc: Plc) -> None:
    """Opening and closing again and again ends with the threads it began with."""
    link = make_link(plc.config)
    before = threading.active_count()
    for seq in range(1, 6):
        link.open()
        link.write_status(pattern(seq))
        link.close()
    assert threading.active_count() <= before


def _open_and_write(link: Link) -> None:
    link.open()
    link.write_status(pattern(2))


def _works(link: Link) -> bool:
    try:
        _open_and_write(link)
    except LinkError:
        link.close()
        return False
    return True
