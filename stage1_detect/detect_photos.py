"""Run stage 1 on some photos, print its summary and draw its contact sheets. No torch at import."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cropfirst.core.console import say
from cropfirst.core.files import mark_output

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from cropfirst.cache import Cache
    from cropfirst.stage1_detect.config import DetectConfig
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
) -> DetectSummary:
    """Run stage 1 on some photos, print its summary and draw its contact sheets.

    Args:
        device: None leaves the choice to each of the `workers`.
        out: folder of the contact sheets.
    """
    from cropfirst.core.device import describe_device
    from cropfirst.stage1_detect.pipeline.contact_sheet import (
        crop_sheet,
        doubtful_sheets,
        unsegmented_sheet,
    )
    from cropfirst.stage1_detect.pipeline.summary import print_summary
    from cropfirst.stage1_detect.run import detect as run_detect

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
    return summary
