from __future__ import annotations

import random
import struct

import pytest
from fuzz_kit import Protocolled, campaign, mutated
from fuzz_modbus import legitimate, malformed
from fuzz_targets import TARGETS
from link_plcs import PLCS

SHORT = {"modbus-server": 600, "opcua-server": 150, "http": 400, "config": 400}
NEEDS = {
    "opcua-server": "asyncua",
    "opcua-plc": "asyncua",
    "http": "h11",
    "modbus-rtu-plc": "serial",
    "s7-plc": "snap7",
}
BY_NAME = {one.name: one for one in TARGETS}


@pytest.mark.parametrize("one", TARGETS, ids=lambda one: one.name)
def test_hostile_inputs_crash_nothing_and_change_nothing(one: Protocolled) -> None:
    """The short form of the campaign in docs/fuzzing.md: no crash, no state change, good clients still served."""
    if one.name in NEEDS:
        pytest.importorskip(NEEDS[one.name])
    outcome = campaign(one, SHORT.get(one.name, 40), seed=7)
    assert outcome.crashes == []
    assert outcome.changes == []


def test_an_opcua_server_that_answers_another_question_is_a_link_error() -> None:
    """These garbled answers made the client's own assertions fail."""
    pytest.importorskip("asyncua")
    with BY_NAME["opcua-plc"].open() as target:
        assert {target.one(random.Random(f"1:opcua-plc:{number}")) for number in (65, 70, 130)} == {"refused"}


def test_the_audit_sees_a_write_that_gets_through() -> None:
    """A campaign whose inputs do change the state says so: the audit is no formality."""
    with BY_NAME["modbus-server"].open() as target:
        assert target.audit() == []
        station = target._station  # type: ignore[attr-defined]  # of the one target that is opened here
        target._driver.trigger(5)  # type: ignore[attr-defined]  # as above
        station.answer(1)
        assert target.audit() != []


def test_what_a_plc_may_write_is_told_from_what_it_may_not() -> None:
    """Well-formed writes within the control block are left out, at any offset; others are not."""
    head = struct.pack(">HHHB", 1, 0, 6, 1)
    assert legitimate(b"junk" + head + struct.pack(">BHH", 6, 15, 1))
    assert not legitimate(head + struct.pack(">BHH", 6, 16, 1))
    assert not legitimate(head + struct.pack(">BHH", 5, 0, 0xFF00))
    many = struct.pack(">HHHB", 1, 0, 11, 1) + struct.pack(">BHHB", 16, 14, 2, 4) + bytes(4)
    assert legitimate(many)
    assert not legitimate(many.replace(struct.pack(">HH", 14, 2), struct.pack(">HH", 15, 2)))
    assert not legitimate(head + struct.pack(">BHHB", 16, 14, 2, 4) + bytes(4))  # its length says less than there is


def test_the_same_seed_is_the_same_input() -> None:
    """A finding can be repeated from its name alone."""
    assert [malformed(random.Random(f"1:x:{n}")) for n in range(50)] == [
        malformed(random.Random(f"1:x:{n}")) for n in range(50)
    ]
    assert mutated(random.Random(3), b"abcdef" * 9) == mutated(random.Random(3), b"abcdef" * 9)


def test_the_shares_make_a_whole_and_the_plcs_are_real_ones() -> None:
    """A campaign of 10,000 has 10,000 inputs."""
    assert sum(round(10_000 * one.share) for one in TARGETS) == 10_000
    assert {one.name.removesuffix("-plc") for one in TARGETS if one.name.endswith("-plc")} <= {p.id for p in PLCS}
