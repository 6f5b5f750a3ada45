"""``cada-edge plc-sim``: play the PLC, and judge the station."""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from cada_edge.errors import LinkError
from cada_edge.runtime.links.config import ModbusServerConfig, ModbusTcpConfig
from cada_edge.runtime.plc_sim.player import Misbehaviour, Plan
from cada_edge.runtime.plc_sim.rules import Terms, Violation
from cada_edge.runtime.plc_sim.session import Game, play
from cada_edge.runtime.plc_sim.wires import ModbusClient, ModbusMemory, Wire

_NS_PER_MS = 1_000_000
_SHOWN = 12
_REFRESH_S = 0.25


class LinkKind(str, Enum):
    """The link of line.yaml that is played against."""

    MODBUS_SERVER = "modbus-server"
    MODBUS_TCP = "modbus-tcp"


def _client(host: str, port: int, base: int, control_base: int) -> Wire:
    config = ModbusServerConfig(kind="modbus-server", host=host, port=port, base=base, control_base=control_base)
    return ModbusClient(config)


def _memory(host: str, port: int, base: int, control_base: int) -> Wire:
    config = ModbusTcpConfig(kind="modbus-tcp", host=host, port=port, base=base, control_base=control_base)
    return ModbusMemory(config)


_WIRES = {LinkKind.MODBUS_SERVER: _client, LinkKind.MODBUS_TCP: _memory}


def plc_sim(
    host: Annotated[str, typer.Argument(help="Where the station listens, or where to listen for it.")] = "127.0.0.1",
    *,
    link: Annotated[LinkKind, typer.Option(help="Kind of the link in line.yaml.")] = LinkKind.MODBUS_SERVER,
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port of the link.")] = 502,
    base: Annotated[int, typer.Option(min=0, max=65504, help="Address of the status block.")] = 100,
    control_base: Annotated[int, typer.Option(min=0, max=65520, help="Address of the control block.")] = 0,
    cycles: Annotated[int, typer.Option(min=1, help="Handshakes to run.")] = 100,
    free_run: Annotated[bool, typer.Option("--free-run", help="Trigger nothing, watch results.")] = False,
    deadline_ms: Annotated[float, typer.Option(min=1, help="Of the station, from trigger to result.")] = 1000.0,
    poll_ms: Annotated[float, typer.Option(min=0, help="From read to read, as the PLC's cycle.")] = 2.0,
    period_ms: Annotated[float, typer.Option(min=0, help="Least time from trigger to trigger.")] = 0.0,
    heartbeat: Annotated[bool, typer.Option("--heartbeat", help="Have the station supervise the PLC.")] = False,
    buffer: Annotated[int, typer.Option(min=0, max=8, help="Results that may wait; 0: one at a time.")] = 0,
    misbehave: Annotated[
        list[Misbehaviour] | None, typer.Option(help="What to do wrong in one cycle of four; several times for more.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of chance.")] = 0,
    patience_s: Annotated[float, typer.Option(min=0.1, help="Give up after so long without a result.")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object at the end, nothing else.")] = False,
) -> None:
    """Run handshakes with a station as its PLC would; leave with 1 when it broke a promise or owes an answer."""
    deadline_ns = int(deadline_ms * _NS_PER_MS)
    wrong = frozenset(misbehave or ())
    plan = Plan(cycles, not free_run, int(period_ms * _NS_PER_MS), deadline_ns, heartbeat, buffer, wrong, seed)
    terms = Terms(triggered=not free_run, deadline_ns=deadline_ns)
    wire = _WIRES[link](host, port, base, control_base)
    console = Console(highlight=False, soft_wrap=True, quiet=as_json)
    last_s = 0.0

    def show(game: Game) -> None:
        nonlocal last_s
        if game.seconds - last_s > _REFRESH_S:  # to draw takes longer than a cycle of the PLC
            last_s = game.seconds
            live.update(_table(game, cycles), refresh=True)

    with Live(console=console, auto_refresh=False, transient=True) as live:
        game = play(wire, plan, terms, show, poll_s=poll_ms / 1000, patience_s=patience_s)
    if as_json:
        typer.echo(json.dumps(game.facts()))
    console.print(_table(game, cycles))
    for violation in game.violations:
        console.print(_told(violation), markup=False)
    if game.stopped is not None:
        raise LinkError(game.stopped)
    if game.violations or (game.given_up and not wrong):
        raise typer.Exit(1)


def _table(game: Game, cycles: int) -> Group:
    facts = game.facts()
    table = Table("results", "passed", "given up", "reads", "connections", "trigger to result ms", "violations")
    rounds = facts["trigger_to_result_ms"]
    times = "" if rounds is None else f"p50 {rounds['p50']:.1f}  p99 {rounds['p99']:.1f}  max {rounds['max']:.1f}"
    counts = (f"{facts['results']}/{cycles}", facts["passed"], facts["given_up"], facts["reads"], facts["connections"])
    table.add_row(*map(str, counts), times, str(len(game.violations)))
    return Group(table, *(f"{one.rule.name}: {one.detail}" for one in game.violations[-_SHOWN:]))


def _told(one: Violation) -> str:
    before = "none" if one.before is None else " ".join(f"{word:04x}" for word in one.before)
    after = " ".join(f"{word:04x}" for word in one.after)
    return (
        f"{one.t_ns / 1e9:.4f} s  {one.rule.name}: {one.rule.value}; {one.detail}\n  before {before}\n  after  {after}"
    )
