"""The tune command: searches settings with Optuna's TPE sampler and median pruner.

A trial is a complete run, scored as sweep scores a line. A killed search continues with its open
trial where that stopped. Several processes may work on one study; a trial's lock shows whether its
process is alive.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cropfirst.configs import ConfigError
from cropfirst.core.console import say
from cropfirst.core.errors import CropfirstError, TrainError
from cropfirst.core.files import write_atomic
from cropfirst.stage2_classify.runs.choice import SCORE_NAMES
from cropfirst.stage2_classify.runs.json_files import read_json
from cropfirst.stage2_classify.runs.run_folder import RunFolder, run_lock
from cropfirst.stage2_classify.sweep.scores import kind_of_scores, read_line, shared_tasks
from cropfirst.stage2_classify.sweep.tune_space import distributions
from cropfirst.stage2_classify.sweep.tune_study import (
    TuneSetup,
    ended_trials,
    open_study,
    requeue_dead,
)
from cropfirst.stage2_classify.train.prepare import prepare_run
from cropfirst.stage2_classify.train.train import train

FOLD_STEPS = 10_000
"""Distance of the folds in a trial's steps: an epoch is compared with that of the same fold."""
MAX_FAILURES = 5
"""Number of failed trials in a row that ends the search."""


class _PrunedError(Exception):
    """The trial scores below the median of the others at the same epoch."""


@dataclass(frozen=True)
class TuneResult:
    """The best trial of a search."""

    recipe: Path
    """Path of best.yaml, for `train --config`."""
    value: float
    """Macro F1 of the best trial."""
    score_name: str
    """Kind of that macro F1: in swapped rooms, or out of fold."""
    number: int
    """Number of the best trial."""
    params: Mapping[str, Any]
    states: Mapping[str, int]
    """complete, pruned or failed -> number of trials of the study."""


def tune(
    setup: TuneSetup, *, n_trials: int, seed: int = 0, console: Console | None = None
) -> TuneResult:
    """Run trials until the study has `n_trials`, including those of earlier calls.

    Raises:
        TrainError: the study was created with other settings, or several trials in a row failed.
        ConfigError: a range with values that train refuses.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    console = console or Console(quiet=True)
    _check_space(setup)
    setup.out_dir.mkdir(parents=True, exist_ok=True)
    with run_lock(setup.out_dir, wait=True):
        study = open_study(setup)
        requeue_dead(study, setup.out_dir)
    say(console, f"{len(ended_trials(study))} of {n_trials} trials have ended already")
    in_a_row = 0
    with _progress(console) as progress:
        bar = progress.add_task("trials", total=n_trials, completed=len(ended_trials(study)))
        while len(ended_trials(study)) < n_trials:
            failure = _run_trial(study, setup, seed=seed, progress=progress)
            progress.update(bar, completed=len(ended_trials(study)))
            in_a_row = in_a_row + 1 if failure else 0
            if failure and in_a_row >= MAX_FAILURES:
                raise TrainError(f"{in_a_row} trials in a row failed, the last one: {failure}")
    return _finish(study, setup)


def _check_space(setup: TuneSetup) -> None:
    """Check every bound of every dimension before any training."""
    for dimension in setup.space:
        for value in dimension.bounds():
            try:
                setup.configure({dimension.key: value})
            except ConfigError as error:
                raise ConfigError(f"--space {dimension.key}: {error}") from error
    first = {each.key: each.bounds()[0] for each in setup.space}
    config = setup.configure(first)
    if config.task != setup.base.task or config.folds != setup.base.folds:
        raise ConfigError(
            "--space: task and folds must be the same for all trials, so that scores compare"
        )


def _run_trial(study: Any, setup: TuneSetup, *, seed: int, progress: Progress) -> str | None:
    """Run one trial; return the reason where it failed."""
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    started = time.perf_counter()
    with ExitStack() as held:
        with run_lock(setup.out_dir, wait=True):  # until its own lock, the trial looks dead
            words = np.random.SeedSequence((seed, len(study.get_trials(deepcopy=False))))
            study.sampler = TPESampler(seed=int(words.generate_state(1)[0]))
            trial = study.ask(dict(distributions(setup.space)))
            name = trial.user_attrs.get("folder", f"{trial.number:04d}")
            trial.set_user_attr("folder", name)
            folder = setup.out_dir / "trials" / name
            held.enter_context(run_lock(folder))
        try:
            value = _train_trial(trial, setup, folder, progress)
        except _PrunedError:
            _drop_weights(folder)
            study.tell(trial, state=TrialState.PRUNED)
            _say_trial(progress, trial, "pruned", started)
            return None
        except CropfirstError as error:
            trial.set_user_attr("reason", str(error))
            _drop_weights(folder)
            study.tell(trial, state=TrialState.FAIL)
            _say_trial(progress, trial, f"failed: {error}", started)
            return str(error)
        trial.set_user_attr("seconds", round(time.perf_counter() - started, 1))
        study.tell(trial, value)
        _keep_best_weights(study, setup.out_dir)
        _write_recipe(study, setup)
        _say_trial(progress, trial, f"macro F1 {value:.4f}", started)
    return None


def _train_trial(trial: Any, setup: TuneSetup, folder: Path, progress: Progress) -> float:
    config = setup.configure(trial.params)
    folds = config.folds.model_copy(
        update={"all_data": False}
    )  # without held-out people there is no score
    config = config.model_copy(update={"folds": folds})
    prepared = prepare_run(setup.photos, setup.schema, setup.crops, config, runs_dir=folder)
    column = "swapped_f1" if prepared.config.choose_by == "swapped" else "val_f1"
    run = RunFolder(folder / str(config.name))
    best: dict[int, float] = {
        fold: float(read_json(run.fold(fold) / "metrics.json")["best"]["f1"]["value"])
        for fold in run.finished_folds()
    }

    def report(fold: int, row: Mapping[str, float]) -> None:
        best[fold] = max(best.get(fold, 0.0), row[column])
        trial.report(float(np.mean(list(best.values()))), fold * FOLD_STEPS + int(row["epoch"]))
        text = f"trial {trial.number} fold {fold} epoch {row['epoch']:.0f}/{config.optim.epochs}"
        progress.update(progress.tasks[0].id, description=text)
        if trial.should_prune():
            raise _PrunedError

    train(
        setup.photos, setup.schema, setup.crops, config, runs_dir=folder, on_epoch=report
    )  # fmt: skip
    kind = kind_of_scores([[run.path]], prepared.config.choose_by)
    trial.set_user_attr("score", SCORE_NAMES[kind])
    line = read_line("trial", [run.path], setup.schema, n_jobs=1, n_finished=1, kind=kind)
    return line.pooled(shared_tasks([line], setup.schema))


def _drop_weights(folder: Path) -> None:
    """Delete a trial's weights, of which dozens would fill a disk; its tables stay."""
    for kind in ("best_*", "last", "state"):
        for path in folder.glob(f"*/fold*/{kind}"):
            shutil.rmtree(path, ignore_errors=True)


