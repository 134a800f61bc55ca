"""The command line: one click group. A command parses, loads its config, calls one function and
says what it wrote. Heavy imports wait inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import gc
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from cropfirst.configs import ConfigError, load_config
from cropfirst.core.console import say
from cropfirst.core.errors import CropfirstError, PeerError
from cropfirst.core.stopping import EXIT_CODES, Stopper, Terminated

if TYPE_CHECKING:
    import numpy as np
    import torch

    from cropfirst.cache import Cache, CropSet
    from cropfirst.cache.verify import FolderCheck
    from cropfirst.stage1_detect.config import DetectConfig
    from cropfirst.stage1_detect.photos.read import PhotoRef
    from cropfirst.stage1_detect.pipeline.dispatch import Workers
    from cropfirst.stage2_classify.datasets import PhotoSet, Sample
    from cropfirst.stage2_classify.labels.schema import LabelSchema
    from cropfirst.stage2_classify.sweep.jobs import Source
    from cropfirst.stage2_classify.train.distributed import Team

Command = Callable[..., Any]
STOPPED = "\n{word}. What was finished is kept: run the same command to go on."
PROBLEMS_SHOWN = 5
LAYOUT_NAMES = ("contest", "csv", "folders", "fairface", "utkface", "photos")
DEMO_RECIPES = ("demo_swin", "demo_convnext")


class _Group(click.Group):
    """Turns our errors into messages; anything else is a bug and keeps its trace."""

    def invoke(self, ctx: click.Context) -> Any:
        # OpenMP's default is to spin for milliseconds: two trainings on one CPU then starve each
        # other (measured: 6 times slower than with this, which costs one alone 6 to 10 %).
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        # Of several processes that train together, the first one speaks for all.
        first = _launched_as("RANK", 0) == 0
        stopper = Stopper(STOPPED if first else "")
        try:
            with stopper:
                return super().invoke(ctx)
        except click.ClickException as error:
            if not first:
                _leave_it_to_the_first()
                ctx.exit(error.exit_code)
            raise
        except PeerError as error:
            if not first:
                _leave_it_to_the_first()
                ctx.exit(1)
            raise click.ClickException(str(error)) from error
        except (CropfirstError, ConfigError) as error:
            raise click.ClickException(_by_whom(str(error))) from error
        except (FileExistsError, NotADirectoryError) as error:
            raise click.ClickException(
                f"wanted a folder at {error.filename}, and there is a file in the way: choose "
                "another, or move the file"
            ) from error
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise click.ClickException(_by_whom(f"{error.strerror or error}{where}")) from error
        except (KeyboardInterrupt, Terminated):
            stopper.say()
            ctx.exit(stopper.code or EXIT_CODES[signal.SIGINT])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if _launched_as("WORLD_SIZE", 1) > 1 and name != "train":
            raise click.UsageError(
                f"several processes were launched, which train alone knows how to share: start "
                f"{name} without a launcher (for more processes, see its --backend or --jobs)"
            )
        return name, command, rest


def _launched_as(name: str, alone: int) -> int:
    """What accelerate launch or torchrun says of this process: RANK, WORLD_SIZE."""
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else alone


def _by_whom(text: str) -> str:
    """An error's text, where it is one process's of several and not the first's."""
    rank, size = _launched_as("RANK", 0), _launched_as("WORLD_SIZE", 1)
    return f"process {rank + 1} of {size} on {os.uname().nodename}: {text}" if rank else text


