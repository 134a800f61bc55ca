"""The whole search over run folders: gains are judged by people."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from sklearn.metrics import f1_score

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.ensemble.run import EnsembleOptions, build_ensemble
from cropfirst.stage2_classify.ensemble.search import SearchSteps
from cropfirst.stage2_classify.labels.schema import LabelSchema


def test_identical_photos_of_a_person_do_not_narrow_a_gains_interval(
    save_people: Callable[..., Path],
    save_member: Callable[..., Path],
    make_crops: Any,
    schema: LabelSchema,
    tmp_path: Path,
) -> None:
    """Drawing photos instead of people would halve the intervals of four photos each."""
    crops = make_crops({"00/0.jpg": "detected"})
    runs = [save_member(name, crops, tasks=schema.task_names) for name in ("one", "two", "three")]

    def intervals(photos: int) -> dict[tuple[str, str], tuple[float, float, float]]:
        for seed, run in enumerate(runs):
            save_people(run, photos=photos, strength=0.5 + seed, seed=seed)
        found = build_ensemble(
            runs,
            out_dir=tmp_path / "out",
            options=EnsembleOptions(SearchSteps(("hard", "greedy"), ())),
        )
        gains = {(step.task, step.name): step.gain for step in found.steps if step.gain}
        for task in found.searches:
            for name, each in zip(("equal", "chosen", "change"), task.ece, strict=True):
                gains[task.name, f"calibration error {name}"] = each
        return {name: (each.value, each.low, each.high) for name, each in gains.items()}

    one, four = intervals(1), intervals(4)
    assert set(one) >= {("class18", "chosen"), ("mask", "hard"), ("age", "chosen")}
    assert one["class18", "chosen"][1] < one["class18", "chosen"][2]
    for name, interval in one.items():
        assert four[name] == pytest.approx(interval), name


def test_every_step_has_the_score_of_the_most_frequent_class(
    save_people: Callable[..., Path],
    save_member: Callable[..., Path],
    make_crops: Any,
    schema: LabelSchema,
    tmp_path: Path,
) -> None:
    crops = make_crops({"00/0.jpg": "detected"})
    runs = [save_member(name, crops, tasks=schema.task_names) for name in ("one", "two")]
    for seed, run in enumerate(runs):
        save_people(run, photos=2, strength=1.0, seed=seed)
    oof = pl.read_parquet(runs[0] / "oof.parquet")
    targets = {task: oof[f"{task}_target"].to_numpy() for task in schema.task_names}
    targets["class18"] = np.ravel_multi_index([*targets.values()], (3, 2, 3))
    console = Console(file=io.StringIO(), width=120)
    found = build_ensemble(
        runs, out_dir=tmp_path / "out", console=console,
        options=EnsembleOptions(SearchSteps(("greedy",), ())),
    )  # fmt: skip
    stored = json.loads(found.path.read_text())["steps"]
    rows = [line.split("│") for line in console.file.getvalue().splitlines() if "│" in line]  # type: ignore[attr-defined]
    assert len(rows) == len(stored) == len(found.steps)
    for step, row in zip(stored, rows, strict=True):
        codes = targets[step["task"]]
        constant = np.full(len(codes), np.bincount(codes).argmax())
        want = f1_score(codes, constant, average="macro", zero_division=0)
        assert step["majority_macro_f1"] == pytest.approx(want), step
        assert row[1].strip() == step["task"] and row[4].strip() == f"{want:.4f}"


def test_weights_follow_the_swapped_rooms_where_all_runs_have_them(
    save_in_rooms: Callable[..., Path],
    save_member: Callable[..., Path],
    make_crops: Any,
    tmp_path: Path,
) -> None:
    crops = make_crops({"00/0.jpg": "detected"})
    room, face = (save_member(name, crops, tasks=("gender",)) for name in ("room", "face"))
    save_in_rooms(room, own=6, swapped=-3)
    save_in_rooms(face, own=-3, swapped=6)

    def weights(choose_by: str) -> tuple[dict[str, float], dict[str, Any]]:
        options = EnsembleOptions(
            SearchSteps(("greedy",), ()),
            choose_by=choose_by,  # type: ignore[arg-type]
        )
        found = build_ensemble([room, face], out_dir=tmp_path / choose_by, options=options)
        (search,) = found.searches
        about = json.loads(found.path.read_text())
        return dict(search.plan.weights[""]), about

    chosen, about = weights("auto")
    assert chosen["face"] > 0.9 and about["chosen_by"] == "swapped"
    assert about["out_of_fold"]["gender"] < 0.95
    chosen, about = weights("oof")
    assert chosen["room"] > 0.9 and about["chosen_by"] == "oof" and not about["out_of_fold"]
    (face / "swapped.parquet").unlink()
    chosen, about = weights("auto")
    assert chosen["room"] > 0.9
    assert any("not checked against other rooms: face" in note for note in about["notes"])
    with pytest.raises(TrainError, match="needs predictions in swapped rooms, and face has none"):
        weights("swapped")