def _keep_best_weights(study: Any, out_dir: Path) -> None:
    from optuna.trial import TrialState

    best = study.best_trial.user_attrs["folder"]
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if trial.user_attrs["folder"] != best:
            _drop_weights(out_dir / "trials" / trial.user_attrs["folder"])


def _write_recipe(study: Any, setup: TuneSetup) -> Path:
    best = study.best_trial
    config = setup.configure(best.params)
    settings = config.model_dump(
        mode="json", exclude_defaults=True, exclude={"name", "device", "trackers"}
    )
    settings["task"] = config.task
    head = (
        f"# The best of {len(ended_trials(study))} trials of cropfirst tune.\n"
        f"# command: cropfirst train DATA --config {setup.out_dir / 'best.yaml'}\n"
        f"# seen: {_score_name(best)} {best.value:.4f}, trial {best.number}, with crops "
        f"{setup.crops.name}\n"
        "# The trial was chosen by that score, which is therefore slightly optimistic.\n"
    )
    text = head + yaml.safe_dump({"train": settings}, sort_keys=False, allow_unicode=True)
    path = setup.out_dir / "best.yaml"
    write_atomic(path, text.encode())
    return path


def _finish(study: Any, setup: TuneSetup) -> TuneResult:
    ended = ended_trials(study)
    counts = {
        name: sum(trial.state.name == state for trial in ended)
        for name, state in (("complete", "COMPLETE"), ("pruned", "PRUNED"), ("failed", "FAIL"))
    }
    if not counts["complete"]:
        reasons = [trial.user_attrs.get("reason", "pruned") for trial in ended]
        raise TrainError(f"no trial was completed; the last one: {(reasons or ['none'])[-1]}")
    best = study.best_trial
    recipe = _write_recipe(study, setup)
    return TuneResult(
        recipe, float(best.value), _score_name(best), best.number, dict(best.params), counts
    )


def _score_name(trial: Any) -> str:
    """Return the name of the score that a trial was judged by; earlier versions kept none."""
    return str(trial.user_attrs.get("score", SCORE_NAMES["oof"]))


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _say_trial(progress: Progress, trial: Any, what: str, started: float) -> None:
    params = " ".join(
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in trial.params.items()
    )
    seconds = time.perf_counter() - started
    say(progress.console, f"trial {trial.number}: {what}  {params}  {seconds:.0f} s")
