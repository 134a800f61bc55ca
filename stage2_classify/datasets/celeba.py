"""Layout `celeba`: CelebA as published, lists beside the photos.

Liu, Luo, Wang and Tang, "Deep Learning Face Attributes in the Wild", ICCV 2015.

    list_attr_celeba.txt      number of photos; names of the attributes; then photo and -1 or 1 each
    identity_CelebA.txt       optional: photo and person
    list_eval_partition.txt   optional: photo and 0 (train), 1 (validation) or 2 (test)

The lists may be in Anno/ and Eval/, and may be CSV tables, as on Kaggle. Photos may be in any
folder. Photos of the test partition are the split `eval`, the others `train`.
"""

from __future__ import annotations

from pathlib import Path

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets.listed import ListedPhoto, join_listed
from cropfirst.stage2_classify.datasets.listing import as_key, list_photos
from cropfirst.stage2_classify.datasets.sample import PhotoSet, Split
from cropfirst.stage2_classify.datasets.tables import read_text

WANTS = (
    "CelebA: list_attr_celeba.txt (or .csv) above or beside the photos; optional "
    "identity_CelebA.txt (persons) and list_eval_partition.txt (splits)"
)
ATTRIBUTES, PERSONS, PARTITION = "list_attr_celeba", "identity_CelebA", "list_eval_partition"
_OTHERS = ("list_bbox_celeba", "list_landmarks_celeba", "list_landmarks_align_celeba")
"""Lists of CelebA that hold no labels."""
_FOLDERS = ("", "Anno", "Eval")
_PARTITIONS: dict[str, Split] = {"0": "train", "1": "train", "2": "eval"}
_VALUES = {"-1": -1, "0": 0, "1": 1}


def fits(root: Path) -> bool:
    """Return whether the list of attributes is there, and no labels.csv of the user."""
    return _find(root, ATTRIBUTES) is not None and not (root / "labels.csv").is_file()


def open_layout(root: Path) -> PhotoSet:
    """Open every photo below the folder, with its attributes as -1 and 1.

    Raises:
        DataError: no list of attributes, a bad row, or none of its photos is there.
    """
    table = _find(root, ATTRIBUTES)
    if table is None:
        raise DataError(f"{root} holds no {ATTRIBUTES}.txt; wanted {WANTS}")
    names, rows = _read(table)
    attributes = {
        photo: dict(zip(names, (_value(cell, table, photo) for cell in cells), strict=True))
        for photo, cells in rows.items()
    }
    persons = _read_column(root, PERSONS)
    partition = _read_column(root, PARTITION)
    listed = {
        photo: ListedPhoto(_split(partition.get(photo, "0"), photo), persons.get(photo), labels)
        for photo, labels in attributes.items()
    }
    listing = list_photos(root)
    samples, problems = join_listed(
        listing, listed, lambda key: key.rpartition("/")[2].partition(".")[0], table=table.name
    )
    known = (ATTRIBUTES, PERSONS, PARTITION, *_OTHERS)
    others = (file for file in listing.not_read if Path(file).stem not in known)
    return PhotoSet(
        root, "celeba", samples, (*listing.problems, *problems), own_columns=True,
        not_taken=listing.not_taken, not_read=tuple(others),
    )  # fmt: skip


def _find(root: Path, stem: str) -> Path | None:
    paths = (root / folder / f"{stem}{end}" for end in (".txt", ".csv") for folder in _FOLDERS)
    return next((path for path in paths if path.is_file()), None)


def _read_column(root: Path, stem: str) -> dict[str, str]:
    """Return photo -> the value of a list of one column; empty where there is no such list."""
    path = _find(root, stem)
    if path is None:
        return {}
    return {photo: cells[0] for photo, cells in _read(path)[1].items()}


def _read(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Return the names of the columns, if there are any, and photo -> cells.

    A photo is its name without the extension: the photos also exist as .png.
    """
    separator = "," if path.suffix == ".csv" else None
    names: list[str] = []
    rows: dict[str, list[str]] = {}
    width = 1
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        cells = [cell.strip() for cell in line.split(separator)]
        if not any(cells) or (number == 1 and len(cells) == 1 and cells[0].isdigit()):
            continue  # the first line is the number of photos
        photo, dot, _ = cells[0].partition(".")
        if not rows and not names and not dot:
            names = [as_key(cell) for cell in cells if cell not in ("image_id", "")]
            width = len(names)
            continue
        if not dot or len(cells) != width + 1:
            raise DataError(
                f"{path}, line {number}: wanted a photo and {width} values, got {len(cells)} cells "
                f"that start with {cells[0]!r}"
            )
        if photo in rows:
            raise DataError(f"{path}, line {number}: {cells[0]} is in the list twice")
        rows[photo] = cells[1:]
    return names, rows


def _value(cell: str, table: Path, photo: str) -> int:
    if cell not in _VALUES:
        raise DataError(f"{table}: an attribute of {photo} is {cell!r}; wanted -1 or 1")
    return _VALUES[cell]


def _split(cell: str, photo: str) -> Split:
    if cell not in _PARTITIONS:
        raise DataError(f"the partition of {photo} is {cell!r}; wanted 0, 1 or 2 ({PARTITION})")
    return _PARTITIONS[cell]
