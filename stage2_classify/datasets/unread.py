"""Files beside the photos that may have labels and that the layout does not read.

Knows names and the first line of tables; knows nothing of what they mean.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from cropfirst.stage2_classify.datasets.tables import columns_of

ANNOTATIONS = frozenset(
    ("csv", "tsv", "txt", "json", "jsonl", "xml", "mat", "npy", "xlsx", "xls", "parquet")
)
"""Extensions of files that may have labels."""
_TABLES = (".csv", ".tsv", ".txt")
_READ_ELSEWHERE = frozenset(("boxes.csv", "rooms.csv"))
"""Files that `harden` and `eda` read."""
_NO_LABELS = re.compile(r"(?:readme|licen[cs]e|copying|notice|requirements|citation)\b.*", re.I)
_GROUPS_SHOWN = 3
_COLUMNS_SHOWN = 6


def may_have_labels(name: str) -> bool:
    """Return whether a file's name is that of a table or of annotations."""
    if name in _READ_ELSEWHERE or _NO_LABELS.fullmatch(name):
        return False
    return name.rpartition(".")[2].lower() in ANNOTATIONS


def unread_lines(root: Path, files: Sequence[str]) -> list[str]:
    """Return lines that name files which may have labels, with the columns of tables.

    Args:
        files: their paths, relative to the root.
    """
    groups: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for file in sorted(files):
        folder, _, name = file.rpartition("/")
        groups[folder.partition("/")[0], Path(name).suffix.lower()].append(file)
    if not groups:
        return []
    shown = [_describe_group(root, *group) for group in list(groups.items())[:_GROUPS_SHOWN]]
    rest = sum(len(names) for names in list(groups.values())[_GROUPS_SHOWN:])
    more = f"; and {rest} more files" if rest else ""
    return [
        f"not read, though they may have labels: {'; '.join(shown)}{more}. Labels come from a CSV "
        f"with the photos in a column `path`, or from class folders"
    ]


def _describe_group(root: Path, group: tuple[str, str], files: Sequence[str]) -> str:
    first = files[0]
    folder = f" in {group[0]}/" if group[0] else ""
    text = f"{first} and {len(files) - 1} more {group[1]}{folder}" if len(files) > 1 else first
    columns = columns_of(root / first) if group[1] in _TABLES else []
    if len(columns) < 2:
        return text
    more = ", ..." if len(columns) > _COLUMNS_SHOWN else ""
    return f"{text} (columns {', '.join(columns[:_COLUMNS_SHOWN])}{more})"
