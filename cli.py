"""The command line: one click group. A command parses, loads its config, calls one function and
says what it wrote. Heavy imports wait inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from cropfirst.cache.errors import CropfirstError
from cropfirst.configs import ConfigError, load_config

if TYPE_CHECKING:
    from cropfirst.cache import Cache
    from cropfirst.stage1_detect.config import DetectConfig
    from cropfirst.stage1_detect.images import PhotoRef
    from cropfirst.stage2_classify.datasets import PhotoSet
    from cropfirst.stage2_classify.labels import LabelSchema

Command = Callable[..., Any]
PROBLEMS_SHOWN = 5


class _Group(click.Group):
    """Turns our errors into messages; anything else is a bug and keeps its trace."""

    def invoke(self, ctx: click.Context) -> Any:
        signal.signal(signal.SIGTERM, _stop)
        try:
            return super().invoke(ctx)
        except (CropfirstError, ConfigError) as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise click.ClickException(f"{error.strerror or error}{where}") from error
        except KeyboardInterrupt:
            click.echo(
                "\nStopped. What was finished is kept: run the same command to go on.", err=True
            )
            ctx.exit(130)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _options(*options: Command) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_data_options = _options(
    click.argument("data", type=click.Path(path_type=Path)),
    click.option(
        "--layout",
        metavar="NAME",
        help="contest, csv, folders, fairface, utkface or photos [default: recognised].",
    ),
    click.option(
        "--corrections",
        metavar="FILE",
        help="CSV of label corrections, or 'contest' for the shipped one.",
    ),
)
_work_options = _options(
    click.option(
        "--work",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Where all results go [default: work/DATA's name].",
    ),
    click.option(
        "--cache",
        "cache_dir",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Crop cache [default: WORK/cache].",
    ),
)
_config_options = _options(
    click.option(
        "--config",
        "recipe",
        metavar="NAME|FILE",
        help="A recipe: one of the shipped ones, or a YAML file.",
    ),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override one setting, e.g. --set crop.margin=0.3 (repeatable).",
    ),
    click.option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N [default: auto]."),
)
_runs_option = click.option(
    "--runs",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Folder of runs, or single runs (repeatable) [default: WORK/runs].",
)
_schema_option = click.option(
    "--schema", metavar="FILE", help="Label schema YAML [default: fitted to DATA]."
)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cropfirst")
def main() -> None:
    """Classify people in photographs by their faces, not by the room behind them.

    \b
    detect     photographs -> background-free face crops, in a cache
    train      crops -> classifiers, with person-disjoint folds
    predict    crops -> ensemble -> submission.csv
    evaluate   how good is it, and where is it wrong
    demo       all of it on portraits that it draws itself
    """


@main.command()
@_data_options
@_work_options
@_config_options
@click.option(
    "--background",
    metavar="NAME",
    help="ellipse, box, photo, center or mean_box [default: ellipse].",
)
@click.option("--strict", is_flag=True, help="Exit with an error when any photo was unreadable.")
@click.option(
    "--export",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also write every crop as a PNG, to look at.",
)
def detect(
    data: Path, layout: str | None, corrections: str | None, work: Path | None,
    cache_dir: Path | None, recipe: str | None, overrides: Sequence[str], device: str | None,
    background: str | None, strict: bool, export: Path | None,
) -> None:  # fmt: skip
    """Find the face in every photo of DATA and fill the crop cache.

    Every photo gets one row, whatever happens to it: detected, retried, sibling, prior or
    unreadable. Photos that have not changed are skipped; a changed crop setting cuts anew without
    detecting anew. Ends with a summary and two contact sheets.
    """
    from cropfirst.stage1_detect.config import DetectConfig

    values = {"device": device, "crop.background": background}
    config = load_config(
        DetectConfig, recipe=recipe, section="detect", overrides=overrides, values=values
    )
    console = Console()
    photos = _open_data(data, layout, corrections, console)
    folder = work or _work_dir(photos)
    cache = _open_cache(cache_dir or folder / "cache", photos, create=True)
    errors = _run_detect(photos, cache, config, folder / "detect", console)
    if export is not None:
        _export(cache, photos, config, export, console)
    if strict and errors:
        raise click.ClickException(f"{errors} photos were unreadable (--strict)")


@main.command()
@_data_options
@_work_options
@_config_options
@_schema_option
@_runs_option
@click.option(
    "--task",
    metavar="TASK",
    help="mask, gender, age, class18, or several on one backbone: mask,gender,age.",
)
@click.option(
    "--crops",
    metavar="NAME",
    help="Crop set of the cache, by its name's beginning [default: the only one].",
)
@click.option(
    "--backbone",
    metavar="NAME",
    help="Any timm model, e.g. swin_tiny_patch4_window7_224 [default: convnext_tiny].",
)
@click.option(
    "--pretrained/--no-pretrained",
    default=None,
    help="Start from timm's weights, or from scratch [default: pretrained].",
)
@click.option("--weights", metavar="FILE", help="Start from a .safetensors file.")
@click.option(
    "--folds", type=int, metavar="N", help="Number of person-disjoint folds [default: 5]."
)
@click.option(
    "--fold", type=int, metavar="K", help="Train fold K alone, counted from 0 [default: all]."
)
@click.option("--epochs", type=int, metavar="N", help="Epochs a fold.")
@click.option("--name", metavar="NAME", help="Name of the run [default: TASK-BACKBONE-CROPS].")
def train(
    data: Path, layout: str | None, corrections: str | None, work: Path | None,
    cache_dir: Path | None, recipe: str | None, overrides: Sequence[str], device: str | None,
    schema: str | None, runs: Sequence[Path], task: str | None, crops: str | None,
    backbone: str | None, pretrained: bool | None, weights: str | None, folds: int | None,
    fold: int | None, epochs: int | None, name: str | None,
) -> None:  # fmt: skip
    """Train a classifier on the crops, one model a fold, and predict out of fold.

    A killed run goes on where it was when the same command is given again.
    """
    from cropfirst.stage2_classify.config import TrainConfig
    from cropfirst.stage2_classify.train import train as run_training

    values = {
        "device": device, "task": task, "name": name, "model.backbone": backbone,
        "model.pretrained": pretrained, "model.weights": weights, "folds.n_folds": folds,
        "folds.fold": fold, "optim.epochs": epochs,
    }  # fmt: skip
    config = load_config(
        TrainConfig, recipe=recipe, section="train", overrides=overrides, values=values
    )
    console = Console()
    photos = _open_data(data, layout, corrections, console)
    folder = work or _work_dir(photos)
    crop_set = _open_cache(cache_dir or folder / "cache", photos).find(crops)
    run_training(
        photos, _schema(schema, photos), crop_set, config,
        runs_dir=_one(runs, folder / "runs"), console=console,
    )  # fmt: skip


@main.command()
@click.argument(
    "data", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATA | PHOTO..."
)
@click.option("--layout", metavar="NAME", help="Layout of DATA [default: recognised].")
@_work_options
@_runs_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the answers go [default: WORK/predict].",
)
@click.option(
    "--checkpoint",
    type=click.Choice(["best_f1", "last"]),
    default="best_f1",
    show_default=True,
    help="Which checkpoint of each fold votes.",
)
@click.option("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=64, show_default=True, help="Crops at once."
)
def predict(
    data: Sequence[Path], layout: str | None, work: Path | None, cache_dir: Path | None,
    runs: Sequence[Path], out: Path | None, checkpoint: str, device: str, batch_size: int,
) -> None:  # fmt: skip
    """Predict DATA from its crops, or single PHOTOs end to end, with every fold of every run.

    For DATA, writes submission.csv (exactly the rows and order of info.csv, where there is one) and
    predictions.parquet. For PHOTOs, detects, crops, predicts and prints a table; --runs is needed.
    """
    from cropfirst.stage2_classify.predict import predict as run_predict

    console = Console()
    if not _is_dataset(data):
        _predict_photos(data, runs, out, device=device, checkpoint=checkpoint, console=console)
        return
    photos = _open_data(data[0], layout, None, console)
    folder = work or _work_dir(photos)
    run_predict(
        photos, _open_cache(cache_dir or folder / "cache", photos), runs or [folder / "runs"],
        out_dir=out or folder / "predict", device=device, batch_size=batch_size,
        checkpoint=checkpoint, console=console,
    )  # fmt: skip


@main.command()
@_data_options
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where results are [default: work/DATA's name].",
)
@_runs_option
@click.option(
    "--answers",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="CSV with the true answers of the eval photos (ImageID,ans).",
)
@click.option(
    "--predictions",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What to compare with --answers [default: WORK/predict/predictions.parquet].",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the report goes [default: WORK/evaluate].",
)
@_schema_option
def evaluate(
    data: Path, layout: str | None, corrections: str | None, work: Path | None,
    runs: Sequence[Path], answers: Path | None, predictions: Path | None, out: Path | None,
    schema: str | None,
) -> None:  # fmt: skip
    """Score out-of-fold predictions, or with --answers the predictions for the eval photos.

    With --predictions alone, they are compared with DATA's own labels. Macro F1, accuracy, a table
    per class and confusion matrices, on the console and as PNG.
    """
    from cropfirst.stage2_classify import evaluate as score

    console = Console()
    photos = _open_data(data, layout, corrections, console)
    folder = work or _work_dir(photos)
    out = out or folder / "evaluate"
    predicted = predictions or folder / "predict" / "predictions.parquet"
    if answers is not None:
        score.evaluate_answers(
            answers, predicted, schema=_schema(schema, photos), out_dir=out, console=console
        )
    elif predictions is not None:
        score.evaluate_labels(
            photos, predicted, schema=_schema(schema, photos), out_dir=out, console=console
        )
    else:
        score.evaluate_oof(runs or [folder / "runs"], out_dir=out, console=console)


# Composition of the stages


def _open_data(
    data: Path, layout: str | None, corrections: str | None, console: Console
) -> PhotoSet:
    """Open DATA and say what it is and what is wrong with it."""
    from cropfirst.stage2_classify.datasets import open_dataset

    photos = open_dataset(data, layout=layout, corrections=corrections)
    counts = {split: len(photos.by_split(split)) for split in ("train", "eval")}
    text = ", ".join(f"{count} {split}" for split, count in counts.items() if count)
    _say(console, f"{data}: layout {photos.layout}, {text} photos")
    if photos.corrections:
        _say(console, photos.corrections)
    for problem in photos.problems[:PROBLEMS_SHOWN]:
        _say(console, f"  note: {problem.where}: {problem.message}")
    if len(photos.problems) > PROBLEMS_SHOWN:
        _say(console, f"  and {len(photos.problems) - PROBLEMS_SHOWN} more notes of this kind")
    return photos


def _open_cache(path: Path, photos: PhotoSet, *, create: bool = False) -> Cache:
    from cropfirst.cache import Cache

    return Cache.open(path, data_root=photos.root, create=create)


def _run_detect(
    photos: PhotoSet, cache: Cache, config: DetectConfig, out: Path, console: Console
) -> int:
    """Stage 1, its summary and its contact sheets; returns the number of unreadable photos."""
    from cropfirst.stage1_detect.contact_sheet import crop_sheet, doubtful_sheet
    from cropfirst.stage1_detect.run import detect as run_detect
    from cropfirst.stage1_detect.summary import print_summary
    from cropfirst.stage2_classify.device import describe_device, resolve_device

    device = resolve_device(config.device)
    _say(console, f"device: {describe_device(device)}")
    summary = run_detect(_refs(photos), cache, config, device=str(device), console=console)
    print_summary(summary, console)
    paths = {sample.key: sample.path for sample in photos.samples}
    sheets = out / f"{summary.crops.name}.png", out / f"{summary.crops.name}-not-detected.png"
    crop_sheet(summary.crops, sheets[0])
    doubtful_sheet(summary.crops, sheets[1], photo_path=paths.__getitem__)
    _say(console, f"crops: {summary.crops.folder}")
    _say(console, f"contact sheets: {sheets[0]} and {sheets[1]}")
    return len(summary.errors)


def _refs(photos: PhotoSet) -> list[PhotoRef]:
    from cropfirst.stage1_detect.images import PhotoRef

    return [PhotoRef(s.key, s.path, s.split, s.group) for s in photos.samples]


def _export(
    cache: Cache, photos: PhotoSet, config: DetectConfig, folder: Path, console: Console
) -> None:
    from cropfirst.stage1_detect.contact_sheet import export_crops
    from cropfirst.stage1_detect.run import crop_set_of

    count = export_crops(crop_set_of(cache, config), folder)
    _say(console, f"exported {count} crops to {folder}")


def _predict_photos(
    files: Sequence[Path], runs: Sequence[Path], out: Path | None, *,
    device: str, checkpoint: str, console: Console,
) -> None:  # fmt: skip
    """Single photos end to end: the same two stages, over a cache that lives for one call."""
    from cropfirst.stage1_detect.run import config_of_crops
    from cropfirst.stage1_detect.run import detect as run_detect
    from cropfirst.stage2_classify.datasets import open_files
    from cropfirst.stage2_classify.device import resolve_device
    from cropfirst.stage2_classify.members import find_members
    from cropfirst.stage2_classify.predict import predict as run_predict

    if not runs:
        raise click.UsageError("predicting single photos needs --runs DIR (a trained run)")
    where = str(resolve_device(device))
    photos = open_files(files)
    with tempfile.TemporaryDirectory(prefix="cropfirst-") as folder:
        cache = _open_cache(Path(folder) / "cache", photos, create=True)
        crop_sets = [meta["crop_set"] for meta in find_members(runs, checkpoint=checkpoint).metas]
        for config in {each["fingerprint"]: each["config"] for each in crop_sets}.values():
            run_detect(_refs(photos), cache, config_of_crops(config), device=where)
        target = out or Path(folder) / "predict"
        predictions = run_predict(
            photos, cache, runs, out_dir=target, device=where, checkpoint=checkpoint
        )
        _print_predictions(predictions.path, console)
    if out is not None:
        _say(console, f"predictions: {target / 'predictions.parquet'}")


def _print_predictions(path: Path, console: Console) -> None:
    """A line a photo: status, and each task's class with its probability."""
    import polars as pl
    from rich.table import Table

    rows = pl.read_parquet(path)
    tasks = [name.removesuffix("_pred") for name in rows.columns if name.endswith("_pred")]
    table = Table("photo", "status", *tasks)
    for row in rows.iter_rows(named=True):
        sure = [f"{row[f'{task}_pred']} ({max(row[f'{task}_probs']):.0%})" for task in tasks]
        table.add_row(row["key"], row["status"], *sure)
    console.print(table)


def _is_dataset(data: Sequence[Path]) -> bool:
    return len(data) == 1 and (data[0].is_dir() or data[0].suffix.lower() == ".csv")


def _schema(file: str | None, photos: PhotoSet) -> LabelSchema:
    from cropfirst.stage2_classify.labels import infer_schema, load_schema

    return infer_schema(photos) if file is None else load_schema(file)


def _one(runs: Sequence[Path], otherwise: Path) -> Path:
    if len(runs) > 1:
        raise click.UsageError("train writes to one --runs DIR")
    return runs[0] if runs else otherwise


def _work_dir(photos: PhotoSet) -> Path:
    return Path("work") / (photos.root.name or "data")


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
