"""Run stage 1 on some photos, print its summary and draw its contact sheets. No torch at import."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cropfirst.cache.swapped import count_draws
from cropfirst.core.console import say
from cropfirst.core.files import mark_output

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from cropfirst.cache import Cache, CropSet
    from cropfirst.stage1_detect.config import DetectConfig, SwapConfig
    from cropfirst.stage1_detect.photos.read import PhotoRef
    from cropfirst.stage1_detect.pipeline.dispatch import WorkerOptions
    from cropfirst.stage1_detect.pipeline.summary import DetectSummary


def detect_photos(
    photos: Sequence[PhotoRef],
    cache: Cache,
    config: DetectConfig,
    device: torch.device | None,
    *,
    out: Path,
    console: Console,
    workers: WorkerOptions | None = None,
    strata: Callable[[], Mapping[str, str]] = dict,
    swap_rooms: bool = False,
) -> DetectSummary:
    """Run stage 1 on some photos, print its summary and draw its contact sheets.

    A swapped twin that the crop set has already is brought up to date, unless the crop set has
    photos that are not among these.

    Args:
        device: None leaves the choice to each of the `workers`.
        out: folder of the contact sheets.
        strata: returns key -> class of the photo as an opaque word, for the swapped twin.
        swap_rooms: whether to make the swapped twin that `config.swap` describes.
    """
    from cropfirst.core.device import describe_device
    from cropfirst.stage1_detect.crop_sets import choose_weights
    from cropfirst.stage1_detect.mtcnn.nets.modules import JOINED
    from cropfirst.stage1_detect.pipeline.contact_sheet import (
        crop_sheet,
        doubtful_sheets,
        unsegmented_sheet,
    )
    from cropfirst.stage1_detect.pipeline.summary import print_summary
    from cropfirst.stage1_detect.run import detect as run_detect

    kept = choose_weights(config, cache)
    if kept != config and kept.detector.weights != JOINED:
        why = "as the crops in the cache were made; --weights joined for the default ones"
        say(console, f"detector weights: {kept.detector.weights}, {why}")
    config = kept
    mark_output(out)
    shown = f"{config.device}, on each worker" if device is None else describe_device(device)
    say(console, f"device: {shown}" + (f"; {workers.backend}" if workers is not None else ""))
    summary = run_detect(
        photos, cache, config, device=str(device or config.device), workers=workers,
        console=console,
    )  # fmt: skip
    print_summary(summary, console)
    paths = {photo.key: photo.path for photo in photos}
    sheet, doubtful = (out / f"{summary.crops.name}{end}.png" for end in ("", "-not-detected"))
    if summary.changed or not doubtful.exists():
        crop_sheet(summary.crops, sheet, keys=paths)
        doubtful_sheets(summary.crops, doubtful, photo_path=paths.__getitem__, keys=paths)
    say(console, f"crops: {summary.crops.folder}")
    pages = len(list(out.glob(f"{doubtful.stem}-*.png")))
    more = f" (and {pages} more pages)" if pages else ""
    say(console, f"contact sheets: {sheet} and {doubtful}{more}")
    failures = out / f"{summary.crops.name}-not-segmented.png"
    if unsegmented_sheet(summary.crops, failures, photo_path=paths.__getitem__, keys=paths):
        say(console, f"not segmented: {failures}")
    if swap_rooms:
        _swap_rooms(photos, cache, summary.crops, config, strata(), config.swap, out, console)
    elif count_draws(summary.crops) and summary.kept:
        text = f"{summary.kept} photos of the crop set are not in this data set"
        say(console, f"swapped rooms: left as they are, since {text}")
    elif count_draws(summary.crops):
        _swap_rooms(photos, cache, summary.crops, config, strata(), None, out, console)
    return summary


def _swap_rooms(
    photos: Sequence[PhotoRef],
    cache: Cache,
    crops: CropSet,
    config: DetectConfig,
    strata: Mapping[str, str],
    asked: SwapConfig | None,
    out: Path,
    console: Console,
) -> None:
    """Make the swapped twin or bring it up to date, print its summary and draw its sheet."""
    from cropfirst.stage1_detect.swap.run import swap_rooms
    from cropfirst.stage1_detect.swap.summary import print_swapped, swapped_sheet

    done = swap_rooms(photos, cache, crops, config, strata, asked=asked, console=console)
    print_swapped(done, console)
    sheet = out / f"{crops.name}-swapped.png"
    if done.changed or not sheet.exists():
        swapped_sheet(done, sheet)
    say(console, f"contact sheet: {sheet}")
