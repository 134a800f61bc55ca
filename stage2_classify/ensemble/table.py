"""The ensemble's steps on the console. Knows what was found; finds nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cropfirst.core.bootstrap import Interval
from cropfirst.core.console import say
from cropfirst.stage2_classify.ensemble.search import Step, TaskSearch
from cropfirst.stage2_classify.voting.blend import TaskPlan

METHOD = (
    "gain: macro F1 above the equal vote of all runs, on people that the step was not fitted on, "
    "with a 95 % bootstrap interval over people. chosen: the choice of steps is made anew in each "
    "fold too, so this is what to believe of the whole"
)


def print_ensemble(
    console: Console,
    steps: Sequence[Step],
    searches: Sequence[TaskSearch],
    notes: Sequence[str],
    *,
    seconds: float,
) -> None:
    """Print a line a step, then what each task's vote is made of."""
    table = Table(title=f"Ensemble, out of fold ({seconds:.1f} s)")
    for column in ("task", "step"):
        table.add_column(column)
    for column in ("macro F1", "gain", "95 % interval", "taken"):
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
        table.add_row(
            Text(step.task), Text(name), f"{step.macro_f1:.4f}", gain, interval, taken, style=style
        )
    console.print(table)
    for found in searches:
        first, _, change = found.ece
        say(
            console,
            f"{found.name}: {describe_plan(found.plan)}; expected calibration error "
            f"{first.value:.3f} -> {found.ece[1].value:.3f} "
            f"({change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}])",
        )
    for note in (*notes, METHOD):
        say(console, note, style="dim")


def describe_gain(gain: Interval | None) -> tuple[str, str]:
    """The gain and its interval, as text; empty for what gains are counted from."""
    if gain is None:
        return "", ""
    return f"{gain.value:+.4f}", f"{gain.low:+.4f} to {gain.high:+.4f}"


def describe_plan(plan: TaskPlan) -> str:
    """A plan in words."""
    states = []
    for state, weights in plan.weights.items():
        shares = ", ".join(f"{run} {weight:.2f}" for run, weight in weights.items() if weight > 0)
        states.append(f"{plan.route} {state}: {shares}" if state else shares)
    text = f"{plan.vote} vote of {'; '.join(states)}; temperature {plan.temperature:.2f}"
    if plan.offsets:
        text += f"; thresholds {', '.join(f'{x:+.2f}' for x in plan.offsets)}"
    return text
