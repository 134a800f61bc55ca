"""The command `harden`: collect samples, train, evaluate, and report what was done."""

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
from cropfirst.stage1_detect.harden.paste.cover import TemplateSet
from cropfirst.stage1_detect.harden.paste.templates import drawn_templates, read_templates
from cropfirst.stage1_detect.harden.recall.evaluation import evaluate_weights
from cropfirst.stage1_detect.harden.run import HardenResult, harden
from cropfirst.stage1_detect.harden.training.box_table import read_boxes
from cropfirst.stage1_detect.harden.training.known_faces import MASK_STATES
from cropfirst.stage1_detect.harden.training.samples import HardenSample, collect_samples
from cropfirst.stage1_detect.harden.training.trainer import NETS
from cropfirst.stage1_detect.photos.read import PhotoRef

BOXES_FILE = "boxes.csv"
_HELD_OUT_FILE = "held_out.json"
_MOST_LISTED = 10
_STATE_NAMES = {
    "wear": "worn", "incorrect": "wrongly worn", "normal": "bare", "": "of unknown state",
}  # fmt: skip


def harden_datasets(
    sets: Sequence[tuple[Path, Sequence[PhotoRef]]],
    config: HardenConfig,
    out: Path,
    *,
    boxes: Path | None,
    templates: Path | None,
    device: str,
    console: Console,
) -> HardenResult:
    """Train on some data sets, evaluate on the held-out photos, and print where the files are.

    Args:
        sets: root and photos of each data set.
        boxes: table of boxes of the only data set; None means its own boxes.csv, if it has one.
        templates: folder of mask templates; None means drawn ones only.

    Raises:
        DetectError: boxes, templates or photos are not usable.
    """
    given = read_templates(templates) if templates is not None else []
    template_set = TemplateSet(given, drawn_templates(config.seed))
    _check_names([root for root, _ in sets])
    samples: list[HardenSample] = []
    for root, photos in sets:
        path = boxes or root / BOXES_FILE
        known = read_boxes(path) if boxes is not None or path.exists() else None
        part = collect_samples(photos, root, known)
        say(console, f"{root.resolve().name}: {len(part)} photos, {_count_states(part)}")
        samples += part
    done = harden(samples, template_set, out, config, device=device, console=console)
    _print_unused(done, console)
    facts = _facts(done, sets, config)
    write_card(done, facts)
    write_folds(done, out)
    files = evaluate_weights(
        done.held_out, config.weights, str(done.weights), template_set, done.weights.parent,
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
    done: HardenResult, sets: Sequence[tuple[Path, Sequence[PhotoRef]]], config: HardenConfig
) -> dict[str, str]:
    """Describe the run for the card and the reports."""
    rounds = ", ".join(f"{net} {getattr(config, net).rounds}" for net in NETS)
    held = "none" if config.fold is None else f"part {config.fold} of {config.folds}"
    return {
        "data": ", ".join(root.resolve().name for root, _ in sets),
        "learnt from": f"{done.trained_on} photos, {done.with_boxes} of them with boxes",
        "held out": f"{held}, {len(done.held_out)} photos",
        "teacher": config.weights,
        "rounds": rounds,
        "seed": str(config.seed),
    }


def write_folds(done: HardenResult, out: Path) -> None:
    """Write folds.json: for each fold's weights the photos with boxes that were held out, so that
    all folds can be measured as one."""
    held_out = [sample.photo for sample, targets in done.held_out if targets.complete]
    if not held_out:
        return
    write_atomic(done.weights.with_name(_HELD_OUT_FILE), json.dumps(held_out).encode())
    folds = {
        f"{path.parent.name}/{done.weights.name}": json.loads(path.read_bytes())
        for path in sorted(out.glob(f"fold*/{_HELD_OUT_FILE}"))
    }
    write_atomic(out / "folds.json", json.dumps(folds, indent=1).encode())


def write_card(done: HardenResult, facts: Mapping[str, str]) -> None:
    """Write card.json beside the weights: what they were trained on, and the losses."""
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
    """Refuse folders of one name: a sample's key is its folder's name and its path below it."""
    names = [root.resolve().name for root in roots]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DetectError(
            f"two DATA are folders called {twice!r}, and their photos could not be told apart: "
            "give each once, and rename one or link to it by another name"
        )


def _count_states(samples: Sequence[HardenSample]) -> str:
    """Describe how many faces of each mask state are known."""
    states = [state for each in samples if each.known is not None for state in each.known.states]
    if not states:
        return "no boxes"
    counts = Counter(states)
    parts = [f"{counts[state]} {name}" for state, name in _STATE_NAMES.items() if counts[state]]
    parts += [f"none {_STATE_NAMES[state]}" for state in MASK_STATES if not counts[state]]
    return f"{len(states)} known faces ({', '.join(parts)})"


def _print_unused(done: HardenResult, console: Console) -> None:
    """Print the photos that were not trained on, and why."""
    for reason, keys in (
        ("could not be read", [f"{key}: {message}" for key, message in done.unreadable]),
        ("show no face that the teacher is sure of, and were left out", done.faceless),
    ):
        if keys:
            say(console, f"{len(keys)} photos {reason}:")
            for key in keys[:_MOST_LISTED]:
                say(console, f"  {key}")
            if len(keys) > _MOST_LISTED:
                say(console, f"  and {len(keys) - _MOST_LISTED} more")
