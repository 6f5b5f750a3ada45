from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest
from plc_kit import Place, options, place
from runtime_kit import BASE, Plc, make_frame, python_env, wait_until

from cada_edge.decision import undecided
from cada_edge.errors import LinkError
from cada_edge.runtime.links.config import ModbusServerConfig
from cada_edge.runtime.plc.client import explain
from cada_edge.runtime.plc.wire import Refused
from cada_edge.runtime.registers import HEAD, TAIL, OfflineReason, ResultFlag, StatusFlag
from cada_edge.types import Verdict

Connect = Callable[[int], Plc]
SAFE = ResultFlag.UNKNOWN | ResultFlag.REJECT


def verdict(number: int, passed: bool = True) -> Verdict:
    """A verdict made now."""
    now_ns = time.monotonic_ns()
    score = 0.1 if passed else 0.9
    return Verdict("ok" if passed else "ng", score, 0.5, "cam1", number, now_ns, now_ns, "because")


@contextmanager
def modbus(stale_ms: int = 60_000, linger_ms: int = 0) -> Iterator[Place]:
    """A free-running station on a free port, whose pipeline counts as alive for a minute."""
    with place(options(stale_ms), linger_ms=linger_ms) as opened:
        yield opened


def test_before_the_first_verdict_there_is_no_result(plc: Connect) -> None:
    """A PLC that connects early reads no PASS, no sequence number and the model's checksum."""
    with modbus() as sink:
        sink.alive()
        view = plc(sink.port)
        wait_until(lambda: StatusFlag.ONLINE in view.block().flags)
        block = view.block()
        assert (block.result, block.seq, block.checksum) == (0, 0, 7)
        assert StatusFlag.RESULTS_VALID not in block.flags


def test_each_verdict_shows_with_its_sequence_and_counters(plc: Connect) -> None:
    """PASS, FAIL and UNKNOWN reach the PLC with scores, toggle bit and totals."""
    with modbus() as sink:
        view = plc(sink.port)
        frame = make_frame()
        lost = make_frame(image=None, status="incomplete")
        answers = [verdict(1), verdict(2, passed=False), undecided(lost, "frame is incomplete", time.monotonic_ns())]
        expected = [ResultFlag.PASS, ResultFlag.FAIL | ResultFlag.REJECT, SAFE | ResultFlag.IMAGE_QUALITY]
        for seq, (answer, result) in enumerate(zip(answers, expected, strict=True), start=1):
            sink.send(answer, lost if answer.status == "undecided" else frame)
            wait_until(partial(shows, view, seq))
            block = view.block()
            assert block.result == result
            assert (StatusFlag.RESULT_TOGGLE in block.flags) == (seq % 2 == 1)
        assert (block.total, block.rejected, block.unknown, block.error) == (3, 2, 1, 1)


def shows(view: Plc, seq: int) -> bool:
    """True once the block with this number is up."""
    return view.block().seq == seq


def test_no_read_is_ever_torn(plc: Connect) -> None:
    """In 3,000 reads while verdicts change as fast as they can, head and tail always agree."""
    stop = threading.Event()
    with modbus() as sink:

        def change() -> None:
            number = 0
            while not stop.is_set():
                with suppress(LinkError):  # it takes no more at present: the same again
                    sink.send(verdict(number, number % 2 == 0), make_frame())
                    number += 1
                time.sleep(0.0005)

        worker = threading.Thread(target=change)
        worker.start()
        try:
            view = plc(sink.port)
            reads = [view.words() for _ in range(3000)]
        finally:
            stop.set()
            worker.join()
    assert all(words[HEAD] == words[TAIL] for words in reads)
    assert all((words[2] == ResultFlag.PASS) == (words[HEAD] % 2 == 1) for words in reads if words[HEAD])
    assert len({words[HEAD] for words in reads}) > 100


def test_input_and_holding_registers_agree(plc: Connect) -> None:
    """PLCs that only know input registers read the same block."""
    with modbus() as sink:
        sink.send(verdict(1), make_frame())
        view = plc(sink.port)
        wait_until(lambda: view.block().seq == 1)
        inputs = view.client.read_input_registers(BASE, count=32).registers
        holding = view.words()
        assert inputs[2:] == holding[2:]


