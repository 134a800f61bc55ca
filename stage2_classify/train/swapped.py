"""Scoring, choosing and training in swapped rooms: what a run can have, and why not.

Knows the twin of a crop set, labels and settings; opens no crop.
"""

from __future__ import annotations

import numpy as np

from cropfirst.cache import CropSet
from cropfirst.cache.swapped import SwappedTwin, open_swapped
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.data.training_set import TrainingSet
from cropfirst.stage2_classify.runs.swapped_scores import UNCHECKED

LEAST_SHARE = 0.5
"""Share of the photos that must have a swapped crop for a score in swapped rooms."""
MAKE_TWIN = "run cropfirst detect DATA --swap-rooms, then this command again"


def find_twin(crops: CropSet, training: TrainingSet) -> tuple[SwappedTwin | None, str]:
    """Return the swapped twin of a crop set if models can be scored on it, else None and why.

    A twin that lacks most photos, a class or a fold would give another score than it seems to.
    """
    twin = open_swapped(crops)
    if twin is None:
        return None, f"{UNCHECKED}: {MAKE_TWIN}"
    if not twin.is_finished:
        missing = f"{twin.n_outdated} swapped crops are missing or outdated"
        return None, f"{UNCHECKED}: {missing}: {MAKE_TWIN}"
    has_twin = np.array([key in twin.usable for key in training.table["key"]])
    counted = f"{int(has_twin.sum())} of {len(training)} photos"
    if has_twin.mean() < LEAST_SHARE:
        reasons = "".join(f"; {count}: {reason}" for reason, count in twin.left_out.items())
        return None, f"{UNCHECKED}: only {counted} have a swapped crop{reasons}"
    for task, codes in zip(training.tasks, training.targets.T, strict=True):
        lost = np.setdiff1d(codes, codes[has_twin])
        if len(lost):
            name = training.class_names[task][int(lost[0])]
            return None, f"{UNCHECKED}: no photo of {task} {name} has a swapped crop"
    folds = training.table["fold"].to_numpy()
    lost = np.setdiff1d(folds, folds[has_twin])
    if len(lost):
        return None, f"{UNCHECKED}: no photo of fold {lost[0]} has a swapped crop"
    return twin, ""


def settle_swapping(
    config: TrainConfig,
    twin: SwappedTwin | None,
    reason: str,
    *,
    stored: TrainConfig | None,
) -> TrainConfig:
    """Return the config with the score to choose by, and the number of draws to train on.

    Args:
        reason: why there is no twin.
        stored: the config of the run if some of its epochs are finished, whose choice stays.

    Raises:
        TrainError: the swapped crops that the settings need are missing.
    """
    choose_by = config.choose_by
    if choose_by == "auto":
        own = "auto" if stored is None else stored.choose_by
        # Earlier versions chose by out-of-fold predictions, and stored nothing.
        choose_by = own if own != "auto" else "oof" if stored or twin is None else "swapped"
    if choose_by == "swapped" and twin is None:
        raise TrainError(f"choose_by=swapped, but the run is {reason}; or take --choose-by oof")
    data = config.data
    if data.swap_rooms:
        data = data.model_copy(update={"swap_draws": _training_draws(config, twin, reason, stored)})
    return config.model_copy(update={"choose_by": choose_by, "data": data})


def _training_draws(
    config: TrainConfig, twin: SwappedTwin | None, reason: str, stored: TrainConfig | None
) -> int:
    """Return the number of draws to train on: as set, as stored, or all but the scored one."""
    wanted = config.data.swap_draws
    if wanted is None and stored is not None:
        wanted = stored.data.swap_draws
    found = 0 if twin is None else len(twin.draws) - 1
    if found < (wanted or 1):
        n_draws = 1 + (wanted or 3)
        why = f"there are {found}" if twin is not None else f"there are none ({reason})"
        raise TrainError(
            f"data.swap_rooms={config.data.swap_rooms:g} trains on {wanted or 'some'} draws of "
            f"swapped crops besides the one that models are scored on, and {why}: run cropfirst "
            f"detect DATA --swap-rooms --set swap.draws={n_draws}, then this command again"
        )
    return wanted or found
