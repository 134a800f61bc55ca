"""`cli.py harden`: photos, boxes and masks gathered, the student trained, and what it is worth."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from cropfirst.core.console import say
from cropfirst.core.errors import DetectError
from cropfirst.core.files import write_atomic
from cropfirst.core.prefetch import available_cores
from cropfirst.core.provenance import describe_versions, git_commit
from cropfirst.stage1_detect.harden.config import HardenConfig
from cropfirst.stage1_detect.harden.paste.templates import drawn_templates, read_templates
from cropfirst.stage1_detect.harden.recall.evaluation import evaluate_weights
from cropfirst.stage1_detect.harden.run import NETS, Hardened, harden
from cropfirst.stage1_detect.harden.training.box_table import read_boxes
from cropfirst.stage1_detect.harden.training.samples import Subject, gather
from cropfirst.stage1_detect.harden.training.training_view import Wardrobe
from cropfirst.stage1_detect.harden.training.truth import STATES
from cropfirst.stage1_detect.photos.read import PhotoRef

BOXES_FILE = "boxes.csv"
_HELD_OUT = "held_out.json"
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
    facts = _facts(done, sets, config)
    write_card(done, facts)
    write_folds(done, out)
    files = evaluate_weights(
        done.held_out, config.weights, str(done.weights), wardrobe, done.weights.parent,
        facts=facts, seed=config.seed, workers=config.workers or available_cores(),
        console=console,
    )  # fmt: skip
    say(
        console,
        f"learnt from {facts['learnt from']}; held out: {facts['held out']}; "
        f"{done.seconds / 60:.1f} min",
    )
    for file in files:
        say(console, f"report: {file}")
    say(console, f"weights: {done.weights} (detect --weights {done.weights})")
    return done


def _facts(
    done: Hardened, sets: Sequence[tuple[Path, Sequence[PhotoRef]]], config: HardenConfig
) -> dict[str, str]:
    """What the run was, for people."""
    rounds = ", ".join(f"{net} {getattr(config, net).rounds}" for net in NETS)
    held = "none" if config.fold is None else f"part {config.fold} of {config.folds}"
    return {
        "data": ", ".join(root.resolve().name for root, _ in sets),
        "learnt from": f"{done.learnt_from} photos, {done.boxed} of them with boxes",
        "held out": f"{held}, {len(done.held_out)} photos",
        "teacher": config.weights,
        "rounds": rounds,
        "seed": str(config.seed),
    }


def write_folds(done: Hardened, out: Path) -> None:
    """`folds.json`: for each fold's weights the photos with boxes that they never learnt from, so
    that all folds can be measured as one."""
    held = [subject.photo for subject, taught in done.held_out if taught.complete]
    if not held:
        return
    write_atomic(done.weights.with_name(_HELD_OUT), json.dumps(held).encode())
    folds = {
        f"{path.parent.name}/{done.weights.name}": json.loads(path.read_bytes())
        for path in sorted(out.glob(f"fold*/{_HELD_OUT}"))
    }
    write_atomic(out / "folds.json", json.dumps(folds, indent=1).encode())


def write_card(done: Hardened, facts: Mapping[str, str]) -> None:
    """`card.json` beside the weights: what they were made of, and how each round went."""
    card = {
        "facts": dict(facts),
        "convention": None if done.convention is None else done.convention.tolist(),
        "shifts": dict(done.shifts),
        "rounds": list(done.losses),
        "versions": describe_versions("torch", "numpy", "opencv-python-headless"),
        "commit": git_commit(),
    }
    text = json.dumps(card, indent=2, ensure_ascii=False)
    write_atomic(done.weights.with_name("card.json"), text.encode())


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
