"""Commands of stage 1: detect, harden, mask and compact.

A command loads its config, calls one function and prints what was written. No torch at import.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cropfirst.configs import load_config
from cropfirst.configs.options import config_options, path_option, setting
from cropfirst.core.console import say
from cropfirst.core.text import count_of
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.harden.config import HardenConfig
from cropfirst.stage2_classify.commands.strata import class_strata
from cropfirst.stage2_classify.commands.workspace import (
    corrections_option,
    crops_option,
    data_options,
    layout_option,
    open_workspace,
    photo_refs,
)

if TYPE_CHECKING:
    pass


@click.command()
@data_options(corrections_option)
@config_options
@setting(DetectConfig, "device", "--device", metavar="NAME")
@setting(DetectConfig, "crop.background", "--background")
@setting(DetectConfig, "engine", "--engine")
@setting(DetectConfig, "detector.weights", "--weights", metavar="NAME|FILE")
@setting(DetectConfig, "memory_gb", "--memory", metavar="GB")
@click.option(
    "--backend",
    type=click.Choice(["loky", "dask", "ray"]),
    help="Processes of this machine, or a cluster.  [default: threads of this process]",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N",
    help="Number of processes, with --backend.  [default: all]",
)  # fmt: skip
@click.option(
    "--strict", is_flag=True, help="Fail when a photo was unreadable or has an impossible value."
)
@click.option(
    "--swap-rooms", is_flag=True,
    help="Also set the heads of the train photos into the rooms of other people.",
)  # fmt: skip
@path_option("--export", help="Also write every crop as a PNG, to look at.")
def detect(
    recipe: str | None, overrides: Sequence[str], values: dict[str, Any], backend: str | None,
    jobs: int | None, strict: bool, swap_rooms: bool, export: Path | None, **data: Any,
) -> None:  # fmt: skip
    """Find the face in every photo and write the crops to a cache.

    Every photo of DATA gets one row, whatever happens to it: detected, retried, sibling, prior or
    unreadable. Photos that have not changed are skipped; after a change of a crop setting, photos
    are cropped again without being detected again. Ends with a summary and two contact sheets.

    With --swap-rooms, every train photo gets a second crop: the same head, cut in the same way, in
    the room of another person of a random class. These crops, the swapped twin, show how a model
    does where the room tells nothing. Later runs of detect keep it up to date.
    """
    click.get_current_context().with_resource(_rare_garbage_collection())
    from cropfirst.core.device import resolve_device
    from cropfirst.stage1_detect.detect_photos import detect_photos
    from cropfirst.stage1_detect.pipeline.dispatch import WorkerOptions

    config = load_config(
        DetectConfig, recipe=recipe, section="detect", overrides=overrides, values=values
    )
    if jobs is not None and backend is None:
        raise click.UsageError("--jobs N goes with --backend; threads are --set workers=N")
    # Before anything is written. The machines of a cluster have devices of their own.
    device = None if backend in ("dask", "ray") else resolve_device(config.device)
    workspace = open_workspace(**data, details=True)
    if strict and workspace.photos.impossible:
        raise click.ClickException(
            f"{workspace.photos.impossible} photos have values that are impossible, see above "
            "(--strict): correct them in the data, or with --corrections"
        )
    workers = None if backend is None else WorkerOptions(backend, jobs or -1)
    cache = workspace.open_cache(create=True)
    photos = photo_refs(workspace.photos)
    summary = detect_photos(
        photos, cache, config, device, out=workspace.folder / "detect",
        console=workspace.console, workers=workers,
        strata=lambda: class_strata(workspace.photos), swap_rooms=swap_rooms,
    )  # fmt: skip
    if export is not None:
        from cropfirst.stage1_detect.pipeline.contact_sheet import export_crops

        count = export_crops(summary.crops, export, keys=[photo.key for photo in photos])
        say(workspace.console, f"exported {count_of(count, 'crop')} to {export}")
    if strict and summary.errors:
        raise click.ClickException(f"unreadable photos: {len(summary.errors)} (--strict)")


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Search for reference cycles less often.

    The rows of all photos are held at once and none is in a cycle: searching them every 700 objects
    took a third of the time of a run that finds nothing to do.
    """
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@click.command()
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATA...")
@layout_option
@config_options
@setting(HardenConfig, "device", "--device", metavar="NAME")
@path_option(
    "--boxes", metavar="FILE",
    help="Known faces, for a single DATA.  [default: DATA/boxes.csv, where there is one]",
)  # fmt: skip
@path_option("--templates", help="Pictures of masks and points.csv.  [default: drawn masks alone]")
@path_option("--out", help="Folder of the weights and the report.  [default: work/harden]")
@setting(HardenConfig, "folds", "--folds")
@setting(HardenConfig, "fold", "--fold")
@click.option("--all-data", is_flag=True, help="Train on all photos and measure nothing.")
def harden(
    data: Sequence[Path], layout: str | None, recipe: str | None, overrides: Sequence[str],
    values: dict[str, Any], boxes: Path | None, templates: Path | None, out: Path | None,
    all_data: bool,
) -> None:  # fmt: skip
    """Train the detector to find masked faces in your photos.

    The detector as it is finds the bare faces of DATA; masks are pasted on them, and a student
    learns to find them as if they were bare. Where DATA holds boxes.csv, it learns from those faces
    too. Ends with weights for `detect --weights`, and a report of the faces found before and after
    on photos that it never learnt from. A run that was interrupted continues when the same command
    is given again.
    """
    from rich.console import Console

    from cropfirst.core.device import describe_device, resolve_device
    from cropfirst.stage1_detect.harden.command import harden_datasets

    if boxes is not None and len(data) > 1:
        raise click.UsageError("--boxes FILE is for one DATA; give each its own boxes.csv")
    if all_data and "fold" in values:
        raise click.UsageError("--all-data holds nothing out, so --fold has no meaning")
    config = load_config(
        HardenConfig, recipe=recipe, section="harden", overrides=overrides, values=values
    )
    if all_data:
        config = config.model_copy(update={"fold": None})
    console = Console()
    device = resolve_device(config.device)
    say(console, f"device: {describe_device(device)}")
    opened = [open_workspace(each, layout=layout, console=console).photos for each in data]
    harden_datasets(
        [(photos.root, photo_refs(photos)) for photos in opened], config,
        out or Path("work") / "harden", boxes=boxes, templates=templates, device=str(device),
        console=console,
    )  # fmt: skip


