"""The model that judges at present, and how another takes its place between two parts."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cada_edge.bundle import Bundle
from cada_edge.errors import CadaEdgeError, ConfigError, LineError
from cada_edge.runtime.drift import DriftMonitor
from cada_edge.runtime.judge import Judge
from cada_edge.runtime.registers import Alarm


def _nothing() -> None:
    """Nothing is open."""


@dataclass(frozen=True)
class Model:
    """What judges.

    Attributes:
        judge: warm, once the line uses it.
        bundle: it comes from; ``None`` for a judge made by hand.
        checksum: of model and threshold, as the PLC sees it.
        recipe: its number; 0 for none.
        drift: watches what it judges; ``None`` without a bundle.
        batch: most frames to judge in one call.
        name: of its file.
        close: frees the device. Safe to call twice.
    """

    judge: Judge
    bundle: Bundle | None = None
    checksum: int = 0
    recipe: int = 0
    drift: DriftMonitor | None = None
    batch: int = 1
    name: str = ""
    close: Callable[[], None] = _nothing

    def alarms(self) -> Mapping[str, Alarm]:
        """By source, what drifts."""
        reports = self.drift.reports() if self.drift else ()
        return {
            one.source_id: (Alarm.SCORE_DRIFT if one.drifted else Alarm(0))
            | (Alarm.FEATURE_DRIFT if one.feature_drifted else Alarm(0))
            for one in reports
        }


@dataclass(frozen=True)
class Wanted:
    """A reload that was asked for: the recipe (0: the present one) and the station that waits for it, if any."""

    recipe: int = 0
    station: str = ""


@dataclass(frozen=True)
class Reloaded:
    """How a reload ended: with a warm model, or with why there is none."""

    wanted: Wanted
    model: Model | None
    error: Exception | None = None


class Reloader:
    """Reads and warms another model in a thread, beside the one that judges. For the line's thread.

    Args:
        load: opens the model of a recipe, warm. Raises `CadaEdgeError`.
    """

    def __init__(self, load: Callable[[int], Model]) -> None:
        self._load, self._asked = load, deque[Wanted]()
        self._thread: threading.Thread | None = None
        self._done: Reloaded | None = None

    def ask(self, wanted: Wanted) -> None:
        """Start as soon as no other reload is under way. Also from a signal handler or any thread."""
        if wanted not in self._asked:
            self._asked.append(wanted)

    def poll(self) -> Reloaded | None:
        """The reload that is done and not taken yet, or ``None``; starts the next one that was asked for."""
        if self._thread is None and self._asked:
            wanted = self._asked.popleft()
            self._thread = threading.Thread(target=self._run, args=(wanted,), name="cada-edge-reload", daemon=True)
            self._thread.start()
        return self._done

    def take(self) -> None:
        """What `poll` gave is dealt with."""
        self._done = self._thread = None

    def close(self) -> None:
        """Wait for a reload under way and drop what it opened."""
        if (thread := self._thread) is not None:
            thread.join()
        if (done := self._done) is not None and done.model is not None:
            done.model.close()
            self.take()

    def _run(self, wanted: Wanted) -> None:
        try:
            self._done = Reloaded(wanted, self._load(wanted.recipe))
        except CadaEdgeError as error:
            self._done = Reloaded(wanted, None, error)
        except Exception as error:  # noqa: BLE001  # a fault of a new model must not end the line that runs the old one
            self._done = Reloaded(wanted, None, LineError(f"{type(error).__name__}: {error}"))


def no_reload(_recipe: int) -> Model:
    """For a line made by hand: there is nothing to read again."""
    raise ConfigError("this line has no file to be loaded from again")
