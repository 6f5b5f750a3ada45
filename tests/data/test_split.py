from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_edge.data.split import ROLES, RoleFractions, assign_roles
from cada_edge.errors import ConfigError, DataError

DIGESTS = st.lists(st.integers(0, 2**64).map(lambda n: f"{n:064x}"), min_size=3, max_size=120, unique=True)
FRACTIONS = st.tuples(*[st.integers(1, 50)] * 3).map(lambda n: RoleFractions(*(part / sum(n) for part in n)))
SEEDS = st.integers(0, 2**32)


@given(digests=DIGESTS, fractions=FRACTIONS, seed=SEEDS, data=st.data())
def test_order_and_copies_change_nothing(
    digests: list[str], fractions: RoleFractions, seed: int, data: st.DataObject
) -> None:
    """A role follows from content and seed: shuffled and repeated lists give the same roles."""
    copies = data.draw(st.lists(st.sampled_from(digests), max_size=20))
    shuffled = data.draw(st.permutations(digests + copies))
    assert assign_roles(shuffled, fractions, seed) == assign_roles(digests, fractions, seed)


@given(digests=DIGESTS, fractions=FRACTIONS, seed=SEEDS)
def test_counts_are_exact_and_no_role_is_empty(digests: list[str], fractions: RoleFractions, seed: int) -> None:
    """Each role has its share by largest remainder, and at least one image."""
    counts = Counter(assign_roles(digests, fractions, seed).values())
    assert counts == Counter(fractions.counts(len(digests)))
    assert sum(counts.values()) == len(digests)
    for role in ROLES:
        share = getattr(fractions, role) * len(digests)
        assert counts[role] >= 1
        assert counts[role] == 1 or abs(counts[role] - share) <= 2


@given(digests=DIGESTS, fractions=FRACTIONS, seed=SEEDS, data=st.data())
def test_groups_stay_together(digests: list[str], fractions: RoleFractions, seed: int, data: st.DataObject) -> None:
    """Images of one group share a role, and every role still has one."""
    groups = {digest: data.draw(st.integers(0, 9)) for digest in digests[3:]}
    roles = assign_roles(digests, fractions, seed, groups)
    for group in set(groups.values()):
        assert len({roles[digest] for digest in groups if groups[digest] == group}) == 1
    assert set(roles.values()) == set(ROLES)
    assert set(roles) == set(digests)


def test_groups_of_a_few_meet_the_shares_nearly() -> None:
    """Six exposures per part: each role is off by less than one part."""
    digests = [f"{number:064x}" for number in range(240)]
    roles = assign_roles(digests, RoleFractions(), 0, {d: int(d, 16) // 6 for d in digests})
    counts = Counter(roles.values())
    assert counts == {"fit": 180, "align": 30, "calibrate": 30}


def test_another_seed_gives_another_split() -> None:
    """The seed matters, and the same seed repeats itself."""
    digests = [f"{number:064x}" for number in range(64)]
    assert assign_roles(digests, RoleFractions(), 1) != assign_roles(digests, RoleFractions(), 2)
    assert assign_roles(digests, RoleFractions(), 1) == assign_roles(digests, RoleFractions(), 1)


def test_the_split_is_a_fixed_function() -> None:
    """Known digests and seed give known roles: bundles made earlier keep their split."""
    roles = assign_roles([f"{number:064x}" for number in range(8)], RoleFractions(), 0)
    assert [role[0] for role in roles.values()] == list("fafcffff")


@pytest.mark.parametrize("digests", [[], ["a"], ["a", "b"], ["a", "b", "b", "a"]])
def test_fewer_than_three_different_images_are_refused(digests: list[str]) -> None:
    """One image, or copies of two, cannot fill three roles; both numbers are named."""
    with pytest.raises(DataError, match=f"found {len(set(digests))} different images, expected at least 3"):
        assign_roles(digests, RoleFractions(), 0)


def test_fewer_than_three_groups_are_refused() -> None:
    """Many images of two parts are still two."""
    digests = [str(number) for number in range(10)]
    with pytest.raises(DataError, match="found 2 different parts in 10 images"):
        assign_roles(digests, RoleFractions(), 0, {digest: int(digest) % 2 for digest in digests})


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ((0.5, 0.5, 0.0), "calibrate: got 0.0"),
        ((0.5, 0.4, 0.2), "sum to 1.1"),
        ((float("nan"), 0.5, 0.5), "fit: got nan"),
        ((1.2, -0.1, -0.1), "align: got -0.1"),
    ],
)
def test_fractions_are_checked(shares: tuple[float, float, float], message: str) -> None:
    """Each share is a positive number and they sum to 1."""
    with pytest.raises(ConfigError, match=message):
        RoleFractions(*shares)
