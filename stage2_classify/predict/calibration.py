"""The calibration of an ensemble's sets of classes, as ensemble.json has it.

Knows tables of limits, and what they were made of; fits nothing. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cropfirst.core.fingerprint import fingerprint
from cropfirst.door.sets import SetTable

ENTRY = "calibration"
"""Name of the entry in ensemble.json."""
OUT_OF_FOLD = "out of fold"
"""Source: each person as predicted by the models that were not trained on them."""
HELD_OUT = "held-out people"
"""Source: people that no model was trained on, as `predict` predicts them."""
_MADE_OF = ("checkpoint", "views", "runs", "tasks")
"""Entries of ensemble.json that decide the probabilities."""


@dataclass(frozen=True)
class Calibration:
    """The limits of the classes of some tasks."""

    tables: Mapping[str, SetTable]
    """Task -> limits of its classes."""
    source: str
    """`OUT_OF_FOLD` or `HELD_OUT`."""
    alpha: float
    """Error rate that is used where none is asked for."""
    people: tuple[str, ...]
    """Hashes of the held-out people who calibrated, sorted; () out of fold."""
    about: Mapping[str, Any]
    """Further entries to read, such as the coverage."""

    def limits(self, alpha: float) -> dict[str, npt.NDArray[np.float64]]:
        """Return task -> (C,) limits of its classes at an error rate.

        Raises:
            ValueError: the people of some class do not carry it.
        """
        found = {}
        for task, table in self.tables.items():
            try:
                found[task] = table.at(alpha)
            except ValueError as error:
                raise ValueError(f"{task}: {error}") from error
        return found

    def to_dict(self, ensemble: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entry of an ensemble.json that has the content `ensemble` otherwise."""
        return {
            "source": self.source,
            "alpha": self.alpha,
            "made_of": vote_fingerprint(ensemble),
            "tasks": {task: table.to_dict() for task, table in self.tables.items()},
            "people": " ".join(self.people),
            **self.about,
        }


def read_calibration(ensemble: Mapping[str, Any]) -> Calibration | str:
    """Return the calibration in the content of an ensemble.json, or why there is none.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is damaged.
    """
    data = ensemble.get(ENTRY)
    if data is None:
        return "it has no calibration"
    if data["made_of"] != vote_fingerprint(ensemble):
        return "its calibration was made for other runs or another vote"
    tables = {str(task): SetTable.from_dict(table) for task, table in data["tasks"].items()}
    known = ("source", "alpha", "made_of", "tasks", "people")
    about = {name: value for name, value in data.items() if name not in known}
    people = tuple(data["people"].split())
    return Calibration(tables, str(data["source"]), float(data["alpha"]), people, about)


def vote_fingerprint(ensemble: Mapping[str, Any]) -> str:
    """Return the hash of what decides an ensemble's probabilities: runs, weights, temperature."""
    return fingerprint({name: ensemble[name] for name in _MADE_OF})
