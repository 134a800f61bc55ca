"""Sets of classes that stay possible for a face, by the limits of a conformal calibration.

A class stays possible where its probability reaches the class's limit, which depends on the error
rate that is asked for. Knows the table of limits; knows nothing of how it was made. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

TOLERANCE = 1e-9
"""Difference between error rates that rounding may make."""


@dataclass(frozen=True)
class ClassLimits:
    """The limits of one class."""

    people: int
    """Number of people who have calibrated the class: n carry error rates from 1 / (n + 1)."""
    alphas: tuple[float, ...]
    """Error rates within (0, 1), ascending."""
    limits: tuple[float, ...]
    """The least probability, in [0, 1], with which the class is possible at each error rate."""

    def at(self, alpha: float) -> float:
        """Return the limit at the largest error rate of the table that is not above `alpha`.

        Raises:
            ValueError: the table has none that small.
        """
        place = int(np.searchsorted(self.alphas, alpha + TOLERANCE, side="right")) - 1
        if place < 0:
            raise ValueError(f"{self.people} people do not carry an error rate of {alpha:g}")
        return self.limits[place]


@dataclass(frozen=True)
class SetTable:
    """The limits of all classes of one task."""

    classes: Mapping[str, ClassLimits]
    """Name of the class -> its limits, in the order of the class numbers."""

    @property
    def smallest_alpha(self) -> float:
        """The smallest error rate that every class carries."""
        return max(each.alphas[0] for each in self.classes.values())

    def at(self, alpha: float) -> npt.NDArray[np.float64]:
        """Return the (C,) limits at an error rate.

        Raises:
            ValueError: a class has too few people for it, or it is not within (0, 1).
        """
        if not 0 < alpha < 1:
            raise ValueError(f"an error rate is above 0 and below 1, got {alpha:g}")
        if alpha < self.smallest_alpha - TOLERANCE:
            few = ", ".join(f"{name} {each.people}" for name, each in self.classes.items())
            raise ValueError(
                f"an error rate of {alpha:g} needs more people than have calibrated the classes "
                f"({few}): they carry {self.smallest_alpha:.3g} or more"
            )
        return np.array([each.at(alpha) for each in self.classes.values()])

    def to_dict(self) -> dict[str, Any]:
        """Return the table as JSON types."""
        return {
            "classes": {
                name: {
                    "people": each.people,
                    "alphas": list(each.alphas),
                    "limits": list(each.limits),
                }
                for name, each in self.classes.items()
            }
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SetTable:
        """Return the table that `to_dict` has written; further entries are ignored.

        Raises:
            ValueError: the data are no such table.
        """
        try:
            classes = {str(name): _class_limits(own) for name, own in data["classes"].items()}
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"no table of limits ({error!r})") from error
        if not classes:
            raise ValueError("the table of limits has no class")
        return cls(classes)


def possible_classes(
    probs: npt.NDArray[np.floating], limits: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Return (N, C): whether each class stays possible, of (N, C) probabilities and (C,) limits."""
    return np.asarray(probs >= limits)


def names_of(possible: npt.NDArray[np.bool_], classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the possible classes in one (C,) set."""
    return tuple(name for name, yes in zip(classes, possible, strict=True) if yes)


def count_sizes(possible: npt.NDArray[np.bool_]) -> dict[str, int]:
    """Return how many of (N, C) sets have `one` class, `several` and `none`."""
    sizes = possible.sum(axis=1)
    return {
        "one": int((sizes == 1).sum()),
        "several": int((sizes > 1).sum()),
        "none": int((sizes == 0).sum()),
    }


def _class_limits(data: Mapping[str, Any]) -> ClassLimits:
    alphas = tuple(float(each) for each in data["alphas"])
    limits = tuple(float(each) for each in data["limits"])
    found = ClassLimits(int(data["people"]), alphas, limits)
    rising = all(one < two for one, two in pairwise((0.0, *alphas, 1.0)))
    ordered = all(one <= two for one, two in pairwise((0.0, *limits, 1.0)))
    if not (alphas and rising and ordered and len(alphas) == len(limits)):
        raise ValueError(
            "a class needs error rates within (0, 1) that ascend, and as many limits within "
            f"[0, 1] that do not fall; got {alphas[:3]} and {limits[:3]}"
        )
    return found
