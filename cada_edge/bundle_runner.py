"""What runners of a bundle's graph share: its contract, and closing when a ``with`` block ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from cada_edge.bundle import Bundle
from cada_edge.errors import EngineError
from cada_edge.protocols import check_batch
from cada_edge.types import ImageSpec, MapSpec, Prediction, UInt8Array

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self  # in `typing` only from 3.11


class BundleRunner(ABC):
    """A `cada_edge.protocols.Runner` of a bundle, but for what runs it.

    Args:
        bundle: whose contract holds.
        batch: the one batch size that can be run; ``None`` for any.
    """

    def __init__(self, bundle: Bundle, batch: int | None = None) -> None:
        self._spec, self._map_spec = bundle.manifest.spec, bundle.manifest.map_spec
        self._size = batch
        self._open = True

    @property
    def spec(self) -> ImageSpec:
        """Preprocessing the graph expects."""
        return self._spec

    @property
    def map_spec(self) -> MapSpec:
        """Shape of the maps it returns."""
        return self._map_spec

    def infer(self, batch: UInt8Array) -> Prediction:
        """Judge uint8 (N, H, W, 3) RGB, N >= 1; the arrays returned belong to the caller.

        Raises `EngineError` for another shape or dtype, after `close`, or when the backend fails.
        """
        if not self._open:
            raise EngineError("the runner is closed; open a new one")
        check_batch(batch, self._spec, self._size)
        return self._infer(batch)

    def close(self) -> None:
        """Free what the runner holds. Safe to call twice."""
        if self._open:
            self._open = False
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _infer(self, batch: UInt8Array) -> Prediction:
        """Judge a batch that fits the contract. Raises `EngineError`."""

    @abstractmethod
    def _release(self) -> None:
        """Free what `_infer` needs; called once."""
