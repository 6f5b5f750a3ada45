from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from records_kit import fill, judged, send, small_disk
from runtime_kit import wait_until

from cada_edge.errors import SinkError
from cada_edge.runtime.sinks.courier import Courier
from cada_edge.runtime.sinks.outbox import Outbox, Parcel
from cada_edge.runtime.sinks.outbox_sink import OutboxSink
from cada_edge.runtime.sinks.secret import secret


class Shelf:
    """A transport into a list, that can be closed, or take so many of each batch only."""

    def __init__(self) -> None:
        self.taken: list[Parcel] = []
        self.open, self.at_most, self.attempts = True, 100, 0

    def deliver(self, parcels: list[Parcel]) -> int:
        """Take some."""
        self.attempts += 1
        if not self.open:
            raise SinkError("the shelf is closed")
        self.taken += parcels[: self.at_most]
        return min(len(parcels), self.at_most)

    def tend(self) -> None:
        """Nothing."""

    def hang_up(self) -> None:
        """Nothing."""


def ignore(_: Exception) -> None:
    """Nobody to tell."""


def bodies(parcels: list[Parcel]) -> list[str]:
    """What was in them."""
    return [parcel.body for parcel in parcels]


def test_parcels_leave_in_the_order_they_came(tmp_path: Path) -> None:
    """Oldest first; what was taken is gone, also after a restart."""
    outbox = Outbox(tmp_path / "o.sqlite", 100, ignore)
    for number in range(5):
        outbox.append("verdict", str(number))
    first = outbox.oldest(2)
    outbox.remove(first[-1].number)
    outbox.close()
    again = Outbox(tmp_path / "o.sqlite", 100, ignore)
    assert (bodies(first), bodies(again.oldest(10)), len(again)) == (["0", "1"], ["2", "3", "4"], 3)
    again.close()


def test_a_full_outbox_drops_the_oldest_and_counts(tmp_path: Path) -> None:
    """Of 10 parcels in an outbox of 4 the newest 4 stay."""
    outbox = Outbox(tmp_path / "o.sqlite", 4, ignore)
    for number in range(10):
        outbox.append("verdict", str(number))
    assert (bodies(outbox.oldest(10)), outbox.dropped, outbox.lost) == (["6", "7", "8", "9"], 6, 6)
    outbox.close()


def test_a_full_disk_keeps_parcels_in_memory(tmp_path: Path) -> None:
    """Told for each, kept, and written in order when there is space."""
    with small_disk(tmp_path / "disk") as disk:
        outbox = Outbox(disk / "o.sqlite", 1000, ignore)
        ballast = fill(disk)
        for number in range(40):
            if outbox.in_memory:
                with pytest.raises(SinkError, match="full"):
                    outbox.append("verdict", f"{number}" + "x" * 4000)
            else:
                append_or_keep(outbox, f"{number}" + "x" * 4000)
        assert outbox.in_memory
        ballast.unlink()
        outbox.flush()
        assert [int(body.rstrip("x")) for body in bodies(outbox.oldest(100))] == list(range(40))
        outbox.close()


def append_or_keep(outbox: Outbox, body: str) -> None:
    """Append; the disk may be full from here on."""
    try:
        outbox.append("verdict", body)
    except SinkError:
        assert outbox.in_memory == 1


def test_a_courier_brings_everything_once_somebody_takes_it(tmp_path: Path) -> None:
    """While the other side refuses nothing is lost and only the first failure is told; then all go, in order."""
    shelf, told = Shelf(), list[str]()
    shelf.open = False
    outbox = Outbox(tmp_path / "o.sqlite", 1000, ignore)
    courier = Courier(outbox, shelf, lambda error: told.append(str(error)), batch=7, pause_s=(0.01, 0.02))
    sink = OutboxSink(outbox, courier, {"cam1": "s1"})
    for frame_id in range(50):
        send(sink, judged(0, frame_id))
    wait_until(lambda: shelf.attempts > 5)
    assert (len(outbox), told, courier.state.connected) == (50, ["the shelf is closed"], False)
    shelf.open = True
    wait_until(lambda: len(outbox) == 0)
    sink.close()
    assert [f'"frame_id": {number},' in body for number, body in enumerate(bodies(shelf.taken))] == [True] * 50
    assert (courier.state.delivered, courier.state.connected) == (50, True)


def test_what_is_taken_in_part_is_brought_on_from_there(tmp_path: Path) -> None:
    """Three of each batch of seven taken: no parcel is skipped, none is brought twice."""
    shelf = Shelf()
    shelf.at_most = 3
    outbox = Outbox(tmp_path / "o.sqlite", 1000, ignore)
    for number in range(20):
        outbox.append("verdict", str(number))
    courier = Courier(outbox, shelf, ignore, batch=7, pause_s=(0.01, 0.02))
    courier.start()
    wait_until(lambda: len(outbox) == 0)
    courier.stop()
    outbox.close()
    assert bodies(shelf.taken) == [str(number) for number in range(20)]


