"""Whether a link carries what is to be played and judged; what it cannot carry is refused with the reason."""

from __future__ import annotations

from dataclasses import replace

from cada_edge.errors import ConfigError
from cada_edge.runtime.links.config import DigitalConfig, SerialLineConfig
from cada_edge.runtime.plc_sim.player import Misbehaviour, Plan
from cada_edge.runtime.plc_sim.wires import Config


def fitted(plan: Plan, config: Config) -> Plan:
    """The plan, as it can be played over this link. Raises `ConfigError` where it cannot."""
    if isinstance(config, SerialLineConfig):
        _refuse_untold(plan, "lines of text tell", config.kind)
    if not isinstance(config, DigitalConfig):
        return plan
    _refuse_untold(plan, "single wires tell", config.kind)
    (_need_for_triggers if plan.triggered else _need_for_free_run)(config)
    if config.ack_line is None and Misbehaviour.NO_ACK in plan.misbehave:
        raise ConfigError("--misbehave no-ack: without ack in --wires no result is ever acknowledged; leave it out")
    return replace(plan, acknowledge=config.ack_line is not None)


def _refuse_untold(plan: Plan, who_tells: str, kind: str) -> None:
    if plan.heartbeat or plan.buffer or Misbehaviour.EARLY in plan.misbehave:
        raise ConfigError(
            f"--heartbeat, --buffer and --misbehave early: {who_tells} nothing of heartbeats, of results that "
            f"wait and of missed triggers; leave them out with --link {kind}"
        )


def _need_for_triggers(config: DigitalConfig) -> None:
    if config.trigger_line is None:
        raise ConfigError("--wires: without trigger no part can be asked for; name its line, or give --free-run")
    if config.ready_line is None:
        raise ConfigError(
            "--wires: without ready nobody knows which trigger must be answered; name its line, and ready_line in "
            "line.yaml"
        )
    if config.valid_line is None and config.busy_line is None:
        raise ConfigError(
            "--wires: without valid and busy a reject cannot be told from no answer; name the line of one, and its "
            "line in line.yaml"
        )


def _need_for_free_run(config: DigitalConfig) -> None:
    if config.trigger_line is not None or config.ack_line is not None:
        raise ConfigError("--wires: a PLC neither triggers nor acknowledges with --free-run; leave out trigger and ack")
    if config.valid_line is None:
        raise ConfigError(
            "--wires: without valid a reject cannot be told from no result; name its line, and valid_line in line.yaml"
        )
    if config.mode == "level":
        raise ConfigError(
            "--mode level: in free run VALID stands from result to result, so that they cannot be counted; set "
            "mode: pulse in line.yaml and leave --mode out"
        )
