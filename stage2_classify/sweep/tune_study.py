"""The Optuna study of tune: an SQLite file of numbers, text and JSON, shared by its processes.

Knows what the trials have in common and which of them have ended; trains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cropfirst.cache import CropSet
from cropfirst.cache.swapped import open_swapped
from cropfirst.configs import load_config
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.datasets.sample import PhotoSet
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.runs.run_folder import CHANGEABLE, run_lock
from cropfirst.stage2_classify.sweep.plan import as_overrides, folder_name
from cropfirst.stage2_classify.sweep.tune_space import Dimension


@dataclass(frozen=True)
class TuneSetup:
    """The settings and data that all trials of a study share."""

    base: TrainConfig
    """Settings that the trials start from."""
    space: tuple[Dimension, ...]
    photos: PhotoSet
    schema: LabelSchema
    crops: CropSet
    out_dir: Path
    """Folder of the study and its trials."""

    def configure(self, params: Mapping[str, Any]) -> TrainConfig:
        """Return the base with some settings changed.

        Raises:
            ConfigError: an unknown setting, or an invalid value.
        """
        base = self.base.model_dump(mode="json")
        config = load_config(TrainConfig, values=base, overrides=as_overrides(params))
        return config.model_copy(update={"name": folder_name("+".join(config.tasks))})


def open_study(setup: TuneSetup) -> Any:
    """Create the study, or open it if it was created with the same settings.

    Raises:
        TrainError: it was created with other settings.
    """
    from optuna import create_study, pruners, storages

    file = setup.out_dir / "study.db"
    # Several processes may write, and wait for each other's locks.
    storage = storages.RDBStorage(
        f"sqlite:///{file.resolve()}", engine_kwargs={"connect_args": {"timeout": 60}}
    )
    warmup = math.ceil(setup.base.optim.warmup_epochs)
    study = create_study(
        study_name="tune",
        storage=storage,
        direction="maximize",
        pruner=pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=warmup),
        load_if_exists=True,
    )
    about = _describe(setup)
    stored = study.user_attrs.get("about")
    if stored is None:
        study.set_user_attr("about", about)
        if (own := _own_params(setup)) is not None:
            study.enqueue_trial(own)  # the trials should beat it
    elif stored != about:
        keys = dict.fromkeys([*stored, *about])
        changed = ", ".join(key for key in keys if stored.get(key) != about.get(key))
        raise TrainError(
            f"{file} was created with other settings ({changed}): use another --name, or "
            f"delete {setup.out_dir}"
        )
    return study


def _describe(setup: TuneSetup) -> dict[str, Any]:
    """Return what must not change within a study, as JSON types."""
    settings = setup.base.model_dump(mode="json")
    for key in CHANGEABLE:
        settings = _without(settings, key.split("."))
    twin = open_swapped(setup.crops)
    return {
        **({} if twin is None else {"swapped crops": twin.fingerprint}),
        **settings,
        "folds.fold": setup.base.folds.fold,
        "space": [f"{each.key}={each.kind}:{list(each.values)}" for each in setup.space],
        "crops": setup.crops.fingerprint,
        "schema": setup.schema.to_dict(),
        "photos": len(setup.photos.by_split("train")),
    }


def _without(data: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    head, *rest = keys
    if not rest:
        return {key: value for key, value in data.items() if key != head}
    inside = data.get(head)
    return {**data, head: _without(inside, rest)} if isinstance(inside, dict) else data


def _own_params(setup: TuneSetup) -> dict[str, Any] | None:
    """Return the base's own values of the space; None where one is outside of it."""
    own: dict[str, Any] = {}
    for each in setup.space:
        value: Any = setup.base.model_dump(mode="json")
        for part in each.key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        inside = number and each.kind != "choice" and each.values[0] <= value <= each.values[1]
        if not inside and not (each.kind == "choice" and value in each.values):
            return None
        own[each.key] = value
    return own


def requeue_dead(study: Any, out_dir: Path) -> None:
    """Queue trials again whose process has died, in their own folders."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        folder = trial.user_attrs.get("folder")
        if folder is None:  # it died before it started
            study.tell(trial.number, state=TrialState.FAIL)
            continue
        try:
            with run_lock(out_dir / "trials" / folder):
                study.tell(trial.number, state=TrialState.FAIL)
        except TrainError:  # its process is alive
            continue
        study.enqueue_trial(trial.params, user_attrs={"folder": folder, "again": trial.number})


def ended_trials(study: Any) -> list[Any]:
    """Return the trials that ended; a killed one counts by the trial that continued it."""
    from optuna.trial import TrialState

    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    found = study.get_trials(deepcopy=False, states=states)
    return [
        trial
        for trial in found
        if trial.state is not TrialState.FAIL or "reason" in trial.user_attrs
    ]