def _leave_it_to_the_first(*, seconds: float = 3) -> None:
    """Wait a moment: when one process ends, the launcher ends those that have not spoken yet."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(seconds)


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Rows of all photos are held at once and none is a cycle: looking for cycles among them every
    700 objects took a third of the time of a run that finds nothing to do."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _options(*options: Command) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _path(*flags: str, help: str, metavar: str = "DIR", **more: Any) -> Command:
    return click.option(*flags, type=click.Path(path_type=Path), metavar=metavar, help=help, **more)


def _word(*flags: str, metavar: str, help: str, **more: Any) -> Command:
    return click.option(*flags, metavar=metavar, help=help, **more)


def _number(flag: str, help: str, *, least: int | None = None, **more: Any) -> Command:
    """Without `least`, the config that the number goes into checks its range."""
    return click.option(flag, type=click.IntRange(min=least), metavar="N", help=help, **more)


_layout = _word(
    "--layout", metavar="NAME", help=f"{', '.join(LAYOUT_NAMES)} [default: recognised]."
)
_corrections = _word(
    "--corrections", metavar="FILE", help="CSV of label corrections, or 'contest'."
)
_work = _path("--work", help="Where all results go [default: work/DATA's name].")
_cache = _path("--cache", "cache_dir", help="Crop cache [default: WORK/cache].")
_runs = _path("--runs", multiple=True, help="Runs, or their folder [default: WORK/runs].")
_schema_file = _word(
    "--schema", metavar="FILE", help="Label schema YAML [default: fitted to DATA]."
)
_device = _word("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N [default: auto].")
_tracker = _word(
    "--tracker",
    "trackers",
    metavar="NAMES",
    help="tensorboard, csv, wandb, mlflow, trackio, with commas [default: tensorboard; tune: csv].",
)
_data = click.argument("data", type=click.Path(path_type=Path))
_set = _word(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    help="Override a setting, e.g. crop.margin=0.3 (repeatable).",
    multiple=True,
)
_config = _options(
    _word("--config", "recipe", metavar="NAME|FILE", help="A shipped recipe, or a YAML file."),
    _set,
    _device,
)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cropfirst")
def main() -> None:
    """Classify people in photographs by their faces, not by the room behind them.

    \b
    eda        what is in the data: counts, faces, light, rooms, duplicates
    detect     photographs -> background-free face crops, in a cache
    train      crops -> classifiers, with person-disjoint folds
    sweep      which recipe is better, and how sure is that
    tune       search for better settings
    predict    crops -> ensemble -> submission.csv
    ensemble   how do the runs vote best, and what is it worth
    evaluate   how good is it, and where is it wrong
    audit      how much does it lean on the background
    relabel    which labels are probably wrong
    report     all that is known of some runs, as one HTML page
    verify     is everything on disk as it was written; --repair
    compact    one file of crops instead of one a worker
    harden     teach the detector to see masked faces in your photographs
    demo       all of it on portraits that it draws itself
    """


@main.command()
@_data
@_options(_layout, _corrections, _work, _cache, _config)
@_word(
    "--background",
    metavar="NAME",
    help="ellipse, segment, box, photo, center or mean_box [default: ellipse].",
)
@_word(
    "--engine",
    metavar="NAME",
    help="auto, numba (CPU only) or torch [default: auto].",
)
@_word(
    "--weights", metavar="NAME|FILE", help="reference, masked, or a .safetensors file of harden."
)
@click.option(
    "--memory", type=float, metavar="GB", help="What the run may take [default: half of it all]."
)
@click.option(
    "--backend",
    type=click.Choice(["loky", "dask", "ray"]),
    help="Who does the work: processes here, or a cluster [default: threads of this process].",
)
@_number("--jobs", "Processes that work at once, with --backend [default: all].", least=1)
@click.option("--strict", is_flag=True, help="Fail when any photo was unreadable.")
@_path("--export", help="Also write every crop as a PNG, to look at.")
def detect(
    data: Path, layout: str | None, corrections: str | None, work: Path | None,
    cache_dir: Path | None, recipe: str | None, overrides: Sequence[str], device: str | None,
    background: str | None, engine: str | None, weights: str | None, memory: float | None,
    backend: str | None, jobs: int | None, strict: bool, export: Path | None,
) -> None:  # fmt: skip
    """Find the face in every photo of DATA and fill the crop cache.

    Every photo gets one row, whatever happens to it: detected, retried, sibling, prior or
    unreadable. Photos that have not changed are skipped; a changed crop setting cuts anew without
    detecting anew. Ends with a summary and two contact sheets.
    """
    click.get_current_context().with_resource(_seldom_collected())
    from cropfirst.core.device import resolve_device
    from cropfirst.stage1_detect.config import DetectConfig
    from cropfirst.stage1_detect.pipeline.dispatch import Workers

    values = {
        "device": device, "engine": engine, "memory_gb": memory, "crop.background": background,
        "detector.weights": weights,
    }  # fmt: skip
    settings = load_config(
        DetectConfig, recipe=recipe, section="detect", overrides=overrides, values=values
    )
    if jobs is not None and backend is None:
        raise click.UsageError("--jobs N goes with --backend; threads are --set workers=N")
    console = Console()
    # Before anything is made on disk. A cluster's machines have devices of their own.
    device_found = None if backend in ("dask", "ray") else resolve_device(settings.device)
    photos = _open_data(data, layout, corrections, console)
    folder = work or _work_dir(photos)
    cache = _open_cache(cache_dir or folder / "cache", photos, create=True)
    workers = None if backend is None else Workers(backend, jobs or -1)
    errors = _run_detect(
        photos, cache, settings, device_found, folder / "detect", console, workers=workers
    )
    if export is not None:
        _export(cache, settings, export, console)
    if strict and errors:
        raise click.ClickException(f"{errors} photos were unreadable (--strict)")


@main.command()
@_data
@_options(_layout, _corrections, _work, _cache, _config, _schema_file, _runs)
@_word("--task", metavar="TASK", help="mask, gender, age, class18, or several: mask,gender,age.")
@_word("--crops", metavar="NAME", help="Crop set, by its name's beginning [default: the only one].")
@_word(
    "--backbone",
    metavar="NAME",
    help="Any timm model, e.g. swin_s3_tiny_224 [default: convnext_tiny].",
)
@click.option(
    "--pretrained/--no-pretrained",
    default=None,
    help="Start from timm's weights, or from scratch [default: pretrained].",
)
@_word("--weights", metavar="FILE", help="Start from a .safetensors file.")
@_word("--init-from", metavar="RUN", help="Go on from a run, when photos or labels came.")
@_number("--folds", "Number of person-disjoint folds [default: 5].")
@_number("--fold", "Train this fold alone, counted from 0 [default: all].")
@_number("--epochs", "Epochs a fold.")
@click.option(
    "--all-data/--no-all-data",
    default=None,
    help="After the folds, train once more on all photos, for the epochs that the folds chose.",
)
@click.option(
    "--preload",
    type=click.Choice(["auto", "none", "ram", "device"]),
    help="Hold all crops in RAM, or in the GPU's memory [default: auto, where they fit].",
)
@_word(
    "--name",
    metavar="NAME",
    help="Name of the run [default: TASK-BACKBONE, -CROPS if not ellipse].",
)
@_tracker
def train(
    data: Path, layout: str | None, corrections: str | None, work: Path | None,
    cache_dir: Path | None, recipe: str | None, overrides: Sequence[str], device: str | None,
    schema: str | None, runs: Sequence[Path], task: str | None, crops: str | None,
    backbone: str | None, pretrained: bool | None, weights: str | None, init_from: str | None,
    folds: int | None, fold: int | None, epochs: int | None, all_data: bool | None,
    preload: str | None, name: str | None, trackers: str | None,
) -> None:  # fmt: skip
    """Train a classifier on the crops, one model a fold, and predict out of fold.

    A killed run goes on where it was when the same command is given again. Under accelerate launch,
    several processes train each fold together.
    """
    from cropfirst.stage2_classify.config import TrainConfig
    from cropfirst.stage2_classify.train.train import train as run_training

    values = {
        "device": device, "task": task, "name": name, "model.backbone": backbone,
        "model.pretrained": pretrained, "model.weights": weights, "init_from": init_from,
        "folds.n_folds": folds, "folds.fold": fold, "folds.all_data": all_data,
        "optim.epochs": epochs, "data.preload": preload, "trackers": trackers,
    }  # fmt: skip
    with _team() as team:
        console = Console(quiet=team is not None and not team.leads)
        with _together(team):
            settings = load_config(
                TrainConfig, recipe=recipe, section="train", overrides=overrides, values=values
            )
            photos = _open_data(data, layout, corrections, console)
            folder = work or _work_dir(photos)
            crop_set = _open_cache(cache_dir or folder / "cache", photos).find(crops)
            labels = _schema(schema, photos)
        run_training(
            photos, labels, crop_set, settings,
            runs_dir=_one(runs, folder / "runs"), console=console, team=team,
        )  # fmt: skip


@main.command()
@_data
@click.argument("recipes", nargs=-1, metavar="[RECIPES...]")
@_options(_layout, _corrections, _work, _cache, _set, _device, _schema_file, _tracker)
@_word("--task", "tasks", metavar="TASK", help="As for train; each its own run.", multiple=True)
@_word(
    "--grid",
    metavar="KEY=V,V",
    help="Each recipe at each value, e.g. optim.lr=1e-3,1e-4 (repeatable: all combinations).",
    multiple=True,
)
@_word("--crops", metavar="NAME", help="Crop set, by its name's beginning [default: the only one].")
@_number("--folds", "Number of person-disjoint folds, the same for all [default: the recipes'].")
@_number("--epochs", "Epochs a fold, for all [default: the recipes'].")
@_word(
    "--name", metavar="NAME", help="Folder below WORK/sweeps.", default="sweep", show_default=True
)
@_number("--jobs", "Folds trained at once [default: one a GPU, else one for two cores].", least=1)
@click.option(
    "--backend",
    type=click.Choice(["loky", "sequential", "dask", "ray"]),
    default="loky",
    show_default=True,
    help="Who runs the jobs: processes here, this process, or a cluster.",
)
@_word(
    "--baseline", metavar="LINE", help="first, best, or a line.", default="first", show_default=True
)
@click.option(
    "--sort",
    type=click.Choice(["score", "seconds", "params", "name"]),
    default="score",
    show_default=True,
    help="Order of the table.",
)
def sweep(
    data: Path, recipes: Sequence[str], layout: str | None, corrections: str | None,
    work: Path | None, cache_dir: Path | None, overrides: Sequence[str], device: str | None,
    schema: str | None, trackers: str | None, tasks: Sequence[str], grid: Sequence[str],
    crops: str | None, folds: int | None, epochs: int | None, name: str, jobs: int | None,
    backend: str, baseline: str, sort: str,
) -> None:  # fmt: skip
    """Train RECIPES (or the defaults) and compare them on the same people and folds.

    A line is a recipe, or a recipe at one point of the --grid. Each fold of each line is a job of
    its own; one that fails does not stop the others. A killed sweep goes on when the same command
    is given again. Ends with one table: scores over folds, and differences with an interval.
    """
    from cropfirst.stage2_classify.sweep.plan import plan_lines
    from cropfirst.stage2_classify.sweep.sweep import sweep as run_sweep

    values = {
        "device": device, "folds.n_folds": folds, "optim.epochs": epochs, "trackers": trackers,
    }  # fmt: skip
    lines = plan_lines(recipes, grid, tasks=tasks, overrides=overrides, values=values)
    console = Console()
    photos = _open_data(data, layout, corrections, console)
    folder = work or _work_dir(photos)
    source, crop_set = _source(
        data, layout, corrections, schema, photos, cache_dir or folder / "cache", crops
    )
    result = run_sweep(
        lines, photos, _schema(schema, photos), crop_set, source,
        out_dir=folder / "sweeps" / _plain(name), backend=backend, n_jobs=jobs, baseline=baseline,
        sort=sort, console=console,
    )  # fmt: skip
    if result.failures:
        raise click.ClickException(
            f"{len(result.failures)} jobs failed, see above: run the same command to try them again"
        )


@main.command()
@_data
@_options(_layout, _corrections, _work, _cache, _config, _schema_file, _tracker)
@_word("--task", metavar="TASK", help="mask, gender, age, class18, or several: mask,gender,age.")
@_word(
    "--space",
    metavar="KEY=RANGE",
    help="log:LOW,HIGH, float:LOW,HIGH, int:LOW,HIGH[,STEP] or VALUE,VALUE, e.g. "
    "optim.lr=log:1e-4,1e-2 (repeatable) [default: rate, decay, dropout].",
    multiple=True,
)
@_number(
    "--trials", "In all, those of earlier calls included.", least=1, default=20, show_default=True
)
@_word("--crops", metavar="NAME", help="Crop set, by its name's beginning [default: the only one].")
@_number("--folds", "Number of person-disjoint folds [default: 5].")
@_number("--fold", "Judge by this fold alone, counted from 0 [default: all].")
@_number("--epochs", "Epochs a fold.")
@_word("--name", metavar="NAME", help="Folder below WORK/tune.", default="tune", show_default=True)
def tune(
    data: Path, layout: str | None, corrections: str | None, work: Path | None,
    cache_dir: Path | None, recipe: str | None, overrides: Sequence[str], device: str | None,
    schema: str | None, trackers: str | None, task: str | None, space: Sequence[str], trials: int,
    crops: str | None, folds: int | None, fold: int | None, epochs: int | None, name: str,
) -> None:  # fmt: skip
    """Search for settings with the highest out-of-fold macro F1, and write them as a recipe.

    A trial is a run with other settings; one that is worse than the median of the others at the
    same epoch is cut short. A killed search goes on when the same command is given again, and
    several commands may search together.
    """
    from cropfirst.stage2_classify.config import TrainConfig
    from cropfirst.stage2_classify.sweep.tune import tune as run_search
    from cropfirst.stage2_classify.sweep.tune_space import parse_space
    from cropfirst.stage2_classify.sweep.tune_study import Search

    values = {
        "device": device, "task": task, "folds.n_folds": folds, "folds.fold": fold,
        "optim.epochs": epochs, "trackers": trackers or "csv",
    }  # fmt: skip
    settings = load_config(
        TrainConfig, recipe=recipe, section="train", overrides=overrides, values=values
    )
    dimensions = parse_space(space)
    console = Console()
    photos = _open_data(data, layout, corrections, console)
    folder = work or _work_dir(photos)
    search = Search(
        settings, dimensions, photos, _schema(schema, photos),
        _open_cache(cache_dir or folder / "cache", photos).find(crops),
        out_dir=folder / "tune" / _plain(name),
    )  # fmt: skip
    found = run_search(search, n_trials=trials, seed=settings.seed, console=console)
    counts = ", ".join(f"{count} {state}" for state, count in found.states.items() if count)
    say(console, f"trials: {counts}; best: {found.number}, macro F1 {found.value:.4f}")
    for key, value in found.params.items():
        say(console, f"  {key}: {value}")
    say(console, f"recipe: {found.recipe}; train with --config {found.recipe}")


@main.command()
@click.argument(
    "data", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATA | PHOTO..."
)
@_options(_layout, _work, _cache, _runs)
@_path("--out", help="Where the answers go [default: WORK/predict].")
@click.option(
    "--checkpoint",
    type=click.Choice(["best_f1", "best_accuracy", "best_loss", "last", "soup"]),
    help="Which checkpoint of each fold votes [default: the ensemble's, or best_f1].",
)
@_path(
    "--ensemble",
    metavar="FILE",
    help="Votes as this says; none = all alike [default: WORK/ensemble/ensemble.json].",
)
@_word(
    "--device", metavar="NAME", help="auto, cpu, cuda or cuda:N.", default="auto", show_default=True
)
@_number("--batch-size", "Crops at once.", least=1, default=64, show_default=True)
def predict(
    data: Sequence[Path], layout: str | None, work: Path | None, cache_dir: Path | None,
    runs: Sequence[Path], out: Path | None, checkpoint: str | None, ensemble: Path | None,
    device: str, batch_size: int,
) -> None:  # fmt: skip
    """Predict DATA from its crops, or single PHOTOs end to end, with every fold of every run.

    For DATA, writes submission.csv (exactly the rows and order of info.csv, where there is one) and
    predictions.parquet. For PHOTOs, detects, crops, predicts and prints a table; --runs is needed.
    Votes are weighed by the ensemble command's ensemble.json where it is for these runs, and it
    says so; a warning comes where the answers are not in the shares of training.
    """
    from cropfirst.stage2_classify.predict.predict import predict as run_predict

    console = Console()
    alike = ensemble is not None and str(ensemble) == "none"
    votes: dict[str, Any] = {"checkpoint": checkpoint, "ensemble": None if alike else ensemble}
    if not _is_dataset(data):
        _predict_photos(data, runs, out, device=device, votes=votes, console=console)
        return
    photos = _open_data(data[0], layout, None, console)
    folder = work or _work_dir(photos)
    run_predict(
        photos, _open_cache(cache_dir or folder / "cache", photos), runs or [folder / "runs"],
        out_dir=out or folder / "predict", device=device, batch_size=batch_size, **votes,
        default_ensemble=None if alike else folder / "ensemble" / "ensemble.json",
        detect_defaults=_default_crops(), console=console,
    )  # fmt: skip


@main.command()
@_data
@_options(_layout, _corrections, _work, _cache, _schema_file)
@_word("--crops", metavar="NAME", help="Crop set, by its name's beginning [default: the only one].")
@_path("--rooms", metavar="FILE", help="CSV: file, room [default: DATA/rooms.csv, if there].")
@click.option("--photos/--no-photos", "look", default=True, help="Open all photos [default: yes].")
@_path("--out", help="Where the counts go [default: WORK/eda].")
def eda(
    data: Path, layout: str | None, corrections: str | None, work: Path | None,
    cache_dir: Path | None, schema: str | None, crops: str | None, rooms: Path | None, look: bool,
    out: Path | None,
) -> None:  # fmt: skip
    """Look at DATA before training: counts, faces, light, rooms, duplicates.

    Counts of every class and of their combinations, for each split; what goes together with what;
    sizes, places and scores of faces, where detect has been; brightness, and photos that look the
    same and are of different people.
    """
    from cropfirst.stage2_classify.eda.run import run_eda

    console = Console()
    photos = _open_data(data, layout, corrections, console)
    folder = work or _work_dir(photos)
    place = cache_dir or folder / "cache"
    has_crops = cache_dir is not None or place.is_dir()
    run_eda(
        photos, _schema(schema, photos), out_dir=out or folder / "eda", rooms=rooms,
        crops=_open_cache(place, photos).find(crops) if has_crops else None,
        read=_read_pixels if look else None, console=console,
    )  # fmt: skip


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@_path("--data", help="The photos [default: those that the crop cache was made for].")
@_options(_layout, _corrections)
@_path("--work", help="Where results lie [default: the folder above RUN that has a cache].")
@_options(_cache, _device)
@click.option("--cam/--no-cam", default=True, help="Grad-CAM sheets [default: yes].")
@_path("--out", metavar="FILE", help="The page [default: WORK/report.html].")
def report(
    runs: Sequence[Path], data: Path | None, layout: str | None, corrections: str | None,
    work: Path | None, cache_dir: Path | None, device: str | None, cam: bool, out: Path | None,
) -> None:  # fmt: skip
    """One HTML file on RUNs, or folders of runs, which needs no other file and no network.

    What was trained on what, scores with intervals, learning curves, confusion matrices, the worst
    slices, the surest mistakes, Grad-CAM, crops, and a model card; and what audit, ensemble,
    relabel and eda have written, where they have.
    """
    from cropfirst.cache import Cache
    from cropfirst.stage2_classify.audit.runs import find_work
    from cropfirst.stage2_classify.report.build import build_report

    console = Console()
    folder = work or find_work(runs)
    place = cache_dir or folder / "cache"
    root = data or (Cache.open(place).data_root if place.is_dir() else None)
    if root is None:
        raise click.UsageError(f"there is no cache in {place} that knows the photos: give --data")
    photos = _open_data(root, layout, corrections, console)
    done = build_report(
        runs or [folder / "runs"], photos=photos, work=folder, out=out or folder / "report.html",
        cache=_open_cache(place, photos) if cache_dir or place.is_dir() else None, cam=cam,
        device=device or "auto",
    )  # fmt: skip
    for why in done.absent:
        say(console, f"not in it: {why}")
    say(console, f"report: {done.path} ({done.n_bytes / 2**20:.1f} MiB)")


@main.command()
@_data
@_options(_layout, _work, _cache, _runs, _device)
@_path("--out", help="Where ensemble.json goes [default: WORK/ensemble, where predict looks].")
@_word(
    "--steps",
    metavar="NAMES",
    help="Ways to try: hard, shares, members, greedy, simplex, route; temperature, thresholds "
    "[default: all].",
)
@_word("--route", "routes", metavar="TASK=BY", help="E.g. age=mask (repeatable).", multiple=True)
@_word("--tta", metavar="KINDS", help="flip, scale, with commas: look at crops several ways.")
@_word("--soup", metavar="KINDS", help="epochs, folds: average the weights of checkpoints.")
@_number("--batch-size", "Crops at once.", least=1, default=64, show_default=True)
def ensemble(
    data: Path, layout: str | None, work: Path | None, cache_dir: Path | None,
    runs: Sequence[Path], device: str | None, out: Path | None, steps: str | None,
    routes: Sequence[str], tta: str | None, soup: str | None, batch_size: int,
) -> None:  # fmt: skip
    """Find how the runs vote best: members, weights, temperature, thresholds.

    All of it is found on out-of-fold predictions, and each step is judged on people that it was not
    found on, with an interval. predict uses what is written.
    """
    from cropfirst.stage2_classify.ensemble.options import parse_options
    from cropfirst.stage2_classify.ensemble.run import build_ensemble

    settings, options = parse_options(
        steps, routes=routes, tta=tta, soup=soup, batch_size=batch_size
    )
    console = Console()
    photos = _open_data(data, layout, None, console)
    folder = work or _work_dir(photos)
    again = options.views or options.soups
    build_ensemble(
        runs or [folder / "runs"], out_dir=out or folder / "ensemble", settings=settings,
        options=options, device=device or "auto", console=console,
        cache=_open_cache(cache_dir or folder / "cache", photos) if again else None,
    )  # fmt: skip


@main.command()
@_data
@_options(_layout, _corrections, _work, _cache, _runs, _schema_file)
@_path("--answers", metavar="FILE", help="CSV of the eval photos' true codes (ImageID,ans).")
@_path("--predictions", metavar="FILE", help="Scored [default: WORK/predict/predictions.parquet].")
@_path("--out", help="Where the report goes [default: WORK/evaluate].")
def evaluate(
    data: Path, layout: str | None, corrections: str | None, work: Path | None,
    cache_dir: Path | None, runs: Sequence[Path], answers: Path | None, predictions: Path | None,
    out: Path | None, schema: str | None,
) -> None:  # fmt: skip
    """Score out-of-fold predictions, or with --answers the predictions for the eval photos.

    With --predictions alone, they are compared with DATA's own labels. Macro F1, accuracy, a table
    per class and confusion matrices, on the console and as PNG. Out of fold and with --answers also
    intervals, slices (the worst first), calibration and a gallery of the surest mistakes.
    """
    from cropfirst.stage2_classify.evaluate import evaluate as score

    console = Console()
    photos = _open_data(data, layout, corrections, console)
    folder = work or _work_dir(photos)
    out = out or folder / "evaluate"
    predicted = predictions or folder / "predict" / "predictions.parquet"
    place = cache_dir or folder / "cache"
    cache = _open_cache(place, photos) if cache_dir or place.is_dir() else None
    if answers is not None:
        score.evaluate_answers(
            answers, predicted, schema=_schema(schema, photos), out_dir=out, photos=photos,
            cache=cache, console=console,
        )  # fmt: skip
    elif predictions is not None:
        score.evaluate_labels(
            photos, predicted, schema=_schema(schema, photos), out_dir=out, console=console
        )
    else:
        score.evaluate_oof(
            runs or [folder / "runs"], out_dir=out, photos=photos, cache=cache, console=console
        )


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@_options(_work, _cache, _device)
@_path("--out", help="Where tables and pictures go [default: WORK/audit].")
@_number("--limit", "Photos, of whole persons; 0 = all.", least=0, default=1000, show_default=True)
@_number("--batch-size", "Crops at once.", least=1, default=64, show_default=True)
@_number("--seed", "Of who lends whom a room.", least=0, default=0, show_default=True)
def audit(
    runs: Sequence[Path], work: Path | None, cache_dir: Path | None, device: str | None,
    out: Path | None, limit: int, batch_size: int, seed: int,
) -> None:  # fmt: skip
    """Measure how much RUNs (or folders of runs) lean on the background.

    Heads are put into other people's rooms, rooms are shown without heads, and each photo is
    predicted by the fold that has not seen its person. One table for all runs, whatever crops they
    were trained on; what a label can be guessed from by the room alone; where each run looks. A
    killed audit goes on.
    """
    from cropfirst.cache import Cache
    from cropfirst.stage1_detect.crops.photo_reader import WholePhotos
    from cropfirst.stage2_classify.audit.audit import audit as run_audit
    from cropfirst.stage2_classify.audit.runs import find_work

    folder = work or (find_work(runs) if cache_dir is None else cache_dir.resolve().parent)
    cache = Cache.open(cache_dir or folder / "cache")
    run_audit(
        runs, cache, WholePhotos(cache.data_root), out_dir=out or folder / "audit",
        limit=limit or None, seed=seed, device=device or "auto", batch_size=batch_size,
        console=Console(),
    )  # fmt: skip


@main.command()
@_data
@_options(_layout, _corrections, _work, _cache, _runs)
@_word("--task", "tasks", metavar="TASK", help="Repeatable [default: all].", multiple=True)
@_word("--crops", metavar="NAME", help="Crop set that the page shows [default: the runs'].")
@_number("--limit", "Labels a task at most.", least=1, default=200, show_default=True)
@_path("--out", help="Where the page goes [default: WORK/relabel].")
def relabel(
    data: Path, layout: str | None, corrections: str | None, work: Path | None,
    cache_dir: Path | None, runs: Sequence[Path], tasks: Sequence[str], crops: str | None,
    limit: int, out: Path | None,
) -> None:  # fmt: skip
    """Find labels that are probably wrong, from out-of-fold predictions.

    Writes a page to look through them by keyboard, which hands out the corrections that detect and
    train --corrections read; and a file that takes every suggestion. Give the --corrections that
    the runs were trained with: what they say is kept.
    """
    from cropfirst.stage2_classify.relabel.relabel import relabel as run_relabel

    console = Console()
    photos = _open_data(data, layout, None, console)
    folder = work or _work_dir(photos)
    run_relabel(
        photos, runs or [folder / "runs"], _open_cache(cache_dir or folder / "cache", photos),
        crops=crops, out_dir=out or folder / "relabel", tasks=tasks, corrections=corrections,
        most=limit, console=console,
    )  # fmt: skip


@main.command()
@_data
@_options(_layout, _work, _cache, _runs, _device)
@click.option("--repair", is_flag=True, help="Take out what is bad, and do just that anew.")
def verify(
    data: Path, layout: str | None, work: Path | None, cache_dir: Path | None,
    runs: Sequence[Path], device: str | None, repair: bool,
) -> None:  # fmt: skip
    """Read every row, crop and checkpoint, and say what is not as it was written.

    With --repair, what is bad is removed and detected or cut anew; what nothing refers to is
    removed. Damaged folds are removed, for train to do anew. Exits with 1 where anything is bad
    and stays so.
    """
    from cropfirst.stage2_classify.runs.verify import check_runs, repair_runs

    console = Console()
    photos = _open_data(data, layout, None, console)
    folder = work or _work_dir(photos)
    bad = _verify_cache(cache_dir or folder / "cache", photos, device, repair, console)
    for runs_dir in runs or [folder / "runs"]:
        findings = check_runs(runs_dir)
        for finding in findings:
            say(console, f"  {finding.where}: {finding.message}")
        harmed = sum(not finding.harmless for finding in findings)
        say(console, f"{runs_dir}: {harmed} things are wrong, {len(findings) - harmed} left over")
        if repair and findings:
            repair_runs(findings)
            findings = check_runs(runs_dir)
            say(console, "  removed; run train again with the same settings where folds are gone")
        bad += sum(not finding.harmless for finding in findings)
    if bad:
        way = "it cannot be mended by itself" if repair else "run it again with --repair"
        raise click.ClickException(f"{bad} things are wrong: {way}")


@main.command()
@_data
@_options(_layout, _work, _cache)
def compact(
    data: Path, layout: str | None, work: Path | None, cache_dir: Path | None
) -> None:  # fmt: skip
    """Merge the shards that the workers of detect --backend wrote into one.

    A cache of many shards reads as well, a little slower. Needs room for the largest shard once
    more. May be killed and run again.
    """
    from cropfirst.cache.merge import merge_shards

    console = Console()
    photos = _open_data(data, layout, None, console)
    cache = _open_cache(cache_dir or (work or _work_dir(photos)) / "cache", photos)
    with cache.lock():
        for name in cache.crop_sets():
            crops = cache.find(name)
            merged = merge_shards(crops.folder)
            say(console, f"{crops.folder}: {merged} shards merged, {len(crops.reader())} crops")


@main.command()
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATA...")
@_options(_layout, _config)
@_path(
    "--boxes", metavar="FILE", help="Known faces of a single DATA [default: DATA/boxes.csv if any]."
)
@_path("--templates", help="Pictures of masks and points.csv [default: drawn masks alone].")
@_path("--out", help="Where the weights and the report go [default: work/harden].")
@_number("--folds", "Parts that the photos are divided into [default: 10].")
@_number("--fold", "The part that is held out and measured on, counted from 0 [default: 0].")
@click.option("--all-data", is_flag=True, help="Learn from all photos and measure nothing.")
def harden(
    data: Sequence[Path], layout: str | None, recipe: str | None, overrides: Sequence[str],
    device: str | None, boxes: Path | None, templates: Path | None, out: Path | None,
    folds: int | None, fold: int | None, all_data: bool,
) -> None:  # fmt: skip
    """Teach the detector to see masked faces in the photographs of DATA.

    The detector as it is says where the bare faces are; masks are pasted on them, and a student
    learns to find them as if they were bare. Where DATA holds boxes.csv, it learns from those faces
    too. Ends with weights for `detect --weights`, and a report of what is found before and after on
    photos that it never learnt from. A killed run goes on where it stopped.
    """
    from cropfirst.core.device import describe_device, resolve_device
    from cropfirst.stage1_detect.harden.command import harden_datasets
    from cropfirst.stage1_detect.harden.config import HardenConfig

    if boxes is not None and len(data) > 1:
        raise click.UsageError("--boxes FILE is for one DATA; give each its own boxes.csv")
    if all_data and fold is not None:
        raise click.UsageError("--all-data holds nothing out, so --fold has no meaning")
    values = {"device": device, "folds": folds, "fold": fold}
    settings = load_config(
        HardenConfig, recipe=recipe, section="harden", overrides=overrides, values=values
    )
    if all_data:
        settings = settings.model_copy(update={"fold": None})
    console = Console()
    where = resolve_device(settings.device)
    say(console, f"device: {describe_device(where)}")
    sets = []
    for folder in data:
        photos = _open_data(folder, layout, None, console)
        sets.append((photos.root, _refs(photos)))
    harden_datasets(
        sets, settings, out or Path("work") / "harden", boxes=boxes, templates=templates,
        device=str(where), console=console,
    )  # fmt: skip


@main.command()
@_path("--work", default=Path("work/demo"), show_default=True, help="Where all of it goes.")
@_number("--people", "Drawn to train on; half as many for eval.", least=6, default=54)
@_number("--epochs", "Epochs a fold [default: the recipes'].", least=1)
def demo(work: Path, people: int, epochs: int | None) -> None:
    """Draw portraits, then detect, train, predict, evaluate, audit and report as a user would.

    In the drawn training photos the rooms go with gender and age, in eval they do not. One model
    more is trained on whole photos, for the audit to compare. Each step is printed as the command
    that does it.
    """
    from cropfirst.stage2_classify.drawn.contest import draw_contest
    from cropfirst.stage2_classify.drawn.demo_table import demo_table

    console = Console()
    data, share = work / "data", ["--work", str(work)]
    with console.status(f"drawing {people + people // 2} people, 7 photos each"):
        drawn = draw_contest(data, n_train_people=people, n_eval_people=people // 2, n_jobs=-1)
    say(console, f"drawn: {drawn.n_train} train and {drawn.n_eval} eval photos in {data}")
    _step(console, "detect", data, *share, "--config", DEMO_RECIPES[0])
    more = [] if epochs is None else ["--epochs", str(epochs)]
    for recipe in DEMO_RECIPES:
        for task in ("mask", "gender", "age"):
            _step(console, "train", data, *share, "--config", recipe, "--task", task, *more)
    _step(console, "predict", data, *share)
    _step(console, "evaluate", data, *share)
    answers = work / "evaluate-answers"
    _step(console, "evaluate", data, *share, "--answers", str(drawn.answers), "--out", str(answers))
    # Of its own folder, where predict does not find it.
    whole, runs = ["--config", DEMO_RECIPES[0]], ["--runs", str(work / "runs-photo")]
    _step(console, "detect", data, *share, *whole, "--background", "photo")
    _step(
        console, "train", data, *share, *whole, *runs, "--crops", "photo", "--task", "gender",
        "--name", "gender-photo", *more,
    )  # fmt: skip
    faces = sorted(map(str, (work / "runs").glob("gender-*")))
    _step(console, "audit", work / "runs-photo", *faces, *share)
    _step(console, "report", work / "runs", "--device", "cpu")
    console.print(demo_table(work / "evaluate/evaluation.json", answers / "evaluation.json"))
    say(console, "Look at:")
    folders = (work / "detect", answers, work / "audit")
    for path in (each for folder in folders for each in sorted(folder.glob("*.png"))):
        say(console, f"  {path}")
    say(console, f"  {work / 'predict' / 'submission.csv'}")
    say(console, f"  {work / 'report.html'}")


# Composition of the stages


def _step(console: Console, command: str, data: Path, *options: str) -> None:
    """Run one command as if it had been typed."""
    arguments = [str(data), *options]
    console.rule(f"python cli.py {command} {' '.join(arguments)}", align="left")
    main.commands[command].main(arguments, standalone_mode=False)


@contextmanager
def _team() -> Iterator[Team | None]:
    """The processes that a launcher has started to train together; None for a single one."""
    found = os.environ
    lost = "ACCELERATE_MIXED_PRECISION" in found and "MASTER_PORT" in found and "RANK" not in found
    if lost:
        raise click.UsageError(
            "accelerate launch has started one process, or left it to MPI to start more: for "
            "several on the CPU, put --multi_gpu in place of --cpu, and --device cpu behind train"
        )
    if _launched_as("WORLD_SIZE", 1) == 1:
        yield None
        return
    from cropfirst.stage2_classify.train.distributed import join_team

    with join_team() as team:
        yield team


def _together(team: Team | None) -> AbstractContextManager[None]:
    return nullcontext() if team is None else team.together()


def _open_data(
    data: Path, layout: str | None, corrections: str | None, console: Console
) -> PhotoSet:
    """Open DATA and say what it is and what is wrong with it."""
    from cropfirst.stage2_classify.datasets import open_dataset

    photos = open_dataset(data, layout=layout, corrections=corrections)
    counts = {split: len(photos.by_split(split)) for split in ("train", "eval")}
    text = ", ".join(f"{count} {split}" for split, count in counts.items() if count)
    say(console, f"{data}: layout {photos.layout}, {text} photos")
    if photos.corrections:
        say(console, photos.corrections)
    for problem in photos.problems[:PROBLEMS_SHOWN]:
        say(console, f"  note: {problem.where}: {problem.message}")
    if len(photos.problems) > PROBLEMS_SHOWN:
        say(console, f"  and {len(photos.problems) - PROBLEMS_SHOWN} more notes of this kind")
    return photos


def _open_cache(path: Path, photos: PhotoSet, *, create: bool = False) -> Cache:
    from cropfirst.cache import Cache

    return Cache.open(path, data_root=photos.root, create=create)


def _verify_cache(
    path: Path, photos: PhotoSet, device: str | None, repair: bool, console: Console
) -> int:
    """Check a cache, and with `repair` mend it; returns the number of things that stay wrong."""
    from cropfirst.cache.repair import open_damaged, repair_cache
    from cropfirst.cache.verify import check_cache
    from cropfirst.cache.verify_report import print_checks
    from cropfirst.core.device import resolve_device

    cache = open_damaged(path, data_root=photos.root, repair=repair)
    keys = {sample.key for sample in photos.samples}
    with cache.lock_if_writable():
        checks = check_cache(path, keys=keys)
        if repair:
            repair_cache(checks)
    bad = print_checks(checks, path, console)
    if not repair or not bad:
        return bad
    where = resolve_device(device or "auto")
    for config in _configs_of(cache, checks):
        say(console, f"again, what was taken out: {config.crop.background} crops")
        _run_detect(photos, cache, config, where, path.parent / "detect", console)
    with cache.lock_if_writable():
        return print_checks(check_cache(path, keys=keys), path, console)


def _configs_of(cache: Cache, checks: Sequence[FolderCheck]) -> list[DetectConfig]:
    """The settings of every crop set that must be filled again."""
    from cropfirst.stage1_detect.run import config_made_with

    # A crop set that lies on damaged detections is filled again too.
    lost = any(check.is_harmed for check in checks if check.kind == "detections")
    sets = [check for check in checks if check.kind == "crops" and (check.is_harmed or lost)]
    return [config_made_with(check.folder) for check in sets]


def _run_detect(
    photos: PhotoSet, cache: Cache, config: DetectConfig, device: torch.device | None, out: Path,
    console: Console, *, workers: Workers | None = None,
) -> int:  # fmt: skip
    """Stage 1, its summary and its contact sheets; returns the number of unreadable photos.

    Args:
        device: None leaves it to each of the `workers`.
    """
    from cropfirst.core.device import describe_device
    from cropfirst.stage1_detect.pipeline.contact_sheet import (
        crop_sheet,
        doubtful_sheets,
        unsegmented_sheet,
    )
    from cropfirst.stage1_detect.pipeline.summary import print_summary
    from cropfirst.stage1_detect.run import detect as run_detect

    shown = f"{config.device}, on each worker" if device is None else describe_device(device)
    say(console, f"device: {shown}" + (f"; {workers.backend}" if workers is not None else ""))
    summary = run_detect(
        _refs(photos), cache, config, device=str(device or config.device), workers=workers,
        console=console,
    )  # fmt: skip
    print_summary(summary, console)
    paths = {sample.key: sample.path for sample in photos.samples}
    sheet, doubtful = (out / f"{summary.crops.name}{end}.png" for end in ("", "-not-detected"))
    if summary.changed or not doubtful.exists():
        crop_sheet(summary.crops, sheet)
        doubtful_sheets(summary.crops, doubtful, photo_path=paths.__getitem__)
    say(console, f"crops: {summary.crops.folder}")
    pages = len(list(out.glob(f"{doubtful.stem}-*.png")))
    more = f" (and {pages} more pages)" if pages else ""
    say(console, f"contact sheets: {sheet} and {doubtful}{more}")
    failures = out / f"{summary.crops.name}-not-segmented.png"
    if unsegmented_sheet(summary.crops, failures, photo_path=paths.__getitem__):
        say(console, f"not segmented: {failures}")
    return len(summary.errors)


def _read_pixels(sample: Sample) -> np.ndarray | None:
    """A photo's pixels, for what else looks at whole photos; None where it cannot be read."""
    from cropfirst.stage1_detect.photos.read import ReadError, read_photo

    try:
        return read_photo(sample.path).image
    except ReadError:
        return None


