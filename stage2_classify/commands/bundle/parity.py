"""The parity gate: a bundle's answers against the run's, on crops and on whole photos."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cropfirst.cache import CropSet
from cropfirst.core.errors import BundleError
from cropfirst.core.probabilities import decide
from cropfirst.core.spread import spread
from cropfirst.door.bundle import Bundle
from cropfirst.door.check import MAX_DIFFERENCE, Comparison, check_golden, compare
from cropfirst.door.faces import Face
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.photos.read import ReadError, read_photo
from cropfirst.stage2_classify.commands.bundle.reference import RunAnswers
from cropfirst.stage2_classify.datasets import PhotoSet

CROPS, PHOTOS = 200, 50
"""Number of crops and photos that are compared; fewer only where there are fewer."""
MIN_EQUAL_PIXELS = 0.999
"""Least share of a crop's values that differ by one grey level at most."""
SAME_BOX = 0.01
"""Largest difference of two equal boxes in pixels."""
PROBLEMS_SHOWN = 5


@dataclass(frozen=True)
class Parity:
    """The differences between a bundle and its run, all within what is allowed."""

    n_crops: int
    crop_probability: float
    """Largest difference of a probability on crops of the cache."""
    photos: Comparison
    """The comparison on the data set's photos, end to end."""
    equal_pixels: float
    """Least share of a crop's values within one grey level."""
    golden: Comparison


def check_parity(
    bundle: Bundle,
    answers: RunAnswers,
    crops: CropSet,
    photos: PhotoSet,
    config: DetectConfig,
    folder: Path,
) -> Parity:
    """Compare a bundle with its run.

    Raises:
        BundleError: they differ by more than is allowed; the message says where.
    """
    problems: list[str] = []
    n_crops, difference = _compare_crops(bundle, answers, crops, problems)
    images = _read_photos(photos, config)
    found: dict[str, list[Face]] = {}
    wanted: dict[str, list[Face]] = {}
    least = 1.0
    for key, image in images.items():
        own = answers.answers(image, bundle.manifest)
        wanted[key], found[key] = own.faces, bundle.predict(image)
        pairs = zip(found[key], own.faces, own.crops, strict=False)
        for at, (mine, face, crop) in enumerate(pairs):
            cut = mine
            if _rounds_otherwise(mine, face, bundle, image):
                cut = face
                found[key][at] = replace(bundle.classify(image, [face])[0], box=mine.box)
            apart = np.abs(bundle.crop(image, cut).astype(np.int16) - crop)
            equal = float((apart <= 1).mean())
            least = min(least, equal)
            if equal < MIN_EQUAL_PIXELS:
                problems.append(
                    f"{key}: {equal:.2%} of a crop's values are equal, wanted "
                    f"{MIN_EQUAL_PIXELS:.1%} or more"
                )
    whole = compare(found, wanted)
    golden = check_golden(bundle, folder)
    problems += [*whole.problems, *golden.problems]
    if problems:
        more = len(problems) - PROBLEMS_SHOWN
        lines = [*problems[:PROBLEMS_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        raise BundleError(
            "the bundle answers otherwise than the run, so it was not written: " + "; ".join(lines)
        )
    return Parity(n_crops, difference, whole, least, golden)


def _rounds_otherwise(mine: Face, face: Face, bundle: Bundle, image: np.ndarray) -> bool:
    """Return whether two equal boxes lie on two sides of a step of rounding.

    A crop is cut at whole pixels and its ellipse drawn at fractions of one, so that they differ.
    """
    if np.abs(np.subtract(mine.box, face.box)).max() > SAME_BOX:
        return False
    return not np.array_equal(bundle.crop(image, mine), bundle.crop(image, face))


def _compare_crops(
    bundle: Bundle, answers: RunAnswers, crops: CropSet, problems: list[str]
) -> tuple[int, float]:
    """Compare probabilities and classes of crops in the cache."""
    keys = spread(crops.manifest.read().drop_nulls("crop_hash")["key"].to_list(), CROPS)
    reader = crops.reader()
    images = [reader[key] for key in keys]
    reader.close()
    if not images:
        raise BundleError(f"the crop set {crops.name} has no crop: run cropfirst detect DATA")
    mine, theirs = bundle.probabilities(images), answers.probabilities(images)
    worst = 0.0
    for task, entry in bundle.manifest.tasks.items():
        apart = np.abs(mine[task] - theirs[task]).max(axis=1)
        differs = decide(mine[task], entry.offsets) != decide(theirs[task], entry.offsets)
        worst = max(worst, float(apart.max()))
        problems += [
            f"crop of {keys[row]}: {task} differs by {apart[row]:.2g}"
            for row in np.flatnonzero((apart > MAX_DIFFERENCE) | differs)
        ]
    return len(keys), worst


def _read_photos(photos: PhotoSet, config: DetectConfig) -> dict[str, np.ndarray]:
    """Return photos of the data set by key, evenly spread over it.

    Raises:
        BundleError: none can be read.
    """
    images = {}
    for sample in spread(photos.samples, PHOTOS):
        try:
            images[sample.key] = read_photo(sample.path, config.decode).image
        except ReadError:
            continue
    if not images:
        raise BundleError(
            f"none of the photos of {photos.root} can be read, so that the bundle cannot be "
            "compared with the run: give their folder with --data"
        )
    return images
