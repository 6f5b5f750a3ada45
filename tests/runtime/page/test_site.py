"""Which address answers what, without a network."""

from __future__ import annotations

import json
import sys
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_kit import fill, make_board, put

import cada_edge.runtime
from cada_edge.errors import LineError
from cada_edge.heatmap import LIMIT, colours
from cada_edge.runtime.board import Snapshot, StatusBoard
from cada_edge.runtime.page.site import STALE_S, Site
from cada_edge.runtime.page.wire import PREFIX, Message, pack, pack_picture, shrink, sizes
from cada_edge.types import UInt8Array

HOST = "127.0.0.1:8080"


def message(data: bytes) -> Message:
    """What the page's process makes of a message."""
    header, first, _ = sizes(data[: PREFIX.size])
    text = data[PREFIX.size :]
    return Message(json.loads(text[:header]), text[header : header + first], text[header + first :])


def shown(board: StatusBoard) -> Site:
    """A site that shows a board with all its pictures."""
    site = Site("127.0.0.1", ("press4.plant",))
    site.take(message(pack({"kind": "status"}, board.snapshot().to_json())))
    while picture := board.take_picture():
        site.take(message(pack_picture("picture", picture, 640)))
    while picture := board.take_thumbnail():
        site.take(message(pack_picture("thumbnail", picture, 160)))
    return site


@pytest.fixture
def site() -> Site:
    """A line with one of everything."""
    board = make_board()
    fill(board)
    return shown(board)


