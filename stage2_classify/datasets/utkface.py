"""Layout `utkface`: labels in the file names, `{age}_{gender}_{race}_{date}.jpg[.chip.jpg]`.

Zhang, Song and Qi, "Age Progression/Regression by Conditional Adversarial Autoencoder", CVPR 2017.
Some published names lack a part; those photos stay, without labels.
"""

from __future__ import annotations

import re
from pathlib import Path

from cropfirst.stage2_classify.datasets.listing import list_photos
from cropfirst.stage2_classify.datasets.sample import Fact, PhotoSet, Problem, Sample

WANTS = "UTKFace: photos named {age}_{gender 0|1}_{race 0-4}_{date}.jpg or ….jpg.chip.jpg"
GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "Others")
_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_(\d{8,})\.\w+(\.chip\.\w+)?")


def fits(root: Path) -> bool:
    """Return whether more than half of the photos have names like UTKFace's."""
    if not root.is_dir():
        return False
    names = [key.rpartition("/")[2] for key, _ in list_photos(root).photos]
    return sum(map(bool, map(_NAME.fullmatch, names))) * 2 > len(names)


def open_layout(root: Path) -> PhotoSet:
    """Open every photo below the folder, all of them for training."""
    listing = list_photos(root)
    samples, problems = [], list(listing.problems)
    for key, path in listing.photos:
        labels = parse_name(key.rpartition("/")[2])
        if not labels:
            text = "is not called {age}_{gender}_{race}_{date}.jpg; it has no labels"
            problems.append(Problem(key, text))
        samples.append(Sample(key, Path(path), labels=labels))
    return PhotoSet(
        root, "utkface", tuple(samples), tuple(problems), not_taken=listing.not_taken,
        not_read=listing.not_read,
    )  # fmt: skip


def parse_name(name: str) -> dict[str, Fact]:
    """Return age, gender and race from a file name; empty where it does not parse."""
    found = _NAME.fullmatch(name)
    if found is None:
        return {}
    return {"age": int(found[1]), "gender": GENDERS[int(found[2])], "race": RACES[int(found[3])]}
