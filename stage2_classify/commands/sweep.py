"""`sweep`: several recipes on the same folds. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cropfirst.configs.options import set_option, setting
from cropfirst.stage2_classify.commands.workspace import (
    Workspace,
    corrections_option,
    crops_option,
    data_options,
    open_workspace,
    schema_option,
)
from cropfirst.stage2_classify.config import TrainConfig

if TYPE_CHECKING:
    from cropfirst.stage2_classify.labels.schema import LabelSchema

RECIPES_OWN = "the recipes'"


def plain_folder_name(_: click.Context, __: click.Parameter, name: str) -> str:
    """Refuse a `--name` that is not the name of a folder."""
    if not name or name[0] == "." or "/" in name or "\\" in name:
        raise click.UsageError("--name expects a plain folder name")
    return name


@click.command()
@data_options(corrections_option)
@click.argument("recipes", nargs=-1, metavar="[RECIPES...]")
@set_option
@setting(TrainConfig, "device", "--device", metavar="NAME")
@schema_option
@setting(TrainConfig, "trackers", "--tracker", metavar="NAMES")
@click.option(
    "--task", "tasks", metavar="TASK", multiple=True,
    help="As for train; given several times, each is a run of its own.",
)  # fmt: skip
@click.option(
    "--grid", metavar="KEY=V,V", multiple=True,
    help="Each recipe at each value, e.g. optim.lr=1e-3,1e-4 (repeatable: all combinations).",
)  # fmt: skip
@crops_option
@setting(TrainConfig, "folds.n_folds", "--folds", default=RECIPES_OWN)
@setting(TrainConfig, "optim.epochs", "--epochs", default=RECIPES_OWN)
@setting(TrainConfig, "choose_by", "--choose-by", default=RECIPES_OWN)
@click.option(
    "--name", metavar="NAME", default="sweep", show_default=True, callback=plain_folder_name,
    help="Folder below WORK/sweeps.",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N",
    help="Number of folds trained at once.  [default: one per GPU, else one per two cores]",
)  # fmt: skip
@click.option(
    "--backend", type=click.Choice(["loky", "sequential", "dask", "ray"]), default="loky",
    show_default=True, help="Processes of this machine, this process alone, or a cluster.",
)  # fmt: skip
@click.option(
    "--baseline", metavar="LINE", default="first", show_default=True,
    help="Line that the others are compared with: first, best, or its name.",
)  # fmt: skip
@click.option(
    "--sort", type=click.Choice(["score", "seconds", "params", "name"]), default="score",
    show_default=True, help="Order of the table.",
)  # fmt: skip
def sweep(
    recipes: Sequence[str], overrides: Sequence[str], values: dict[str, Any], schema: str | None,
    tasks: Sequence[str], grid: Sequence[str], crops: str | None, name: str, jobs: int | None,
    backend: str, baseline: str, sort: str, data: Path, layout: str | None,
    corrections: str | None, **places: Any,
) -> None:  # fmt: skip
    """Train several recipes and compare them on the same folds.

    A line of the table is a recipe (without RECIPES, the defaults) at one point of the --grid. Each
    fold of each line is a job; one that fails does not stop the others. A sweep that was
    interrupted continues when the same command is given again. The table has the scores over folds,
    and their differences with an interval.
    """
    from cropfirst.stage2_classify.sweep.jobs import Source
    from cropfirst.stage2_classify.sweep.plan import plan_lines
    from cropfirst.stage2_classify.sweep.sweep import sweep as run_sweep

    lines = plan_lines(recipes, grid, tasks=tasks, overrides=overrides, values=values)
    workspace = open_workspace(data, layout=layout, corrections=corrections, **places)
    out_dir = workspace.folder / "sweeps" / name
    earlier = (path.parent for path in out_dir.glob("*/*/run.json"))
    crop_set = workspace.find_crops(crops, runs=earlier, recipes=recipes)
    # From these paths, another process opens all that training reads.
    cache_path = workspace.cache_path.resolve()
    tasks_of = {line.name: {t for each in line.configs for t in each.task_names} for line in lines}
    wanted = tuple(sorted(set().union(*tasks_of.values())))
    labels = _read_schema(workspace, schema, wanted, tasks_of)
    source = Source(data.resolve(), layout, corrections, schema, cache_path, crop_set.name, wanted)
    result = run_sweep(
        lines, workspace.photos, labels, crop_set, source,
        out_dir=out_dir, backend=backend, n_jobs=jobs,
        baseline=baseline, sort=sort, console=workspace.console,
    )  # fmt: skip
    if result.failures:
        raise click.ClickException(
            f"{len(result.failures)} jobs failed, see above: run the same command to try them again"
        )


def _read_schema(
    workspace: Workspace, file: str | None, wanted: Sequence[str], tasks_of: dict[str, set[str]]
) -> LabelSchema:
    """Read the schema for the tasks of all lines; an error names the line whose task is wrong."""
    from cropfirst.stage2_classify.labels.task import LabelError

    try:
        return workspace.read_schema(file, tuple(wanted))
    except LabelError:
        for line, names in tasks_of.items():
            try:
                workspace.read_schema(file, tuple(sorted(names)))
            except LabelError as error:
                raise LabelError(f"line {line!r}: {error}") from error
        raise
