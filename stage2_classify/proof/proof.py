"""The tables and the picture of the proof command, from the files that the other commands wrote.

Knows metrics.json and evaluation.json; loads no model. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from cropfirst.core.bootstrap import Interval
from cropfirst.core.charts import COLOURS, INK, new_figure, style_axes, write_png
from cropfirst.core.errors import DataError, TrainError
from cropfirst.stage2_classify.runs.json_files import read_json, write_json

COLUMNS = ("validation", "swapped rooms", "new place")
"""Out-of-fold F1, swapped-rooms F1, and macro F1 on the eval photos."""
LEAST_RUNS = 4
"""Number of runs from which on it is shown how well each score predicts the new place."""


@dataclass(frozen=True)
class ProofRow:
    """The macro F1 of one run on one task: where it was validated, and in other places."""

    task: str
    title: str
    """Description of what its crops show."""
    recipe: str
    """Name of its recipe; "" for none."""
    run: str
    validation: float
    """Macro F1 out of fold."""
    swapped: Interval | None
    """Macro F1 in swapped rooms, with its interval over people; None if not scored there."""
    new_place: Interval | None
    """Macro F1 on the eval photos, with its interval over people where it is known; None if their
    labels are not known."""
    majority: float
    """Macro F1 of always predicting the most frequent class, out of fold."""


@dataclass(frozen=True)
class Agreement:
    """The agreement of a score of some runs with their score in a new place."""

    score: str
    rank_correlation: float
    """Spearman's rank correlation, -1 to 1; NaN where all runs have the same score."""
    distance: float
    """Mean absolute difference."""
    n_runs: int


def read_row(
    run: Path, task: str, evaluation: Path | None, *, title: str, recipe: str = ""
) -> ProofRow:
    """Read the scores of a run on one task.

    Args:
        title: what its crops show.
        recipe: name of its recipe.
        evaluation: evaluation.json of its predictions for the eval photos, if there is one.

    Raises:
        TrainError: the run is not finished, or was not trained on the task.
        DataError: the evaluation has no score of the task.
    """
    about = read_json(run / "metrics.json")["tasks"]
    if task not in about:
        raise TrainError(f"{run} was trained on {', '.join(about)}, not on {task}")
    found = about[task].get("swapped")
    return ProofRow(
        task,
        title,
        recipe,
        run.name,
        about[task]["macro_f1"],
        None if found is None else Interval(found["macro_f1"], found["low"], found["high"]),
        None if evaluation is None else _read_evaluation(evaluation, task),
        about[task]["majority_macro_f1"],
    )


def agreements(rows: Sequence[ProofRow]) -> list[Agreement]:
    """Return how well validation and swapped rooms predict the new place; empty for few runs."""
    from scipy.stats import spearmanr

    scores: dict[str, Callable[[ProofRow], float | None]] = {
        COLUMNS[0]: lambda row: row.validation,
        COLUMNS[1]: lambda row: None if row.swapped is None else row.swapped.value,
    }
    known = [row for row in rows if row.new_place is not None and row.swapped is not None]
    if len(known) < LEAST_RUNS:
        return []
    truth = np.array([row.new_place.value for row in known if row.new_place])
    found = []
    for name, score in scores.items():
        values = np.array([score(row) for row in known], np.float64)
        varies = min(np.ptp(values), np.ptp(truth)) > 0
        rank = float(spearmanr(values, truth).statistic) if varies else float("nan")
        found.append(Agreement(name, rank, float(np.abs(values - truth).mean()), len(known)))
    return found


def proof_table(rows: Sequence[ProofRow], task: str) -> Table:
    """Return the table of the runs on one task, within 80 columns."""
    own = [row for row in rows if row.task == task]
    table = Table(
        title=f"{task}: macro F1, with 95 % intervals over people",
        caption=f"always predicting the most frequent class: {own[0].majority:.3f}",
        box=SIMPLE_HEAD,
    )
    recipes = len({row.recipe for row in own}) > 1
    table.add_column("crops")
    if recipes:
        table.add_column("recipe", overflow="fold")
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in own:
        table.add_row(
            row.title,
            *([row.recipe] if recipes else []),
            f"{row.validation:.3f}",
            _with_interval(row.swapped),
            _with_interval(row.new_place),
        )
    return table


def write_proof(rows: Sequence[ProofRow], folder: Path) -> Path:
    """Write proof.json and proof.png into a folder; return the path of the picture."""
    write_json(
        folder / "proof.json",
        {
            "rows": [asdict(row) for row in rows],
            "agreements": [asdict(each) for each in agreements(rows)],
        },
    )
    tasks = list(dict.fromkeys(row.task for row in rows))
    longest = max(sum(row.task == task for row in rows) for task in tasks)
    figure = new_figure(3.4 + 3.8 * len(tasks), 0.5 * longest + 1.5)
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for panel, task in zip(panels, tasks, strict=True):
        _draw_task(panel, [row for row in rows if row.task == task], task)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper right", ncols=len(COLUMNS), frameon=False, fontsize=8
    )
    path = folder / "proof.png"
    write_png(path, figure)
    return path


def _draw_task(axes: Any, rows: Sequence[ProofRow], task: str) -> None:
    for place, (name, colour) in enumerate(zip(COLUMNS, COLOURS, strict=False)):
        drawn = []
        for line, row in enumerate(rows):
            plain = Interval(row.validation, row.validation, row.validation)
            point = (plain, row.swapped, row.new_place)[place]
            if point is not None:
                height = line + 0.2 * (place - 1)
                axes.plot([point.low, point.high], [height] * 2, color=colour, linewidth=2)
                drawn.append((point.value, height))
        if drawn:
            axes.plot(*np.transpose(drawn), "o", color=colour, markersize=6, label=name)
    for line, row in enumerate(rows):
        axes.plot([row.majority] * 2, [line - 0.35, line + 0.35], color=INK, linewidth=1)
    recipes = len({row.recipe for row in rows}) > 1
    names = [f"{row.title} ({row.recipe})" if recipes else row.title for row in rows]
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("macro F1; black line: always the most frequent class")
    style_axes(axes, task)


def _read_evaluation(path: Path, task: str) -> Interval:
    found: Mapping[str, Any] = read_json(path)
    for each in found.get("diagnoses") or ():
        if each["task"] == task:
            return Interval(**each["macro_f1"])
    for each in reversed(found["reports"]):
        if each["task"] == task:
            return Interval(each["macro_f1"], each["macro_f1"], each["macro_f1"])
    raise DataError(f"{path} has no score of {task}")


def _with_interval(value: Interval | None) -> str:
    if value is None:
        return "not known"
    if value.low == value.high:
        return f"{value.value:.3f}"
    return f"{value.value:.3f} [{value.low:.2f}, {value.high:.2f}]"
