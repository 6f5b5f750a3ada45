"""A camera that exposes when told to: one picture for each trigger, never one from before it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from cada_edge.errors import SourceError
from cada_edge.runtime.sources.camera import CameraOptions, first_error, in_words
from cada_edge.runtime.sources.device import Device, OpenDevice, Shot, lost_frame
from cada_edge.types import Frame

_GRAB_S, _WAIT_S, _JOIN_S, _QUEUED = 0.05, 0.05, 1.0, 8


class Keeper:
    """One thread that opens a camera, hands on every picture in order, and opens it again after a loss.

    Args:
        open_device: opens the device; called again after each loss.
        options: back-off; its `stall_s` is how long a trigger may stay unanswered.
        source_id: name of the source in frames.
        prompted: pictures are wanted only for triggers, one each; else all are.
    """

    def __init__(self, open_device: OpenDevice, options: CameraOptions, source_id: str, *, prompted: bool) -> None:
        self._open_device, self._options, self._source_id = open_device, options, source_id
        self._prompted, self._lock, self._stop = prompted, threading.RLock(), threading.Event()
        self._answers: queue.Queue[Frame] = queue.Queue()
        self._device: Device | None = None
        self._asked_ns, self._owed = 0, 0  # of the newest trigger; pictures still to come, older ones included
        self._next_id, self._last_id, self._reason = 0, -1, ""
        self._error: Exception | None = None
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="cada-edge-keeper", daemon=True)
        self._thread.start()

    @property
    def error(self) -> Exception | None:
        """What the last attempt to open or read the camera ended with; ``None`` before any has."""
        return self._error

    def wait_opened(self, timeout_s: float) -> bool:
        """Whether the camera was there at least once by then, or has failed to open."""
        return self._opened.wait(timeout_s)

    def trigger(self) -> None:
        """Expose now. What cannot be exposed is answered at once, by an ``incomplete`` frame."""
        with self._lock:
            self._forget()
            self._asked_ns, self._owed = time.monotonic_ns(), self._owed + 1
            if self._device is None:
                self._fail(self._reason)
                return
            try:
                self._device.trigger()
            except Exception as error:  # noqa: BLE001  # a vendor's driver may raise anything; the part is undecided
                self._lose(str(error))  # it may have exposed all the same, and that picture must not come later

    def take(self, timeout_s: float) -> Frame | None:
        """The next frame, with the pictures not given since the last one; ``None`` when there is none in time."""
        try:
            frame = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            return None
        drops, self._last_id = frame.frame_id - self._last_id - 1, frame.frame_id
        return replace(frame, drops=drops)

    def healthy(self) -> bool:
        """Whether the camera is there."""
        return self._device is not None

    def close(self) -> None:
        """End the thread, which releases the camera, and wait for it, a second at most: a driver may hang."""
        self._stop.set()
        self._thread.join(_JOIN_S)

    def _keep(self) -> None:
        pause_s = self._options.back_off_s
        while not self._stop.is_set():
            if self._attend():
                pause_s = self._options.back_off_s
            self._opened.set()
            self._stop.wait(pause_s)
            pause_s = min(2 * pause_s, self._options.back_off_max_s)

    def _attend(self) -> bool:
        """Open the camera and read it until it is lost. Whether it could be opened."""
        device: Device | None = None
        try:
            device = self._open_device()
            with self._lock:
                self._device, self._reason, self._owed = device, "", 0
            self._opened.set()
            while not self._stop.is_set() and self._device is device and not self._overdue():
                if (shot := device.grab(_GRAB_S)) is not None:
                    self._received(shot)
        except Exception as error:  # noqa: BLE001  # a vendor's driver may raise anything; the camera is lost
            self._error = error
            self._lose(in_words(error))
        finally:
            if device is not None:
                with suppress(Exception):  # a driver that fails at that as well must not end the search
                    device.close()
        return device is not None

    def _overdue(self) -> bool:
        """Whether a trigger stayed unanswered: its picture might come later, so the camera is started anew."""
        with self._lock:
            late = self._owed > 0 and time.monotonic_ns() - self._asked_ns > self._options.stall_s * 1e9
            if late:
                self._lose(f"no picture within {self._options.stall_s:g} s of the trigger")
            return late

    def _received(self, shot: Shot) -> None:
        with self._lock:
            frame_id = self._next_id + shot.missed
            self._next_id = frame_id + 1
            if not self._prompted:
                self._queue(shot.frame(self._source_id, frame_id, drops=0))
            elif self._owed and self._answers_newest(shot):
                self._owed = 0
                # Exposed at the trigger or just after. The arrival would be too late a time: by then the
                # next part may have been triggered, and this picture would look young enough for it.
                self._queue(replace(shot.frame(self._source_id, frame_id, drops=0), t_capture_ns=self._asked_ns))

    def _answers_newest(self, shot: Shot) -> bool:
        """Whether this picture is of the newest trigger: by the camera's clock, else by counting."""
        if shot.t_device_ns:
            return shot.t_capture_ns >= self._asked_ns
        self._owed -= 1
        return self._owed == 0

    def _queue(self, frame: Frame) -> None:
        """Pictures wait for a short while only; the oldest gives way, and is a drop."""
        if self._answers.qsize() >= _QUEUED:
            self._discard()
        self._answers.put(frame)

    def _forget(self) -> None:
        """Drop an answer that nobody fetched: its part is gone."""
        while self._prompted and not self._answers.empty():
            self._discard()

    def _discard(self) -> None:
        with suppress(queue.Empty):  # it was fetched meanwhile
            self._answers.get_nowait()

    def _lose(self, reason: str) -> None:
        with self._lock:
            was_there = self._device is not None
            self._device, self._reason = None, reason
            if self._owed or (was_there and not self._prompted):
                self._fail(reason)

    def _fail(self, reason: str) -> None:
        """Answer the newest trigger without a picture."""
        self._owed = 0
        frame_id, self._next_id = self._next_id, self._next_id + 1
        self._queue(lost_frame(self._source_id, frame_id, 0, reason))


