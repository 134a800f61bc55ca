"""The options that name a data set and its results, and what they open.

Knows layouts, the crop cache and label schemas; knows nothing of detecting or training. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cropfirst.configs.options import CommandT, path_option
from cropfirst.core.console import say
from cropfirst.stage2_classify.datasets import LAYOUTS

if TYPE_CHECKING:
    from rich.console import Console

    from cropfirst.cache import Cache, CropSet
    from cropfirst.stage1_detect.photos.read import PhotoRef
    from cropfirst.stage2_classify.datasets import PhotoSet
    from cropfirst.stage2_classify.labels.schema import LabelSchema

PROBLEMS_SHOWN = 5
"""Number of notes about a data set that are printed."""

data_argument = click.argument("data", type=click.Path(path_type=Path))
layout_option = click.option(
    "--layout", metavar="NAME", help=f"{', '.join(LAYOUTS)}  [default: recognised]"
)
corrections_option = click.option(
    "--corrections",
    metavar="FILE",
    help="CSV of label corrections, or 'contest' for those that ship with cropfirst.",
)
work_option = path_option("--work", help="Folder of all results.  [default: work/DATA's name]")
cache_option = path_option("--cache", "cache_dir", help="Crop cache.  [default: WORK/cache]")
runs_option = path_option(
    "--runs",
    multiple=True,
    help="A run or a folder of runs.  [default: WORK/runs]",
)
schema_option = click.option(
    "--schema",
    metavar="FILE",
    help="Label schema, a YAML file that maps labels to classes.  [default: inferred from DATA]",
)
crops_option = click.option(
    "--crops", metavar="NAME",
    help="Crop set, or the beginning of its name; an unknown name lists all.  "
    "[default: the run's, else the one nearest to detect's settings]",
)  # fmt: skip
device_option = click.option(
    "--device", metavar="NAME", default="auto", show_default=True,
    help="auto, cpu, cuda or cuda:N.",
)  # fmt: skip
batch_size_option = click.option(
    "--batch-size", type=click.IntRange(min=1), metavar="N", default=64, show_default=True,
    help="Number of crops that are predicted at once.",
)  # fmt: skip


def data_options(*more: Callable[[Any], Any]) -> Callable[[CommandT], CommandT]:
    """Return the decorator that adds DATA, --layout, --work and --cache.

    The command takes them as `**data` and hands them to `open_workspace`.

    Args:
        more: further options, shown after these.
    """

    def decorate(command: CommandT) -> CommandT:
        for option in (*reversed(more), cache_option, work_option, layout_option, data_argument):
            command = option(command)
        return command

    return decorate


@dataclass(frozen=True)
class Workspace:
    """An open data set, and the folder of what was made from it."""

    photos: PhotoSet
    folder: Path
    """Folder of all results, WORK."""
    cache_path: Path
    console: Console
    cache_is_wanted: bool = False
    """Whether `--cache` was given, so that a missing cache is an error."""

    def open_cache(self, *, create: bool = False) -> Cache:
        """Open the crop cache.

        Raises:
            CacheError: there is none, or it is of another data set.
        """
        from cropfirst.cache import Cache

        return Cache.open(self.cache_path, data_root=self.photos.root, create=create)

    def open_cache_if_any(self) -> Cache | None:
        """Open the crop cache; None where there is none and none was asked for."""
        return self.open_cache() if self.cache_is_wanted or self.cache_path.is_dir() else None

    def find_crops(
        self, name: str | None, *, runs: Iterable[Path] = (), recipes: Sequence[str | None] = ()
    ) -> CropSet:
        """Find a crop set by the beginning of its name, and print which one a default takes.

        Also prints how many photos of the data set have several faces.

        Args:
            name: None takes that of `runs`, else the one nearest to the settings of `detect`.
            runs: folders of runs of the same command, which need not exist.
            recipes: recipes of the command. A warning is printed where the `detect` section of one
                differs from the crops; the settings of the first one are those of `detect`.

        Raises:
            CacheError: there is no cache, or no such crop set, or several.
            ConfigError: the `detect` section of a recipe cannot be used.
        """
        from cropfirst.stage2_classify.commands.detect_settings import (
            default_crops,
            detect_differences,
        )
        from cropfirst.stage2_classify.runs.crop_sets import choose_crop_set, crop_sets_of_runs

        cache = self.open_cache()
        count = len(cache.crop_sets())
        needs_default = name is None and count > 1
        crops, reason = choose_crop_set(
            cache, name, own=crop_sets_of_runs(runs) if needs_default else (),
            wanted=default_crops(next(iter(recipes), None), cache) if needs_default else None,
        )  # fmt: skip
        if reason:
            say(
                self.console,
                f"crops: {crops.name}, {reason} (one of {count} crop sets; choose with --crops)",
            )
        for recipe in filter(None, recipes):
            if differences := detect_differences(recipe, crops):
                say(
                    self.console,
                    f"the recipe {recipe} was made for other crops than {crops.name}: "
                    f"{', '.join(differences)}. For its own, run cropfirst detect DATA --config "
                    f"{recipe}, then choose them with --crops",
                    style="yellow",
                )
        say(self.console, self._several_faces(crops))
        return crops

    def _several_faces(self, crops: CropSet) -> str:
        """Return a line on the photos of the data set in which `detect` found several faces."""
        rows = crops.manifest.read([sample.key for sample in self.photos.samples])
        several = sum((n_faces or 0) > 1 for n_faces in rows["n_faces"])
        main = "; each crop shows the main one" if several else ""
        return f"photos with several faces: {several or 'none'}{main}"

    def find_runs(self, given: Sequence[Path]) -> list[Path]:
        """Return the runs that `--runs` named, by default the folder of all runs."""
        return list(given) or [self.folder / "runs"]

    def read_schema(
        self, file: str | None, tasks: Sequence[str] = (), *, required: bool = True
    ) -> LabelSchema:
        """Read the label schema that `--schema` named, by default one inferred from the data.

        Args:
            tasks: tasks that a fitted schema should have.
            required: whether one that cannot be made of the labels is an error.
        """
        from cropfirst.stage2_classify.labels.infer_schema import infer_schema
        from cropfirst.stage2_classify.labels.schema import load_schema

        if file is not None:
            return load_schema(file)
        return infer_schema(self.photos, tasks, required=required)


def open_workspace(
    data: Path,
    *,
    layout: str | None = None,
    corrections: str | None = None,
    work: Path | None = None,
    cache_dir: Path | None = None,
    console: Console | None = None,
    details: bool = False,
) -> Workspace:
    """Open DATA, and print its layout, its number of photos and what is wrong with it.

    Args:
        details: print the classes of each label, the persons and the files not taken as well.
        work: folder of all results; None is `work/` and the name of the data set.
        cache_dir: crop cache; None is `cache/` in the folder of all results.

    Raises:
        DataError: there is no such data set, or it cannot be used.
    """
    from rich.console import Console

    from cropfirst.stage2_classify.datasets import open_dataset

    console = console or Console()
    photos = open_dataset(data, layout=layout, corrections=corrections)
    _print_data(data, photos, console, details=details)
    folder = work or Path("work") / (photos.root.name or "data")
    path = cache_dir or folder / "cache"
    return Workspace(photos, folder, path, console, cache_is_wanted=cache_dir is not None)


def photo_refs(photos: PhotoSet) -> list[PhotoRef]:
    """Return what stage 1 needs to know of each photo of a data set."""
    from cropfirst.stage1_detect.photos.read import PhotoRef

    return [PhotoRef(each.key, each.path, each.split, each.group) for each in photos.samples]


def _print_data(data: Path, photos: PhotoSet, console: Console, *, details: bool) -> None:
    from cropfirst.stage2_classify.datasets import describe

    first, *lines = describe(photos)
    say(console, f"{data}: {first}")
    for line in lines if details else ():
        say(console, f"  {line}")
    if photos.corrections:
        say(console, photos.corrections)
    for problem in photos.problems[:PROBLEMS_SHOWN]:
        say(console, f"  note: {problem.where}: {problem.message}")
    if len(photos.problems) > PROBLEMS_SHOWN:
        say(console, f"  and {len(photos.problems) - PROBLEMS_SHOWN} more notes of this kind")
