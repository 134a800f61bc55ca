"""Which epochs' checkpoints a fold keeps: the best by each score, and the last.

Knows numbers and folders; knows nothing of crops or steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from cropfirst.stage2_classify.model.models import Classifier
from cropfirst.stage2_classify.runs.checkpoint import save_checkpoint
from cropfirst.stage2_classify.runs.tables import write_parquet

SCORES = {"f1": 1.0, "accuracy": 1.0, "loss": -1.0}
"""Of the validation part -> whether higher is better."""


class Keeper:
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
        """Keep in `folder`.

        Args:
            best: what a killed run had come to.
            writes: False keeps count alone, where another process saves.
        """
        self.folder = folder
        self.writes = writes
        self.best: dict[str, dict[str, Any]] = {k: dict(v) for k, v in (best or {}).items()}

    def keep(
        self,
        epoch: int,
        scores: Mapping[str, float],
        *,
        model: Classifier,
        meta: Mapping[str, Any],
        oof: pl.DataFrame | None = None,
    ) -> bool:
        """Save what an epoch came to.

        Args:
            scores: f1, accuracy and loss of the validation part; empty where there is none.
            oof: its predictions, which are kept for the best F1.

        Returns:
            Whether it is the best by F1.
        """
        if self.writes:
            save_checkpoint(self.folder / "last", model, meta)
        better = [name for name in SCORES if name in scores and self._improves(name, scores[name])]
        for name in better:
            self.best[name] = {"epoch": epoch, "value": scores[name]}
            if not self.writes:
                continue
            if name == "f1" and oof is not None:
                write_parquet(self.folder / "oof.parquet", oof)
            save_checkpoint(self.folder / f"best_{name}", model, meta)
        return "f1" in better

    def epochs_without(self, name: str, epoch: int) -> int:
        """How many epochs ago a score was last improved."""
        return epoch - int(self.best[name]["epoch"]) if name in self.best else 0

    def _improves(self, name: str, value: float) -> bool:
        if name not in self.best:
            return True
        return SCORES[name] * value > SCORES[name] * float(self.best[name]["value"])
