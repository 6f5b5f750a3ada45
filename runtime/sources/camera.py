"""A live camera: always the newest frame, and back again after it was lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from cada_edge.errors import CadaEdgeError, ConfigError, MissingDependencyError, SourceError
from cada_edge.runtime.sources.device import Device, OpenDevice, Shot, lost_frame
from cada_edge.types import Frame

_GRAB_S, _JOIN_S = 0.1, 1.0


@dataclass(frozen=True)
class CameraOptions:
    """When a camera counts as lost and how to get it back.

    Attributes:
        stall_s: time without a frame after which it is lost, > 0.
        first_s: the same for the first frame of a connection, > 0, if longer: a stream can be shown from its next
            key frame on, which is often a second or two away.
        open_s: time that opening it may take, > 0; looking for a camera on the network takes seconds.
        required: a camera that is not there at the start is an error; else it counts as lost, and is looked for.
        back_off_s: pause before opening it again, then between the beginnings of two attempts;
            doubles up to `back_off_max_s`. An attempt that took longer is followed by the next at once.
        back_off_max_s: longest pause: what a camera that is back waits for us at most.
    """

    stall_s: float = 1.0
    first_s: float = 3.0
    back_off_s: float = 0.5
    back_off_max_s: float = 2.0
    open_s: float = 10.0
    required: bool = True

    def __post_init__(self) -> None:
        positive = min(self.stall_s, self.first_s, self.open_s) > 0 and self.stall_s < 3600
        if not positive or not 0 < self.back_off_s <= self.back_off_max_s:
            expected = "0 < stall_s < 3600, first_s > 0, open_s > 0 and 0 < back_off_s <= back_off_max_s"
            raise ConfigError(f"CameraOptions: got {self}, expected {expected}")

    @property
    def patience_s(self) -> float:
        """How long the first frame of a connection may take."""
        return max(self.stall_s, self.first_s)


def in_words(error: Exception) -> str:
    """What to tell of an error of ours, or of a vendor's driver."""
    return str(error) if isinstance(error, CadaEdgeError) else f"{type(error).__name__}: {error}"


def first_error(error: Exception, *, required: bool) -> CadaEdgeError | None:
    """What to raise for a camera that could not be opened at the start; ``None`` to look for it meanwhile.

    A setting or a package that is wrong will not come right by itself, a camera that is off may be switched on.
    """
    if isinstance(error, (ConfigError, MissingDependencyError)):
        return error
    return SourceError(in_words(error)) if required else None


