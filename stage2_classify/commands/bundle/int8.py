"""--int8: the bundle's classifiers in 8-bit integers, if they lose next to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cropfirst.cache import CropSet
from cropfirst.core.errors import BundleError
from cropfirst.door.bundle import Bundle, normalised
from cropfirst.door.check import golden_answers
from cropfirst.door.files import read_files, read_photo, write_files
from cropfirst.door.manifest import GOLDEN, Manifest, TaskEntry
from cropfirst.stage2_classify.export.int8 import (
    CALIBRATION_CROPS,
    JudgingCrops,
    find_judging_crops,
    fit_sets,
    quantize,
    score_int8,
)
from cropfirst.stage2_classify.export.nets import RunNets


def to_int8(folder: Path, bundle: Bundle, nets: Sequence[RunNets], crops: CropSet) -> Manifest:
    """Replace the classifiers of a bundle by quantised ones, and return its new manifest.

    The golden answers, and the sets of classes where there are any, are made again.

    Args:
        bundle: the bundle in `folder`, with floats.

    Raises:
        BundleError: the quantised classifiers lose too much.
    """
    judging = find_judging_crops(nets, list(bundle.tasks))
    known = set(judging.keys) if judging.held_out else set()
    keys = crops.manifest.read().drop_nulls("crop_hash")["key"].to_list()
    keys = [key for key in keys if key not in known]
    keys = keys[:: max(1, len(keys) // CALIBRATION_CROPS)]
    reader = crops.reader()
    calibrating, images = [reader[key] for key in keys], [reader[key] for key in judging.keys]
    reader.close()
    floats = bundle.probabilities(images)
    files = {}
    for entry in bundle.manifest.classifiers:
        batches = [normalised(calibrating[at : at + 1], entry) for at in range(len(calibrating))]
        files[entry.file] = quantize((folder / entry.file).read_bytes(), batches)
    manifest = write_files(folder, bundle.manifest, files)
    small = Bundle.open(folder)
    integers = small.probabilities(images)
    offsets = {name: task.offsets for name, task in manifest.tasks.items()}
    scores = score_int8(judging, floats, integers, offsets)
    about: dict[str, Any] = {
        "crops": "held out from the network" if judging.held_out else "of all folds",
        "tasks": {each.task: vars(each) for each in scores},
    }
    tasks = {
        name: _calibrated(name, task, judging, integers[name])
        for name, task in manifest.tasks.items()
    }
    manifest = replace(manifest, tasks=tasks, about={**manifest.about, "int8": about})
    write_files(folder, manifest, {})
    return write_files(folder, manifest, {GOLDEN: _golden(folder)})


def _calibrated(name: str, task: TaskEntry, judging: JudgingCrops, probs: np.ndarray) -> TaskEntry:
    """Return a task whose sets hold for the integers; without sets where they cannot be made."""
    if task.sets is None:
        return task
    alpha = float(task.sets["alpha"])
    table = fit_sets(judging, name, task.classes, probs, alpha)
    if table is None:
        raise BundleError(
            f"--int8: the sets of {name} were calibrated for the network with floats, and too few "
            f"people were held out from it to calibrate them again at an error rate of {alpha:g}: "
            "leave out --int8, give --fold, or --ensemble none for a bundle without sets"
        )
    sets = {**table.to_dict(), "alpha": alpha, "source": "people held out from the network"}
    return replace(task, sets=sets)


def _golden(folder: Path) -> bytes:
    """Return the answers of the bundle itself to its golden photos."""
    bundle = Bundle.open(folder)
    names = [name for name in bundle.manifest.files if name.endswith(".png")]
    photos = read_files(folder, bundle.manifest, names)
    return golden_answers({name: bundle.predict(read_photo(raw)) for name, raw in photos.items()})
