"""An RTSP camera for tests: GStreamer's own server, H.264, the time of each picture written into it.

Run by the system's Python, which has Debian's ``python3-gi``, with ``gir1.2-gst-rtsp-server-1.0``,
``gir1.2-gst-plugins-base-1.0`` and ``gstreamer1.0-plugins-ugly`` (x264)::

    python3 rtsp_server.py PORT [FPS]

serves ``rtsp://127.0.0.1:PORT/cam`` and prints ``ready``. Blocks of 16 px, row by row, white or
black, are the 32 bits of CLOCK_MONOTONIC in milliseconds when the picture was made.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstApp, GstRtspServer  # noqa: E402  # versions come first

BLOCK, COLUMNS, ROWS, BITS = 16, 16, 12, 32
BLACK, WHITE = 16, 235


def drawn(now_ms: int) -> bytes:
    """One grey picture of 256 x 192 px: the bits of `now_ms`, then a bar that moves."""
    cells = [WHITE if now_ms >> bit & 1 else BLACK for bit in range(BITS)]
    bar = now_ms // 40 % (COLUMNS * ROWS - BITS)
    cells += [WHITE if index == bar else 128 for index in range(COLUMNS * ROWS - BITS)]
    lines = [b"".join(bytes([cell]) * BLOCK for cell in cells[row * COLUMNS :][:COLUMNS]) for row in range(ROWS)]
    return b"".join(line * BLOCK for line in lines)


def feed(source: Any, fps: float) -> None:
    """Push pictures at their time until the client is gone."""
    due_s = time.monotonic()
    while True:
        picture = Gst.Buffer.new_wrapped(drawn(time.monotonic_ns() // 1_000_000 & 0xFFFFFFFF))
        if source.push_buffer(picture) != Gst.FlowReturn.OK:
            return
        due_s = max(due_s + 1 / fps, time.monotonic() - 1)
        time.sleep(max(0.0, due_s - time.monotonic()))


def main() -> None:
    """Serve until killed."""
    port, fps = int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 25.0
    Gst.init(None)
    assert GstApp is not None  # its type is what gives an appsrc its methods
    size = f"width={BLOCK * COLUMNS},height={BLOCK * ROWS}"
    server, factory = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f"( appsrc name=source is-live=true format=time do-timestamp=true "
        f"caps=video/x-raw,format=GRAY8,{size},framerate={round(fps)}/1 ! videoconvert ! video/x-raw,format=I420 "
        "! x264enc tune=zerolatency speed-preset=ultrafast bitrate=2000 key-int-max=10 ! rtph264pay name=pay0 pt=96 )"
    )
    factory.connect(
        "media-configure",
        lambda _factory, media: threading.Thread(
            target=feed, args=(media.get_element().get_by_name("source"), fps), daemon=True
        ).start(),
    )
    server.set_address("127.0.0.1")
    server.set_service(str(port))
    server.get_mount_points().add_factory("/cam", factory)
    if server.attach(None) == 0:
        raise SystemExit(f"port {port} cannot be had")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
