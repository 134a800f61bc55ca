"""Prints what the sets of classes say and promise. Computes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cropfirst.core.bootstrap import Interval
from cropfirst.core.console import say
from cropfirst.stage2_classify.calibrate.coverage import SetScore
from cropfirst.stage2_classify.predict.calibration import OUT_OF_FOLD, Calibration

MEANING = (
    "coverage: the true class is possible; one class: only one class is possible, and right: of "
    "these, it is the true one; unknown: several classes are possible, or none. Shares of photos, "
    "every person counting the same, with 95 % intervals over people; "
)
JUDGED_BY_OTHERS = "each person is judged by the limits that all others give"
JUDGED_AS_IS = "nobody of them had a part in the limits"
FOR_A_GUARANTEE = (
    "For one that holds, calibrate with people that no run was trained on (--data HELD_OUT)"
)
OF_AVERAGED_FOLDS = (
    "out of fold, so the error rate is approximate: the limits come from models of single folds, "
    f"and predict averages the folds. {FOR_A_GUARANTEE}"
)
OF_ONE_FOLD = (
    "on the people held out from the fold, so the error rate is approximate: the fold's best epoch "
    f"was chosen on the same people. {FOR_A_GUARANTEE}"
)
ON_OTHER_PEOPLE = (
    "on people that no run was trained on: for new people like these, the true class of a random "
    "photo of each is missing at most as often as the error rate, class by class"
)


def print_scores(console: Console, scores: Sequence[SetScore], *, meaning: str) -> None:
    """Print a table per error rate, the slices with too low coverage, and what it all means.

    Args:
        meaning: `JUDGED_BY_OTHERS` or `JUDGED_AS_IS`.
    """
    for alpha in dict.fromkeys(score.alpha for score in scores):
        own = [score for score in scores if score.alpha == alpha]
        console.print(_table(alpha, [each for each in own if each.by in ("", each.task)]))
        slices = [each for each in own if each.by not in ("", each.task)]
        if low := [each for each in slices if each.is_low]:
            title = f"slices that miss the true class more often than {alpha:g}"
            console.print(_table(alpha, low, title=title))
        elif slices:
            say(console, f"none of {len(slices)} slices misses the true class more often, clearly")
    say(console, MEANING + meaning, style="dim")


def print_calibration(
    console: Console,
    calibration: Calibration,
    *,
    ece: Mapping[str, Interval],
    temperatures: Mapping[str, float],
    averages_folds: bool,
) -> None:
    """Print the calibration of the probabilities, and what the error rate means.

    Args:
        averages_folds: whether several folds of a run vote together.
    """
    for task, value in ece.items():
        temperature = f"temperature {temperatures[task]:.2f}, " if task in temperatures else ""
        say(console, f"{task}: {temperature}expected calibration error {value}")
    meaning = ON_OTHER_PEOPLE
    if calibration.source == OUT_OF_FOLD:
        meaning = OF_AVERAGED_FOLDS if averages_folds else OF_ONE_FOLD
    say(console, f"calibrated {meaning}", style="dim")


def _table(alpha: float, scores: Sequence[SetScore], *, title: str = "") -> Table:
    table = Table(title=Text(title or f"sets of possible classes, error rate {alpha:g}"))
    for column in ("people of", "coverage", "one class", "right", "unknown"):
        table.add_column(column, justify="left" if column == "people of" else "right")
    last = scores[0].task
    for each in scores:
        if each.task != last:
            table.add_section()
        last = each.task
        shares = each.shares
        part = each.value if each.by == each.task else f"{each.by} {each.value}"
        unknown = shares["several"].value + shares["none"].value
        right = shares["single_right"].value
        table.add_row(
            Text(f"{each.task}{f': {part}' if each.by else ''}\n{each.n_people} people"),
            _two_lines(shares["coverage"]),
            _two_lines(shares["single"]),
            "-" if math.isnan(right) else f"{right:.3f}",
            Text(f"{unknown:.3f}\nnone {shares['none'].value:.3f}"),
            style=None if each.by else "bold",
        )
    return table


def _two_lines(share: Interval) -> Text:
    return Text(f"{share.value:.3f}\n[{share.low:.3f}, {share.high:.3f}]")
