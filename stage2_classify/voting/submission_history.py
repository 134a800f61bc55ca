"""submissions.csv: which submission was made by which runs, and the earlier ones kept beside it.

The newest is always submission.csv; the one before becomes submission-N.csv. Knows files; knows
nothing of models or votes. No torch.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from cropfirst.core.files import write_atomic
from cropfirst.core.fingerprint import content_hash

LIST = "submissions.csv"
"""Name of the list, in the folder of the submissions."""
COLUMNS = ("file", "written", "runs", "scores", "votes", "hash")
"""Columns of the list. `hash` is that of the file, to tell whether a row is of it."""


def replace_submission(path: Path, content: bytes, made_by: Mapping[str, str]) -> Path | None:
    """Write a submission, and keep the one that was there under another name.

    Nothing is kept twice: a submission that equals one of the kept files gets no copy.

    Args:
        path: submission.csv.
        made_by: `runs`, `scores` and `votes` for the list.

    Returns:
        The earlier submission, under its new name; None where it is the same or there was none.
    """
    rows = _read_rows(path.with_name(LIST))
    kept = None
    # The copy comes first: a kill at any point loses no submission.
    if path.is_file() and (earlier := path.read_bytes()) != content:
        kept = _keep(path, earlier)
        entry = rows.pop(path.name, {})
        if entry.get("hash") != content_hash(earlier):  # another program wrote the file
            entry = {"hash": content_hash(earlier)}
        rows.setdefault(kept.name, {**entry, "file": kept.name})
    write_atomic(path, content)
    written = datetime.now().astimezone().isoformat(timespec="seconds")
    new = {**made_by, "file": path.name, "written": written, "hash": content_hash(content)}
    rows.pop(path.name, None)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows([*rows.values(), new])
    write_atomic(path.with_name(LIST), text.getvalue().encode())
    return kept


def _keep(path: Path, content: bytes) -> Path:
    """Return the file beside `path` that holds `content`, after writing it if there is none."""
    numbers = {}
    for other in path.parent.glob(f"{path.stem}-*{path.suffix}"):
        found = re.fullmatch(r"\d+", other.stem.removeprefix(f"{path.stem}-"))
        if found:
            numbers[int(found[0])] = other
            if other.read_bytes() == content:
                return other
    kept = path.with_name(f"{path.stem}-{max(numbers, default=0) + 1}{path.suffix}")
    write_atomic(kept, content)
    return kept


def _read_rows(path: Path) -> dict[str, dict[str, str]]:
    """Return file name -> row of the list; empty where there is none, or it was edited."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return {}
    return {
        row["file"]: {name: row.get(name) or "" for name in COLUMNS}
        for row in rows
        if row.get("file")
    }
