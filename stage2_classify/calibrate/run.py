"""The calibrate command: from votes on other people to limits in ensemble.json.

Where no ensemble.json exists for the runs, one is written: all runs weigh the same, and the
temperature is fitted out of fold, as `ensemble` does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from cropfirst.core.console import say
from cropfirst.core.errors import TrainError
from cropfirst.door.sets import TOLERANCE
from cropfirst.stage2_classify.calibrate.console import (
    JUDGED_BY_OTHERS,
    print_calibration,
    print_scores,
)
from cropfirst.stage2_classify.calibrate.coverage import SetScore, fit_table, score_coverage
from cropfirst.stage2_classify.calibrate.held_out import HeldOut, answers_held_out
from cropfirst.stage2_classify.calibrate.out_of_fold import (
    answers_out_of_fold,
    read_votes,
    trained_on_everybody,
)
from cropfirst.stage2_classify.calibrate.task_answers import TaskAnswers
from cropfirst.stage2_classify.ensemble.load_tasks import load_tasks
from cropfirst.stage2_classify.ensemble.methods import fit_plan
from cropfirst.stage2_classify.metrics.calibration import confidence_gaps
from cropfirst.stage2_classify.metrics.chance import compare_with_chance
from cropfirst.stage2_classify.metrics.conformal import (
    limits_of_others,
    people_needed,
    smallest_alpha,
)
from cropfirst.stage2_classify.metrics.intervals import ece_intervals
from cropfirst.stage2_classify.predict.calibration import HELD_OUT, OUT_OF_FOLD, Calibration
from cropfirst.stage2_classify.predict.ensemble_file import (
    Ensemble,
    EnsembleSpec,
    about_of,
    choose_ensemble,
    hashes_of,
    read_ensemble,
    write_ensemble,
)
from cropfirst.stage2_classify.runs.oof_predictions import read_people
from cropfirst.stage2_classify.runs.run_paths import run_of
from cropfirst.stage2_classify.voting.vote_plan import VotePlan, equal_plan


@dataclass(frozen=True)
class CalibrationResult:
    """The limits and what they promise."""

    path: Path
    """Path of ensemble.json."""
    calibration: Calibration
    scores: tuple[SetScore, ...]
    left_out: tuple[str, ...]
    """Lines on tasks that were not calibrated."""


def calibrate(
    runs: Sequence[Path],
    *,
    path: Path,
    alphas: Sequence[float] = (0.1,),
    tasks: Collection[str] | None = None,
    data: HeldOut | None = None,
    console: Console | None = None,
) -> CalibrationResult:
    """Fit the limits of sets of classes, and write them into an ensemble.json.

    Args:
        runs: runs, folders of runs, folds or checkpoints, as `predict` takes them.
        path: ensemble.json of these runs; one that does not exist is made.
        alphas: error rates, within (0, 1), that are scored; the first is the default of a bundle.
        tasks: tasks to calibrate; None = all.
        data: people that calibrate; None = the runs' own, out of fold.

    Raises:
        TrainError: nobody to calibrate with, too few people of some class for an error rate, or
            an ensemble.json that is for other runs.
        DataError: `data` has nobody that the runs were not trained on, or no labels.
    """
    console = console or Console(quiet=True)
    voting, spec = _voting(runs, path, has_data=data is not None)
    tasks = _task_names(tasks, voting)
    say(console, f"votes: {voting.note}")
    if data is None:
        answers = _from_tables(runs, voting, spec, path, console)
    else:
        answers = answers_held_out(voting, data, tasks=tasks, console=console)
    answers, left_out = _usable(answers, tasks)
    for line in left_out:
        say(console, line, style="yellow")
    _check_people(answers, alphas)
    scores = []
    for each in answers:
        # Nobody is judged by limits that they have helped to fit.
        limits = limits_of_others(each.probs, each.targets, each.people, alphas)
        scores += score_coverage(each, limits, alphas)
    ece = {
        each.task: ece_intervals(each.people, [confidence_gaps(each.probs, each.targets)])[0]
        for each in answers
    }
    calibration = Calibration(
        {each.task: fit_table(each, alphas) for each in answers},
        OUT_OF_FOLD if data is None else HELD_OUT,
        alphas[0],
        tuple(sorted(frozenset().union(*(each.hashes for each in answers)))),
        {
            "ece": {task: vars(value) for task, value in ece.items()},
            "left_out": left_out,
            "scores": [score.to_dict() for score in scores],
        },
    )
    write_ensemble(path, replace(spec, calibration=calibration), about=about_of(path))
    print_scores(console, scores, meaning=JUDGED_BY_OTHERS)
    temperatures = {name: plan.temperature for name, plan in spec.plan.tasks.items()}
    folders = voting.found.folders
    print_calibration(
        console, calibration, ece=ece, temperatures=temperatures,
        averages_folds=len(folders) > len({run_of(each) for each in folders}),
    )  # fmt: skip
    say(console, f"written: {path}; predict --alpha uses it")
    return CalibrationResult(path, calibration, tuple(scores), tuple(left_out))


def _voting(runs: Sequence[Path], path: Path, *, has_data: bool) -> tuple[Ensemble, EnsembleSpec]:
    """Return how the runs vote: as the file at `path` says, else with equal weights."""
    if path.is_file():
        try:
            return choose_ensemble(runs, ensemble=path), read_ensemble(path)
        except TrainError as error:
            raise TrainError(
                f"{error}; or give another file, which is then made, with --ensemble FILE"
            ) from error
    voting = choose_ensemble(runs)
    found = voting.found
    folders = list(dict.fromkeys(run_of(folder) for folder in found.folders))
    names = [folder.resolve().name for folder in folders]
    name_of = {
        folder: str(folder) if names.count(name) > 1 else name
        for folder, name in zip(folders, names, strict=True)
    }
    voting = replace(voting, run_names=tuple(name_of[run_of(each)] for each in found.folders))
    plan = VotePlan({name: equal_plan(sorted(set(voting.run_names))) for name in found.tasks})
    if not (has_data and trained_on_everybody(found.folders)):
        schema, oofs = read_votes(runs, voting)
        people = read_people([oof.path for oof in oofs if oof.path])
        plan = VotePlan(
            {
                name: fit_plan(task.data, "equal", temperature=True)
                for name, task in load_tasks(oofs, schema, people, {}).items()
            }
        )
    hashes = hashes_of(found)
    spec = EnsembleSpec(
        "best_f1", (), {name_of[run]: hashes[run.resolve()] for run in folders}, plan
    )
    return replace(voting, plan=plan), spec


def _task_names(tasks: Collection[str] | None, voting: Ensemble) -> list[str]:
    """Return the tasks that were asked for, in schema order, by default all that are predicted.

    Raises:
        TrainError: the runs do not predict one of them.
    """
    schema = voting.found.schema
    predicted = schema.tasks_of(voting.found.tasks)
    there = [name for name in schema.task_names if name in predicted]
    if unknown := sorted(set(tasks or ()) - predicted):
        raise TrainError(f"--tasks {','.join(unknown)}: these runs predict {', '.join(there)}")
    return [name for name in there if tasks is None or name in tasks]


def _from_tables(
    runs: Sequence[Path], voting: Ensemble, spec: EnsembleSpec, path: Path, console: Console
) -> list[TaskAnswers]:
    if spec.checkpoint != "best_f1" or spec.tta:
        changed = ", ".join([spec.checkpoint, *spec.tta])
        raise TrainError(
            f"{path} votes with {changed}, and the runs' out-of-fold predictions are those of "
            "best_f1 without test-time augmentation: calibrate with people that no run was trained "
            "on (--data HELD_OUT)"
        )
    schema, oofs = read_votes(runs, voting, console)
    return answers_out_of_fold(oofs, schema, spec.plan)


def _usable(
    answers: Sequence[TaskAnswers], tasks: Sequence[str]
) -> tuple[list[TaskAnswers], list[str]]:
    """Return the tasks to calibrate, and lines on those that cannot be, since they are at chance.

    Raises:
        TrainError: none is left.
    """
    there = [each.task for each in answers]
    kept = []
    blank = [task for task in tasks if task not in there]
    left_out = [f"{task} is not calibrated: nobody has a label" for task in blank]
    for each in answers:
        if each.task not in tasks:
            continue
        preds = each.probs.argmax(axis=1)
        chance = compare_with_chance(each.people, each.targets, preds, len(each.classes))
        if chance.is_better:
            kept.append(each)
        else:
            left_out.append(
                f"{each.task} is not calibrated: no better than chance ({chance}), so a set of one "
                "class would be right as rarely as a guess"
            )
    if not kept:
        raise TrainError("; ".join(left_out))
    return kept, left_out


def _check_people(answers: Sequence[TaskAnswers], alphas: Sequence[float]) -> None:
    """Check that the people of every class carry every error rate.

    Raises:
        TrainError: some do not; the message says what they carry.
    """
    alpha = min(alphas)
    lines = []
    for each in answers:
        counts = each.count_people()
        least = smallest_alpha(min(counts.values()))
        if alpha < least - TOLERANCE:
            people = ", ".join(f"{name} {count}" for name, count in counts.items())
            carries = f"carry {least:.3g} or more" if least < 1 else "carry no error rate"
            lines.append(f"{each.task} has {people} people, who {carries}")
    if lines:
        raise TrainError(
            f"--alpha {alpha:g} needs at least {people_needed(alpha)} people of every class: "
            f"{'; '.join(lines)}. Ask for a larger --alpha, calibrate with more people, or only "
            "those tasks that have enough (--tasks)"
        )
