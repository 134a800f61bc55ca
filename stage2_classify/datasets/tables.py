"""Read a CSV as text, strictly: UTF-8, the wanted columns, no row too long.

Knows nothing of what the columns mean.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cropfirst.core.errors import DataError, first_line
from cropfirst.core.text import is_missing, normal_form
from cropfirst.stage2_classify.datasets.sample import Fact, Problem

SEPARATORS = (",", ";", "\t")
_WHOLE = r"[+-]?(?:0|[1-9]\d*)"  # 007 is a name
_NUMERIC = re.compile(rf"(?:{_WHOLE}(?:\.\d*)?|[+-]?\.\d+)(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class Table:
    """A CSV as text. Cells are in one Unicode form and stripped; one without a value is None."""

    path: Path
    rows: list[dict[str, str | None]]
    columns: tuple[str, ...]
    missing: Mapping[str, Mapping[str, int]]
    """Column -> word for "no value", such as `nan` -> number of cells that held it."""

    def problems(self) -> tuple[Problem, ...]:
        """Return one problem for each column in which words were read as "no value"."""
        return tuple(
            Problem(
                self.path.name,
                f"column {column!r}: {sum(words.values())} cells are read as empty "
                f"({', '.join(f'{word} {count}' for word, count in sorted(words.items()))})",
            )
            for column, words in self.missing.items()
        )


def read_csv(path: Path, *, required: Sequence[str] = (), comments: bool = False) -> Table:
    """Read a CSV whose columns are separated by commas, semicolons or tabs.

    Blank rows and columns without a name are left out.

    Args:
        required: columns that must be there.
        comments: leave out lines that start with `#`.

    Raises:
        DataError: not readable, not UTF-8, no CSV, a column missing or there twice.
    """
    text = read_text(path)
    if comments:
        lines = text.split("\n")
        text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    text = text.lstrip("\n")
    try:
        separator = separator_of(text, required)
        columns = header(text, separator)
        _check_columns(path, columns, required)
        frame = pl.read_csv(
            io.BytesIO(text.encode("utf-8")),
            separator=separator,
            infer_schema=False,
            raise_if_empty=False,
        )
    except (csv.Error, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} is not a CSV table: {first_line(error)}") from error
    if len(frame.columns) != len(columns):
        raise DataError(f"{path} is not a CSV table: its first line has an open quote")
    named = [(was, name) for was, name in zip(frame.columns, columns, strict=True) if name]
    frame = frame.select(pl.col(was).str.strip_chars().alias(name) for was, name in named)
    missing: dict[str, dict[str, int]] = {}
    for name in frame.columns:
        frame = frame.with_columns(_known_cells(frame[name], missing))
    rows = frame.filter(~pl.all_horizontal(pl.all().is_null())).rows(named=True)
    return Table(path, rows, tuple(frame.columns), missing)


def separator_of(text: str, required: Sequence[str] = ()) -> str:
    """Return the separator of a CSV's columns: comma, semicolon or tab.

    It is the first with which the header has the required columns, else the one with which it has
    the most columns.
    """
    headers = {separator: header(text, separator) for separator in SEPARATORS}
    for separator, columns in headers.items():
        if required and set(required) <= set(columns):
            return separator
    return max(SEPARATORS, key=lambda separator: len(headers[separator]))


def header(text: str, separator: str = ",") -> list[str]:
    """Return the column names of a CSV, in one Unicode form and stripped."""
    reader = csv.reader(io.StringIO(text.lstrip("\r\n"), newline=""), delimiter=separator)
    return [normal_form(name) for name in next(reader, [])]


def columns_of(path: Path) -> list[str]:
    """Return the columns of a file that may be a CSV; `read_csv` says what is wrong with it.

    Reads any encoding: a table that is not UTF-8 must be refused, not overlooked.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(65536)
        encoding = (
            "utf-16" if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
        )
        text = raw.decode(encoding, "replace")
        return header(text, separator_of(text))
    except (OSError, csv.Error):
        return []


def as_facts(cells: Sequence[str | None]) -> list[Fact | None]:
    """Return a column's values, as whole numbers or numbers if all of them are."""
    known = [cell for cell in cells if cell is not None]
    if not known or not all(_is_number(cell) for cell in known):
        return list(cells)
    if all(re.fullmatch(_WHOLE, cell) for cell in known):
        return [None if cell is None else int(cell) for cell in cells]
    return [None if cell is None else float(cell) for cell in cells]


def as_fact(text: str) -> Fact:
    """Return one value, as a number if it is one."""
    value = as_facts([text])[0]
    return text if value is None else value


def _known_cells(column: pl.Series, missing: dict[str, dict[str, int]]) -> pl.Series:
    """Return a column in one Unicode form, with None for words that mean "no value"."""
    values = {text: normal_form(text) for text in column.unique() if text is not None}
    for text, normal in values.items():
        if is_missing(text):
            values[text] = ""
            if normal:
                count = int((column == text).sum())
                words = missing.setdefault(column.name, {})
                words[normal] = words.get(normal, 0) + count
    changed = {text: value or None for text, value in values.items() if text != value or not value}
    if not changed:
        return column
    return column.replace_strict(
        list(changed), list(changed.values()), default=column, return_dtype=pl.String
    )


def _is_number(cell: str) -> bool:
    return bool(_NUMERIC.fullmatch(cell)) and math.isfinite(float(cell))


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, with "\\n" between lines.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} is not UTF-8 (byte 0x{raw[error.start]:02x} in line {line}): save it as "
            f'"CSV UTF-8"'
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _check_columns(path: Path, columns: Sequence[str], required: Sequence[str]) -> None:
    for name in required:
        if name not in columns:
            raise DataError(
                f"{path} has no column {name!r}: its columns are {', '.join(columns) or '(none)'}"
            )
    twice = {name for name in columns if name and columns.count(name) > 1}
    if twice:
        raise DataError(f"{path} has the column {min(twice)!r} twice: leave one of them out")
