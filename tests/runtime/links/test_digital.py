"""Digital outputs and inputs on a small chip in memory; on the kernel's simulated chip where it has one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from gpio_sim_kit import Chip as SimulatedChip
from gpio_sim_kit import simulated_chip
from link_kit import pattern
from runtime_kit import wait_until

from cada_edge.errors import LinkError
from cada_edge.runtime.control import ControlFlag, decode_control
from cada_edge.runtime.links.config import DigitalConfig
from cada_edge.runtime.links.digital import DigitalLink
from cada_edge.runtime.links.pins import Edge
from cada_edge.runtime.registers import OfflineReason, ResultFlag, StatusFlag, decode, encode, safe

PASS, VALID, READY, BUSY, HEALTHY, TRIGGER, ACK = range(7)


class Chip:
    """Wires that remember what they were set to; `fails` unplugs them."""

    def __init__(self) -> None:
        self.out = dict.fromkeys(range(7), False)
        self.came: list[tuple[int, bool]] = []  # edges of inputs
        self.taken = self.fails = False
        self.now_ns = 0

    def set(self, active: Mapping[int, bool]) -> None:
        """Set wires."""
        if self.fails:
            raise OSError("unplugged")
        self.out.update(active)

    def levels(self) -> Mapping[int, bool]:
        """Inputs as they are."""
        return {TRIGGER: False, ACK: False}

    def edges(self) -> Sequence[Edge]:
        """Edges since the last call."""
        if self.fails:
            raise OSError("unplugged")
        came, self.came = self.came, []
        return [Edge(line, rose, self.now_ns, self.now_ns) for line, rose in came]

    def close(self) -> None:
        """Let go."""
        self.taken = False

    def take(self, _config: DigitalConfig) -> Chip:
        """As a driver opens it."""
        self.taken = True
        return self


def _link(chip: Chip, **settings: Any) -> DigitalLink:
    lines = {"pass_line": PASS, "valid_line": VALID, "ready_line": READY, "busy_line": BUSY, "healthy_line": HEALTHY}
    config = DigitalConfig(kind="digital", **{**lines, "trigger_line": TRIGGER, "ack_line": ACK, **settings})
    link = DigitalLink(config, chip.take, lambda: chip.now_ns)
    link.open()
    return link


def test_a_pass_is_one_pulse() -> None:
    """A part that passed pulses PASS and VALID once, for the time set, however often its block is written."""
    chip = Chip()
    link = _link(chip, pulse_ms=20)
    link.write_status(pattern(1))
    assert chip.out[PASS]
    assert chip.out[VALID]
    chip.now_ns = 20_000_000
    link.read_control()
    assert not chip.out[PASS]
    link.write_status(pattern(1))
    assert not chip.out[PASS]
    link.write_status(pattern(2))
    assert chip.out[PASS]


def test_everything_else_leaves_pass_inactive() -> None:
    """Rejects, undecided and late parts pulse VALID alone; what is not valid or not online pulses nothing."""
    chip = Chip()
    link = _link(chip, mode="level")
    block = decode(pattern(1))
    for bits in (ResultFlag.FAIL, ResultFlag.UNKNOWN, ResultFlag.LATE):
        link.write_status(encode(replace(block, result=ResultFlag.REJECT | bits)))
        assert (chip.out[PASS], chip.out[VALID]) == (False, True)
    for off in (StatusFlag.RESULTS_VALID, StatusFlag.ONLINE):
        link.write_status(encode(replace(block, flags=block.flags & ~off)))
        assert (chip.out[PASS], chip.out[VALID]) == (False, False)


def test_a_withdrawn_pass_ends_its_pulse() -> None:
    """A line that goes offline in the middle of a pulse takes PASS away at once."""
    chip = Chip()
    link = _link(chip, pulse_ms=1000)
    link.write_status(pattern(1))
    link.write_status(encode(safe(decode(pattern(1)), OfflineReason.PIPELINE_STALLED)))
    assert not chip.out[PASS]
    assert not chip.out[HEALTHY]


def test_a_level_ends_when_the_next_part_is_under_way() -> None:
    """A PLC that does not acknowledge never sees the last part's PASS stand beside BUSY, nor come back after it."""
    chip = Chip()
    link = _link(chip, mode="level")
    block = decode(pattern(1))
    link.write_status(pattern(1))
    link.write_status(encode(replace(block, heartbeat=2)))
    assert chip.out[PASS]
    assert chip.out[VALID]
    for flags in (block.flags | StatusFlag.BUSY, block.flags):
        link.write_status(encode(replace(block, flags=flags)))
        assert not chip.out[PASS]
        assert not chip.out[VALID]
    link.write_status(pattern(2))
    assert chip.out[PASS]


