"""Labels that are probably wrong, by confident learning on out-of-fold probabilities.

Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR
2021, by the package cleanlab. Knows probabilities, class numbers and persons; knows nothing of
files. No torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cropfirst.core.errors import TrainError

Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Issue:
    """One label that is probably wrong."""

    keys: tuple[str, ...]
    """Keys of the photos with this label: one, or all photos of a person."""
    given: int
    """Class number of the label."""
    suggested: int
    """Class number with the highest probability among the others."""
    prob_given: float
    """Out-of-fold probability of the label's class."""
    prob_suggested: float
    """Out-of-fold probability of the suggested class."""


def find_issues(
    keys: Sequence[str],
    targets: Ints,
    probs: Floats,
    people: Sequence[str | None],
    *,
    by_person: bool,
    most: int | None = None,
) -> list[Issue]:
    """Return labels that are probably wrong, the most probable first.

    Args:
        targets: (N,) class numbers.
        probs: (N, classes) out-of-fold probabilities.
        by_person: judge all photos of a person together, for a label that belongs to the person.
        most: maximum number; None = all that cleanlab finds.

    Raises:
        TrainError: cleanlab is not installed, or only one class has labels.
    """
    units = _units(keys, people) if by_person else [[row] for row in range(len(keys))]
    labels = np.array([int(targets[rows[0]]) for rows in units])
    means = np.stack([probs[rows].mean(0, dtype=np.float64) for rows in units])
    means /= means.sum(1, keepdims=True)
    found = _ranked(labels, means)
    return [
        Issue(
            keys=tuple(keys[row] for row in units[unit]),
            given=int(labels[unit]),
            suggested=int(_best_other(means[unit], int(labels[unit]))),
            prob_given=float(means[unit, labels[unit]]),
            prob_suggested=float(np.delete(means[unit], labels[unit]).max()),
        )
        for unit in found[: len(found) if most is None else most]
    ]


def is_personal(targets: Ints, people: Sequence[str | None]) -> bool:
    """Return whether every person has one class in all photos, and some have several photos."""
    classes: dict[str, set[int]] = {}
    photos = 0
    for code, person in zip(targets.tolist(), people, strict=True):
        if person is not None:
            classes.setdefault(person, set()).add(code)
            photos += 1
    return photos > len(classes) and all(len(each) == 1 for each in classes.values())


def _ranked(labels: Ints, probs: Floats) -> list[int]:
    """Return rows that cleanlab finds, the lowest probability of the label first."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise TrainError(
            "finding label issues needs the package cleanlab: pip install 'cropfirst[labels]'"
        ) from error
    # Its thresholds need an example of each class; classes without one cannot be wrong labels.
    there = np.unique(labels)
    if len(there) < 2:
        raise TrainError("finding label issues needs labels of at least two classes, got one")
    own = probs[:, there] + 1e-12
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are rare
        found = find_label_issues(
            np.searchsorted(there, labels), own / own.sum(1, keepdims=True),
            return_indices_ranked_by="self_confidence", filter_by="prune_by_noise_rate", n_jobs=1,
        )  # fmt: skip
    return [int(row) for row in found]


def _units(keys: Sequence[str], people: Sequence[str | None]) -> list[list[int]]:
    units: dict[str, list[int]] = {}
    for row, (key, person) in enumerate(zip(keys, people, strict=True)):
        units.setdefault(f"photo {key}" if person is None else f"person {person}", []).append(row)
    return list(units.values())


def _best_other(probs: Floats, given: int) -> int:
    other = probs.copy()
    other[given] = -1.0
    return int(other.argmax())