def pixels(data: bytes) -> UInt8Array:
    """uint8 (h, w, 3) RGB."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(decoded[:, :, ::-1], np.uint8)


@pytest.mark.parametrize("path", ["/", "/page.css", "/page.js", "/chart.js", "/icon.svg", "/scale.png", "/status.json"])
def test_everything_the_page_needs_comes_from_itself(site: Site, path: str) -> None:
    """Each part of the page is there, and none names another server."""
    reply = site.answer("GET", path.encode(), HOST)
    assert reply.status == 200
    if reply.kind.startswith("text"):
        assert b"//" not in reply.body.replace(b"http://www.w3.org/", b"").replace(b"\n//", b"\n")


def test_the_status_says_how_old_it_is() -> None:
    """A reader learns from the answer itself that the line has gone silent."""
    board = make_board()
    site = shown(board)
    state = json.loads(site.answer("GET", b"/status.json", HOST).body)
    assert not state["stale"]
    assert site.answer("GET", b"/healthz", HOST).status == 200
    time.sleep(STALE_S + 0.1)
    state = json.loads(site.answer("GET", b"/status.json", HOST).body)
    assert state["stale"]
    assert state["age_s"] > STALE_S
    assert site.answer("GET", b"/healthz", HOST).status == 503


def test_before_the_first_status_nothing_looks_alive() -> None:
    """A page that is up before its line is stale, unhealthy and without metrics."""
    site = Site("127.0.0.1")
    assert json.loads(site.answer("GET", b"/status.json", HOST).body)["stale"]
    assert site.answer("GET", b"/healthz", HOST).status == 503
    assert site.answer("GET", b"/metrics", HOST).status == 503


def test_without_the_metrics_package_the_page_says_what_brings_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page itself does not need it."""
    monkeypatch.delitem(sys.modules, "cada_edge.runtime.metrics", raising=False)
    monkeypatch.delattr(cada_edge.runtime, "metrics", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    reply = site.answer("GET", b"/metrics", HOST)
    assert reply.status == 501
    assert b"pip install 'cada-edge[metrics]'" in reply.body


def test_pictures_are_of_the_part_that_is_named() -> None:
    """Picture and heatmap of one number belong together, though a newer part has come."""
    board = make_board()
    site = shown(board)
    for number, level in ((1, 10), (2, 200)):
        put(board, 0.1, number, image=np.full((40, 60, 3), level, np.uint8))
        picture = board.take_picture()
        assert picture is not None
        site.take(message(pack_picture("picture", picture, 640)))
    old, new = (pixels(site.answer("GET", f"/image/cam1.jpg?{n}".encode(), HOST).body) for n in (1, 2))
    assert (round(old.mean()), round(new.mean())) == (10, 200)
    assert pixels(site.answer("GET", b"/heatmap/cam1.jpg?1", HOST).body).shape == (40, 60, 3)


def test_heatmaps_keep_the_fixed_scale() -> None:
    """The same map value has the same colour whatever else is in the picture."""
    board = make_board()
    put(board, LIMIT, image=np.zeros((64, 64, 3), np.uint8))
    body = shown(board).answer("GET", b"/heatmap/cam1.jpg", HOST).body
    wanted = 0.65 * colours(np.full((1, 1), LIMIT, np.float32))[0, 0]
    assert np.abs(pixels(body).mean(axis=(0, 1)) - wanted).max() < 6


def test_a_part_without_a_map_has_a_picture_but_no_heatmap() -> None:
    """Where the model said nothing, nothing is drawn."""
    board = make_board()
    put(board, None)
    site = shown(board)
    assert site.answer("GET", b"/image/cam1.jpg", HOST).status == 200
    assert site.answer("GET", b"/heatmap/cam1.jpg", HOST).status == 404
    assert site.answer("GET", b"/reject/1.jpg", HOST).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_the_page_is_read_only(site: Site, method: str) -> None:
    """No request can change anything, with or without a token."""
    reply = site.answer(method, b"/status.json", HOST)
    assert reply.status == 405
    assert ("Allow", "GET, HEAD") in reply.headers


@pytest.mark.parametrize("host", ["localhost:8080", "10.1.2.3", "[::1]:8080", "press4.plant:80", "PRESS4.plant."])
def test_addresses_and_own_names_are_served(site: Site, host: str) -> None:
    """Whoever types an address, or a name given in line.yaml, is let in."""
    assert site.answer("GET", b"/", host).status == 200


@pytest.mark.parametrize(
    "host", ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil", "a:b:c", "x@127.0.0.1"]
)
def test_a_name_that_is_not_ours_is_refused(site: Site, host: str) -> None:
    """A stranger's web page that points its own name at the line reads nothing."""
    assert site.answer("GET", b"/status.json", host).status == 421


TRAVERSALS = [
    b"/../pyproject.toml", b"/%2e%2e/%2e%2e/etc/passwd", b"//etc/passwd", b"/image/../../etc/passwd.jpg",
    b"/image/%2e%2e%2fpage.js.jpg", b"/page.py", b"/site.py", b"/image/.jpg", b"/reject/-1.jpg", b"/reject/x.jpg",
    b"/%00", b"/image/cam1.jpg/", b"/static/index.html",
]  # fmt: skip


@pytest.mark.parametrize("target", TRAVERSALS)
def test_there_is_no_way_to_another_file(site: Site, target: bytes) -> None:
    """Only what is listed exists; paths are never joined to a folder."""
    assert site.answer("GET", target, HOST).status == 404


@given(target=st.binary(max_size=200), host=st.text(max_size=50), method=st.sampled_from(["GET", "HEAD", "BREW", ""]))
@settings(max_examples=300, deadline=None)
def test_no_request_breaks_the_site(target: bytes, host: str, method: str) -> None:
    """Whatever is asked, the answer is a refusal or something that is there."""
    reply = EMPTY.answer(method, target, host)
    assert reply.status in {200, 400, 404, 405, 421, 503}


EMPTY = Site("127.0.0.1")


def test_a_message_of_another_version_is_refused() -> None:
    """Sizes that disagree with the bytes, unknown kinds and giants end the connection, not the memory."""
    with pytest.raises(LineError, match="kind"):
        EMPTY.take(Message({"kind": "later"}, b"", b""))
    with pytest.raises(LineError, match="picture message"):
        EMPTY.take(Message({"kind": "picture", "image": [4, 4], "map": None}, b"123", b""))
    with pytest.raises(LineError, match="at most"):
        sizes(PREFIX.pack(1, 1 << 30, 1))


@pytest.mark.parametrize("size_hw", [(1, 1), (480, 640), (2048, 2448), (1, 5000), (5000, 1), (1281, 1281), (641, 3)])
def test_pictures_are_shrunk_to_their_limit_and_never_enlarged(size_hw: tuple[int, int]) -> None:
    """Any camera's picture fits, with its shape kept."""
    image = np.full((*size_hw, 3), 77, np.uint8)
    small = shrink(image, 640)
    assert max(small.shape[:2]) == min(max(size_hw), 640)
    assert (small == 77).all()
    if min(size_hw) > 100:
        assert small.shape[1] / small.shape[0] == pytest.approx(size_hw[1] / size_hw[0], rel=0.01)


def test_a_picture_survives_the_wire() -> None:
    """Part, pixels, map and how the picture became the input all arrive."""
    board = make_board()
    put(board, 0.7)
    sent = board.take_picture()
    assert sent is not None
    got: Snapshot = message(pack_picture("picture", sent, 640)).snapshot()
    assert (got.part, got.spec) == (sent.part, sent.spec)
    assert (got.image == sent.image).all()
    assert got.map is not None
    assert sent.map is not None
    assert (got.map == sent.map).all()
