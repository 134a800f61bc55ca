"""Scores and costs of the lines of a sweep.

Reads the tables that train wrote; loads no model. No torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.metrics.scores import macro_f1, majority_score
from cropfirst.stage2_classify.runs.choice import ChooseBy, Kind
from cropfirst.stage2_classify.runs.oof_predictions import OofPredictions, read_oof, read_people
from cropfirst.stage2_classify.runs.oof_vote import answer, voters_for
from cropfirst.stage2_classify.runs.parquet import read_parquet
from cropfirst.stage2_classify.runs.swapped_scores import SWAPPED_FILE

Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class TaskRows:
    """A line's out-of-fold predictions for one task, one row per photo."""

    keys: tuple[str, ...]
    targets: Ints
    preds: Ints
    n_classes: int

    @property
    def macro_f1(self) -> float:
        """Macro F1 over all rows together."""
        return macro_f1(self.targets, self.preds, self.n_classes)

    @property
    def majority_f1(self) -> float:
        """Macro F1 of always predicting the most frequent class of these rows."""
        return majority_score(np.bincount(self.targets)).macro_f1


@dataclass(frozen=True)
class Cost:
    """The cost of training a line."""

    epochs: int
    """Largest number of epochs of a fold."""
    image_size: int | None
    """Side of the models' input in pixels; None where it differs between runs."""
    n_params: int
    """Number of parameters, summed over the runs."""
    seconds: float
    """Time in epochs, summed over folds and runs."""


@dataclass(frozen=True)
class LineScores:
    """The scores of a line over its finished folds."""

    name: str
    tasks: Mapping[str, TaskRows]
    """Task, or combined code, that its runs predict -> rows that lines are compared by: in swapped
    rooms, or out of fold."""
    oof: Mapping[str, TaskRows]
    """Task or code -> rows out of fold."""
    people: Mapping[str, str]
    """Key -> person; a photo of an unknown person counts as its own person."""
    folds: Mapping[str, Mapping[str, int]]
    """Task -> key -> fold."""
    cost: Cost
    n_finished: int
    n_jobs: int
    failures: tuple[str, ...]
    """Reason for each job that is not finished."""

    def over_folds(self, tasks: Sequence[str]) -> tuple[float, float]:
        """Return mean and standard deviation (n - 1) over the folds; NaN without a fold."""
        per_fold = [scores for scores in self._fold_scores(tasks) if len(scores) == len(tasks)]
        means = [float(np.mean(scores)) for scores in per_fold]
        if not means:
            return float("nan"), float("nan")
        return float(np.mean(means)), float(np.std(means, ddof=1)) if len(means) > 1 else 0.0

    def pooled(self, tasks: Sequence[str]) -> float:
        """Return macro F1 over all finished folds together, as mean over tasks."""
        return float(np.mean([self.tasks[task].macro_f1 for task in tasks]))

    def majority_f1(self, tasks: Sequence[str]) -> float:
        """Return macro F1 of always predicting the most frequent class, as mean over tasks."""
        return float(np.mean([self.tasks[task].majority_f1 for task in tasks]))

    def pooled_oof(self, tasks: Sequence[str]) -> float:
        """Return macro F1 of the out-of-fold predictions, as mean over tasks."""
        return float(np.mean([self.oof[task].macro_f1 for task in tasks]))

    def _fold_scores(self, tasks: Sequence[str]) -> list[list[float]]:
        numbers = sorted({fold for task in tasks for fold in self.folds.get(task, {}).values()})
        scores: list[list[float]] = [[] for _ in numbers]
        for task in tasks:
            rows = self.tasks.get(task)
            if rows is None:
                continue
            folds = np.array([self.folds[task][key] for key in rows.keys])
            for place, number in enumerate(numbers):
                inside = folds == number
                if inside.any():
                    score = macro_f1(rows.targets[inside], rows.preds[inside], rows.n_classes)
                    scores[place].append(score)
        return scores


