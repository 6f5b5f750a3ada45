"""``cada-edge watch``: what the line tells its PLC, seen by an onlooker."""

from __future__ import annotations

import json
from itertools import islice
from typing import Annotated

import typer
from rich.console import Console

from cada_edge.runtime.registers import WORST_SCORE, ErrorCode, ResultFlag, StatusBlock, StatusFlag
from cada_edge.runtime.watch import Target
from cada_edge.runtime.watch import watch as watch_blocks

_PATIENCE = (
    "Leave with an error once the line has not answered for so long. While it answers, a new result is waited for "
    "without end."
)


def watch(
    host: Annotated[str, typer.Argument(help="Where `cada-edge run` listens.")] = "127.0.0.1",
    *,
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port of the link.")] = 502,
    base: Annotated[int, typer.Option(min=0, max=65504, help="Address of word 0.")] = 100,
    count: Annotated[int | None, typer.Option(min=1, help="Leave after so many results.")] = None,
    patience_s: Annotated[float, typer.Option(min=0.1, help=_PATIENCE)] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Read the status block over Modbus TCP beside the PLC, and print every new result.

    What stands there at the start is not new. A result that the PLC has acknowledged
    already is told with that word: an onlooker may come later than the PLC.
    """
    console = Console(highlight=False, soft_wrap=True)
    for block in islice(watch_blocks(Target(host, port, base), patience_s=patience_s), count):
        if as_json:
            typer.echo(json.dumps(_facts(block)))
        else:
            console.print(_line(block))


def passed(block: StatusBlock) -> bool:
    """Whether a new result is a PASS; RESULTS_VALID may have fallen, which a PLC must not overlook.

    A result that was taken back holds no PASS any more, and nothing passes while offline.
    """
    return StatusFlag.ONLINE in block.flags and block.result & ~ResultFlag.SIMULATED == ResultFlag.PASS


def acknowledged(block: StatusBlock) -> bool:
    """Whether the PLC took the result before we saw it. One that was taken back looks alike, and is UNKNOWN."""
    standing = StatusFlag.ONLINE in block.flags and StatusFlag.RESULTS_VALID not in block.flags
    return standing and bool(block.result) and ResultFlag.UNKNOWN not in block.result


def _facts(block: StatusBlock) -> dict[str, object]:
    return {
        "seq": block.seq,
        "pass": passed(block),
        "acknowledged": acknowledged(block),
        "result": [flag.name for flag in ResultFlag if flag in block.result],
        "error": _reason(block),
        "score": block.score if _scored(block) else None,
        "threshold": block.threshold,
        "result_ms": block.result_ms,
        "heartbeat": block.heartbeat,
        "total": block.total,
        "rejected": block.rejected,
        "unknown": block.unknown,
    }


def _line(block: StatusBlock) -> str:
    colour, word = ("green", "PASS  ") if passed(block) else ("red", "REJECT")
    flags = " ".join(flag.name or "" for flag in ResultFlag if flag in block.result) or "no result"
    score = f"{block.score:8.3f}" if _scored(block) else f"       - ({_reason(block) or 'none to be trusted'})"
    return (
        f"[{colour}]{word}[/] seq {block.seq:>5}  score {score}  threshold {block.threshold:.3f}  "
        f"{block.result_ms:>4} ms  heartbeat {block.heartbeat:>5}  rejected {block.rejected}/{block.total}  {flags}"
        f"{' (acknowledged)' if acknowledged(block) else ''}"
    )


def _scored(block: StatusBlock) -> bool:
    """False where the block holds the number that stands for no score."""
    return block.score < WORST_SCORE


def _reason(block: StatusBlock) -> str | None:
    """The name of word 13, its number where this version has no name for it; ``None`` for no error."""
    known = {code.value: code.name for code in ErrorCode if code}
    return known.get(block.error, str(block.error)) if block.error else None
