"""Which images do what in an evaluation: decided by digest, from the bundle's own record."""

from __future__ import annotations

from dataclasses import dataclass

from cada_edge.bundle import Bundle
from cada_edge.data.dataset import Dataset, Item
from cada_edge.errors import DataError

TRAINING_ROLES = ("fit", "align", "calibrate")
HELD_ROLES = ("align", "calibrate")
NAMING_ROLES = ("fit", "align")


@dataclass(frozen=True)
class Parts:
    """The images of a data set by what they are good for.

    Attributes:
        test: test images that neither training nor the threshold has seen, >= 1.
        leaked: how many test images were left out because one of them has.
        held: good training images that the detector did not fit, each once.
        calibration: digests of those among `held` that thresholds come from.
        naming: good training images that teach a classifier product names: none that calibrates.
        never_trained: products of `test` of which training saw no image; empty where the data
            holds no training image at all, since nobody can tell then.
    """

    test: tuple[Item, ...]
    leaked: int
    held: tuple[Item, ...]
    calibration: frozenset[str]
    naming: tuple[Item, ...]
    never_trained: tuple[str, ...]


def divide(bundle: Bundle, dataset: Dataset) -> Parts:
    """Divide `dataset` by what `bundle` says it has seen.

    Raises:
        DataError: no test image is left, or none of a product that training saw.
        BundleError: the bundle does not say what it was trained on.
    """
    by_role = bundle.roles()
    train = {item.sha256: item for item in dataset.train()}

    def of_roles(names: tuple[str, ...]) -> tuple[Item, ...]:
        digests = frozenset().union(*(by_role.get(name, frozenset()) for name in names))
        return tuple(item for digest, item in train.items() if digest in digests)

    known = frozenset().union(*by_role.values())
    test = tuple(item for item in dataset.test() if item.sha256 not in known)
    _require_test(dataset, test)
    return Parts(
        test=test,
        leaked=len(dataset.test()) - len(test),
        held=of_roles(HELD_ROLES),
        calibration=by_role.get("calibrate", frozenset()),
        naming=of_roles(NAMING_ROLES),
        never_trained=_never_trained(dataset, of_roles(TRAINING_ROLES), test),
    )


def _require_test(dataset: Dataset, test: tuple[Item, ...]) -> None:
    if not test:
        found = len(dataset.test())
        why = f"all {found} test images were used in training or calibration" if found else "no test images"
        raise DataError(f"{dataset.root}: {why}; expected <product>/test/good and <product>/test/<defect>")


def _never_trained(dataset: Dataset, seen: tuple[Item, ...], test: tuple[Item, ...]) -> tuple[str, ...]:
    trained, tested = ({item.product for item in items} for items in (seen, test))
    if seen and not trained & tested:
        raise DataError(
            f"{dataset.root}: test images of {_listed(tested)} only, the bundle was trained on {_listed(trained)}; "
            "evaluate on a product it was trained on, or train it on these"
        )
    return tuple(sorted(tested - trained)) if seen else ()


def _listed(products: set[str]) -> str:
    return ", ".join(sorted(name or "(unnamed)" for name in products))