class HardwareTriggeredSource:
    """Every picture that a wire at the camera asks for, in order, none left out; never ends by itself.

    Silence is normal here: only a camera that says it is gone counts as lost. A loss gives
    one ``incomplete`` frame, and the camera is opened again.

    Args:
        open_device: opens the device; called again after each loss.
        label: what to call the device in messages; holds no password.
        source_id: name of the source in verdicts.
        options: stall and back-off.

    Raises:
        SourceError: the camera cannot be opened, and the options require it.
        ConfigError, MissingDependencyError: it can never be opened so.
    """

    _prompted = False

    def __init__(
        self, open_device: OpenDevice, label: str, source_id: str = "camera", options: CameraOptions | None = None
    ) -> None:
        self._options, self._stop = options or CameraOptions(), threading.Event()
        self._keeper = Keeper(open_device, self._options, source_id, prompted=self._prompted)
        self._keeper.wait_opened(self._options.open_s)
        if not self._keeper.healthy():
            error = self._keeper.error or SourceError(f"{label}: not open within {self._options.open_s:g} s")
            if (fatal := first_error(error, required=self._options.required)) is not None:
                self._keeper.close()
                raise fatal

    def frames(self) -> Iterator[Frame]:
        """Yield frames until `close`, waiting for each as long as it takes."""
        while not self._stop.is_set():
            if (frame := self._keeper.take(_WAIT_S)) is not None:
                yield frame

    def healthy(self) -> bool:
        """False from a loss until the camera is open again, and after `close`."""
        return self._keeper.healthy() and not self._stop.is_set()

    def close(self) -> None:
        """End `frames` and release the camera. Safe to call twice."""
        self._stop.set()
        self._keeper.close()


class SoftwareTriggeredSource(HardwareTriggeredSource):
    """One frame for each `trigger`, exposed after it; never ends by itself.

    A trigger that finds no camera, or no whole picture within `stall_s`, is answered by
    an ``incomplete`` frame; after an unanswered one the camera is opened anew, so that no
    late picture can be taken for the next part's. A trigger given before the last one was
    answered takes its place.
    """

    _prompted = True

    def trigger(self) -> None:
        """Expose now; the next frame of `frames` is the answer. Safe from any thread."""
        self._keeper.trigger()
