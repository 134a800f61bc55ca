"""`train`: one run, alone or as one of several processes that a launcher has started. No torch."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cropfirst.configs import load_config
from cropfirst.configs.options import config_options, setting
from cropfirst.stage2_classify.commands.workspace import (
    corrections_option,
    crops_option,
    data_options,
    open_workspace,
    runs_option,
    schema_option,
)
from cropfirst.stage2_classify.config import TrainConfig

if TYPE_CHECKING:
    from cropfirst.stage2_classify.train.distributed import ProcessGroup


@click.command()
@data_options(corrections_option)
@config_options
@setting(TrainConfig, "device", "--device", metavar="NAME")
@schema_option
@runs_option
@setting(TrainConfig, "task", "--task", metavar="TASK")
@crops_option
@setting(TrainConfig, "model.backbone", "--backbone", metavar="NAME")
@setting(TrainConfig, "model.pretrained", "--pretrained/--no-pretrained")
@setting(TrainConfig, "model.weights", "--weights", metavar="FILE")
@setting(TrainConfig, "init_from", "--init-from", metavar="RUN")
@setting(TrainConfig, "folds.n_folds", "--folds")
@setting(TrainConfig, "folds.fold", "--fold")
@setting(TrainConfig, "optim.epochs", "--epochs")
@setting(TrainConfig, "folds.all_data", "--all-data/--no-all-data")
@setting(TrainConfig, "choose_by", "--choose-by")
@setting(TrainConfig, "data.preload", "--preload")
@setting(TrainConfig, "name", "--name", metavar="NAME")
@setting(TrainConfig, "trackers", "--tracker", metavar="NAMES")
def train(
    recipe: str | None, overrides: Sequence[str], values: dict[str, Any], schema: str | None,
    runs: Sequence[Path], crops: str | None, **data: Any,
) -> None:  # fmt: skip
    """Train a classifier on the crops, one model per fold.

    Each model predicts the photos of its own fold, whose people it has not seen. A run that was
    interrupted continues when the same command is given again. Under accelerate launch, several
    processes train each fold together.
    """
    from rich.console import Console

    from cropfirst.stage2_classify.train.prepare import possible_runs
    from cropfirst.stage2_classify.train.train import train as run_training

    if len(runs) > 1:
        raise click.UsageError("train writes to one --runs DIR")
    _check_start(values)
    with _join_processes() as processes:
        console = Console(quiet=processes is not None and not processes.is_main)
        with nullcontext() if processes is None else processes.share_errors():
            config = load_config(
                TrainConfig, recipe=recipe, section="train", overrides=overrides, values=values
            )
            workspace = open_workspace(**data, console=console, details=True)
            runs_dir = workspace.find_runs(runs)[0]
            crop_set = workspace.find_crops(
                crops, runs=possible_runs(config, runs_dir), recipes=[recipe]
            )
            labels = workspace.read_schema(schema, config.task_names)
        with _offer_packaged_weights(config):
            run_training(
                workspace.photos, labels, crop_set, config,
                runs_dir=runs_dir, console=console, processes=processes,
            )  # fmt: skip


def _check_start(values: Mapping[str, Any]) -> None:
    """Refuse --pretrained beside another start; a recipe's `pretrained` only gives way to it."""
    others = {"model.weights": "--weights", "init_from": "--init-from"}
    other = next((flag for key, flag in others.items() if values.get(key) is not None), None)
    if values.get("model.pretrained") and other is not None:
        raise click.UsageError(
            f"--pretrained and {other} are two starts of one backbone: leave one of them away"
        )


@contextmanager
def _offer_packaged_weights(config: TrainConfig) -> Iterator[None]:
    """Offer a backbone that needs no hub as the first way out, where no backbone was named."""
    from cropfirst.core.errors import HubError
    from cropfirst.stage2_classify.model.packaged_weights import EXTRA, PACKAGES, installed_package
    from cropfirst.stage2_classify.model.weights import OFFLINE_HELP

    try:
        yield
    except HubError as error:
        if "backbone" in config.model.model_fields_set:
            raise
        backbone = next(iter(PACKAGES))
        root = click.get_current_context().find_root()
        words = [*root.meta["cropfirst.arguments"], "--backbone", backbone]
        command = shlex.join(["cropfirst", *words])
        if installed_package(backbone) is None:
            command = f"{EXTRA} && {command}"
        raise HubError(
            f"{error.reason}. A backbone whose weights come as a package needs no hub:\n\n"
            f"    {command}\n\nFurther ways",
            OFFLINE_HELP,
        ) from error


@contextmanager
def _join_processes() -> Iterator[ProcessGroup | None]:
    """Join the processes that a launcher has started to train together; None for a single one."""
    found = os.environ
    lost = "ACCELERATE_MIXED_PRECISION" in found and "MASTER_PORT" in found and "RANK" not in found
    if lost:
        raise click.UsageError(
            "accelerate launch has started one process, or left it to MPI to start more: for "
            "several on the CPU, put --multi_gpu in place of --cpu, and --device cpu behind train"
        )
    size = found.get("WORLD_SIZE", "")
    if not size.isdigit() or int(size) == 1:
        yield None
        return
    from cropfirst.stage2_classify.train.distributed import join_processes

    with join_processes() as processes:
        yield processes
