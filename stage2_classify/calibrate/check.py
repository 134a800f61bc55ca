"""Scores a calibration that there is on people who had no part in it; writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.calibrate.console import JUDGED_AS_IS, print_scores
from cropfirst.stage2_classify.calibrate.coverage import SetScore, score_coverage
from cropfirst.stage2_classify.calibrate.held_out import HeldOut, answers_held_out
from cropfirst.stage2_classify.predict.calibration import Calibration
from cropfirst.stage2_classify.predict.ensemble_file import choose_ensemble


def check_calibration(
    runs: Sequence[Path],
    *,
    path: Path,
    data: HeldOut,
    alphas: Sequence[float] = (0.1,),
    tasks: Collection[str] | None = None,
    console: Console | None = None,
) -> tuple[SetScore, ...]:
    """Score the sets that `predict` says on other people: coverage and single answers.

    People that a run was trained on, and those who calibrated, are left out.

    Args:
        path: ensemble.json of these runs, with a calibration.
        tasks: tasks to score; None = all that are calibrated.

    Raises:
        TrainError: no calibration for the runs' vote, or too few people for an error rate.
        DataError: `data` has nobody else, or no labels.
    """
    console = console or Console(quiet=True)
    voting = choose_ensemble(runs, ensemble=path)
    limits = [voting.set_limits(alpha) for alpha in alphas]
    assert isinstance(voting.calibration, Calibration), "set_limits has checked this"
    wanted = set(limits[0]) if tasks is None else set(tasks)
    if missing := sorted(wanted - set(limits[0])):
        raise TrainError(f"{path} has no calibration of {', '.join(missing)}")
    answers = answers_held_out(
        voting, data, tasks=wanted, without=voting.calibration.people, console=console
    )
    scores = []
    for each in answers:
        n_people = 1 + int(each.people.max())
        own = np.stack([np.tile(found[each.task], (n_people, 1)) for found in limits])
        scores += score_coverage(each, own, alphas)
    print_scores(console, scores, meaning=JUDGED_AS_IS)
    return tuple(scores)
