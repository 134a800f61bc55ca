"""Layout `fairface`: the FairFace data set as published, two CSVs beside the photos.

Karkkainen and Joo, "FairFace: Face Attribute Dataset for Balanced Race, Gender, and Age", WACV
2021. Ages are ranges ("20-29", "more than 70"); the label schema puts them into its bins.
"""

from __future__ import annotations

from pathlib import Path

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets.csv_table import check_any_exists
from cropfirst.stage2_classify.datasets.file_finder import FileFinder
from cropfirst.stage2_classify.datasets.listing import as_key, inside, subfolders
from cropfirst.stage2_classify.datasets.sample import Fact, PhotoSet, Problem, Sample, Split
from cropfirst.stage2_classify.datasets.tables import read_csv

WANTS = (
    "FairFace: fairface_label_train.csv and/or fairface_label_val.csv (columns file, age, gender, "
    "race) beside train/ and val/"
)
_TABLES: dict[str, Split] = {"fairface_label_train.csv": "train", "fairface_label_val.csv": "eval"}


def fits(root: Path) -> bool:
    """Return whether one of FairFace's tables is there."""
    return any((root / name).is_file() for name in _TABLES)


def open_layout(root: Path) -> PhotoSet:
    """Open the samples of both tables; persons are not known, so there are no groups.

    Raises:
        DataError: no table, a bad row, or none of a table's photos exists.
    """
    tables = {root / name: split for name, split in _TABLES.items() if (root / name).is_file()}
    if not tables:
        raise DataError(f"{root} holds none of {', '.join(_TABLES)}; wanted {WANTS}")
    folder = _photo_folder(root)
    samples: list[Sample] = []
    problems: list[Problem] = []
    for table, split in tables.items():
        samples += _rows(root, folder, table, split, problems)
    return PhotoSet(root, "fairface", tuple(samples), tuple(problems))


def _rows(
    root: Path, folder: str, table: Path, split: Split, problems: list[Problem]
) -> list[Sample]:
    samples = []
    finder = FileFinder(root)
    opened = read_csv(table, required=["file", "age", "gender", "race"])
    problems += opened.problems()
    for index, row in enumerate(opened.rows, start=1):
        where = f"{table}, row {index}"
        if not row["file"]:
            raise DataError(f"{where} names no photo: the column `file` is empty")
        key = inside(root, folder + row["file"], where=where)
        labels: dict[str, Fact] = {}
        for name in ("age", "gender", "race"):
            value = row[name]
            if value is not None:
                labels[name] = value.lower() if name == "gender" else value
        on_disk = finder.find(key) or key
        samples.append(Sample(as_key(on_disk), root / on_disk, split, labels=labels))
    check_any_exists(samples, table)
    return samples


def _photo_folder(root: Path) -> str:
    """Return the prefix of the photos: none, or the folder that FairFace's archive unpacks to."""
    if not (root / "train").is_dir() and not (root / "val").is_dir():
        for name in subfolders(root):
            if (root / name / "train").is_dir() or (root / name / "val").is_dir():
                return f"{name}/"
    return ""
