"""The study behind a search: an SQLite file of numbers, text and JSON, which several may share.

Knows what the trials are made from and which of them are over, alive or dead; trains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cropfirst.cache import CropSet
from cropfirst.configs import load_config
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.datasets.sample import PhotoSet
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.runs.run_folder import CHANGEABLE, write_lock
from cropfirst.stage2_classify.sweep.plan import as_overrides, folder_name
from cropfirst.stage2_classify.sweep.tune_space import Dimension


@dataclass(frozen=True)
class Search:
    """What all trials of a study share."""

    base: TrainConfig
    space: tuple[Dimension, ...]
    photos: PhotoSet
    schema: LabelSchema
    crops: CropSet
    out_dir: Path

    def configure(self, params: Mapping[str, Any]) -> TrainConfig:
        """The base with some settings changed.

        Raises:
            ConfigError: not a setting, or not a value of it.
        """
        base = self.base.model_dump(mode="json")
        config = load_config(TrainConfig, values=base, overrides=as_overrides(params))
        return config.model_copy(update={"name": folder_name("+".join(config.tasks))})


def open_study(search: Search) -> Any:
    """Begin the study, or check that the one there is of the same making.

    Raises:
        TrainError: it was begun with other settings.
    """
    from optuna import create_study, pruners, storages

    file = search.out_dir / "study.db"
    # Several processes may write: wait for each other's locks.
    storage = storages.RDBStorage(
        f"sqlite:///{file.resolve()}", engine_kwargs={"connect_args": {"timeout": 60}}
    )
    warmup = math.ceil(search.base.optim.warmup_epochs)
    study = create_study(
        study_name="tune",
        storage=storage,
        direction="maximize",
        pruner=pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=warmup),
        load_if_exists=True,
    )
    about = _describe(search)
    stored = study.user_attrs.get("about")
    if stored is None:
        study.set_user_attr("about", about)
        if (own := _own_params(search)) is not None:
            study.enqueue_trial(own)  # what is to be beaten
    elif stored != about:
        changed = ", ".join(key for key in about if stored.get(key) != about[key])
        raise TrainError(
            f"{file} was begun with other settings ({changed}): search under another --name, or "
            f"delete {search.out_dir}"
        )
    return study


def _describe(search: Search) -> dict[str, Any]:
    """What must not change within a study, as JSON."""
    settings = search.base.model_dump(mode="json")
    for key in CHANGEABLE:
        settings = _without(settings, key.split("."))
    return {
        **settings,
        "folds.fold": search.base.folds.fold,
        "space": [f"{each.key}={each.kind}:{list(each.values)}" for each in search.space],
        "crops": search.crops.fingerprint,
        "schema": search.schema.to_dict(),
        "photos": len(search.photos.by_split("train")),
    }


def _without(data: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    head, *rest = keys
    if not rest:
        return {key: value for key, value in data.items() if key != head}
    inside = data.get(head)
    return {**data, head: _without(inside, rest)} if isinstance(inside, dict) else data


def _own_params(search: Search) -> dict[str, Any] | None:
    """The base's own values, where all of them lie in the space."""
    own: dict[str, Any] = {}
    for each in search.space:
        value: Any = search.base.model_dump(mode="json")
        for part in each.key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        inside = number and each.kind != "choice" and each.values[0] <= value <= each.values[1]
        if not inside and not (each.kind == "choice" and value in each.values):
            return None
        own[each.key] = value
    return own


def take_up_dead(study: Any, out_dir: Path) -> None:
    """Queue again, in their own folders, trials whose process is gone."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        folder = trial.user_attrs.get("folder")
        if folder is None:  # died before it began
            study.tell(trial.number, state=TrialState.FAIL)
            continue
        try:
            with write_lock(out_dir / "trials" / folder):
                study.tell(trial.number, state=TrialState.FAIL)
        except TrainError:  # at work
            continue
        study.enqueue_trial(trial.params, user_attrs={"folder": folder, "again": trial.number})


def ended_trials(study: Any) -> list[Any]:
    """Trials that came to an end by themselves: a killed one is done by the one that took it up."""
    from optuna.trial import TrialState

    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    found = study.get_trials(deepcopy=False, states=states)
    return [
        trial
        for trial in found
        if trial.state is not TrialState.FAIL or "reason" in trial.user_attrs
    ]