def test_closing_leaves_every_wire_at_rest() -> None:
    """After `close` no output is active and the lines are free; closing again is nothing."""
    chip = Chip()
    link = _link(chip, mode="level")
    link.write_status(pattern(1))
    assert chip.out[HEALTHY]
    link.close()
    link.close()
    assert not any(chip.out.values())
    assert not chip.taken


def test_edges_of_inputs_become_triggers_in_order() -> None:
    """Two pulses between two polls are two triggers, numbered, each with its rise and fall."""
    chip = Chip()
    link = _link(chip)
    chip.came = [(TRIGGER, True), (TRIGGER, False), (ACK, True), (ACK, False), (TRIGGER, True)]
    seen = [decode_control(link.read_control() or ()) for _ in range(5)]
    trigger, ack, enable = ControlFlag.TRIGGER, ControlFlag.RESULTS_ACK, ControlFlag.TRIGGER_ENABLE
    assert [block.flags ^ enable for block in seen] == [trigger, 0, ack, 0, trigger]
    assert [block.trigger_id for block in seen] == [1, 1, 1, 1, 2]


def test_a_noisy_input_is_an_error() -> None:
    """An input that chatters without end is a `LinkError`, not a backlog of triggers."""
    chip = Chip()
    link = _link(chip)
    chip.came = [(TRIGGER, bool(n % 2)) for n in range(200)]
    with pytest.raises(LinkError, match="noisy"):
        link.read_control()


def test_a_chip_that_fails_is_an_error() -> None:
    """A chip that is gone, or was never there, is a `LinkError`."""
    chip = Chip()
    link = _link(chip)
    chip.fails = True
    with pytest.raises(LinkError, match="unplugged"):
        link.write_status(pattern(1))
    with pytest.raises(LinkError, match="unplugged"):
        link.read_control()
    link.close()
    with pytest.raises(LinkError, match="not open"):
        link.write_status(pattern(2))


@pytest.fixture
def simulated() -> Iterator[SimulatedChip]:
    """The kernel's simulated chip of 8 lines."""
    with simulated_chip("cada-edge") as chip:
        yield chip


def test_a_simulated_chip_shows_what_is_set(simulated: SimulatedChip) -> None:
    """On a chip of the kernel a pass is a level, an edge is a trigger, and closing lets both go."""
    link = DigitalLink(
        DigitalConfig(kind="digital", chip=str(simulated.device), pass_line=PASS, trigger_line=TRIGGER, mode="level")
    )
    link.open()
    link.write_status(pattern(1))
    assert simulated.level(PASS)
    simulated.pull(TRIGGER, up=True)
    wait_until(lambda: ControlFlag.TRIGGER in decode_control(link.read_control() or ()).flags)
    link.close()
    assert not simulated.level(PASS)


@pytest.mark.parametrize("chip", ["/dev/gpiochip-none", "/dev/null"])
def test_a_device_that_is_no_chip_is_an_error(chip: str) -> None:
    """The driver of the kernel says which chip cannot be had."""
    pytest.importorskip("gpiod", reason="gpiod is not installed")
    link = DigitalLink(DigitalConfig(kind="digital", chip=chip, pass_line=PASS))
    with pytest.raises(LinkError, match=chip):
        link.open()
