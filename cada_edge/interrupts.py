"""A Ctrl-C stays a Ctrl-C, whatever becomes of its exception on the way out.

Python turns SIGINT into a `KeyboardInterrupt` wherever the main thread stands. Inside the
initialisation of a C extension the exception may come out as something else (an
`ImportError: initialization failed`, say), so the program cannot tell from what it catches.
Here the signal itself is noted. Worse, an exception inside an import that C++ code waits for
(torch has some) ends the process with abort; so during an import the signal is put off.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

_IMPORT_SYSTEM = "<frozen importlib._bootstrap"
_AGAIN_AFTER_S = 0.05
_arrived = threading.Event()
_put_off: list[threading.Timer] = []


def note_interrupts() -> None:
    """From now on note every SIGINT, then raise `KeyboardInterrupt` as Python does.

    Where SIGINT is ignored (nohup) or somebody else handles it, nothing changes. To be called
    from the main thread.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _note)


def _note(number: int, frame: FrameType | None) -> None:
    _arrived.set()
    if _importing(frame):
        again = threading.Timer(_AGAIN_AFTER_S, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        _put_off.append(again)
        again.start()
        return
    signal.default_int_handler(number, frame)


def forget_put_off() -> None:
    """The program ends as interrupted: a signal still put off would only hit its last breath."""
    for again in _put_off:
        again.cancel()
    _put_off.clear()


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported anywhere up the stack."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORT_SYSTEM):
            return True
        frame = frame.f_back
    return False


def is_interrupt(error: BaseException) -> bool:
    """Whether `error`, which ends the program, is a Ctrl-C or came after one.

    An exit that the program chose (`SystemExit`) stands, but for click's code 1 for an
    interrupt that it caught itself.
    """
    if isinstance(error, SystemExit):
        return error.code == 1 and _arrived.is_set()
    return isinstance(error, KeyboardInterrupt) or _arrived.is_set()
