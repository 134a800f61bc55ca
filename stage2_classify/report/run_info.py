"""Settings, costs, curves and scores of runs, read from their folders.

Reads; draws nothing and predicts nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.metrics.intervals import number_people, score_intervals
from cropfirst.stage2_classify.metrics.scores import majority_score
from cropfirst.stage2_classify.runs.baselines import Voters
from cropfirst.stage2_classify.runs.oof_predictions import OofPredictions, read_about
from cropfirst.stage2_classify.runs.oof_vote import answer, voters_for


@dataclass(frozen=True)
class RunInfo:
    """Settings, costs and scores of one run."""

    name: str
    path: Path
    tasks: str
    backbone: str
    n_params: int
    crops: str
    image_size: int
    folds: str
    epochs: int
    seconds: float
    scores: Mapping[str, str]
    """Task or code -> macro F1 with its interval."""
    majority: Mapping[str, str]
    """Task or code -> macro F1 of always predicting the most frequent class of these photos."""
    swapped: Mapping[str, str]
    """Task or code -> macro F1 in swapped rooms with its interval; empty if not scored there."""
    histories: Mapping[str, Mapping[str, Sequence[float]]]
    """Fold -> column -> one value per epoch."""
    versions: Mapping[str, str]
    commit: str
    votes: bool
    """Whether it votes; a baseline, a run on crops with background, does not."""


def read_run(
    oof: OofPredictions, schema: LabelSchema, people: Mapping[str, str], voters: Voters
) -> RunInfo:
    """Read a run's settings, costs, curves and scores."""
    run = oof.path
    assert run is not None
    folds = sorted(run.glob("fold*/metrics.json"), key=lambda path: int(path.parent.name[4:]))
    metas = [_json(path.parent / "last" / "meta.json") for path in folds]
    about, meta = read_about(run), metas[0] if metas else {}
    histories = {path.parent.name: _history(path.parent / "history.csv") for path in folds}
    n_all = 1 + int(pl.read_parquet(run / "folds.parquet")["fold"].max() or 0)  # type: ignore[arg-type]
    second = (meta.get("second") or {}).get("backbone")
    return RunInfo(
        name=oof.name,
        path=run,
        tasks=", ".join(oof.probs),
        backbone=str(meta.get("backbone", "?")) + (f" + {second}" if second else ""),
        n_params=int(meta.get("n_params", 0)),
        crops=str((about.get("crop_set") or {}).get("name", "?")),
        image_size=int(meta.get("image_size", 0)),
        folds=f"{len(folds)} of {n_all}",
        epochs=max((len(each.get("epoch", [])) for each in histories.values()), default=0),
        seconds=sum(sum(each.get("seconds", [])) for each in histories.values()),
        scores=_scores(oof, schema, people),
        majority={
            name: f"{majority_score(np.bincount(codes)).macro_f1:.3f}"
            for name, codes in oof.own_part().targets.items()
            if len(codes)
        },
        swapped={} if oof.swapped is None else _scores(oof.swapped, schema, people),
        histories=histories,
        versions={str(k): str(v) for k, v in (about.get("versions") or {}).items()},
        votes=bool(voters.of(run)),
        commit=str(about.get("git_commit") or "unknown"),
    )


def read_optional(path: Path, kind: str) -> tuple[dict[str, Any], str]:
    """Return the content of a JSON file and, where it cannot be used, the reason."""
    if not path.is_file():
        return {}, f"There is no {path.name} in {path.parent}: the command has not been run."
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        return {}, f"{path} cannot be read ({error})."
    if not isinstance(data, dict) or data.get("kind") != kind or data.get("format") != 1:
        return {}, f"{path} is not a file of `{kind}` in format 1, which this version reads."
    return data, ""


def environment_rows(runs: Sequence[RunInfo]) -> list[tuple[str, str]]:
    """Return name and value of the software that the runs were made with."""
    rows = []
    for name in dict.fromkeys(name for run in runs for name in run.versions):
        rows.append((name, ", ".join(sorted({run.versions.get(name, "?") for run in runs}))))
    rows.append(("commit", ", ".join(sorted({run.commit for run in runs}))))
    return rows


def find_run_folders(paths: Sequence[Path]) -> list[Path]:
    """Check that run folders, or folders of runs, exist.

    Raises:
        TrainError: one does not exist, or is a fold.
    """
    for path in paths:
        if not path.is_dir():
            raise TrainError(
                f"no runs in {path}: there is no such folder; run cropfirst train first"
            )
        if (path.parent / "schema.json").is_file() and path.name.startswith("fold"):
            raise TrainError(f"{path} is a fold: report expects its run, {path.parent}")
    return list(paths)


def _scores(oof: OofPredictions, schema: LabelSchema, people: Mapping[str, str]) -> dict[str, str]:
    scores = {}
    for name in schema.names:
        voters = voters_for([oof], name, schema)
        if not voters:
            continue
        found = answer(voters, name, schema)
        if found.keys:
            numbers = number_people(found.keys, people)
            size = schema.num_classes(name)
            f1, _ = score_intervals(numbers, found.targets, found.preds, size, resamples=500)
            scores[name] = str(f1)
    return scores


def _history(path: Path) -> dict[str, list[float]]:
    try:
        table = pl.read_csv(path)
    except (OSError, pl.exceptions.PolarsError):
        return {}
    return {
        name: [float(value) for value in table[name].to_list() if value is not None]
        for name in table.columns
        if table[name].dtype.is_numeric()
    }


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TrainError(f"{path} cannot be read ({error}): train again") from error
    return data if isinstance(data, dict) else {}
