"""``cada-edge watch``: what the PLC sees."""

from __future__ import annotations

import json
from itertools import islice
from typing import Annotated

import typer
from rich.console import Console

from cada_edge.runtime.registers import ResultFlag, StatusBlock, StatusFlag
from cada_edge.runtime.watch import Target
from cada_edge.runtime.watch import watch as watch_blocks


def watch(
    host: Annotated[str, typer.Argument(help="Where `cada-edge run` listens.")] = "127.0.0.1",
    *,
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port of the link.")] = 502,
    base: Annotated[int, typer.Option(min=0, max=65504, help="Address of word 0.")] = 100,
    count: Annotated[int | None, typer.Option(min=1, help="Leave after so many results.")] = None,
    patience_s: Annotated[float, typer.Option(min=0.1, help="Give up after so long without an answer.")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Read the status block over Modbus TCP as a PLC would, and print every new result."""
    console = Console(highlight=False, soft_wrap=True)
    results = (block for block in watch_blocks(Target(host, port, base), patience_s=patience_s) if block.seq)
    for block in islice(results, count):
        if as_json:
            typer.echo(json.dumps(_facts(block)))
        else:
            console.print(_line(block))


def passes(block: StatusBlock) -> bool:
    """The rule a PLC program must follow: online, valid, and PASS alone."""
    wanted = StatusFlag.ONLINE | StatusFlag.RESULTS_VALID
    return wanted in block.flags and block.result & ~ResultFlag.SIMULATED == ResultFlag.PASS


def _facts(block: StatusBlock) -> dict[str, object]:
    return {
        "seq": block.seq,
        "pass": passes(block),
        "result": [flag.name for flag in ResultFlag if flag in block.result],
        "score": block.score,
        "threshold": block.threshold,
        "result_ms": block.result_ms,
        "heartbeat": block.heartbeat,
        "total": block.total,
        "rejected": block.rejected,
        "unknown": block.unknown,
    }


def _line(block: StatusBlock) -> str:
    colour, word = ("green", "PASS  ") if passes(block) else ("red", "REJECT")
    flags = " ".join(flag.name or "" for flag in ResultFlag if flag in block.result) or "no result"
    return (
        f"[{colour}]{word}[/] seq {block.seq:>5}  score {block.score:8.3f}  threshold {block.threshold:.3f}  "
        f"{block.result_ms:>4} ms  heartbeat {block.heartbeat:>5}  rejected {block.rejected}/{block.total}  {flags}"
    )
