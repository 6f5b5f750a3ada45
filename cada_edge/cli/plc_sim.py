"""``cada-edge plc-sim``: play the PLC, and judge the station."""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cada_edge.errors import LinkError
from cada_edge.runtime.plc_sim.fit import fitted
from cada_edge.runtime.plc_sim.player import Misbehaviour, Plan
from cada_edge.runtime.plc_sim.rules import Terms, Violation
from cada_edge.runtime.plc_sim.session import Game, play
from cada_edge.runtime.plc_sim.wire_names import EXAMPLE
from cada_edge.runtime.plc_sim.wires import config_of, make_wire

_NS_PER_MS = 1_000_000
_SHOWN, _TOLD = 12, 50
_REFRESH_S = 0.25


class LinkKind(str, Enum):
    """The link of line.yaml that is played against."""

    MODBUS_SERVER = "modbus-server"
    MODBUS_TCP = "modbus-tcp"
    MODBUS_RTU = "modbus-rtu"
    OPCUA_SERVER = "opcua-server"
    OPCUA = "opcua"
    S7 = "s7"
    LOGIX = "logix"
    ADS = "ads"
    SERIAL_LINE = "serial-line"
    DIGITAL = "digital"


_PLACE = (
    "HOST where the station listens (*-server) or where to listen for it (modbus-tcp, s7, logix, ads); for opcua a URL "
    "or a host; for digital the GPIO chip at the PLC's end; else the serial port."
)
_LINK = "Kind of the link in line.yaml. The PLC polls the *-servers; the others write into it."
_PORT = "TCP port; unless said that of the kind: 502, 4840, 102 or 44818. That of ads cannot be chosen."
_STATION, _PLC, _END = "The link, as line.yaml has it", "What the PLC does", "When to end, and how to tell"


