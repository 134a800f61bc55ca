"""Layout `csv`: a table with `path`, optional `split` and `group`, and any label columns.

Paths are relative to the table's folder. A photo that the table names and the disk has not is a
sample all the same: stage 1 records it as unreadable.
"""

from __future__ import annotations

from pathlib import Path

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets.listing import inside
from cropfirst.stage2_classify.datasets.sample import Fact, PhotoSet, Sample, Split
from cropfirst.stage2_classify.datasets.tables import as_facts, columns_of, read_table

WANTS = (
    "a .csv table, or a folder with labels.csv (or with just one table) whose column `path` names "
    "the photos; optional columns split, group; every other column is a label"
)
SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("eval", "val", "valid", "validation", "test"), "eval"),
}
"""What the splits are called -> the split."""
_OWN_COLUMNS = {"path", "split", "group"}


def fits(root: Path) -> bool:
    """Whether it is a table or a folder with one; several tables are an error."""
    return root.is_file() or _find_table(root) is not None


def open_layout(root: Path) -> PhotoSet:
    """The samples of the table, or of the one fitting table in a folder.

    Raises:
        DataError: no table or several, a bad row, or none of the photos exists.
    """
    table = root if root.is_file() else _find_table(root)
    if table is None:
        raise DataError(f"{root} holds no table with a column `path`; the layout csv wants {WANTS}")
    rows = read_table(table, required=["path"])
    columns = [name for name in (rows[0] if rows else {}) if name not in _OWN_COLUMNS]
    facts = {name: as_facts([row[name] for row in rows]) for name in columns}
    unlabelled: Split = "train" if columns else "eval"
    samples, seen = [], dict[str, int]()
    for index, row in enumerate(rows):
        where = f"{table}, row {index + 1}"
        key = inside(table.parent, row["path"] or "", where=where)
        if key in seen:
            raise DataError(f"{where}: {key!r} is in row {seen[key]} already; name a photo once")
        seen[key] = index + 1
        labels = {name: value[index] for name, value in facts.items()}
        known: dict[str, Fact] = {name: fact for name, fact in labels.items() if fact is not None}
        split = _split(row.get("split"), unlabelled, where)
        samples.append(Sample(key, table.parent / key, split, row.get("group"), known))
    check_any_exists(samples, table)
    return PhotoSet(table.parent, "csv", tuple(samples))


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
    fitting = [path for path in tables if "path" in columns_of(path)]
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
    if text.lower() not in SPLITS:
        raise DataError(f"{where}: split must be one of {', '.join(SPLITS)}, got {text!r}")
    return SPLITS[text.lower()]
