"""Out-of-fold probabilities of several runs for one task, and what votes on them score.

Knows arrays; knows nothing of runs' folders, models or torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cropfirst.core.bootstrap import Interval
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.metrics.calibration import confidence_gaps
from cropfirst.stage2_classify.metrics.intervals import Paired, ece_intervals, paired_difference
from cropfirst.stage2_classify.metrics.scores import macro_f1, majority_score
from cropfirst.stage2_classify.voting.blend import TaskVote, blend
from cropfirst.stage2_classify.voting.vote_plan import TaskPlan

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

N_FOLDS = 5
"""Number of folds that votes are fitted and judged on."""


@dataclass(frozen=True)
class TaskData:
    """Several runs' out-of-fold probabilities for one task, one row per photo."""

    task: str
    targets: Ints
    """(N,) class numbers."""
    people: Ints
    """(N,) numbers of persons."""
    runs: tuple[str, ...]
    """Names of the M runs."""
    probs: Floats
    """(M, N, C) probabilities."""
    photo_weights: Floats
    """(M, N) weight of each run on each photo, from 0 to 1."""
    route: str = ""
    """Task whose classes may have weights of their own; "" = none."""
    route_probs: Mapping[str, Floats] | None = None
    """Class of that task -> (N,) out-of-fold probability."""

    @property
    def n_classes(self) -> int:
        """Number of classes of the task."""
        return int(self.probs.shape[2])

    @property
    def majority_f1(self) -> float:
        """Macro F1 of always predicting the most frequent class."""
        return majority_score(np.bincount(self.targets)).macro_f1

    @property
    def n_people(self) -> int:
        """Number of different persons."""
        return len(np.unique(self.people))

    def take(self, rows: npt.NDArray[np.int64]) -> TaskData:
        """Return the data of some photos."""
        routes = self.route_probs
        return replace(
            self,
            targets=self.targets[rows],
            people=self.people[rows],
            probs=self.probs[:, rows],
            photo_weights=self.photo_weights[:, rows],
            route_probs=routes and {name: column[rows] for name, column in routes.items()},
        )

    def vote(self, plan: TaskPlan) -> TaskVote:
        """Return the vote of the runs on these photos."""
        return blend(
            dict(zip(self.runs, self.probs, strict=True)),
            plan,
            photo_weights=dict(zip(self.runs, self.photo_weights, strict=True)),
            route_probs=self.route_probs,
        )

    def macro_f1(self, preds: Ints) -> float:
        """Return the macro F1 of (N,) class numbers."""
        return macro_f1(self.targets, preds, self.n_classes)

    def gain(self, before: Ints, after: Ints) -> Interval:
        """Return how much macro F1 rises, with its 95 % interval over people."""
        pair = Paired(self.people, self.targets, (before, after), self.n_classes)
        return paired_difference([pair])

    def calibration(self, before: TaskVote, after: TaskVote) -> tuple[Interval, Interval, Interval]:
        """Return both expected calibration errors and their difference, with intervals."""
        gaps = [confidence_gaps(vote.probs, self.targets) for vote in (before, after)]
        first, last, change = ece_intervals(self.people, gaps)
        return first, last, change

    def split(self) -> npt.NDArray[np.int32]:
        """Return (N,) numbers of folds; all photos of a person are in one fold.

        Raises:
            TrainError: fewer than two persons.
        """
        from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

        if self.n_people < 2:
            raise TrainError(
                f"{self.task}: weights are fitted on some people and judged on others, and the "
                f"out-of-fold predictions are of {self.n_people} person: train more folds, or on "
                "more people"
            )
        n_folds = min(N_FOLDS, self.n_people)
        splitter: Any = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
        if np.bincount(self.targets).max() < n_folds:  # too few photos to stratify
            splitter = GroupKFold(n_folds)
        folds = np.zeros(len(self.targets), np.int32)
        with warnings.catch_warnings():
            # Where fewer persons have a class than there are folds, some folds are without it.
            warnings.filterwarnings("ignore", message="The least populated class")
            parts = splitter.split(folds, self.targets, self.people)
            for number, (_, inside) in enumerate(parts):
                folds[inside] = number
        return folds
