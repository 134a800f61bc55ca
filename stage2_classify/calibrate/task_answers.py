"""The votes on one task that calibrate it, one row per photo. Knows arrays. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class TaskAnswers:
    """The votes on one task, one row per photo."""

    task: str
    classes: tuple[str, ...]
    probs: Floats
    """(N, C) probabilities, as `predict` gives them."""
    targets: Ints
    """(N,) true class numbers."""
    people: Ints
    """(N,) numbers of persons, from 0."""
    facts: Mapping[str, Sequence[str | None]]
    """Name of a fact -> (N,) its word, None where it is not known."""
    swapped: tuple[Ints, Floats] | None = None
    """(M,) rows of the photos with a swapped crop, and (M, C) probabilities there; None where a
    run has none."""
    hashes: frozenset[str] = frozenset()
    """Hashes of the persons, see `person_hash`; empty out of fold."""

    def count_people(self) -> dict[str, int]:
        """Return class -> number of people with a photo of it."""
        return {
            name: len(np.unique(self.people[self.targets == code]))
            for code, name in enumerate(self.classes)
        }
