"""The Parquet tables of a run, `folds` and `oof`, whose kind is the file's name. No torch."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from cropfirst.cache.tables import read_table, write_table

FORMAT = 1
"""Version of the run folder's format, without checkpoints: raise it with any change."""


def write_parquet(path: Path, table: pl.DataFrame) -> None:
    """Write a run's table in one step."""
    write_table(path, table, kind=path.stem, version=FORMAT)


def read_parquet(path: Path) -> pl.DataFrame:
    """Read a run's table.

    Raises:
        CacheError: the file is missing, damaged, or written by a newer cropfirst.
    """
    return read_table(path, kind=path.stem, version=FORMAT, fix="train again")
