"""`ensemble`: how the runs vote best. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cropfirst.configs.options import path_option, setting
from cropfirst.stage2_classify.commands.workspace import (
    batch_size_option,
    data_options,
    device_option,
    open_workspace,
    runs_option,
)
from cropfirst.stage2_classify.config import TrainConfig


@click.command()
@data_options(runs_option, device_option)
@path_option(
    "--out",
    help="Folder of ensemble.json.  [default: WORK/ensemble, where predict looks for it]",
)
@click.option(
    "--steps", metavar="NAMES",
    help="Steps to try: hard, greedy, route; temperature, thresholds.  [default: all]",
)  # fmt: skip
@click.option(
    "--route", "routes", metavar="TASK=BY", multiple=True,
    help="Fit separate weights of TASK for each class of the task BY, e.g. age=mask (repeatable).",
)  # fmt: skip
@click.option(
    "--tta", metavar="KINDS", help="Also predict changed crops: flip, scale, or flip,scale."
)
@click.option(
    "--soup",
    metavar="KINDS",
    help="Average the weights of checkpoints: epochs, folds, or epochs,folds.",
)
@setting(
    TrainConfig, "choose_by", "--choose-by",
    help="Predictions that all choices go by: auto takes swapped where every run has them.",
)  # fmt: skip
@batch_size_option
def ensemble(
    runs: Sequence[Path], device: str, out: Path | None, steps: str | None,
    routes: Sequence[str], tta: str | None, soup: str | None, batch_size: int,
    values: dict[str, Any], **data: Any,
) -> None:  # fmt: skip
    """Find the best way to combine the votes of the runs.

    Fits weights, temperature and thresholds to predictions in swapped rooms where all runs have
    them, else to out-of-fold predictions. Each step is evaluated
    on people that it was not fitted to, with an interval. predict uses the result. Baselines (runs
    on photo, center, box or mean_box crops) are left out unless the run itself is named.
    """
    from cropfirst.stage2_classify.ensemble.options import parse_options
    from cropfirst.stage2_classify.ensemble.run import build_ensemble

    options = parse_options(
        steps, routes=routes, tta=tta, soup=soup, batch_size=batch_size,
        choose_by=values.get("choose_by", "auto"),
    )  # fmt: skip
    workspace = open_workspace(**data)
    again = options.tta or options.soups
    build_ensemble(
        workspace.find_runs(runs), out_dir=out or workspace.folder / "ensemble",
        options=options, device=device, console=workspace.console,
        cache=workspace.open_cache() if again else None,
    )  # fmt: skip