def test_clients_cannot_write(plc: Connect) -> None:
    """A PLC program that writes into the status area by mistake gets an error and changes nothing."""
    with modbus() as sink:
        view = plc(sink.port)
        before = view.words()
        assert view.client.write_register(BASE + 2, 1).isError()
        assert view.client.write_registers(BASE, [1] * 32).isError()
        assert view.client.write_coil(BASE, value=True).isError()
        assert view.client.mask_write_register(address=BASE + 2, and_mask=0, or_mask=1).isError()
        assert view.words()[2:] == before[2:]


def test_registers_outside_the_block_do_not_exist(plc: Connect) -> None:
    """A wrong base address is an error at the PLC, never plausible zeros."""
    with modbus() as sink:
        view = plc(sink.port)
        assert view.client.read_holding_registers(BASE - 1, count=32).isError()
        assert view.client.read_holding_registers(BASE + 1, count=32).isError()


def test_garbage_on_the_wire_leaves_the_server_up(plc: Connect) -> None:
    """Random bytes from a port scanner do not end the server."""
    with modbus() as sink:
        for noise in (b"\xff" * 300, b"GET / HTTP/1.0\r\n\r\n", b"\0"):
            with socket.create_connection(("127.0.0.1", sink.port)) as stranger:
                stranger.sendall(noise)
        assert plc(sink.port).block().seq == 0
        assert sink.process.alive()


def test_a_silent_pipeline_looks_dead(plc: Connect) -> None:
    """Without signs of life the heartbeat stops and the last PASS gives way to the safe state."""
    with modbus(stale_ms=1000) as sink:
        view = plc(sink.port)
        sink.send(verdict(1), make_frame())
        wait_until(lambda: view.block().heartbeat > 0)
        wait_until(lambda: view.block().offline == OfflineReason.PIPELINE_STALLED)
        first = view.block()
        time.sleep(0.3)
        second = view.block()
        assert first.heartbeat == second.heartbeat
        assert second.result == SAFE
        assert not second.flags & (StatusFlag.ONLINE | StatusFlag.RESULTS_VALID)
        assert second.seq == 1


def test_the_heartbeat_moves_while_the_pipeline_lives(plc: Connect) -> None:
    """Signs of life alone, without verdicts, keep the heartbeat stepping by one."""
    with modbus() as sink:
        sink.alive()
        view = plc(sink.port)
        first = view.block().heartbeat
        beats = {first}
        while max(beats) < first + 3:
            beats.add(view.block().heartbeat)
        assert beats == {first, first + 1, first + 2, first + 3}


def test_closing_leaves_the_safe_state_then_nobody_listens(plc: Connect) -> None:
    """After `close` a PLC first reads Offline and REJECT, then loses the connection."""
    with modbus(linger_ms=3000) as sink:
        view = plc(sink.port)
        sink.send(verdict(1), make_frame())
        wait_until(lambda: view.block().seq == 1)
        closing = threading.Thread(target=sink.close)
        closing.start()
        wait_until(lambda: view.block().offline == OfflineReason.STOPPED)
        assert view.block().result == SAFE
        closing.join()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", sink.port), timeout=1)


def test_a_dead_server_is_told_and_replaced(plc: Connect) -> None:
    """Killed, it is started anew on the same port, and shows no result of before."""
    with modbus() as sink:
        sink.send(verdict(1), make_frame())
        view, port = plc(sink.port), sink.port
        wait_until(lambda: view.block().seq == 1)
        sink.process._process.kill()
        wait_until(lambda: not sink.process.alive())
        wait_until(sink.process.alive)
        assert sink.port == port
        sink.alive()
        again = plc(port)
        wait_until(lambda: StatusFlag.ONLINE in again.block().flags)
        assert again.block().result == 0
        sink.send(verdict(2), make_frame())
        wait_until(lambda: again.block().result == ResultFlag.PASS)
        assert again.block().seq not in (0, 1)
        assert any("started anew" in problem for problem in sink.problems)


def test_a_frozen_server_never_blocks_the_pipeline() -> None:
    """With the server stopped, sending fails instead of waiting."""
    with modbus() as sink:
        sink.process._process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(LinkError):
                flood(sink)
        finally:
            sink.process._process.send_signal(signal.SIGCONT)


def flood(sink: Place) -> None:
    """More blocks than any socket holds."""
    for number in range(10_000):
        sink.send(verdict(number), make_frame())


