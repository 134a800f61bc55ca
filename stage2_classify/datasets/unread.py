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
_YOLO = re.compile(r"\d+(?:\s+[\d.]+){4}")
"""Line of a YOLO file: the class, the centre and the size of a box."""
_GROUPS_SHOWN = 3
_COLUMNS_SHOWN = 6


def may_have_labels(name: str) -> bool:
    """Return whether a file's name is that of a table or of annotations."""
    if name in _READ_ELSEWHERE or _NO_LABELS.fullmatch(name):
        return False
    return name.rpartition(".")[2].lower() in ANNOTATIONS


def unread_lines(root: Path, files: Sequence[str]) -> list[str]:
    """Return lines that name files which may have labels, and say what is wanted instead.

    Args:
        files: their paths, relative to the root.
    """
    groups: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for file in sorted(files):
        folder, _, name = file.rpartition("/")
        suffix = Path(name).suffix.lower()
        # Each table is named by itself, except numbered ones; annotations there are thousands of.
        kind = re.sub(r"\d+", "#", name) if suffix in (".csv", ".tsv") else suffix
        groups[folder, kind].append(file)
    if not groups:
        return []
    first = list(groups.values())[:_GROUPS_SHOWN]
    contents = [_content_of(root / names[0]) for names in first]
    shown = [_name_group(names) + content for names, content in zip(first, contents, strict=True)]
    rest = sum(len(names) for names in groups.values()) - sum(map(len, first))
    more = f"; and {rest} other files" if rest else ""
    lines = [
        f"not read, though they may have labels: {'; '.join(shown)}{more}",
        "  wanted: a CSV whose column `path` names the photos and whose other columns are the "
        "labels, called labels.csv or given itself as DATA; or one folder of photos per class",
    ]
    if any("boxes" in content for content in contents):
        lines.append("  boxes are not needed: detect finds the faces")
    if any("CelebA" in content for content in contents):
        lines.append(
            "  to use the list of CelebA: call it list_attr_celeba.txt, in the top folder of DATA"
        )
    return lines


def _name_group(files: Sequence[str]) -> str:
    more = f" and {len(files) - 1} more {Path(files[0]).suffix}" if len(files) > 1 else ""
    return f"{files[0]}{more}"


def _content_of(path: Path) -> str:
    """Return a few words in brackets about what is in a file; empty where they are not known."""
    if path.suffix.lower() not in (*_TABLES, ".xml"):
        return ""
    lines = _first_lines(path)
    if any("<annotation" in line for line in lines):
        return " (VOC boxes)"
    if _YOLO.fullmatch(lines[0]):
        return " (YOLO boxes)"
    if lines[0].isdigit() and re.match(r"\S+\.(jpg|jpeg|png)\s", lines[2], re.I):
        return f" (CelebA list of {_shorten(lines[1].split())})"
    columns = [] if path.suffix.lower() == ".xml" else columns_of(path)
    return f" (columns {_shorten(columns)})" if len(columns) > 1 else ""


def _first_lines(path: Path) -> list[str]:
    """Return the first three lines of a file without outer blanks; empty ones where it has less."""
    try:
        with path.open("rb") as file:
            text = file.read(4096).decode("utf-8", "replace")
    except OSError:
        text = ""
    return [line.strip() for line in (*text.splitlines()[:3], "", "", "")][:3]


def _shorten(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _COLUMNS_SHOWN else ""
    return ", ".join(names[:_COLUMNS_SHOWN]) + more
