"""`relabel`: labels that are probably wrong. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cropfirst.configs.options import path_option
from cropfirst.stage2_classify.commands.workspace import (
    corrections_option,
    data_options,
    open_workspace,
    runs_option,
)


@click.command()
@data_options(corrections_option, runs_option)
@click.option(
    "--task", "tasks", metavar="TASK", multiple=True,
    help="Task to look at (repeatable).  [default: all]",
)  # fmt: skip
@click.option("--crops", metavar="NAME", help="Crop set that the page shows.  [default: the runs']")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", default=200, show_default=True,
    help="Largest number of labels to list per task.",
)  # fmt: skip
@path_option("--out", help="Folder of the page.  [default: WORK/relabel]")
def relabel(
    corrections: str | None, runs: Sequence[Path], tasks: Sequence[str], crops: str | None,
    limit: int, out: Path | None, **data: Any,
) -> None:  # fmt: skip
    """Find labels that are probably wrong.

    Compares labels with out-of-fold predictions. Writes a page to go through them by keyboard,
    which saves the corrections that detect and train read with --corrections; and a file that takes
    every suggestion. Give the --corrections that the runs were trained with: they are kept.
    """
    from cropfirst.stage2_classify.relabel.relabel import relabel as run_relabel

    workspace = open_workspace(**data)
    run_relabel(
        workspace.photos, workspace.find_runs(runs), workspace.open_cache(), crops=crops,
        out_dir=out or workspace.folder / "relabel", tasks=tasks, corrections=corrections,
        most=limit, console=workspace.console,
    )  # fmt: skip