def _refs(photos: PhotoSet) -> list[PhotoRef]:
    from cropfirst.stage1_detect.photos.read import PhotoRef

    return [PhotoRef(s.key, s.path, s.split, s.group) for s in photos.samples]


def _default_crops() -> dict[str, Any]:
    """The config of the crops that `detect` makes when nothing is set."""
    from cropfirst.stage1_detect.config import DetectConfig
    from cropfirst.stage1_detect.mtcnn.nets.modules import weights_hash

    config = DetectConfig()
    return config.crop_key(weights_hash(config.detector.weights))


def _export(cache: Cache, config: DetectConfig, folder: Path, console: Console) -> None:
    from cropfirst.stage1_detect.pipeline.contact_sheet import export_crops
    from cropfirst.stage1_detect.run import crop_set_of

    count = export_crops(crop_set_of(cache, config), folder)
    say(console, f"exported {count} crops to {folder}")


def _predict_photos(
    files: Sequence[Path], runs: Sequence[Path], out: Path | None, *,
    device: str, votes: dict[str, Any], console: Console,
) -> None:  # fmt: skip
    """Single photos end to end: the same two stages, over a cache that lives for one call."""
    missing = [file for file in files if not file.exists()]
    if missing:
        raise click.ClickException(
            f"{missing[0]} does not exist: wanted a data set's folder (or .csv table), or photos"
        )
    from cropfirst.api import detect_for_runs
    from cropfirst.core.device import resolve_device
    from cropfirst.stage2_classify.datasets import open_files
    from cropfirst.stage2_classify.predict.predict import predict as run_predict
    from cropfirst.stage2_classify.voting.prediction_table import print_predictions

    if not runs:
        raise click.UsageError("predicting single photos needs --runs DIR (a trained run)")
    where = str(resolve_device(device))
    photos = open_files(files)
    with tempfile.TemporaryDirectory(prefix="cropfirst-") as folder:
        cache = _open_cache(Path(folder) / "cache", photos, create=True)
        errors = detect_for_runs(photos, cache, runs, device=where, **votes)
        target = out or Path(folder) / "predict"
        predictions = run_predict(photos, cache, runs, out_dir=target, device=where, **votes)
        print_predictions(predictions.path, console)
    for key, text in errors.items():
        say(console, f"  {key}: {text}")
    if out is not None:
        say(console, f"predictions: {target / 'predictions.parquet'}")
    if len(errors) == len(photos):
        raise click.ClickException("no photo could be read: nothing was predicted")


