"""`cli.py harden`: photos, boxes and masks gathered, the student trained, and what it is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cropfirst.cache.errors import DetectError
from cropfirst.stage1_detect.harden.box_table import read_boxes
from cropfirst.stage1_detect.harden.config import HardenConfig
from cropfirst.stage1_detect.harden.lesson import Wardrobe
from cropfirst.stage1_detect.harden.run import Hardened, harden
from cropfirst.stage1_detect.harden.subjects import Subject, gather
from cropfirst.stage1_detect.harden.templates import drawn_templates, read_templates
from cropfirst.stage1_detect.harden.truth import STATES
from cropfirst.stage1_detect.images import PhotoRef
from cropfirst.stage1_detect.progress import say

BOXES_FILE = "boxes.csv"
_SHOWN = 10
_NAMES = {"wear": "worn", "incorrect": "wrongly worn", "normal": "bare", "": "of unknown state"}


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
    _check_names([root for root, _ in sets])
    subjects: list[Subject] = []
    for root, photos in sets:
        path = boxes or root / BOXES_FILE
        known = read_boxes(path) if boxes is not None or path.exists() else None
        part = gather(photos, root, known)
        say(console, f"{root.resolve().name}: {len(part)} photos, {_in_words(part)}")
        subjects += part
    done = harden(subjects, wardrobe, out, config, device=device, console=console)
    _say_what_went_wrong(done, console)
    say(console, f"learnt from {done.learnt_from} photos, {done.boxed} of them with boxes")
    say(console, f"weights: {done.weights}")
    return done


def _check_names(roots: Sequence[Path]) -> None:
    """Photos are told apart by their folder's name and their path below it."""
    names = [root.resolve().name for root in roots]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DetectError(
            f"two DATA are folders called {twice!r}, and their photos could not be told apart: "
            "give each once, and rename one or link to it by another name"
        )


def _in_words(subjects: Sequence[Subject]) -> str:
    """How many faces are known of each mask state, and of which there are none."""
    states = [state for each in subjects if each.known is not None for state in each.known.states]
    if not states:
        return "no boxes"
    counts = Counter(states)
    parts = [f"{counts[state]} {name}" for state, name in _NAMES.items() if counts[state]]
    parts += [f"none {_NAMES[state]}" for state in STATES if not counts[state]]
    return f"{len(states)} known faces ({', '.join(parts)})"


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
