"""Prints the steps of an ensemble and what they gained. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cropfirst.core.bootstrap import Interval
from cropfirst.core.console import say
from cropfirst.stage2_classify.ensemble.search import Step, TaskSearch
from cropfirst.stage2_classify.metrics.scores import MAJORITY_NOTE
from cropfirst.stage2_classify.voting.vote_plan import TaskPlan

METHOD = (
    "gain: macro F1 minus that of the equal vote of all runs, on people that the step was not "
    "fitted on, with a 95 % bootstrap interval over people. chosen: the steps are chosen again in "
    "each fold, so this row estimates the gain of the complete ensemble on new people"
)


def print_ensemble(
    console: Console,
    steps: Sequence[Step],
    searches: Sequence[TaskSearch],
    notes: Sequence[str],
    *,
    score_name: str,
    out_of_fold: Mapping[str, float],
    seconds: float,
) -> None:
    """Print one line per step, then each task's plan.

    Args:
        score_name: name of the score that the steps were chosen by.
        out_of_fold: task -> macro F1 of its plan out of fold, if it was chosen by another score.
    """
    table = Table(title=f"Ensemble, chosen by {score_name} ({seconds:.1f} s)")
    for column in ("task", "step"):
        table.add_column(column)
    for column in (score_name, "majority", "gain", "95 % interval", "taken"):
        table.add_column(column, justify="right")
    last = ""
    for step in sorted(steps, key=lambda each: [s.task for s in steps].index(each.task)):
        if last not in ("", step.task):
            table.add_section()
        last = step.task
        gain, interval = describe_gain(step.gain)
        name = f"{step.name} ({step.note})" if step.note else step.name
        taken = "yes" if step.kept else ""
        style = "bold" if step.name == "chosen" else None
        scores = f"{step.macro_f1:.4f}", f"{step.majority_macro_f1:.4f}"
        table.add_row(Text(step.task), Text(name), *scores, gain, interval, taken, style=style)
    console.print(table)
    for found in searches:
        first, _, change = found.ece
        say(
            console,
            f"{found.name}: {describe_plan(found.plan)}; expected calibration error "
            f"{first.value:.3f} -> {found.ece[1].value:.3f} "
            f"({change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}])",
        )
        if found.name in out_of_fold:
            macro_f1 = found.chosen_f1
            say(
                console,
                f"{found.name}: {score_name} {macro_f1:.4f}, out-of-fold F1 "
                f"{out_of_fold[found.name]:.4f}",
            )
    for note in (*notes, MAJORITY_NOTE, METHOD):
        say(console, note, style="dim")


def describe_gain(gain: Interval | None) -> tuple[str, str]:
    """Return a gain and its interval as texts, which are empty for the baseline."""
    if gain is None:
        return "", ""
    return f"{gain.value:+.4f}", f"{gain.low:+.4f} to {gain.high:+.4f}"


def describe_plan(plan: TaskPlan) -> str:
    """Return a plan in words."""
    parts = []
    for name, weights in plan.weights.items():
        text = ", ".join(f"{run} {weight:.2f}" for run, weight in weights.items() if weight > 0)
        parts.append(f"{plan.route} {name}: {text}" if name else text)
    text = f"{plan.vote} vote of {'; '.join(parts)}; temperature {plan.temperature:.2f}"
    if plan.offsets:
        text += f"; thresholds {', '.join(f'{x:+.2f}' for x in plan.offsets)}"
    return text
