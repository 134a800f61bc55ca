"""Repeats out-of-fold predictions with other checkpoints or with test-time augmentation.

Each photo is predicted by the fold that was not trained on its person. Results are kept in a folder
named by the hashes of all that they depend on, and reused. Opens crops, no photo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from rich.console import Console

from cropfirst.cache import Cache, CropSet
from cropfirst.cache.swapped import open_swapped
from cropfirst.core.errors import CacheMissingError, TrainError
from cropfirst.core.fingerprint import fingerprint
from cropfirst.stage2_classify.data.swapped_rows import SCORING_DRAW
from cropfirst.stage2_classify.predict.members import Probs, predict_members
from cropfirst.stage2_classify.runs.checkpoint import read_meta
from cropfirst.stage2_classify.runs.crop_sets import find_crop_sets
from cropfirst.stage2_classify.runs.oof_predictions import OofPredictions
from cropfirst.stage2_classify.runs.parquet import read_parquet, write_parquet
from cropfirst.stage2_classify.runs.swapped_scores import SWAPPED_FILE


def repredict_oof(
    oof: OofPredictions,
    cache: Cache,
    *,
    out_dir: Path,
    checkpoint: str = "best_f1",
    tta: Sequence[str] = (),
    swapped: bool = False,
    device: torch.device,
    batch_size: int = 64,
    console: Console | None = None,
) -> OofPredictions:
    """Return a run's out-of-fold predictions by another checkpoint, or with augmentation.

    Args:
        oof: predictions of a run, not of a single fold.
        out_dir: folder that results are kept in.
        swapped: predict the swapped crops instead; `oof` are predictions of those.
        tta: kinds of test-time augmentation, see `tta.TTA_KINDS`.

    Raises:
        TrainError: a fold's checkpoint is missing.
        CacheMissingError: the crops are no longer in the cache.
    """
    assert oof.path is not None
    table = read_parquet(oof.path / (SWAPPED_FILE if swapped else "oof.parquet"))
    table = table.select("key", "fold")
    folds = sorted(table["fold"].unique().to_list())
    folders = [oof.path / f"fold{fold}" / checkpoint for fold in folds]
    metas = [read_meta(folder) for folder in folders]
    crop_sets = find_crop_sets(metas, cache, defaults=None)
    if swapped:
        crop_sets = {name: _scoring_draw(crops) for name, crops in crop_sets.items()}
    kept = out_dir / _name(metas, crop_sets, tta) / "oof.parquet"
    if kept.is_file():
        return _read(oof, read_parquet(kept))
    keys = [table.filter(pl.col("fold") == fold)["key"].to_list() for fold in folds]
    found = predict_members(
        folders,
        crop_sets,
        keys,
        device=device,
        batch_size=batch_size,
        tta=tta,
        console=console or Console(quiet=True),
    )
    parts = list(found)
    columns: dict[str, Any] = {"key": [key for photos in keys for key in photos]}
    for task in parts[0]:
        rows = np.concatenate([part[task] for part in parts]).tolist()
        columns[f"{task}_probs"] = pl.Series(rows, dtype=pl.List(pl.Float32))
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_parquet(kept, pl.DataFrame(columns))
    return _read(oof, pl.DataFrame(columns))


def _scoring_draw(crops: CropSet) -> CropSet:
    twin = open_swapped(crops)
    if twin is None:
        raise CacheMissingError(
            f"{crops.folder} has no swapped crops: run cropfirst detect DATA --swap-rooms"
        )
    return twin.draws[SCORING_DRAW]


def _name(
    metas: Sequence[Mapping[str, Any]], crop_sets: Mapping[str, CropSet], tta: Sequence[str]
) -> str:
    hashes = [meta["weights_hash"] for meta in metas]
    crops = [crop_sets[meta["crop_set"]["fingerprint"]].fingerprint for meta in metas]
    return fingerprint({"weights": hashes, "crops": crops, "views": list(tta)})


def _read(oof: OofPredictions, table: pl.DataFrame) -> OofPredictions:
    """Return the run's predictions with the probabilities of a table."""
    place = {key: row for row, key in enumerate(table["key"].to_list())}
    missing = [key for key in oof.keys if key not in place]
    if missing:
        raise TrainError(f"{oof.path} has no fold that predicts {missing[0]}: train again")
    rows = [place[key] for key in oof.keys]
    probs: dict[str, Probs] = {}
    for task, own in oof.probs.items():
        column = table[f"{task}_probs"].list.to_array(own.shape[1]).to_numpy()
        probs[task] = np.asarray(column, np.float32).reshape(len(place), -1)[rows]
    return replace(oof, probs=probs)
