"""Which checkpoints of a fold are kept: the best by each score, and the last.

Knows scores and folders; knows nothing of crops or optimisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from cropfirst.stage2_classify.model.models import Classifier
from cropfirst.stage2_classify.runs.checkpoint import save_checkpoint
from cropfirst.stage2_classify.runs.parquet import write_parquet

SCORES = {"f1": 1.0, "accuracy": 1.0, "loss": -1.0}
"""Score of the validation part -> 1 if higher is better, -1 if lower is."""


class CheckpointSaver:
    """Saves the last checkpoint of a fold, and the best by macro F1, accuracy and loss.

    Attributes:
        best: score -> {"epoch", "value"} of its best epoch so far, JSON-able.
    """

    def __init__(
        self,
        folder: Path,
        best: Mapping[str, Mapping[str, float]] | None = None,
        *,
        writes: bool = True,
    ) -> None:
        """Save checkpoints in `folder`.

        Args:
            best: the best scores of a run that is resumed.
            writes: False only keeps the scores, because another process saves.
        """
        self.folder = folder
        self.writes = writes
        self.best: dict[str, dict[str, Any]] = {k: dict(v) for k, v in (best or {}).items()}

    def save(
        self,
        epoch: int,
        scores: Mapping[str, float],
        *,
        model: Classifier,
        meta: Mapping[str, Any],
        oof: pl.DataFrame | None = None,
    ) -> bool:
        """Save an epoch's model as the last one, and as the best by each score that it improves.

        Args:
            scores: f1, accuracy and loss of the validation part; empty if nobody is held out.
            oof: the epoch's predictions of the validation part, saved with the best F1.

        Returns:
            Whether the epoch has the best F1.
        """
        if self.writes:
            save_checkpoint(self.folder / "last", model, meta)
        improved = [
            name for name in SCORES if name in scores and self._improves(name, scores[name])
        ]
        for name in improved:
            self.best[name] = {"epoch": epoch, "value": scores[name]}
            if not self.writes:
                continue
            if name == "f1" and oof is not None:
                write_parquet(self.folder / "oof.parquet", oof)
            save_checkpoint(self.folder / f"best_{name}", model, meta)
        return "f1" in improved

    def epochs_without_best(self, name: str, epoch: int) -> int:
        """Return how many epochs ago a score was last improved."""
        return epoch - int(self.best[name]["epoch"]) if name in self.best else 0

    def _improves(self, name: str, value: float) -> bool:
        if name not in self.best:
            return True
        return SCORES[name] * value > SCORES[name] * float(self.best[name]["value"])
