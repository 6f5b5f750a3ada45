"""Ctrl-C and SIGTERM as a polite request, the second time as an order; SIGHUP to read the model again."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
Stop = Callable[[str], None]


@contextmanager
def on_hangup(reload: Callable[[], None]) -> Iterator[None]:
    """Call `reload` at each SIGHUP; it must not take a lock. Outside the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, lambda _number, _frame: reload())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def stop_on_signals(stop: Stop) -> Iterator[Callable[[Stop], None]]:
    """Call `stop` with the signal's name at the first SIGINT or SIGTERM.

    A second one raises `KeyboardInterrupt` at once. Yields a function that redirects to
    another `stop`. Outside the main thread Python takes no signals: then nothing changes.
    """
    target, seen = [stop], threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        if seen.is_set():
            raise KeyboardInterrupt
        seen.set()
        target[0](signal.Signals(number).name)

    def redirect(other: Stop) -> None:
        target[0] = other

    if threading.current_thread() is not threading.main_thread():
        yield redirect
        return
    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield redirect
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