@click.command()
@data_options(corrections_option)
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT")
@crops_option
@setting(HardenConfig, "paste.worn", "--worn", default="0.45")
@setting(HardenConfig, "paste.incorrect", "--incorrect", default="0.15")
@path_option("--templates", help="Pictures of masks and points.csv.  [default: drawn masks alone]")
@setting(HardenConfig, "seed", "--seed")
def mask(
    out: Path, crops: str | None, values: dict[str, Any], templates: Path | None, **data: Any
) -> None:
    """Copy bare faces to a new data set, many of them with a mask.

    OUT gets a copy of each train photo of DATA and a labels.csv, with the labels of DATA and a
    column mask (wear, incorrect or normal): to train a network that knows faces under masks. Needs
    the faces that `detect DATA` has found. Photos whose label says that they wear a mask already
    are left out.
    """
    from cropfirst.stage1_detect.harden.mask_command import MASK, mask_dataset

    shares = {"paste.worn": 0.45, "paste.incorrect": 0.15, "paste.occluded": 0.0}
    config = load_config(HardenConfig, values={**shares, **values})
    workspace = open_workspace(**data)
    samples = workspace.photos.samples
    labels = {each.key: each.labels for each in samples}
    bare = [
        photo
        for photo in photo_refs(workspace.photos)
        if photo.split == "train" and labels[photo.key].get(MASK, "normal") == "normal"
    ]
    rows = workspace.find_crops(crops).manifest.read([photo.key for photo in bare])
    mask_dataset(
        bare, labels, {row["key"]: row for row in rows.to_dicts()}, out,
        config=config.paste, templates=templates, seed=config.seed, console=workspace.console,
    )  # fmt: skip


@click.command()
@data_options()
def compact(**data: Any) -> None:
    """Merge the crop files of several workers into one.

    `detect --backend` writes one file of crops (a shard) per worker. A cache of many shards is read
    a little more slowly than one of a single shard. Needs free space for the largest shard once
    more. May be interrupted and run again.
    """
    from cropfirst.cache.merge import merge_shards
    from cropfirst.cache.swapped import list_draws

    workspace = open_workspace(**data)
    cache = workspace.open_cache()
    with cache.lock():
        for name in cache.crop_sets():
            crops = cache.find(name)
            for each in (crops, *list_draws(crops)):
                count = merge_shards(each.folder)
                line = (
                    f"{each.folder}: {count_of(count, 'shard')} merged, "
                    f"{count_of(len(each.reader()), 'crop')}"
                )
                say(workspace.console, line)
