"""Copies of one photo that are in different folds.

Knows the hashes of crops and the folds of photos; opens no crop. Photos that look nearly the same
are found by `eda`, which reads them.
"""

from __future__ import annotations

import polars as pl

from cropfirst.cache import CropSet
from cropfirst.stage2_classify.data.training_set import TrainingSet


def find_copies_across_folds(training: TrainingSet, crops: CropSet) -> list[tuple[str, ...]]:
    """Return the keys of photos that have the same crop, where they are in more than one fold."""
    hashes = crops.manifest.read().select("key", "crop_hash").drop_nulls().unique("key")
    copies = (
        training.table.select("key", "fold")
        .join(hashes, on="key")
        .group_by("crop_hash")
        .agg(pl.col("key").sort(), pl.col("fold").n_unique().alias("folds"))
        .filter(pl.col("folds") > 1)
    )
    return sorted(tuple(keys) for keys in copies["key"])