def test_a_busy_port_is_explained() -> None:
    """The error names host, port and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LinkError, match=rf"127\.0\.0\.1:{port}.*another program.*another port"):
            Place(options(), port=port)


def test_an_address_of_another_machine_is_explained() -> None:
    """A host this machine does not have is named, with the setting to change."""
    with pytest.raises(LinkError, match=r"203\.0\.113\.1.*set host"):
        Place(options(), host="203.0.113.1")


def test_a_privileged_port_is_explained() -> None:
    """Port 502 without the privilege names two ways out."""
    link = ModbusServerConfig(kind="modbus-server")
    assert "1502" in explain(link, Refused(0, "Permission denied", errno.EACCES))
    if os.geteuid() != 0:  # root may listen on every port
        with pytest.raises(LinkError, match="1502"):
            Place(options(), port=502)


PIPELINE = """
import time
from cada_edge.runtime.handshake import Life, StationOptions
from cada_edge.runtime.links.config import ModbusServerConfig
from cada_edge.runtime.outcome import Outcome
from cada_edge.runtime.plc.client import PlcProcess
from cada_edge.runtime.plc.wire import Setup, StationSetup
from cada_edge.runtime.registers import ErrorCode, ResultFlag
station = StationSetup("st1", StationOptions(deadline_ns=10**12, hold_ns=0))
setup = Setup((station,), (ModbusServerConfig(kind="modbus-server", port=0),), linger_ms=1500)
plc = PlcProcess(setup, print, print)
now = time.monotonic_ns()
plc.send(Life(now), "st1")
plc.send(Outcome(None, ResultFlag.PASS, ErrorCode.NONE, 0.1, 0.5, now, now, now), "st1")
print(plc.links[0].port, flush=True)
while True:
    plc.send(Life(time.monotonic_ns()), "st1")
    time.sleep(0.05)
"""


@contextmanager
def pipeline() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A pipeline in its own process and its Modbus port, killed at the end."""
    process = subprocess.Popen([sys.executable, "-c", PIPELINE], env=python_env(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def test_a_stopped_pipeline_process_looks_dead(plc: Connect) -> None:
    """SIGSTOP of the whole pipeline: its PASS does not outlive `stale_ms`."""
    with pipeline() as (process, port):
        view = plc(port)
        wait_until(lambda: view.block().result == ResultFlag.PASS)
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: view.block().offline == OfflineReason.PIPELINE_STALLED)
        assert view.block().result == SAFE
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: StatusFlag.ONLINE in view.block().flags)


def test_a_killed_pipeline_process_leaves_no_pass(plc: Connect) -> None:
    """SIGKILL of the pipeline: the safe state shows, then the server ends by itself."""
    with pipeline() as (process, port):
        view = plc(port)
        wait_until(lambda: view.block().result == ResultFlag.PASS)
        process.kill()
        wait_until(lambda: view.block().offline == OfflineReason.STOPPED)
        assert view.block().result == SAFE
        wait_until(lambda: not listening(port))


def listening(port: int) -> bool:
    """True if somebody answers on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("mbpoll") is None, reason="mbpoll is not installed: apt-get install mbpoll")
@pytest.mark.parametrize("table", ["3", "4"])
def test_libmodbus_reads_the_same_block(table: str) -> None:
    """mbpoll, built on another Modbus library, reads every word, and the floats with high word first."""
    with modbus() as sink:
        sink.send(verdict(1, passed=False), make_frame())
        common = ["-0", "-1", "-p", str(sink.port), "-q", "127.0.0.1"]
        words = mbpoll(["-t", f"{table}:hex", "-r", str(BASE), "-c", "32", *common])
        floats = mbpoll(["-t", f"{table}:float", "-B", "-r", str(BASE + 6), "-c", "2", *common])
    assert int(words[BASE + HEAD], 16) == int(words[BASE + TAIL], 16) == 1
    assert int(words[BASE + 2], 16) == ResultFlag.FAIL | ResultFlag.REJECT
    assert [float(v) for v in floats.values()] == pytest.approx([0.9, 0.5])


def mbpoll(arguments: list[str]) -> dict[int, str]:
    """Address to value, as mbpoll prints them."""
    done = subprocess.run(["mbpoll", *arguments], capture_output=True, text=True, timeout=30, check=True)
    pairs = (line[1:].split("]:") for line in done.stdout.splitlines() if line.startswith("["))
    return {int(address): value.strip() for address, value in pairs}