def test_what_was_not_taken_waits_for_the_next_run(tmp_path: Path) -> None:
    """Closed with nobody there, opened again: all leave, each with a number of its own."""
    shelf = Shelf()
    shelf.open = False
    for _ in range(2):
        outbox = Outbox(tmp_path / "o.sqlite", 1000, ignore)
        sink = OutboxSink(outbox, Courier(outbox, shelf, ignore, pause_s=(0.01, 0.02)))
        send(sink, judged(0))
        sink.close()
        sink.close()
    shelf.open = True
    outbox = Outbox(tmp_path / "o.sqlite", 1000, ignore)
    courier = Courier(outbox, shelf, ignore)
    courier.start()
    wait_until(lambda: len(outbox) == 0)
    courier.stop()
    outbox.close()
    assert len(set(bodies(shelf.taken))) == len(shelf.taken) == 2


def test_what_comes_in_while_a_courier_is_told_to_stop_is_still_brought(tmp_path: Path) -> None:
    """The last record of a line comes between a look that found nothing and the order to stop: it leaves too."""

    class Late(Shelf):
        def tend(self) -> None:
            if not self.taken:
                outbox.append("verdict", "last")
                courier._work.set()
                courier._stopping.set()

    outbox, shelf = Outbox(tmp_path / "o.sqlite", 1000, ignore), Late()
    courier = Courier(outbox, shelf, ignore)
    courier.start()
    courier._thread.join(10)
    outbox.close()
    assert bodies(shelf.taken) == ["last"]


def test_a_damaged_outbox_does_not_end_deliveries(tmp_path: Path) -> None:
    """Moved aside and told; what comes afterwards leaves."""
    path, shelf, told = tmp_path / "o.sqlite", Shelf(), list[str]()
    path.write_bytes(b"no database" * 500)
    outbox = Outbox(path, 1000, lambda error: told.append(str(error)))
    sink = OutboxSink(outbox, Courier(outbox, shelf, ignore))
    send(sink, judged(0))
    wait_until(lambda: len(shelf.taken) == 1)
    sink.close()
    assert "damaged" in told[0]


def test_a_locked_outbox_is_told_and_recovers(tmp_path: Path) -> None:
    """Another program's lock costs no parcel."""
    outbox = Outbox(tmp_path / "o.sqlite", 1000, ignore)
    with closing(sqlite3.connect(tmp_path / "o.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SinkError, match="locked"):
            outbox.append("verdict", "x")
    outbox.flush()
    assert bodies(outbox.oldest(5)) == ["x"]
    outbox.close()


def test_a_secret_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    """The first line of the file, or the variable; none where neither is named."""
    (tmp_path / "s").write_text("open sesame\nsecond line\n")
    assert secret(tmp_path / "s", None) == "open sesame"
    assert secret(None, "PASS", {"PASS": "hello"}) == "hello"
    assert secret(None, None) is None


@pytest.mark.parametrize("content", [None, b"", b"\n", b"hush\x00hush", b"gr\xc3\xbc\xc3\x9fe", b"\xff\xfe"])
def test_a_secret_that_is_none_is_told_without_its_value(tmp_path: Path, content: bytes | None) -> None:
    """The error names the file and never what is in it."""
    if content is not None:
        (tmp_path / "s").write_bytes(content)
    with pytest.raises(SinkError, match=r"/s: ") as caught:
        secret(tmp_path / "s", None)
    assert "hush" not in str(caught.value)


def test_how_deliveries_go_can_be_seen(tmp_path: Path) -> None:
    """Whether the other side takes records, why not, and how many wait, also those of the run before."""
    path = tmp_path / "o.sqlite"
    shelf, outbox = Shelf(), Outbox(path, 100, ignore)
    shelf.open = False
    sink = OutboxSink(outbox, Courier(outbox, shelf, ignore, pause_s=(0.01, 0.01)))
    assert sink.delivery().reached is None
    for number in range(3):
        send(sink, judged(0, number))
    wait_until(lambda: sink.delivery().reached is False)
    sink.tend()
    assert (sink.delivery().waiting, sink.delivery().error, sink.healthy()) == (3, "the shelf is closed", True)
    sink.close()
    again = Outbox(path, 100, ignore)
    assert again.waiting == 3
    shelf.open = True
    sink = OutboxSink(again, Courier(again, shelf, ignore, pause_s=(0.01, 0.01)))
    wait_until(lambda: sink.delivery().reached is True)
    wait_until(lambda: not len(again))
    sink.tend()
    assert (sink.delivery().waiting, sink.delivery().error) == (0, "")
    sink.close()
