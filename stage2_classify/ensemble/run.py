"""The ensemble command: reads out-of-fold predictions, writes ensemble.json and shows the gains.

Soups and test-time augmentation predict the crops again; everything else reads tables alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from cropfirst.cache import Cache
from cropfirst.core.console import say
from cropfirst.core.device import resolve_device
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.ensemble.console import print_ensemble
from cropfirst.stage2_classify.ensemble.load_tasks import EnsembleTask, load_tasks
from cropfirst.stage2_classify.ensemble.search import SearchSteps, Step, TaskSearch, search
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.metrics.intervals import Paired, paired_difference
from cropfirst.stage2_classify.metrics.scores import macro_f1, majority_score
from cropfirst.stage2_classify.predict.calibration import ENTRY
from cropfirst.stage2_classify.predict.ensemble_file import (
    FILE,
    EnsembleSpec,
    hashes_of,
    write_ensemble,
)
from cropfirst.stage2_classify.predict.repredict_oof import repredict_oof
from cropfirst.stage2_classify.runs.baselines import choose_voters, voting_oofs
from cropfirst.stage2_classify.runs.checkpoints import find_checkpoints
from cropfirst.stage2_classify.runs.choice import ChooseBy, Kind, choose_predictions
from cropfirst.stage2_classify.runs.json_files import read_json
from cropfirst.stage2_classify.runs.oof_predictions import (
    OofPredictions,
    read_oof_runs,
    read_people,
)
from cropfirst.stage2_classify.runs.soup import SOUP, soup_of_fold, soup_of_run
from cropfirst.stage2_classify.runs.swapped_scores import falling_runs
from cropfirst.stage2_classify.voting.soft_vote import combine_codes
from cropfirst.stage2_classify.voting.vote_plan import VotePlan

REPREDICTED = "out-of-fold"
"""Folder of repredicted out-of-fold tables, below the command's."""
Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class EnsembleOptions:
    """The settings of the ensemble command."""

    steps: SearchSteps = field(default_factory=SearchSteps)
    tta: tuple[str, ...] = ()
    """Kinds of test-time augmentation, see `tta.TTA_KINDS`."""
    soups: tuple[str, ...] = ()
    """epochs = mean weights of each fold's checkpoints; folds = those of each run's folds."""
    routes: Mapping[str, str] = field(default_factory=dict)
    """Task -> task whose classes have weights of their own."""
    batch_size: int = 64
    """Number of crops per batch on the device."""
    choose_by: ChooseBy = "auto"
    """Predictions that all choices go by, see `runs.choice`."""


