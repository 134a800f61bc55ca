"""Layout `csv`: a table with `path`, optional `split` and `group`, and any label columns.

Paths are relative to the table's folder. A photo that the table names and the disk has not is a
sample all the same: stage 1 records it as unreadable.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets.file_finder import FileFinder
from cropfirst.stage2_classify.datasets.listing import as_key, inside, subfolders
from cropfirst.stage2_classify.datasets.sample import Fact, PhotoSet, Problem, Sample, Split
from cropfirst.stage2_classify.datasets.splits import SPLITS, split_of
from cropfirst.stage2_classify.datasets.tables import as_facts, columns_of, read_csv

WANTS = (
    "a .csv table, or a folder with labels.csv (or with just one table) whose column `path` names "
    "the photos; optional columns split, group; every other column is a label"
)
PATH_COLUMNS = (
    "file", "filename", "file_name", "filepath", "image", "image_id", "image_path", "img", "photo",
)  # fmt: skip
"""Names, in any case, of the column `path` in tables that have none of that name."""
BOXES_FILE = "boxes.csv"
"""Table of known faces beside the photos, which `harden` reads: it is no list of the photos."""
_FIRST_ROWS = 50
"""Rows whose photos say in which folder a table's photos are."""


def fits(root: Path) -> bool:
    """Return whether it is a table or a folder with one; several tables are an error."""
    return root.is_file() or _find_table(root) is not None


def open_layout(root: Path) -> PhotoSet:
    """Open the samples of a table, or of the one fitting table in a folder.

    Raises:
        DataError: no table or several, a bad row, or none of the photos exists.
    """
    table = root if root.is_file() else _find_table(root)
    if table is None:
        raise DataError(
            f"{root} holds no table with a column `path`; the layout csv expects {WANTS}"
        )
    opened = read_csv(table)
    paths = path_column(opened.columns)
    if paths is None:
        raise DataError(
            f"{table} has no column 'path': its columns are {', '.join(opened.columns)}"
        )
    split_column, group_column = (_column(opened.columns, name) for name in ("split", "group"))
    own = {paths, split_column, group_column}
    columns = [name for name in opened.columns if name not in own]
    facts = {name: as_facts([row[name] for row in opened.rows]) for name in columns}
    unlabelled: Split = "train" if columns else "eval"
    folder = _photo_folder(table, [row[paths] or "" for row in opened.rows[:_FIRST_ROWS]])
    finder = FileFinder(table.parent)
    samples, seen = [], dict[str, int]()
    for index, row in enumerate(opened.rows):
        where = f"{table}, row {index + 1}"
        text = row[paths] or ""
        key = inside(table.parent, folder + text if text else "", where=where)
        on_disk = finder.find(key) or finder.find(key.replace("\\", "/"))
        path = table.parent / (on_disk or key)
        key = as_key(on_disk or key)
        if key in seen:
            raise DataError(f"{where}: {key!r} is in row {seen[key]} already; name a photo once")
        seen[key] = index + 1
        labels = {name: value[index] for name, value in facts.items()}
        known: dict[str, Fact] = {name: fact for name, fact in labels.items() if fact is not None}
        split = _split(row.get(split_column or ""), unlabelled, where)
        samples.append(Sample(key, path, split, row.get(group_column or ""), known))
    check_any_exists(samples, table)
    problems = list(opened.problems())
    if folder:
        problems.append(Problem(table.name, f"its photos are in the folder {folder}"))
    return PhotoSet(table.parent, "csv", tuple(samples), tuple(problems), own_columns=True)


def path_column(columns: Sequence[str]) -> str | None:
    """Return the column that names the photos; None where there is none, or more than one."""
    exact = _column(columns, "path")
    if exact is not None:
        return exact
    similar = [name for name in columns if name.casefold() in PATH_COLUMNS]
    return similar[0] if len(similar) == 1 else None


def _names_each_photo_once(table: Path) -> bool:
    """Return whether a table without a column `path` lists photos, not boxes or folders."""
    if path_column(columns_of(table)) is None:
        return False
    try:
        opened = read_csv(table)
    except DataError:
        return False
    name = path_column(opened.columns)
    texts = [row[name] or "" for row in opened.rows] if name else []
    folder = _photo_folder(table, texts[:_FIRST_ROWS])
    found = FileFinder(table.parent / folder).find(texts[0]) if texts else None
    return len(set(texts)) == len(texts) and found is not None


def _column(columns: Sequence[str], name: str) -> str | None:
    """Return the column of a name, in the same case, else the only one in another case."""
    if name in columns:
        return name
    found = [column for column in columns if column.casefold() == name]
    return found[0] if len(found) == 1 else None


def _photo_folder(table: Path, texts: Sequence[str]) -> str:
    """Return the prefix of a table's paths: none, or the folder beside it that has the photos.

    The photos may also be in the only folder inside that one, as in archives of CelebA.
    """
    texts = [text for text in texts if text]
    root = FileFinder(table.parent)
    if any(root.find(text) for text in texts):
        return ""
    beside = subfolders(table.parent)
    inner = [(name, subfolders(table.parent / name)) for name in beside]
    holding = [
        name
        for name in (*beside, *(f"{name}/{only[0]}" for name, only in inner if len(only) == 1))
        if texts and all(FileFinder(table.parent / name).find(text) for text in texts)
    ]
    return f"{holding[0]}/" if len(holding) == 1 else ""


def check_any_exists(samples: list[Sample], table: Path) -> None:
    """Refuse a table none of whose photos is there: its paths start somewhere else.

    Raises:
        DataError: no photo of the table exists.
    """
    if samples and not any(sample.path.exists() for sample in samples):
        raise DataError(
            f"none of the {len(samples)} photos that {table} names exists (the first: "
            f"{samples[0].path}): its paths must be relative to {table.parent}, with / between "
            f"folders"
        )


def _find_table(folder: Path) -> Path | None:
    tables = [path for path in sorted(folder.glob("*.csv")) if not path.name.startswith(".")]
    columns_by_table = {path: columns_of(path) for path in tables}
    fitting = [path for path in tables if _column(columns_by_table[path], "path")]
    if not fitting:
        candidates = [path for path in tables if path.name != BOXES_FILE]
        similar = [path for path in candidates if _names_each_photo_once(path)]
        fitting = [path for path in similar if len(similar) == 1 or path.name == "labels.csv"]
    named = [path for path in fitting if path.name == "labels.csv"]
    if not fitting and (folder / "labels.csv").is_file():
        columns = ", ".join(columns_of(folder / "labels.csv")) or "(none)"
        raise DataError(
            f"{folder / 'labels.csv'} has no column 'path': its columns are {columns}. Name the "
            f"photos' column so, or name another layout (--layout photos)"
        )
    if len(fitting) > 1 and not named:
        names = ", ".join(path.name for path in fitting)
        raise DataError(
            f"{folder} holds several tables with a column `path` ({names}): give the one that is "
            f"meant as the data set, call it labels.csv, or name another layout (--layout photos)"
        )
    return next(iter(named or fitting), None)


def _split(text: str | None, default: Split, where: str) -> Split:
    if text is None:
        return default
    split = split_of(text)
    if split is None:
        raise DataError(f"{where}: split must be one of {', '.join(SPLITS)}, got {text!r}")
    return split
