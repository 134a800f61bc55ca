"""The checkpoints of a fold that are kept: the best by each score, and the last.

Knows scores and folders; knows nothing of crops or optimisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from cropfirst.core.errors import TrainError
from cropfirst.core.fingerprint import content_hash
from cropfirst.stage2_classify.model.models import Classifier
from cropfirst.stage2_classify.runs.checkpoint import WEIGHTS_FILE, read_meta, save_checkpoint
from cropfirst.stage2_classify.runs.parquet import write_parquet

SCORES = {"f1": 1.0, "accuracy": 1.0, "loss": -1.0}
"""Score of the validation part -> 1 if higher is better, -1 if lower is."""


class CheckpointSaver:
    """Saves the last checkpoint of a fold, and the best by macro F1, accuracy and loss.

    Which epochs are the best is part of the saved state, which is written before the checkpoints
    and can write them again.

    Attributes:
        best: score -> {"epoch", "value"} of its best epoch so far, JSON-able.
    """

    def __init__(self, folder: Path, best: Mapping[str, Mapping[str, float]] | None = None) -> None:
        """Save checkpoints in `folder`.

        Args:
            best: the best scores of a run that is resumed.
        """
        self.folder = folder
        self.best: dict[str, dict[str, Any]] = {k: dict(v) for k, v in (best or {}).items()}

    def update(self, epoch: int, scores: Mapping[str, float]) -> bool:
        """Note the scores that an epoch improves.

        Args:
            scores: f1, accuracy and loss of the validation part, in the rooms that the run is
                chosen by; empty if nobody is held out.

        Returns:
            Whether the epoch has the best F1.
        """
        for name in SCORES:
            if name in scores and self._improves(name, scores[name]):
                self.best[name] = {"epoch": epoch, "value": scores[name]}
        return self._is_best("f1", epoch)

    def save(
        self,
        epoch: int,
        *,
        model: Classifier,
        meta: Mapping[str, Any],
        oof: Mapping[str, pl.DataFrame] | None = None,
        missing_only: bool = False,
    ) -> None:
        """Write an epoch's model as the last checkpoint, and as those that it is the best of.

        Args:
            oof: file name -> the epoch's predictions of the validation part, saved with the best
                F1.
            missing_only: leave complete checkpoints of this epoch as they are.
        """
        best = [name for name in SCORES if self._is_best(name, epoch)]
        for folder in ("last", *(f"best_{name}" for name in best)):
            if missing_only and _is_of_epoch(self.folder / folder, epoch):
                continue
            if folder == "best_f1":
                for name, table in (oof or {}).items():
                    write_parquet(self.folder / name, table)
            save_checkpoint(self.folder / folder, model, meta)

    def drop_stale(self) -> None:
        """Forget best epochs that have no checkpoint on disk, so that a later one replaces them.

        Earlier versions wrote checkpoints before the state: killed between the two, they left
        checkpoints of an epoch that the state does not know.
        """
        for name, best in list(self.best.items()):
            if not _is_of_epoch(self.folder / f"best_{name}", best["epoch"]):
                del self.best[name]

    def epochs_without_best(self, name: str, epoch: int) -> int:
        """Return how many epochs ago a score was last improved."""
        return epoch - int(self.best[name]["epoch"]) if name in self.best else 0

    def _improves(self, name: str, value: float) -> bool:
        if name not in self.best:
            return True
        return SCORES[name] * value > SCORES[name] * float(self.best[name]["value"])

    def _is_best(self, name: str, epoch: int) -> bool:
        return name in self.best and self.best[name]["epoch"] == epoch


def _is_of_epoch(folder: Path, epoch: int) -> bool:
    """Tell whether a folder has a complete checkpoint of an epoch."""
    try:
        meta = read_meta(folder)
        raw = (folder / WEIGHTS_FILE).read_bytes()
    except (TrainError, OSError):
        return False
    return meta.get("epoch") == epoch and content_hash(raw) == meta.get("weights_hash")
