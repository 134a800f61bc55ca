"""Prints what `predict` starts with, warns of and ends with. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cropfirst.core.console import say
from cropfirst.stage2_classify.datasets.sample import Sample
from cropfirst.stage2_classify.predict.ensemble_file import Ensemble
from cropfirst.stage2_classify.runs.run_paths import run_of
from cropfirst.stage2_classify.voting.class_shift import ClassShift
from cropfirst.stage2_classify.voting.submission_history import LIST


def print_shifts(console: Console, shifts: Sequence[ClassShift]) -> None:
    """Warn of tasks whose predicted class shares differ from those in training."""
    for shift in shifts:
        if shift.is_large:
            _warn(
                console,
                f"{shift}: the predicted class shares differ from those in training. The photos "
                "may be of other people; if not, check the crops and cropfirst evaluate first",
            )


def print_start(
    console: Console,
    ensemble: Ensemble,
    samples: Sequence[Sample],
    statuses: Sequence[str],
    *,
    device: str,
) -> None:
    """Print the ensemble's runs, and warn of what is missing."""
    found = ensemble.found
    table = Table(title=f"{len(samples)} photos, {len(found.folders)} members on {device}")
    for column in ("run", "folds", "tasks", "crops"):
        table.add_column(column)
    by_run: dict[Path, list[Mapping[str, Any]]] = {}
    for folder, meta in zip(found.folders, found.metas, strict=True):
        by_run.setdefault(run_of(folder), []).append(meta)
    for run, metas in by_run.items():
        folds = ", ".join(str(meta.get("fold", "?")) for meta in metas)
        cells = (run.name, folds, ", ".join(metas[0]["heads"]), metas[0]["crop_set"]["name"])
        table.add_row(*map(Text, cells))
    console.print(table)
    say(console, f"weights: {ensemble.note}")
    for note in ensemble.voters.notes:
        _warn(console, note)
    if found.unfinished:
        names = ", ".join(str(fold) for fold in found.unfinished[:3])
        _warn(
            console,
            f"left out: {len(found.unfinished)} folds whose training is not finished ({names})",
        )
    if all(sample.split == "train" for sample in samples):
        _warn(
            console,
            "there is no eval split: the members may have been trained on these photos. For scores "
            "on people that they were not trained on, run cropfirst evaluate",
        )
    if missing := list(statuses).count("missing"):
        _warn(
            console,
            f"{missing} photos are not in the crop set and get the class prior: run cropfirst "
            "detect DATA again",
        )


def _warn(console: Console, text: str) -> None:
    say(console, text, style="yellow")


def print_end(
    console: Console,
    *,
    counts: Mapping[str, Mapping[str, int]],
    statuses: Mapping[str, int],
    n_several: int,
    sets: Mapping[str, Mapping[str, int]],
    alpha: float | None,
    written: Sequence[Path],
    earlier: Path | None,
    seconds: float,
) -> None:
    """Print how many photos were predicted to be of each class, and the files written.

    Args:
        n_several: number of photos with several faces.
        sets: task -> size of the sets of possible classes -> number of photos, at error rate
            `alpha`.
        earlier: where an earlier submission with other predictions is kept; None without one.
    """
    table = Table(title=f"{sum(statuses.values())} photos predicted in {seconds:.1f} s")
    table.add_column("")
    table.add_column("photos")
    for task, own in counts.items():
        table.add_row(Text(task), Text(_listed(own)))
    for task, own in sets.items():
        table.add_row(Text(f"{task}, possible at {alpha:g}"), Text(_sizes(own)))
    table.add_section()
    table.add_row("crops", Text(_listed(statuses)))
    console.print(table)
    if n_several:
        say(console, f"{n_several} photos show several faces: the prediction is for the main face")
    for path in written:
        say(console, f"written: {path}")
    if earlier is not None:
        say(
            console,
            f"the earlier submission is kept in {earlier}; {earlier.with_name(LIST)} has the runs "
            "and scores of each file",
        )


def _sizes(counts: Mapping[str, int]) -> str:
    return (
        f"one class {counts['one']}; unknown {counts['several'] + counts['none']} "
        f"(several classes {counts['several']}, none {counts['none']})"
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