def kind_of_scores(lines: Iterable[Sequence[Path]], choose_by: ChooseBy) -> Kind:
    """Return the predictions that lines are compared by: in swapped rooms if all runs have them.

    Args:
        lines: run folders of each line; those without a finished fold do not count.
    """
    trained = [run for runs in lines for run in runs if (run / "oof.parquet").is_file()]
    swapped = all((run / SWAPPED_FILE).is_file() for run in trained)
    return "swapped" if trained and swapped and choose_by != "oof" else "oof"


def read_line(
    name: str,
    runs: Sequence[Path],
    schema: LabelSchema,
    *,
    n_jobs: int,
    n_finished: int,
    kind: Kind = "oof",
    failures: Sequence[str] = (),
) -> LineScores:
    """Score the finished folds of a line's runs.

    Args:
        runs: run folders of the line; some may have no finished fold.
        kind: predictions that lines are compared by, see `kind_of_scores`.
    """
    trained = [run for run in runs if (run / "oof.parquet").is_file()]
    own = [read_oof(run, schema, name=run.name) for run in trained]
    oof = _score_tasks(own, schema)
    in_rooms = [each.swapped for each in own if each.swapped is not None]
    tasks = _score_tasks(in_rooms, schema) if kind == "swapped" else oof
    tables = {run: read_parquet(run / "folds.parquet") for run in trained}
    folds = {
        task: dict(tables[run].select("key", "fold").iter_rows())
        for task in tasks
        if (run := voters_for(own, task, schema)[0].path) is not None
    }
    return LineScores(
        name,
        tasks,
        oof,
        read_people(trained),
        folds,
        _cost(trained),
        n_finished,
        n_jobs,
        tuple(failures),
    )


def _score_tasks(oofs: Sequence[OofPredictions], schema: LabelSchema) -> dict[str, TaskRows]:
    """Return task or code -> rows of the vote of a line's runs."""
    tasks = {}
    for task in schema.names:
        voters = voters_for(oofs, task, schema)
        if not voters:
            continue
        answered = answer(voters, task, schema)
        if answered.keys:
            tasks[task] = TaskRows(
                answered.keys, answered.targets, answered.preds, schema.num_classes(task)
            )
    return tasks


def shared_tasks(lines: Sequence[LineScores], schema: LabelSchema) -> tuple[str, ...]:
    """Return the tasks that all lines with scores predict, by which they are compared.

    The combined code counts only where no other task is shared, since it repeats its parts.

    Raises:
        TrainError: no task is predicted by all lines.
    """
    scored = [line for line in lines if line.tasks]
    if not scored:
        return ()
    common = [name for name in schema.names if all(name in line.tasks for line in scored)]
    if not common:
        found = "; ".join(f"{line.name}: {', '.join(line.tasks)}" for line in scored)
        raise TrainError(
            f"the lines have no task in common to be compared by ({found}): set --task"
        )
    return tuple(name for name in common if not schema.is_combined(name)) or tuple(common)


def check_same_folds(lines: Sequence[LineScores]) -> tuple[str, ...]:
    """Return notes on lines whose folds, persons or photos differ from those of the first one."""
    notes = []
    scored = [line for line in lines if line.tasks]
    for line in scored[1:]:
        for task in line.tasks:
            first, other = scored[0].folds.get(task), line.folds[task]
            if first is not None and first != other:
                notes.append(
                    f"{line.name} and {scored[0].name} have different folds for {task}, since they "
                    "train on different tasks or photos: compare the differences, which are "
                    "paired by photo, not the means over folds"
                )
    return tuple(notes)


def _cost(runs: Sequence[Path]) -> Cost:
    metas: list[dict[str, Any]] = []
    seconds, epochs, n_params = 0.0, 0, 0
    for run in runs:
        of_run = [_read_json(path) for path in sorted(run.glob("fold*/last/meta.json"))]
        metas += of_run
        n_params += int(of_run[0].get("n_params", 0)) if of_run else 0
        for path in run.glob("fold*/history.csv"):
            table = pl.read_csv(path)
            epochs = max(epochs, table.height)
            seconds += float(table["seconds"].sum()) if "seconds" in table.columns else 0.0
    sizes = {meta["image_size"] for meta in metas}
    return Cost(epochs, sizes.pop() if len(sizes) == 1 else None, n_params, seconds)


def _read_json(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return data
