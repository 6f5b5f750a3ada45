"""What ``line.yaml`` says of the PLCs that see a station and drive it: one section per link."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cada_edge.runtime.control import CONTROL_WORDS
from cada_edge.runtime.registers import WORDS
from cada_edge.strict_yaml import Strict

_FIELD = "{field}"

Host = Annotated[str, Field(min_length=1, max_length=253)]
Port = Annotated[int, Field(ge=1, le=65535)]
ServerPort = Annotated[int, Field(ge=0, le=65535)]
Device = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^/")]
Tag = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z_][A-Za-z0-9_.:]*$")]
NodeTemplate = Annotated[str, Field(min_length=1, max_length=500, pattern=r"\{field\}")]
Baud = Annotated[int, Field(ge=300, le=4_000_000)]
LAST_LINE = 1023
Line = Annotated[int, Field(ge=0, le=LAST_LINE)]


class LinkBase(Strict):
    """What every link has.

    Attributes:
        station: id of the station it shows; may be absent on a line with one station.
        control: whether this link may drive the station: trigger, acknowledge, command.
    """

    station: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")] | None = None
    control: bool = True


class WriterBase(LinkBase):
    """What every link has in which we are the client and write into the PLC.

    Attributes:
        timeout_ms: for one request; choose it shorter than the deadline.
        poll_ms: how often the control block is read.
    """

    timeout_ms: int = Field(default=500, ge=10, le=10_000)
    poll_ms: int = Field(default=5, ge=1, le=1000)


class _Registers(Strict):
    """Where both blocks are in Modbus holding registers.

    Attributes:
        base: zero-based address of the status block, 32 registers.
        control_base: zero-based address of the control block, 16 registers.
    """

    base: int = Field(default=100, ge=0, le=65536 - WORDS)
    control_base: int = Field(default=0, ge=0, le=65536 - CONTROL_WORDS)

    @model_validator(mode="after")
    def _apart(self) -> _Registers:
        if self.base < self.control_base + CONTROL_WORDS and self.control_base < self.base + WORDS:
            raise ValueError(
                f"base {self.base} (32 registers) and control_base {self.control_base} (16 registers) overlap; "
                "move one of them"
            )
        return self


class ModbusServerConfig(LinkBase, _Registers):
    """A Modbus TCP server that the PLC polls; `port` 0 lets the system choose."""

    kind: Literal["modbus-server"]
    host: Host = "127.0.0.1"
    port: ServerPort = 502


class OpcUaServerConfig(LinkBase):
    """An OPC UA server with one node per field.

    Attributes:
        host: address to listen on.
        port: 0 lets the system choose.
        session_timeout_ms: after which the session of a silent client is dropped.
        certificate: of the server, DER or PEM; with `private_key`, only signed and encrypted
            sessions are accepted. Without both, anybody who reaches the port may connect.
        private_key: PEM.
        trusted: folder of the certificates (PEM or DER) of clients, or of authorities that signed
            them; every other client is refused. Any client with a certificate may connect where absent.
    """

    kind: Literal["opcua-server"]
    host: Host = "127.0.0.1"
    port: ServerPort = 4840
    session_timeout_ms: int = Field(default=10_000, ge=1000, le=3_600_000)
    certificate: Path | None = Field(default=None, strict=False)
    private_key: Path | None = Field(default=None, strict=False)
    trusted: Path | None = Field(default=None, strict=False)

    @model_validator(mode="after")
    def _both_or_none(self) -> OpcUaServerConfig:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key belong together; give both or none")
        if self.trusted is not None and self.certificate is None:
            raise ValueError("trusted needs certificate and private_key: without them clients show no certificate")
        return self


class ModbusTcpConfig(WriterBase, _Registers):
    """A PLC that is a Modbus TCP server; `unit` is its device id."""

    kind: Literal["modbus-tcp"]
    host: Host
    port: Port = 502
    unit: int = Field(default=1, ge=0, le=255)


class ModbusRtuConfig(WriterBase, _Registers):
    """A PLC on a serial line that answers to `unit`. At 9600 baud one cycle takes 0.1 s: prefer 115200.

    Attributes:
        device: path of the serial port.
        unit: the PLC's address; 0 would be a broadcast, which nobody answers.
        baud: bits per second.
        parity: even (the standard's), odd or none.
        stop_bits: 1, or 2 as the standard asks for without parity.
    """

    kind: Literal["modbus-rtu"]
    device: Device
    unit: int = Field(default=1, ge=1, le=247)
    baud: Baud = 115_200
    parity: Literal["E", "O", "N"] = "E"
    stop_bits: Literal[1, 2] = 1


class S7Config(WriterBase):
    """A Siemens S7 whose data block holds both blocks: non-optimised, with PUT/GET allowed.

    Attributes:
        host: of the PLC.
        port: TCP port.
        rack: of the CPU.
        slot: of the CPU; 1 for S7-1200 and S7-1500, 2 for S7-300.
        db: number of the data block.
        status_byte: offset of the status block, 64 bytes; even, as INT arrays are.
        control_byte: offset of the control block, 32 bytes; even.
    """

    kind: Literal["s7"]
    host: Host
    port: Port = 102
    rack: int = Field(default=0, ge=0, le=7)
    slot: int = Field(default=1, ge=0, le=31)
    db: int = Field(ge=1, le=65535)
    status_byte: int = Field(default=32, ge=0, le=65536 - 2 * WORDS, multiple_of=2)
    control_byte: int = Field(default=0, ge=0, le=65536 - 2 * CONTROL_WORDS, multiple_of=2)

    @model_validator(mode="after")
    def _apart(self) -> S7Config:
        if (
            self.status_byte < self.control_byte + 2 * CONTROL_WORDS
            and self.control_byte < self.status_byte + 2 * WORDS
        ):
            raise ValueError(
                f"status_byte {self.status_byte} (64 bytes) and control_byte {self.control_byte} (32 bytes) overlap; "
                "move one of them"
            )
        return self


class LogixConfig(WriterBase):
    """An Allen-Bradley controller with a tag INT[32] for the status and INT[16] for the control block."""

    kind: Literal["logix"]
    host: Host
    port: Port = 44818
    slot: int = Field(default=0, ge=0, le=16)
    status_tag: Tag = "CadaStatus"
    control_tag: Tag = "CadaControl"


class OpcUaConfig(WriterBase):
    """A PLC that is an OPC UA server, with one variable per field; types are read at connect.

    Attributes:
        url: ``opc.tcp://host:port/path``.
        status_node: node id of a field of the status block; ``{field}`` stands for its name.
        control_node: the same for the control block.
    """

    kind: Literal["opcua"]
    url: Annotated[str, Field(max_length=500, pattern=r"^opc\.tcp://[^\s/]+")]
    status_node: NodeTemplate = f"ns=2;s=CadaEdge.Status.{_FIELD}"
    control_node: NodeTemplate = f"ns=2;s=CadaEdge.Control.{_FIELD}"


class AdsConfig(WriterBase):
    """A Beckhoff TwinCAT runtime with ARRAY [0..31] OF UINT and ARRAY [0..15] OF UINT.

    Attributes:
        host: address of the controller.
        net_id: AMS net id of the controller, six numbers.
        ams_port: of the PLC runtime: 851 for TwinCAT 3, 801 for TwinCAT 2.
        status_tag: name of the status array.
        control_tag: name of the control array.
    """

    kind: Literal["ads"]
    host: Host
    net_id: Annotated[str, Field(pattern=r"^\d{1,3}(\.\d{1,3}){5}$")]
    ams_port: Port = 851
    status_tag: Tag = "GVL.CadaStatus"
    control_tag: Tag = "GVL.CadaControl"


class SerialLineConfig(WriterBase):
    """Plain text on a serial port: a line out per result, a line in per trigger."""

    kind: Literal["serial-line"]
    device: Device
    baud: Baud = 115_200
    parity: Literal["E", "O", "N"] = "N"
    stop_bits: Literal[1, 2] = 1


class DigitalConfig(WriterBase):
    """Single wires. Wire them so that a line at rest means reject.

    Attributes:
        driver: ``gpiod`` (any Linux) or ``jetson`` (Jetson.GPIO, numbers of the 40-pin header).
        chip: GPIO chip, for ``gpiod``.
        pass_line: active for a part that passed.
        valid_line: active while a result is valid.
        ready_line: active while a trigger will be taken.
        busy_line: active from trigger to result.
        healthy_line: active while the station is online and without error: a broken wire is a fault.
        trigger_line: input; its rising edge is the trigger.
        ack_line: input; its rising edge acknowledges a result.
        mode: ``pulse`` of `pulse_ms` per part, or ``level`` while the result is valid.
        pulse_ms: length of a pulse.
        debounce_ms: an input must hold so long before it counts, for ``gpiod``.
    """

    kind: Literal["digital"]
    driver: Literal["gpiod", "jetson"] = "gpiod"
    chip: Device = "/dev/gpiochip0"
    pass_line: Line
    valid_line: Line | None = None
    ready_line: Line | None = None
    busy_line: Line | None = None
    healthy_line: Line | None = None
    trigger_line: Line | None = None
    ack_line: Line | None = None
    mode: Literal["pulse", "level"] = "pulse"
    pulse_ms: int = Field(default=20, ge=1, le=10_000)
    debounce_ms: float = Field(default=0.0, ge=0, le=1000)

    @model_validator(mode="after")
    def _distinct(self) -> DigitalConfig:
        named = {k: v for k, v in self.__dict__.items() if k.endswith("_line") and v is not None}
        if len(set(named.values())) != len(named):
            raise ValueError(f"lines {named} must differ")
        return self


WriterConfig = (
    ModbusTcpConfig
    | ModbusRtuConfig
    | S7Config
    | LogixConfig
    | OpcUaConfig
    | AdsConfig
    | SerialLineConfig
    | DigitalConfig
)
AnyLink = ModbusServerConfig | OpcUaServerConfig | WriterConfig
LinkConfig = Annotated[AnyLink, Field(discriminator="kind")]