def _is_dataset(data: Sequence[Path]) -> bool:
    return len(data) == 1 and (data[0].is_dir() or data[0].suffix.lower() == ".csv")


def _schema(file: str | None, photos: PhotoSet) -> LabelSchema:
    from cropfirst.stage2_classify.labels.schema import infer_schema, load_schema

    return infer_schema(photos) if file is None else load_schema(file)


def _source(
    data: Path, layout: str | None, corrections: str | None, schema: str | None, photos: PhotoSet,
    cache_dir: Path, crops: str | None,
) -> tuple[Source, CropSet]:  # fmt: skip
    """The crop set, and the paths from which another process opens all that training reads."""
    from cropfirst.stage2_classify.sweep.jobs import Source

    crop_set = _open_cache(cache_dir, photos).find(crops)
    found = Source(data.resolve(), layout, corrections, schema, cache_dir.resolve(), crop_set.name)
    return found, crop_set


def _plain(name: str) -> str:
    if not name or name[0] == "." or "/" in name or "\\" in name:
        raise click.UsageError("--name wants a plain folder name")
    return name


def _one(runs: Sequence[Path], otherwise: Path) -> Path:
    if len(runs) > 1:
        raise click.UsageError("train writes to one --runs DIR")
    return runs[0] if runs else otherwise


def _work_dir(photos: PhotoSet) -> Path:
    return Path("work") / (photos.root.name or "data")


if __name__ == "__main__":
    main()
