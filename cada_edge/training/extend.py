"""Add products to a trained bundle without losing the old ones.

The data must hold the old images too: a network that sees only the new ones forgets, and a
head that sees only the new ones no longer knows what is normal elsewhere. What is saved is
the encoder, the settings, every image's role (what calibrated stays unseen) and, for
detectors fitted by gradient descent, the weights to go on from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cada_edge.bundle import Bundle
from cada_edge.data.dataset import Item
from cada_edge.data.split import ROLES, Role
from cada_edge.errors import BundleError, ConfigError, DataError
from cada_edge.models.store import load_model
from cada_edge.models.unified import UnifiedModel
from cada_edge.training.config import TrainConfig

_REHEARSED: tuple[Role, ...] = ("fit", "align")
_SHARE_OF_STEPS = 3  # going on takes this many times fewer steps than starting afresh


@dataclass(frozen=True)
class Base:
    """What an earlier training left.

    Attributes:
        model: its encoder, detector and head, loaded.
        config: its settings.
        roles: sha256 of each of its images to its role.
        sha256: digest of its bundle.
        extended: True when it was an extension itself, so that its steps are few and gentle already.
    """

    model: UnifiedModel
    config: TrainConfig
    roles: Mapping[str, Role]
    sha256: str
    extended: bool = False

    @staticmethod
    def of(bundle: Bundle) -> Base:
        """Read it off a bundle. Raises `BundleError` when that was not made by `train`."""
        stage = next((stage for stage in bundle.manifest.provenance if stage.name == "train"), None)
        if stage is None:
            raise BundleError("only a bundle made by `cada-edge train` can be extended; this one has no such record")
        try:
            config = TrainConfig.from_json(stage.config, bundle.manifest.detector.kind)
        except (ConfigError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"the bundle's record of its training cannot be read: {error}; train afresh") from error
        by_role = bundle.roles()
        roles: dict[str, Role] = {digest: role for role in ROLES for digest in by_role.get(role, frozenset())}
        return Base(load_model(bundle), config, roles, bundle.sha256, "extends" in stage.results)

    def settings(
        self,
        iterations: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        **others: Any,
    ) -> TrainConfig:
        """The settings to go on with: the earlier ones, by default with fewer and gentler steps.

        Args:
            iterations: a third of the first training's unless given.
            learning_rate: half the first training's unless given.
            batch_size: the earlier one unless given.
            others: ``seed`` and ``device``, likewise.
        """
        fit = self.config.fit
        if not self.extended:
            fit = replace(
                fit, iterations=max(1, fit.iterations // _SHARE_OF_STEPS), learning_rate=fit.learning_rate / 2
            )
        given = {"iterations": iterations, "learning_rate": learning_rate, "batch_size": batch_size}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return replace(self.config, fit=replace(fit, **changes), **others)

    def check(self, items: tuple[Item, ...]) -> None:
        """Raise `DataError` when images the old model learned from are missing, or nothing is new."""
        given = {item.sha256 for item in items}
        needed = {digest for digest, role in self.roles.items() if role in _REHEARSED}
        missing = needed - given
        if missing:
            raise DataError(
                f"{len(missing)} of the {len(needed)} images the bundle learned from are not in the data; "
                "without them the old products would be forgotten: give a folder that holds old and new images"
            )
        if not given - set(self.roles):
            raise DataError(f"all {len(given)} images were there when the bundle was trained; nothing to add")
