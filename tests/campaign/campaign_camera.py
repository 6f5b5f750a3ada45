"""A network camera as a program of its own: ``python campaign_camera.py PORT SCENE``.

It speaks RTSP with motion JPEG inside the TCP connection (RFC 2326, RFC 2435) and shows whatever
grey level the first byte of the file SCENE holds at that moment. The second byte says how it
behaves: 0 well, 1 pictures that are noise, 2 bytes that are no protocol.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np

SIDE, FPS, CLOCK_HZ = 64, 50, 90_000
WELL, NOISE, RUBBISH = 0, 1, 2
_SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=part\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=framerate:{fps}\r\na=control:0\r\n"
)
_QUANTISATION, _SCAN = b"\xff\xdb", b"\xff\xda"


def jpeg(level: int) -> tuple[bytes, bytes]:
    """Quantisation tables (128 bytes) and scan data of a picture of one grey level."""
    picture = np.full((SIDE, SIDE, 3), level, np.uint8)
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    tables, at = b"", 2
    while data[at : at + 2] != _SCAN:
        length = struct.unpack(">H", data[at + 2 : at + 4])[0]
        if data[at : at + 2] == _QUANTISATION:
            segment = data[at + 4 : at + 2 + length]
            tables += b"".join(segment[i + 1 : i + 65] for i in range(0, len(segment), 65))
        at += 2 + length
    at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return tables, data[at:-2]


def packet(level: int, number: int, behaviour: int) -> bytes:
    """One picture as one RTP packet inside RTSP."""
    tables, scan = jpeg(level)
    if behaviour == NOISE:
        scan = os.urandom(len(scan))
    picture = struct.pack(">IBBBB", 0, 1, 255, SIDE // 8, SIDE // 8) + struct.pack(">BBH", 0, 0, len(tables))
    stamp = int(time.monotonic() * CLOCK_HZ) & 0xFFFFFFFF
    head = struct.pack(">BBHII", 0x80, 0x80 | 26, number & 0xFFFF, stamp, 0x1234)
    body = head + picture + tables + scan
    return b"$\0" + struct.pack(">H", len(body)) + body


def answer(request: str, port: int) -> str:
    """The reply to one request of RTSP."""
    first, *fields = request.split("\r\n")
    verb = first.split(" ")[0]
    sequence = next((field for field in fields if field.lower().startswith("cseq:")), "CSeq: 0")
    if verb == "SETUP" and "interleaved" not in request:
        return f"RTSP/1.0 461 Unsupported Transport\r\n{sequence}\r\n\r\n"
    extra, body = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", ""
    if verb == "DESCRIBE":
        body = _SDP.format(fps=FPS)
        extra = f"Content-Base: rtsp://127.0.0.1:{port}/\r\nContent-Type: application/sdp\r\n"
    elif verb == "SETUP":
        extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
    elif verb == "PLAY":
        extra = "Session: 1\r\nRange: npt=0.000-\r\n"
    return f"RTSP/1.0 200 OK\r\n{sequence}\r\n{extra}Content-Length: {len(body)}\r\n\r\n{body}"


def stream(connection: socket.socket, scene: int) -> None:
    """Pictures of the scene, for as long as somebody looks."""
    number, next_s = 0, time.monotonic()
    while True:
        level, behaviour = os.pread(scene, 2, 0)
        connection.sendall(os.urandom(500) if behaviour == RUBBISH else packet(level, number, behaviour))
        number += 1
        next_s = max(next_s + 1 / FPS, time.monotonic() - 1)
        time.sleep(max(0.0, next_s - time.monotonic()))


def serve(connection: socket.socket, port: int, scene: int) -> None:
    """One client, until it hangs up."""
    received = b""
    with connection:
        try:
            while data := connection.recv(4096):
                received += data
                while b"\r\n\r\n" in received:
                    request, _, received = received.partition(b"\r\n\r\n")
                    connection.sendall(answer(request.decode("latin-1"), port).encode())
                    if request.startswith(b"PLAY"):
                        stream(connection, scene)
        except OSError:
            return  # it hung up


def main() -> None:
    """Listen until killed."""
    port, scene = int(sys.argv[1]), os.open(Path(sys.argv[2]), os.O_RDONLY)
    listener = socket.create_server(("127.0.0.1", port))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(connection, port, scene), daemon=True).start()


if __name__ == "__main__":
    main()
