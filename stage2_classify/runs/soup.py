"""Checkpoint soups: networks whose weights are the mean of several checkpoints.

Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models", ICML 2022; for
checkpoints of one training: Izmailov et al., "Averaging Weights Leads to Wider Optima", UAI 2018.
Reads and writes checkpoints; knows nothing of crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.runs.checkpoint import (
    load_checkpoint,
    model_state,
    read_meta,
    save_checkpoint,
)
from cropfirst.stage2_classify.runs.run_paths import META_FILE

INGREDIENTS = ("best_f1", "best_accuracy", "best_loss", "last")
SOUP = "soup"
"""Name of the checkpoint that is a fold's soup, for predict --checkpoint."""


def soup_of_fold(fold: Path) -> Path:
    """Average the different checkpoints of a finished fold into its `soup`, unless it exists.

    Raises:
        TrainError: a checkpoint is missing or damaged.
    """
    folders = {read_meta(fold / name)["weights_hash"]: fold / name for name in INGREDIENTS
               if (fold / name / META_FILE).is_file()}  # fmt: skip
    return _average(fold / SOUP, list(folders.values()))


def soup_of_run(folds: Sequence[Path], out: Path, *, checkpoint: str = "best_f1") -> Path:
    """Average one checkpoint of each fold.

    Every person was trained on by all folds but one, so it has no out-of-fold score.

    Raises:
        TrainError: a checkpoint is missing or damaged, or the networks differ.
    """
    return _average(out, [fold / checkpoint for fold in folds])


def mean_state(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the means of tensors; of integers, such as numbers of batches, the last ones."""
    return {
        key: torch.stack([state[key].double() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for key, value in states[-1].items()
    }


def _average(out: Path, folders: Sequence[Path]) -> Path:
    if not folders:
        raise TrainError(f"{out.parent} has no checkpoint to average: run cropfirst train first")
    hashes = [read_meta(folder)["weights_hash"] for folder in folders]
    if (out / META_FILE).is_file() and read_meta(out).get("soup_of") == hashes:
        return out
    models, metas = zip(*(load_checkpoint(folder, "cpu") for folder in folders), strict=True)
    states = [model_state(model) for model in models]
    for folder, state in zip(folders, states, strict=True):
        shapes = [{key: value.shape for key, value in each.items()} for each in (state, states[0])]
        if shapes[0] != shapes[1]:
            raise TrainError(f"{folder} and {folders[0]} are different networks: no soup of them")
    models[0].load_state_dict(mean_state(states))
    epochs = [meta.get("epoch") for meta in metas]
    about = {"soup_of": hashes, "soup_epochs": epochs, "metrics": {}}
    save_checkpoint(out, models[0], {**metas[0], **about})
    return out
