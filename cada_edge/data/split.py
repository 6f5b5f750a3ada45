"""Which good image does what: fit the detector, align the head, or calibrate the threshold.

The three must not share an image, or the threshold's bound would be a promise about
pictures the model has seen. Roles depend on the images' content alone: renaming, reordering
or copying files changes nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

from cada_edge.errors import ConfigError, DataError

Role = Literal["fit", "align", "calibrate"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class RoleFractions:
    """Share of the different images each role gets: each > 0, together 1.

    Attributes:
        fit: train the detector.
        align: train the head that predicts a normal image's map.
        calibrate: set the threshold; seen by nothing before.
    """

    fit: float = 0.75
    align: float = 0.125
    calibrate: float = 0.125

    def __post_init__(self) -> None:
        shares = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, share in shares.items():
            if not isinstance(share, (int, float)) or not math.isfinite(share) or share <= 0:
                raise ConfigError(f"RoleFractions.{name}: got {share!r}, expected a number > 0")
        if abs(sum(shares.values()) - 1) > 1e-6:
            raise ConfigError(f"RoleFractions: {shares} sum to {sum(shares.values())}, expected 1")

    def counts(self, total: int) -> dict[Role, int]:
        """Whole numbers summing to `total` by largest remainder; each >= 1 if `total` >= 3."""
        exact: dict[Role, float] = {role: getattr(self, role) * total for role in ROLES}
        counts = {role: math.floor(share + 1e-9) for role, share in exact.items()}
        by_remainder = sorted(ROLES, key=lambda role: counts[role] - exact[role])
        for role in by_remainder[: total - sum(counts.values())]:
            counts[role] += 1
        for role in ROLES:
            if counts[role] == 0 and total >= len(ROLES):
                counts[max(ROLES, key=lambda other: counts[other])] -= 1
                counts[role] = 1
        return counts


def assign_roles(
    digests: Sequence[str],
    fractions: RoleFractions,
    seed: int,
    groups: Mapping[str, int] | None = None,
) -> dict[str, Role]:
    """Give each different image one role, decided by its content and `seed`.

    Args:
        digests: sha256 of each image; repeats count once.
        fractions: wanted shares; met exactly (largest remainder) without `groups`.
        seed: another seed, another split.
        groups: digest to group number; all images of a group (exposures of one part, for
            instance) share a role, and the shares are then met as nearly as whole groups
            allow. Digests not listed stand alone.

    Returns:
        digest to role; every role has at least one image.

    Raises:
        DataError: fewer than three different images or groups.
    """
    units = _units(digests, groups or {}, seed)
    if len(units) < len(ROLES):
        what = f"different parts in {len(set(digests))} images (near-copies show one)" if groups else "different images"
        raise DataError(
            f"found {len(units)} {what}, expected at least {len(ROLES)}: one each to fit, align and calibrate; "
            "add more good images"
        )
    room = fractions.counts(sum(len(unit) for unit in units))
    roles: dict[str, Role] = {}
    empty = set(ROLES)
    for index, unit in enumerate(units):
        allowed = empty if len(units) - index <= len(empty) else set(ROLES)
        role = max((r for r in ROLES if r in allowed), key=lambda r: room[r])
        empty.discard(role)
        room[role] -= len(unit)
        roles.update(dict.fromkeys(unit, role))
    return dict(sorted(roles.items()))


def _units(digests: Sequence[str], groups: Mapping[str, int], seed: int) -> list[list[str]]:
    """Images that must stay together, larger units first, else in an order drawn by `seed`."""
    members: defaultdict[int | str, list[str]] = defaultdict(list)
    for digest in sorted(set(digests)):
        members[groups.get(digest, digest)].append(digest)

    def draw(unit: list[str]) -> tuple[int, bytes]:
        return -len(unit), hashlib.sha256(f"{seed}:{unit[0]}".encode()).digest()

    return sorted(members.values(), key=draw)
