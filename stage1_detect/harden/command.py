"""`cli.py harden`: photos, boxes and masks gathered, the student trained, and what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cropfirst.stage1_detect.harden.box_table import read_boxes
from cropfirst.stage1_detect.harden.config import HardenConfig
from cropfirst.stage1_detect.harden.lesson import Wardrobe
from cropfirst.stage1_detect.harden.run import Hardened, harden
from cropfirst.stage1_detect.harden.subjects import Subject, gather
from cropfirst.stage1_detect.harden.templates import drawn_templates, read_templates
from cropfirst.stage1_detect.images import PhotoRef
from cropfirst.stage1_detect.progress import say

BOXES_FILE = "boxes.csv"
_SHOWN = 10


def harden_datasets(
    sets: Sequence[tuple[Path, Sequence[PhotoRef]]],
    config: HardenConfig,
    out: Path,
    *,
    boxes: Path | None,
    templates: Path | None,
    device: str,
    console: Console,
) -> Hardened:
    """Train on some data sets, measure what is held out, and say where it all lies.

    Args:
        sets: root and photos of each.
        boxes: of the only data set; None = its own boxes.csv, where there is one.

    Raises:
        DetectError: boxes, templates or photos are not as they should be.
    """
    given = read_templates(templates) if templates is not None else []
    wardrobe = Wardrobe(given, drawn_templates(config.seed))
    subjects: list[Subject] = []
    for root, photos in sets:
        path = boxes or root / BOXES_FILE
        known = read_boxes(path) if boxes is not None or path.exists() else None
        part = gather(photos, root, known)
        faces = sum(len(each.known) for each in part if each.known is not None)
        say(console, f"{root.name}: {len(part)} photos, {faces} known faces")
        subjects += part
    done = harden(subjects, wardrobe, out, config, device=device, console=console)
    _say_what_went_wrong(done, console)
    say(console, f"learnt from {done.learnt_from} photos, {done.boxed} of them with boxes")
    say(console, f"weights: {done.weights}")
    return done


def _say_what_went_wrong(done: Hardened, console: Console) -> None:
    for what, keys in (
        ("could not be read", [f"{key}: {message}" for key, message in done.unread]),
        ("show no face that the teacher is sure of, and taught nothing", done.faceless),
    ):
        if keys:
            say(console, f"{len(keys)} photos {what}:")
            for key in keys[:_SHOWN]:
                say(console, f"  {key}")
            if len(keys) > _SHOWN:
                say(console, f"  and {len(keys) - _SHOWN} more")