@dataclass(frozen=True)
class EnsembleResult:
    """The result of the ensemble command and the files that it wrote."""

    path: Path
    """Path of ensemble.json."""
    steps: tuple[Step, ...]
    searches: tuple[TaskSearch, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Variant:
    """The runs' predictions by some checkpoint and test-time augmentation."""

    oofs: tuple[OofPredictions, ...]
    """Out-of-fold predictions, or those in swapped rooms."""
    checkpoint: str = "best_f1"
    """Checkpoint of each fold; "" = that of the best variant so far."""
    tta: tuple[str, ...] = ()


def build_ensemble(
    runs: Sequence[Path],
    *,
    out_dir: Path,
    options: EnsembleOptions,
    cache: Cache | None = None,
    device: torch.device | str = "auto",
    console: Console | None = None,
) -> EnsembleResult:
    """Find how the runs vote best, judged out of fold, and write it for `predict`.

    Args:
        runs: runs directories, or run directories. Baselines in a runs directory are left out,
            see `runs.baselines`.
        out_dir: folder for ensemble.json and repredicted tables.
        cache: the crops; needed for test-time augmentation and epoch soups alone.

    Raises:
        TrainError: no out-of-fold predictions, runs of different schemas, or fewer than two
            persons.
    """
    started = time.perf_counter()
    console = console or Console(quiet=True)
    schema, oofs, notes = read_oof_runs(runs)
    voters = choose_voters(oofs, runs, schema)
    for note in voters.notes:
        say(console, note, style="yellow")
    oofs = [oof for oof in oofs if voters.of(_run_folder(oof))]
    folders = [_run_folder(oof) for oof in oofs]
    people = read_people(folders)
    choice = choose_predictions(oofs, options.choose_by)
    notes += [choice.note] if choice.note else []

    def load(variant: _Variant) -> dict[str, EnsembleTask]:
        voting = voting_oofs(variant.oofs, voters, schema)
        return load_tasks(voting, schema, people, options.routes)

    def repredict(variant: _Variant, kind: Kind) -> _Variant:
        return _repredict(
            variant, cache, out_dir, swapped=kind == "swapped", batch_size=options.batch_size,
            device=device, console=console,
        )  # fmt: skip

    best, best_gain, steps = _Variant(choice.oofs), 0.0, []
    tasks = load(best)
    for name, variant in _variants(best, options, folders, notes):
        wanted = replace(variant, checkpoint=variant.checkpoint or best.checkpoint)
        repredicted = repredict(wanted, choice.kind)
        found = _compare(name, tasks, load(repredicted))
        gain = float(np.mean([step.gain.value for step in found if step.gain]))
        if gain > best_gain:
            best, best_gain = repredicted, gain
        steps += [replace(step, kept=best is repredicted) for step in found]
    searches = [
        search(task.data, options.steps, baseline=tasks[name].equal)
        for name, task in load(best).items()
    ]
    steps += [step for found in searches for step in found.steps]
    steps += _code_steps(searches, tasks, schema)
    hashes = hashes_of(find_checkpoints(folders, checkpoint=best.checkpoint))
    spec = EnsembleSpec(
        best.checkpoint,
        best.tta,
        {oof.name: hashes[_run_folder(oof).resolve()] for oof in oofs},
        VotePlan({found.name: found.plan for found in searches}),
    )
    out_of_fold = {}
    if choice.kind == "swapped":
        own = replace(best, oofs=tuple(oofs))
        changed = best.checkpoint != "best_f1" or bool(best.tta)
        out_of_fold = _score_out_of_fold(searches, load(repredict(own, "oof") if changed else own))
    notes += falling_runs(folders)
    about = _about(steps, searches, [*notes, *voters.notes], time.perf_counter() - started)
    about |= {"chosen_by": choice.kind, "out_of_fold": out_of_fold}
    calibrated = ENTRY in read_json(out_dir / FILE) if (out_dir / FILE).is_file() else False
    write_ensemble(out_dir / FILE, spec, about=about)
    print_ensemble(
        console, steps, searches, notes,
        score_name=choice.score_name, out_of_fold=out_of_fold, seconds=about["seconds"],
    )  # fmt: skip
    say(console, f"written: {out_dir / FILE}; predict uses it")
    if calibrated:
        say(console, "its calibration was of the earlier vote and is gone: run cropfirst calibrate")
    return EnsembleResult(out_dir / FILE, tuple(steps), tuple(searches), (*notes, *voters.notes))


def _score_out_of_fold(
    searches: Sequence[TaskSearch], tasks: Mapping[str, EnsembleTask]
) -> dict[str, float]:
    """Return task -> macro F1 of its plan on the photos in their own rooms."""
    found = {each.name: each.plan for each in searches}
    return {
        name: task.data.macro_f1(task.data.vote(found[name]).preds)
        for name, task in tasks.items()
        if name in found
    }


def _variants(
    plain: _Variant, options: EnsembleOptions, folders: Sequence[Path], notes: list[str]
) -> list[tuple[str, _Variant]]:
    """Return step -> what to predict again; soups of checkpoints are made here."""
    found = []
    if "epochs" in options.soups:
        for folder in folders:
            for metrics in sorted(folder.glob("fold*/metrics.json")):
                soup_of_fold(metrics.parent)
        found.append(("soup", _Variant(plain.oofs, SOUP)))
    if "folds" in options.soups:
        notes += [_soup_note(folder) for folder in folders]
    if options.tta:
        # ensemble.json has always named this step "views".
        found.append((f"views {','.join(options.tta)}", _Variant(plain.oofs, "", options.tta)))
    return found


def _soup_note(folder: Path) -> str:
    folds = [metrics.parent for metrics in sorted(folder.glob("fold*/metrics.json"))]
    soup = soup_of_run(folds, folder / SOUP / "folds")
    return (
        f"{soup} averages {len(folds)} folds, which together were trained on everybody, so it has "
        f"no out-of-fold score; predict with it by predict --runs {soup}"
    )


def _repredict(
    variant: _Variant,
    cache: Cache | None,
    out_dir: Path,
    *,
    swapped: bool,
    batch_size: int,
    device: torch.device | str,
    console: Console,
) -> _Variant:
    if cache is None:
        raise TrainError("--soup epochs and --tta need the crops: run cropfirst detect first")
    oofs = [
        repredict_oof(
            oof,
            cache,
            out_dir=out_dir / REPREDICTED,
            checkpoint=variant.checkpoint,
            tta=variant.tta,
            swapped=swapped,
            device=resolve_device(device) if isinstance(device, str) else device,
            batch_size=batch_size,
            console=console,
        )
        for oof in variant.oofs
    ]
    return replace(variant, oofs=tuple(oofs))


def _compare(
    name: str, before: Mapping[str, EnsembleTask], after: Mapping[str, EnsembleTask]
) -> list[Step]:
    """Return the gains of the equal vote on other predictions over that on the plain ones."""
    steps = []
    for task, old in before.items():
        preds = after[task].equal
        gain = old.data.gain(old.equal, preds)
        score, majority = old.data.macro_f1(preds), old.data.majority_f1
        steps.append(Step(task, name, score, majority, gain, False, "equal vote"))
    return steps


def _code_steps(
    searches: Sequence[TaskSearch], tasks: Mapping[str, EnsembleTask], schema: LabelSchema
) -> list[Step]:
    """Return the scores of the combined code that the tasks' votes make."""
    combined = schema.combined
    found = {each.name: each for each in searches}
    if combined is None or not set(combined.tasks) <= set(found):
        return []
    shared = sorted(set.intersection(*(set(tasks[part].keys) for part in combined.tasks)))
    if not shared:
        return []
    rows: dict[str, list[int]] = {}
    for part in combined.tasks:
        place = {key: row for row, key in enumerate(tasks[part].keys)}
        rows[part] = [place[key] for key in shared]

    def code(columns: Mapping[str, Ints]) -> Ints:
        made = combine_codes({part: columns[part][rows[part]] for part in rows}, schema)
        assert made is not None
        return made

    truth = code({part: tasks[part].data.targets for part in rows})
    equal = code({part: tasks[part].equal for part in rows})
    chosen = code({part: found[part].chosen.preds for part in rows})
    first = combined.tasks[0]
    people = tasks[first].data.people[rows[first]]
    size = schema.num_classes(combined.name)
    gain = paired_difference([Paired(people, truth, (equal, chosen), size)])
    majority = majority_score(np.bincount(truth)).macro_f1
    scores = macro_f1(truth, equal, size), macro_f1(truth, chosen, size)
    return [
        Step(combined.name, "equal", scores[0], majority, None, False),
        Step(combined.name, "chosen", scores[1], majority, gain, True, "of its tasks"),
    ]


def _run_folder(oof: OofPredictions) -> Path:
    """Return the run's folder.

    Raises:
        TrainError: a single fold was named.
    """
    assert oof.path is not None
    if not (oof.path / "schema.json").is_file():
        raise TrainError(f"{oof.path} is a fold: name its run with --runs {oof.path.parent}")
    return oof.path


def _about(
    steps: Sequence[Step], searches: Sequence[TaskSearch], notes: Sequence[str], seconds: float
) -> dict[str, Any]:
    """Return what ensemble.json says for people: how the plan was found."""
    ece = {
        found.name: dict(zip(("equal", "chosen", "change"), map(asdict, found.ece), strict=True))
        for found in searches
    }
    return {
        "steps": [asdict(step) for step in steps],
        "ece": ece,
        "notes": list(notes),
        "seconds": round(seconds, 1),
    }