class Grabber:
    """One thread that reads one device as fast as it delivers and keeps the newest picture.

    Drivers queue pictures: without this a slow reader falls behind by seconds. The thread
    alone touches the device and closes it, even when a read blocks for long.
    """

    def __init__(self, open_device: OpenDevice, first_id: int = 0) -> None:
        self._open_device, self._changed = open_device, threading.Condition()
        self._newest: tuple[Shot, int] | None = None
        self._device: Device | None = None
        self._opened = threading.Event()
        self._next_id, self._over, self._stop = first_id, False, False
        self._error: Exception | None = None
        self._kept_ns = 0
        self._thread = threading.Thread(target=self._grab, name="cada-edge-grabber", daemon=True)
        self._thread.start()

    @property
    def next_id(self) -> int:
        """Number that the next picture will have: the pictures seen so far, those lost on the way included."""
        return self._next_id

    @property
    def error(self) -> Exception | None:
        """Why no picture can come any more; ``None`` while one can."""
        return self._error

    def lively(self, within_s: float) -> bool:
        """Whether a picture came within that time and more can come, whoever asked for it."""
        return not self._over and time.monotonic_ns() - self._kept_ns <= within_s * 1e9

    def wait_opened(self, timeout_s: float) -> bool:
        """Whether the device is open by then, or can never be: `over`."""
        return self._opened.wait(timeout_s)

    def take(self, timeout_s: float) -> tuple[Shot, int] | None:
        """The newest unseen picture with its number.

        ``None`` after `timeout_s` without one, or at once when the device is gone.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._over, timeout_s)
            newest, self._newest = self._newest, None
            return newest

    @property
    def over(self) -> bool:
        """True when no picture can come any more."""
        with self._changed:
            return self._over and self._newest is None

    def stop(self) -> None:
        """End the thread after the read it is in. Does not wait for it."""
        self._stop = True

    def close(self) -> None:
        """End the thread and wait for it, a second at most: a driver may hang."""
        self._stop = True
        self._thread.join(_JOIN_S)

    def _grab(self) -> None:
        try:
            self._device = self._open_device()
            self._opened.set()
            while not self._stop:
                if (shot := self._device.grab(_GRAB_S)) is not None:
                    self._keep(shot)
        except Exception as error:  # noqa: BLE001  # a vendor's driver may raise anything; the camera is lost
            self._error = error
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()
            self._opened.set()
            if self._device is not None:
                self._device.close()

    def _keep(self, shot: Shot) -> None:
        with self._changed:
            self._newest, self._kept_ns = (shot, self._next_id + shot.missed), time.monotonic_ns()
            self._next_id += shot.missed + 1
            self._changed.notify_all()


class CameraSource:
    """Newest frame only; never ends by itself.

    A camera that stalls or ends gives one ``incomplete`` frame - the part before it is
    undecided - and is then opened again, each time as a new object, with growing pauses.

    Args:
        open_device: opens the device; called again after each loss.
        label: what to call the device in messages; holds no password.
        source_id: name of the source in verdicts.
        options: stall and back-off.

    Raises:
        SourceError: no frame within the patience for the first one, and the options require one.
        ConfigError, MissingDependencyError: it can never be opened so.
    """

    def __init__(
        self, open_device: OpenDevice, label: str, source_id: str = "camera", options: CameraOptions | None = None
    ) -> None:
        self._open_device, self._label, self._source_id = open_device, label, source_id
        self._options, self._stop = options or CameraOptions(), threading.Event()
        self._grabber = Grabber(open_device)
        self._grabber.wait_opened(self._options.open_s)
        self._first = self._grabber.take(self._options.patience_s)
        self._healthy = self._first is not None
        if self._first is None and (error := self._fatal()) is not None:
            self._grabber.stop()
            raise error

    def frames(self) -> Iterator[Frame]:
        """Yield the newest frame, whenever asked, until `close`."""
        # The first picture may have waited for a model to load: a newer one is judged instead.
        taken, last_id = self._grabber.take(0) or self._first, -1
        while not self._stop.is_set():
            if taken is None:
                lost_id, last_id = last_id, self._grabber.next_id
                yield self._lost(last_id, last_id - lost_id - 1)
                taken = self._reopened(last_id + 1)
                continue
            shot, frame_id = taken
            drops, last_id = frame_id - last_id - 1, frame_id
            yield shot.frame(self._source_id, frame_id, drops)
            taken = self._next(self._options.stall_s)
        self._grabber.stop()

    def healthy(self) -> bool:
        """False from a loss until the next frame, and after `close`; known whether or not anybody asks for frames."""
        return self._healthy and not self._stop.is_set() and self._grabber.lively(self._options.stall_s)

    def close(self) -> None:
        """End `frames` and release the camera. Safe to call twice."""
        self._stop.set()
        self._grabber.close()

    def _fatal(self) -> Exception | None:
        """What to raise where there is no first frame."""
        error, patience_s = self._grabber.error, self._options.patience_s
        if error is None:
            error = SourceError(
                f"{self._label}: no frame within {patience_s:g} s; check that the camera is on, reachable and not in "
                "use by another program"
            )
        return first_error(error, required=self._options.required)

    def _next(self, patience_s: float) -> tuple[Shot, int] | None:
        """Wait for a picture in short steps, so that `close` is noticed."""
        self._wait_opened()
        until_s = time.monotonic() + patience_s
        while not self._stop.is_set() and not self._grabber.over and time.monotonic() < until_s:
            if (taken := self._grabber.take(0.05)) is not None:
                self._healthy = True
                return taken
        return None

    def _wait_opened(self) -> None:
        until_s = time.monotonic() + self._options.open_s
        while not self._grabber.wait_opened(0.05) and not self._stop.is_set() and time.monotonic() < until_s:
            pass

    def _lost(self, frame_id: int, drops: int) -> Frame:
        """One frame that stands for whatever passed while the camera was gone."""
        self._healthy = False
        error = self._grabber.error
        why = f"no picture for {self._options.stall_s:g} s (stall_s)" if error is None else in_words(error)
        return lost_frame(self._source_id, frame_id, drops, why)

    def _reopened(self, first_id: int) -> tuple[Shot, int] | None:
        """Open new devices, with growing pauses, until one gives a picture; ``None`` on `close`."""
        pause_s, began_s = self._options.back_off_s, time.monotonic()
        self._grabber.stop()
        while not self._stop.wait(max(0.0, began_s + pause_s - time.monotonic())):
            began_s = time.monotonic()
            self._grabber = Grabber(self._open_device, first_id)
            if (taken := self._next(self._options.patience_s)) is not None:
                return taken
            self._grabber.stop()
            pause_s = min(2 * pause_s, self._options.back_off_max_s)
        return None
