"""`demo`: all steps on drawn portraits, each run as the command that a user would type."""

from __future__ import annotations

from pathlib import Path

import click

from cropfirst.configs.options import path_option
from cropfirst.core.console import say
from cropfirst.stage2_classify.commands.steps import run_step

RECIPES = ("demo_swin", "demo_convnext")
PROOF_EPOCHS = 12
"""Number of epochs of each of the proof's four runs, which show differences early."""


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
    does not. So `proof` also trains on complete photos and boxes, and shows what their validation
    is worth. Each step is printed as the command that does it.
    """
    from rich.console import Console

    from cropfirst.stage2_classify.drawn.contest import draw_contest
    from cropfirst.stage2_classify.drawn.demo_table import demo_table

    console = Console()
    data, share = work / "data", ["--work", str(work)]
    with console.status(f"drawing {people + people // 2} people, 7 photos each"):
        drawn = draw_contest(data, n_train_people=people, n_eval_people=people // 2, n_jobs=-1)
    say(console, f"drawn: {drawn.n_train} train and {drawn.n_eval} eval photos in {data}")
    run_step(console, "detect", data, *share, "--config", RECIPES[0], "--swap-rooms")
    more = [] if epochs is None else ["--epochs", str(epochs)]
    for recipe in RECIPES:
        for task in ("mask", "gender", "age"):
            run_step(console, "train", data, *share, "--config", recipe, "--task", task, *more)
    run_step(console, "predict", data, *share)
    run_step(console, "evaluate", data, *share)
    answers = work / "evaluate-answers"
    run_step(console, "evaluate", data, *share, "--answers", drawn.answers, "--out", answers)
    run_step(
        console, "proof", data, *share, "--config", RECIPES[1], "--task", "gender",
        "--set", f"optim.epochs={epochs or PROOF_EPOCHS}",
    )  # fmt: skip
    submitted = sorted((work / "runs").glob("gender-*"))
    run_step(console, "audit", work / "proof" / "runs", *submitted, *share)
    run_step(console, "report", work / "runs", "--device", "cpu")
    console.print(demo_table(work / "evaluate/evaluation.json", answers / "evaluation.json"))
    say(console, "Look at:")
    folders = (work / "detect", answers, work / "proof", work / "audit")
    for path in (each for folder in folders for each in sorted(folder.glob("*.png"))):
        say(console, f"  {path}")
    say(console, f"  {work / 'predict' / 'submission.csv'}")
    say(console, f"  {work / 'report.html'}")
