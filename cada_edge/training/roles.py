"""Roles for images of which some look alike: exposures of one part never sit on both sides of a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cada_edge.data.split import ROLES, Role, RoleFractions, assign_roles


def share_roles(
    digests: Sequence[str],
    groups: npt.NDArray[np.int64],
    fractions: RoleFractions,
    seed: int,
    known: Mapping[str, Role] | None = None,
) -> tuple[dict[str, Role], dict[str, Any]]:
    """One role per picture, look-alikes together, and what the grouping found, for the provenance.

    Args:
        digests: sha256 of each picture.
        groups: int64 (len(digests),), see `cada_edge.training.look_alikes.look_alike_groups`.
        fractions: wanted shares.
        seed: another seed, another split.
        known: roles that some pictures have from an earlier training and keep; what looks like
            one of them shares its role.

    Raises `DataError` when there are fewer than three different pictures.
    """
    kept = dict(known or {})
    by_group = {int(group): kept[digest] for digest, group in zip(digests, groups, strict=True) if digest in kept}
    numbers = dict(zip(digests, groups.tolist(), strict=True))
    settled = {digest: kept.get(digest, by_group.get(group)) for digest, group in numbers.items()}
    inherited: dict[str, Role] = {digest: role for digest, role in settled.items() if role is not None}
    new = [digest for digest in digests if digest not in inherited]
    together = len({numbers[digest] for digest in new}) >= len(ROLES) or not new
    shared = {
        digest: numbers[digest] if together else row for row, digest in enumerate(new)
    }  # better a split than none
    roles = {**inherited, **assign_roles(new, fractions, seed, shared)} if new else inherited
    return dict(sorted(roles.items())), {
        "look_alike_groups": len(set(numbers.values())),
        "look_alikes_share_roles": together,
    }
