"""`tune`: a search for better settings. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from cropfirst.configs import load_config
from cropfirst.configs.options import config_options, setting
from cropfirst.core.console import say
from cropfirst.stage2_classify.commands.sweep import plain_folder_name
from cropfirst.stage2_classify.commands.workspace import (
    corrections_option,
    crops_option,
    data_options,
    open_workspace,
    schema_option,
)
from cropfirst.stage2_classify.config import TrainConfig

TRACKER = "csv"
"""Tracker of the trials, in place of the config's."""


@click.command()
@data_options(corrections_option)
@config_options
@setting(TrainConfig, "device", "--device", metavar="NAME")
@schema_option
@setting(TrainConfig, "trackers", "--tracker", metavar="NAMES", default=TRACKER)
@setting(TrainConfig, "task", "--task", metavar="TASK")
@click.option(
    "--space", metavar="KEY=RANGE", multiple=True,
    help="log:LOW,HIGH, float:LOW,HIGH, int:LOW,HIGH[,STEP] or VALUE,VALUE, e.g. "
    "optim.lr=log:1e-4,1e-2 (repeatable).  [default: learning rate, weight decay, dropout]",
)  # fmt: skip
@click.option(
    "--trials", type=click.IntRange(min=1), metavar="N", default=20, show_default=True,
    help="Number of trials, those of earlier calls included.",
)  # fmt: skip
@crops_option
@setting(TrainConfig, "folds.n_folds", "--folds")
@setting(
    TrainConfig, "folds.fold", "--fold",
    help="Only fold that a trial is judged by, counted from 0.",
)  # fmt: skip
@setting(TrainConfig, "optim.epochs", "--epochs")
@setting(TrainConfig, "choose_by", "--choose-by")
@click.option(
    "--name", metavar="NAME", default="tune", show_default=True, callback=plain_folder_name,
    help="Folder below WORK/tune.",
)  # fmt: skip
def tune(
    recipe: str | None, overrides: Sequence[str], values: dict[str, Any], schema: str | None,
    space: Sequence[str], trials: int, crops: str | None, name: str, **data: Any,
) -> None:  # fmt: skip
    """Search for the settings with the highest macro F1.

    A trial is a run with other settings, scored in swapped rooms where the crops have them, else
    out of fold; one that is worse than the median of
    the others at the same epoch is stopped. The best settings are written as a recipe. A search
    that was interrupted continues when the same command is given again, and several commands may
    search together.
    """
    from cropfirst.stage2_classify.sweep.tune import tune as run_search
    from cropfirst.stage2_classify.sweep.tune_space import parse_space
    from cropfirst.stage2_classify.sweep.tune_study import TuneSetup

    config = load_config(
        TrainConfig, recipe=recipe, section="train", overrides=overrides,
        values={"trackers": TRACKER, **values},
    )  # fmt: skip
    dimensions = parse_space(space)
    workspace = open_workspace(**data)
    console = workspace.console
    out_dir = workspace.folder / "tune" / name
    earlier = (path.parent for path in out_dir.glob("trials/*/*/run.json"))
    setup = TuneSetup(
        config, dimensions, workspace.photos, workspace.read_schema(schema, config.task_names),
        workspace.find_crops(crops, runs=earlier, recipes=[recipe]), out_dir=out_dir,
    )  # fmt: skip
    found = run_search(setup, n_trials=trials, seed=config.seed, console=console)
    counts = ", ".join(f"{count} {state}" for state, count in found.states.items() if count)
    say(
        console,
        f"trials: {counts}; best: {found.number}, {found.score_name} {found.value:.4f}",
    )
    for key, value in found.params.items():
        say(console, f"  {key}: {value}")
    say(console, f"recipe: {found.recipe}; train with --config {found.recipe}")
