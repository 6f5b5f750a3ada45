"""Injects faults one after the other into a line that works, and says what the PLC saw of each.

``PYTHONPATH=. python tests/campaign/campaign_run.py --faults 300 --seed 0 --json out.json --md table.md``
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "kits")]

from campaign_audit import WRITING_NS, Lost, lost_records, written_violations  # noqa: E402  # found by the line above
from campaign_faults import FAULTS, Fault, caused  # noqa: E402
from campaign_modbus import samples  # noqa: E402
from campaign_plc import Notes, Plc  # noqa: E402
from campaign_rig import DEADLINE_MS, Rig, rig  # noqa: E402

SEEN_WITHIN_S, BACK_WITHIN_S = 1.5, 5.0
SETTLE_S = 0.12
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Injection:
    """One fault and what came of it. Durations in s from the beginning of the fault, or from its end.

    Attributes:
        fault: its name.
        seen: whether the PLC must see it.
        start_ns: monotonic, when it began.
        end_ns: monotonic, when its cause was gone.
        detected_s: until the PLC's first sign of trouble; ``None`` without one.
        sign: which it was.
        recovered_s: from the end of the cause to the first of two parts rightly judged in a row and, where the PLC
            that is written into was away, to its next block; ``None`` for none in a minute.
        judged: parts rightly judged while it lasted.
        silent_s: longest time, while it lasted, without a rightly judged part or a sign.
    """

    fault: str
    seen: bool
    start_ns: int
    end_ns: int
    detected_s: float | None
    sign: str
    recovered_s: float | None
    judged: int
    silent_s: float


@dataclass(frozen=True)
class Outcome:
    """Of a campaign.

    Attributes:
        injections: in their order.
        violations: what must never happen, with the fault after whose beginning it did.
        lost: results that the PLC saw and the records do not hold.
        counts: results by kind.
        parts: triggers raised.
        ended: how often the line ended by itself.
    """

    injections: tuple[Injection, ...]
    violations: tuple[tuple[str, str], ...]
    lost: tuple[Lost, ...]
    counts: dict[str, int]
    parts: int
    ended: int


def campaign(folder: Path, faults: Sequence[Fault], seed: int, told: bool = False) -> Outcome:
    """Run it in `folder`, which must be empty. With `told`, each injection is printed."""
    chance, injections = random.Random(seed), list[Injection]()
    with rig(folder) as cell:
        plc = Plc(cell.port, cell.scene, DEADLINE_MS / 1000, SETTLE_S, seed)
        try:
            settle(plc.notes)
            for fault in faults:
                time.sleep(chance.uniform(0, 0.3))  # at any moment of a cycle
                injections.append(inject(cell, plc, fault))
                assert plc.alive(), "the campaign's own PLC has ended: what it says means nothing"
                if told:
                    sys.stdout.write(f"{len(injections):4d} {injections[-1]}\n")
                    sys.stdout.flush()
            settle(plc.notes)
        finally:
            plc.close()
        cell.guard.paused = True
        cell.line.terminate()
        injections = [written_again(one, cell.peer_log) for one in injections]
        violations = list(plc.notes.violations) + written_violations(cell.peer_log, plc.notes, DEADLINE_MS / 1000)
        lost = lost_records(cell.records, plc.notes)
        named = [(blamed(injections, when), what) for when, what in violations]
        blame = [Lost(one.trigger_id, one.when_ns, blamed(injections, one.when_ns + WRITING_NS)) for one in lost]
        counts, ended = dict(plc.notes.counts), cell.guard.restarts
        return Outcome(tuple(injections), tuple(named), tuple(blame), counts, len(plc.notes.parts), ended)


def inject(cell: Rig, plc: Plc, fault: Fault) -> Injection:
    """One fault, from a line that works to a line that works."""
    notes = plc.notes
    start_ns, first = time.monotonic_ns(), (len(notes.signs), len(notes.normal_ns))
    with caused(fault.cause)(cell, plc):
        time.sleep(fault.hold_s)
        end_ns = time.monotonic_ns()
    end_ns = max(end_ns, time.monotonic_ns()) if fault.hold_s else start_ns
    recovered_s = settle(notes, end_ns)
    signs = [(when, sign) for when, sign in notes.signs[first[0] :] if when > start_ns]
    normal = [when for when in notes.normal_ns[first[1] :] if start_ns < when <= end_ns]
    moments = sorted([start_ns, *normal, *(when for when, _ in signs if when <= end_ns), end_ns])
    return Injection(
        fault=fault.name,
        seen=fault.seen,
        start_ns=start_ns,
        end_ns=end_ns,
        detected_s=(signs[0][0] - start_ns) / 1e9 if signs else None,
        sign=signs[0][1] if signs else "",
        recovered_s=recovered_s,
        judged=len(normal),
        silent_s=max(b - a for a, b in itertools.pairwise(moments)) / 1e9,
    )


def written_again(one: Injection, log: Path) -> Injection:
    """The same, back only when the PLC that is written into has a block again, if the fault was its own."""
    if not one.fault.startswith("written PLC") or one.recovered_s is None:
        return one
    after_ns = next((when for when, _ in samples(log) if when > one.end_ns), None)
    back_s = None if after_ns is None else max(one.recovered_s, (after_ns - one.end_ns) / 1e9)
    return replace(one, recovered_s=back_s)


def settle(notes: Notes, since_ns: int | None = None) -> float | None:
    """Wait for two parts rightly judged in a row; seconds to the first, or ``None`` after a minute."""
    start_ns = time.monotonic_ns() if since_ns is None else since_ns
    while time.monotonic_ns() < start_ns + int(_PATIENCE_S * 1e9):
        trouble_ns = notes.signs[-1][0] if notes.signs else 0
        fresh = [when for when in notes.normal_ns[-50:] if when > max(start_ns, trouble_ns)]
        if len(fresh) >= 2:
            return (fresh[0] - start_ns) / 1e9
        time.sleep(0.02)
    return None


def blamed(injections: Sequence[Injection], when_ns: int) -> str:
    """The last fault that had begun by then."""
    return next((one.fault for one in reversed(injections) if one.start_ns <= when_ns), "before the first fault")


def broken_promises(outcome: Outcome, scale: float = 1.0) -> list[str]:
    """What does not hold; `scale` widens the limits of time on a machine that others share."""
    found = [f"{fault}: {what}" for fault, what in outcome.violations]
    for one in outcome.injections:
        if one.recovered_s is None or one.recovered_s > BACK_WITHIN_S * scale:
            found.append(f"{one.fault}: back after {one.recovered_s} s")
        if one.seen and (one.detected_s is None or one.detected_s > SEEN_WITHIN_S * scale):
            found.append(f"{one.fault}: seen after {one.detected_s} s")
        if not one.seen and one.silent_s > SEEN_WITHIN_S * scale:
            found.append(f"{one.fault}: the PLC was neither served nor warned for {one.silent_s:.2f} s")
    return found + [f"{one.fault}: no record of trigger {one.trigger_id}" for one in outcome.lost]


def chosen(count: int, seed: int) -> list[Fault]:
    """Every fault about equally often, in an order that the seed decides."""
    order, chance = list[Fault](), random.Random(seed)
    while len(order) < count:
        once = list(FAULTS)
        chance.shuffle(once)
        order += once
    return order[:count]


def main() -> int:
    """The command; leaves with 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="faults whose name has this in it")
    parser.add_argument("--scale", type=float, default=1.0, help="widens the limits of time on a busy machine")
    parser.add_argument("--json", type=Path, help="write every injection there")
    parser.add_argument("--md", type=Path, help="write the table there")
    arguments = parser.parse_args()
    faults = chosen(arguments.faults, arguments.seed)
    if arguments.only:
        only = [fault for fault in FAULTS if arguments.only in fault.name]
        faults = (only * arguments.faults)[: arguments.faults]
    with tempfile.TemporaryDirectory() as scratch:
        outcome = campaign(Path(scratch), faults, arguments.seed, told=True)
    broken = broken_promises(outcome, arguments.scale)
    sys.stdout.write("\n".join(["", *broken, table(outcome), ""]))
    if arguments.json:
        arguments.json.write_text(json.dumps({**asdict(outcome), "broken": broken}, indent=1))
    if arguments.md:
        arguments.md.write_text(table(outcome))
    return 1 if broken else 0


def table(outcome: Outcome) -> str:
    """Markdown, a row for each fault."""
    heads = "| fault | n | seen after, p50 / max | back after, p50 / max | judged meanwhile | violated | records lost |"
    rows = [heads, "|---|---|---|---|---|---|---|"]
    for fault in FAULTS:
        mine = [one for one in outcome.injections if one.fault == fault.name]
        if not mine:
            continue
        seen = _spread([one.detected_s for one in mine]) if fault.seen else "goes on"
        wrong = sum(name == fault.name for name, _ in outcome.violations)
        gone = [one for one in outcome.lost if one.fault == fault.name]
        judged = sum(one.judged for one in mine)
        rows.append(
            f"| {fault.name} | {len(mine)} | {seen} | {_spread([one.recovered_s for one in mine])} | {judged} "
            f"| {wrong} | {len(gone)} |"
        )
    return "\n".join(rows) + "\n"


def _spread(values: Sequence[float | None]) -> str:
    known = sorted(value for value in values if value is not None)
    if len(known) < len(values):
        return f"never in {len(values) - len(known)} of {len(values)}"
    return f"{known[len(known) // 2]:.2f} / {known[-1]:.2f} s"


if __name__ == "__main__":
    raise SystemExit(main())
