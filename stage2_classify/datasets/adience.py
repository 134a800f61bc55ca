"""Layout `adience`: Adience as published, fold_*_data.txt beside the folders of photos.

Eidinger, Enbar and Hassner, "Age and Gender Estimation of Unfiltered Faces", IEEE TIFS 2014.

    fold_0_data.txt ... fold_4_data.txt              user_id, original_image, face_id, age, ...
    faces/USER/coarse_tilt_aligned_face.N.NAME       or
    aligned/USER/landmark_aligned_face.N.NAME

Ages are ranges such as (25, 32). The persons are the users, each of whom is in one fold alone; the
folds themselves are not used. All photos are for training.
"""

from __future__ import annotations

import re
from pathlib import Path

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets.listed import ListedPhoto, join_listed
from cropfirst.stage2_classify.datasets.listing import list_photos
from cropfirst.stage2_classify.datasets.sample import Fact, PhotoSet, Problem
from cropfirst.stage2_classify.datasets.tables import columns_of, read_csv

WANTS = (
    "Adience: fold_0_data.txt to fold_4_data.txt beside faces/ or aligned/, which hold one folder "
    "of photos per user"
)
COLUMNS = ("user_id", "original_image", "face_id", "age", "gender")
GENDERS = {"m": "male", "f": "female"}
"""Gender in the tables -> in the labels; `u` and an empty cell mean that it is not known."""
_NAMES = "fold_*_data.txt"
_TABLE = re.compile(r"fold_(frontal_)?\d+_data\.txt")
_PHOTO = re.compile(r"(?:coarse_tilt|landmark)_aligned_face\.(\d+)\.(.+)")


def fits(root: Path) -> bool:
    """Return whether tables of folds are there, and no labels.csv of the user."""
    return bool(_tables(root)) and not (root / "labels.csv").is_file()


def open_layout(root: Path) -> PhotoSet:
    """Open every photo below the folder.

    Raises:
        DataError: no table, a table that is not what it should be, or none of its photos is there.
    """
    tables = _tables(root)
    if not tables:
        raise DataError(f"{root} holds no fold_0_data.txt; wanted {WANTS}")
    listed: dict[str, ListedPhoto] = {}
    for table in tables:
        for row in read_csv(table, required=COLUMNS).rows:
            name = f"{row['user_id']}/{row['face_id']}.{row['original_image']}"
            listed[name] = ListedPhoto("train", row["user_id"], _labels(row))
    listing = list_photos(root)
    samples, problems = join_listed(listing, listed, _name_of, table=_NAMES)
    for fact in ("age", "gender"):
        if count := sum(fact not in row.labels for row in listed.values()):
            text = f"{count} faces have no {fact} (None, u or an empty cell)"
            problems = (*problems, Problem(_NAMES, text))
    others = (file for file in listing.not_read if not _TABLE.fullmatch(Path(file).name))
    return PhotoSet(
        root, "adience", samples, (*listing.problems, *problems), not_taken=listing.not_taken,
        not_read=tuple(others),
    )  # fmt: skip


def _tables(root: Path) -> list[Path]:
    """Return the tables of the folds; those of frontal faces repeat rows of the others."""
    if not root.is_dir():
        return []
    found = [path for path in sorted(root.glob(_NAMES)) if _TABLE.fullmatch(path.name)]
    return [path for path in found if set(COLUMNS) <= set(columns_of(path))]


def _name_of(key: str) -> str:
    """Return the user, number and name of a photo's face, as they are in the tables."""
    folder, _, name = key.rpartition("/")
    found = _PHOTO.fullmatch(name)
    return f"{folder.rpartition('/')[2]}/{found[1]}.{found[2]}" if found else key


def _labels(row: dict[str, str | None]) -> dict[str, Fact]:
    labels: dict[str, Fact] = {}
    if row["age"] not in (None, "None"):
        labels["age"] = str(row["age"])
    if row["gender"] in GENDERS:
        labels["gender"] = GENDERS[str(row["gender"])]
    return labels
