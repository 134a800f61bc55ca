"""`demo`: all steps on drawn portraits, each run as the command that a user would type."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cropfirst.configs.options import path_option
from cropfirst.core.console import say

if TYPE_CHECKING:
    from rich.console import Console

RECIPES = ("demo_swin", "demo_convnext")


@click.command()
@path_option(
    "--work", default=Path("work/demo"), show_default=True, help="Folder of everything it writes."
)
@click.option(
    "--people", type=click.IntRange(min=6), metavar="N", default=54, show_default=True,
    help="Number of people drawn to train on; half as many are drawn for eval.",
)  # fmt: skip
@click.option(
    "--epochs", type=click.IntRange(min=1), metavar="N",
    help="Epochs per fold.  [default: the recipes']",
)  # fmt: skip
def demo(work: Path, people: int, epochs: int | None) -> None:
    """Run all steps on portraits that are drawn for it.

    Draws portraits, then detects, trains, predicts, evaluates, audits and reports as a user would.
    In the drawn training photos, the background depends on gender and age; in the eval photos, it
    does not. One more model is trained on complete photos, for the audit to compare. Each step
    is printed as the command that does it.
    """
    from rich.console import Console

    from cropfirst.stage2_classify.drawn.contest import draw_contest
    from cropfirst.stage2_classify.drawn.demo_table import demo_table

    console = Console()
    data, share = work / "data", ["--work", str(work)]
    with console.status(f"drawing {people + people // 2} people, 7 photos each"):
        drawn = draw_contest(data, n_train_people=people, n_eval_people=people // 2, n_jobs=-1)
    say(console, f"drawn: {drawn.n_train} train and {drawn.n_eval} eval photos in {data}")
    _run(console, "detect", data, *share, "--config", RECIPES[0])
    more = [] if epochs is None else ["--epochs", str(epochs)]
    for recipe in RECIPES:
        for task in ("mask", "gender", "age"):
            _run(console, "train", data, *share, "--config", recipe, "--task", task, *more)
    _run(console, "predict", data, *share)
    _run(console, "evaluate", data, *share)
    answers = work / "evaluate-answers"
    _run(console, "evaluate", data, *share, "--answers", str(drawn.answers), "--out", str(answers))
    # In a folder of its own, where predict does not find it.
    whole, runs = ["--config", RECIPES[0]], ["--runs", str(work / "runs-photo")]
    _run(console, "detect", data, *share, *whole, "--background", "photo")
    _run(
        console, "train", data, *share, *whole, *runs, "--crops", "photo", "--task", "gender",
        "--name", "gender-photo", *more,
    )  # fmt: skip
    faces = sorted(map(str, (work / "runs").glob("gender-*")))
    _run(console, "audit", work / "runs-photo", *faces, *share)
    _run(console, "report", work / "runs", "--device", "cpu")
    console.print(demo_table(work / "evaluate/evaluation.json", answers / "evaluation.json"))
    say(console, "Look at:")
    folders = (work / "detect", answers, work / "audit")
    for path in (each for folder in folders for each in sorted(folder.glob("*.png"))):
        say(console, f"  {path}")
    say(console, f"  {work / 'predict' / 'submission.csv'}")
    say(console, f"  {work / 'report.html'}")


def _run(console: Console, name: str, data: Path, *options: str) -> None:
    """Run another command of the group as if it had been typed."""
    arguments = [str(data), *options]
    console.rule(f"python cli.py {name} {' '.join(arguments)}", align="left")
    context = click.get_current_context().find_root()
    assert isinstance(context.command, click.Group)
    command = context.command.get_command(context, name)
    assert command is not None
    command.main(arguments, standalone_mode=False)
