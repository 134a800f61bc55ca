"""The swapped twin of a crop set: its crops with the same heads in the rooms of other people.

    crops/<name>/swapped/0/           first draw, a crop set of its own
    crops/<name>/swapped/1/           second draw: another room for each head

Knows rows and folders; knows nothing of how a draw is made, nor of labels.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from cropfirst.cache.open import CropSet, read_crop_config, write_crop_config
from cropfirst.core.errors import CacheCorruptError, CacheError, CacheMismatchError
from cropfirst.core.fingerprint import canonical_json, fingerprint

SWAPPED = "swapped"
"""Name of the folder of draws in the folder of their crop set."""
SPLIT = "train"
"""Split whose photos have a twin: the others have no labels, by which it could be scored."""
SAME = ("content_hash", "box", "landmarks", "window", "angle")
"""Columns that a row of a draw has in common with the crop row that it was made from: all that
decides the head and the window."""


@dataclass(frozen=True)
class SwappedTwin:
    """The draws of a crop set, and which photos they may be compared on."""

    crops: CropSet
    """The crop set that they are the twin of."""
    draws: tuple[CropSet, ...]
    """The draws in order; a row has a crop, or the reason why the photo was left out."""
    usable: frozenset[str]
    """Keys with a swapped crop in every draw, each made from the photo's current crop row."""
    left_out: Mapping[str, int]
    """Reason in plain words -> number of photos that were left out for it."""
    left_out_statuses: Mapping[str, int]
    """Status -> number of photos that were left out."""
    n_outdated: int
    """Number of photos with a crop whose row in some draw is missing or of another crop row."""
    fingerprint: str
    """Hash of all that a comparison on `usable` sees, 16 hex characters."""

    @property
    def is_finished(self) -> bool:
        """Whether every photo of the train split with a crop has a current row in every draw."""
        return self.n_outdated == 0


def open_swapped(crops: CropSet) -> SwappedTwin | None:
    """Return the swapped twin of a crop set; None if it has no draw.

    Raises:
        CacheCorruptError: a draw's rows or its config.json cannot be read.
        CacheMismatchError: a draw belongs to another crop set.
    """
    draws = list_draws(crops)
    if not draws:
        return None
    current = crops.manifest.read().filter(
        (pl.col("split") == SPLIT) & pl.col("crop_hash").is_not_null()
    )
    wanted = current.select("key", *SAME)
    tables = [
        draw.manifest.read().join(wanted, on=["key", *SAME], nulls_equal=True, how="semi")
        for draw in draws
    ]
    fresh = set.intersection(*(set(table["key"]) for table in tables))
    made = [table.filter(pl.col("crop_hash").is_not_null()) for table in tables]
    usable = frozenset(set.intersection(*(set(table["key"]) for table in made)))
    left_out = _first_reasons(tables, fresh - usable)
    statuses = dict(zip(current["key"], current["status"], strict=True))
    return SwappedTwin(
        crops,
        tuple(draws),
        usable,
        left_out=dict(Counter(left_out.values()).most_common()),
        left_out_statuses=dict(Counter(statuses[key] for key in left_out).most_common()),
        n_outdated=current.height - len(fresh),
        fingerprint=fingerprint(
            [
                draw_fingerprint(draw, table.filter(pl.col("key").is_in(list(usable))))
                for draw, table in zip(draws, made, strict=True)
            ]
        ),
    )


def list_draws(crops: CropSet) -> list[CropSet]:
    """Return the draws of a crop set in order: 0, 1 and so on, up to the first that is missing.

    Raises:
        CacheCorruptError: a config.json cannot be read.
        CacheMismatchError: a draw belongs to another crop set.
    """
    draws: list[CropSet] = []
    while (_folder(crops, len(draws)) / "config.json").is_file():
        folder = _folder(crops, len(draws))
        config = read_crop_config(folder)
        own = {name: value for name, value in config.items() if name != SWAPPED}
        if canonical_json(own) != canonical_json(crops.config):
            raise CacheMismatchError(
                f"{folder} is no twin of the crops in {crops.folder}, see its config.json: delete "
                "that folder and run cropfirst detect DATA --swap-rooms"
            )
        draws.append(CropSet(_name(crops, len(draws)), folder, config))
    return draws


def count_draws(crops: CropSet) -> int:
    """Return the number of draws of a crop set that have a folder, finished or not."""
    count = 0
    while _folder(crops, count).is_dir():
        count += 1
    return count


def draw_settings(crops: CropSet, n: int) -> dict[str, Any] | None:
    """Return the settings that `swapped_draw` made draw `n` with; None if it does not say."""
    try:
        found = read_crop_config(_folder(crops, n))[SWAPPED]
    except (CacheCorruptError, KeyError):
        return None
    return {name: value for name, value in found.items() if name != "draw"}


def draw_fingerprint(draw: CropSet, rows: pl.DataFrame) -> str:
    """Return a hash of some crops of a draw, and of all that decides how they are made.

    Args:
        rows: their rows, in any order.
    """
    crops = rows.select("key", "crop_hash").sort("key").rows()
    return fingerprint([draw.fingerprint, crops])


def swapped_draw(crops: CropSet, n: int, settings: Mapping[str, Any]) -> CropSet:
    """Return draw `n` of a crop set, and create it if there is none.

    Args:
        settings: all that decides the draw beside the crop set's config, JSON-able.

    Raises:
        CacheMismatchError: the draw there was made with other settings.
    """
    config = {**crops.config, SWAPPED: {"draw": n, **settings}}
    folder = _folder(crops, n)
    write_crop_config(folder, config)
    return CropSet(_name(crops, n), folder, json.loads(canonical_json(config)))


def remove_draws(crops: CropSet) -> None:
    """Remove all draws of a crop set; hold the cache's lock.

    Raises:
        CacheError: the disk refuses.
    """
    folder = crops.folder / SWAPPED
    try:
        # Rows first: after a kill here none is left that promises a crop.
        for rows in folder.rglob("*.parquet"):
            rows.unlink()
        shutil.rmtree(folder)
    except OSError as error:
        raise CacheError(f"cannot remove {folder}: {error.strerror}") from error


def _folder(crops: CropSet, n: int) -> Path:
    return crops.folder / SWAPPED / str(n)


def _name(crops: CropSet, n: int) -> str:
    return f"{crops.name}/{SWAPPED}/{n}"


def _first_reasons(tables: list[pl.DataFrame], keys: set[str]) -> dict[str, str]:
    """Return key -> reason without its detail, which a colon begins, of the first draw with one."""
    reasons: dict[str, str] = {}
    for table in tables:
        rows = table.filter(pl.col("crop_hash").is_null()).select("key", "error")
        for key, error in rows.iter_rows():
            if key in keys:
                reasons.setdefault(key, (error or "no reason given").partition(": ")[0])
    return reasons