def plc_sim(
    place: Annotated[str, typer.Argument(help=_PLACE)] = "127.0.0.1",
    *,
    link: Annotated[LinkKind, typer.Option(help=_LINK, rich_help_panel=_STATION)] = LinkKind.MODBUS_SERVER,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help=_PORT, rich_help_panel=_STATION)] = None,
    base: Annotated[
        int | None, typer.Option(help="Modbus: first register of the status block [100].", rich_help_panel=_STATION)
    ] = None,
    control_base: Annotated[
        int | None, typer.Option(help="Modbus: first register of the control block [0].", rich_help_panel=_STATION)
    ] = None,
    db: Annotated[int | None, typer.Option(help="S7: number of the data block.", rich_help_panel=_STATION)] = None,
    status_byte: Annotated[
        int | None, typer.Option(help="S7: first byte of the status block [32].", rich_help_panel=_STATION)
    ] = None,
    control_byte: Annotated[
        int | None, typer.Option(help="S7: first byte of the control block [0].", rich_help_panel=_STATION)
    ] = None,
    status_tag: Annotated[
        str | None,
        typer.Option(help="Logix, ADS: name of the status array [CadaStatus].", rich_help_panel=_STATION),
    ] = None,
    control_tag: Annotated[
        str | None,
        typer.Option(help="Logix, ADS: name of the control array [CadaControl].", rich_help_panel=_STATION),
    ] = None,
    status_node: Annotated[
        str | None,
        typer.Option(
            help="OPC UA: node id of a field of the status block [ns=2;s=CadaEdge.Status.{field}].",
            rich_help_panel=_STATION,
        ),
    ] = None,
    control_node: Annotated[
        str | None, typer.Option(help="OPC UA: the same of the control block.", rich_help_panel=_STATION)
    ] = None,
    baud: Annotated[
        int | None, typer.Option(help="Serial: bits per second [115200].", rich_help_panel=_STATION)
    ] = None,
    parity: Annotated[
        str | None, typer.Option(help="Serial: E, O or N [modbus-rtu E, serial-line N].", rich_help_panel=_STATION)
    ] = None,
    wires: Annotated[
        str | None,
        typer.Option(help=f"Digital: the lines at the PLC's end, as in {EXAMPLE}.", rich_help_panel=_STATION),
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="Digital: pulse or level, as in line.yaml [pulse].", rich_help_panel=_STATION)
    ] = None,
    pulse_ms: Annotated[
        int | None, typer.Option(help="Digital: length of a pulse, as in line.yaml [20].", rich_help_panel=_STATION)
    ] = None,
    driver: Annotated[
        str | None, typer.Option(help="Digital: gpiod or jetson, at the PLC's end [gpiod].", rich_help_panel=_STATION)
    ] = None,
    debounce_ms: Annotated[
        float | None,
        typer.Option(help="Digital: how long an input must hold before it counts [0].", rich_help_panel=_STATION),
    ] = None,
    deadline_ms: Annotated[
        float, typer.Option(min=1, help="Of the station, from trigger to result.", rich_help_panel=_STATION)
    ] = 1000.0,
    free_run: Annotated[
        bool, typer.Option("--free-run", help="A station of mode free-run: watch results.", rich_help_panel=_STATION)
    ] = False,
    cycles: Annotated[int, typer.Option(min=1, help="Parts, a handshake each.", rich_help_panel=_PLC)] = 100,
    poll_ms: Annotated[
        float, typer.Option(min=0, help="From read to read, as the PLC's cycle.", rich_help_panel=_PLC)
    ] = 2.0,
    period_ms: Annotated[
        float, typer.Option(min=0, help="Least time from trigger to trigger.", rich_help_panel=_PLC)
    ] = 0.0,
    heartbeat: Annotated[
        bool, typer.Option("--heartbeat", help="Have the station supervise the PLC.", rich_help_panel=_PLC)
    ] = False,
    buffer: Annotated[
        int,
        typer.Option(
            min=0, max=8, help="Ask for BUFFER_RESULTS and leave so many waiting; 0: not.", rich_help_panel=_PLC
        ),
    ] = 0,
    misbehave: Annotated[
        list[Misbehaviour] | None,
        typer.Option(
            help="What to do wrong, in one cycle of four; may be given several times: trigger while a part is under "
            "way, hold TRIGGER and RESULTS_ACK up, drop the connection, not acknowledge.",
            rich_help_panel=_PLC,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of chance: the first trigger id, and what goes wrong when.", rich_help_panel=_PLC)
    ] = 0,
    patience_s: Annotated[
        float, typer.Option(min=0.1, help="Give up after so long without a result.", rich_help_panel=_END)
    ] = 30.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object at the end, nothing else.", rich_help_panel=_END)
    ] = False,
) -> None:
    """Run handshakes with a station as its PLC would, and judge every read.

    Start it in the place of the PLC, against a line that runs: `cada-edge run
    line.yaml`. For each part it raises TRIGGER with an id of its own, waits for
    the result and acknowledges it. Each promise of the station that it sees
    broken is told, with the words of the block before and after.

    Leaves with 0 when every part was answered and no promise was broken, else
    with 1; with 2 for options that do not exist.
    """
    given = {
        "port": port,
        "base": base,
        "control_base": control_base,
        "db": db,
        "status_byte": status_byte,
        "control_byte": control_byte,
        "status_tag": status_tag,
        "control_tag": control_tag,
        "status_node": status_node,
        "control_node": control_node,
        "baud": baud,
        "parity": parity,
        "wires": wires,
        "mode": mode,
        "pulse_ms": pulse_ms,
        "driver": driver,
        "debounce_ms": debounce_ms,
    }
    config = config_of(link.value, place, {name: value for name, value in given.items() if value is not None})
    deadline_ns = int(deadline_ms * _NS_PER_MS)
    wrong = frozenset(misbehave or ())
    wished = Plan(cycles, not free_run, int(period_ms * _NS_PER_MS), deadline_ns, heartbeat, buffer, wrong, seed)
    plan, wire = fitted(wished, config), make_wire(config)
    terms = Terms(triggered=not free_run, deadline_ns=deadline_ns)
    console = Console(highlight=False, soft_wrap=True, quiet=as_json)
    last_s = 0.0

    def show(game: Game) -> None:
        nonlocal last_s
        if game.seconds - last_s > _REFRESH_S:  # to draw takes longer than a cycle of the PLC
            last_s = game.seconds
            live.update(Group(_table(game, cycles), *map(_short, game.violations[-_SHOWN:])), refresh=True)

    with Live(console=console, auto_refresh=False, transient=True) as live:
        game = play(wire, plan, terms, show, poll_s=poll_ms / 1000, patience_s=patience_s)
    if as_json:
        typer.echo(json.dumps(game.facts()))
    _tell(console, game, cycles)
    if game.stopped is not None:
        raise LinkError(game.stopped)
    if game.violations or (game.given_up and not wrong):
        raise typer.Exit(1)


def _tell(console: Console, game: Game, cycles: int) -> None:
    console.print(_table(game, cycles))
    for violation in game.violations[:_TOLD]:
        console.print(_told(violation, game.started_ns), markup=False)
    if len(game.violations) > _TOLD:
        console.print(f"and {len(game.violations) - _TOLD} more: --json has them all")


def _table(game: Game, cycles: int) -> Table:
    facts = game.facts()
    table = Table("results", "passed", "given up", "reads", "connections", "trigger to result ms", "violations")
    rounds = facts["trigger_to_result_ms"]
    times = "" if rounds is None else f"p50 {rounds['p50']:.1f}  p99 {rounds['p99']:.1f}  max {rounds['max']:.1f}"
    counts = (f"{facts['results']}/{cycles}", facts["passed"], facts["given_up"], facts["reads"], facts["connections"])
    table.add_row(*map(str, counts), times, str(len(game.violations)))
    return table


def _short(one: Violation) -> Text:
    return Text(f"{one.rule.name}: {one.detail}")


def _told(one: Violation, started_ns: int) -> str:
    before = "none" if one.before is None else " ".join(f"{word:04x}" for word in one.before)
    after = " ".join(f"{word:04x}" for word in one.after)
    at_s = (one.t_ns - started_ns) / 1e9
    return f"{at_s:.3f} s  {one.rule.name}: {one.rule.value}; {one.detail}\n  before {before}\n  after  {after}"
