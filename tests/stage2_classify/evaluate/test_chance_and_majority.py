"""Beside each score is that of the most frequent class, and chance is named as such."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from sklearn.metrics import accuracy_score, f1_score

from cropfirst.stage2_classify.evaluate.evaluate import Evaluation, evaluate_oof
from cropfirst.stage2_classify.metrics.slices import score_slices

SavePeople = Callable[..., Path]


@pytest.fixture
def evaluated(save_people: SavePeople, tmp_path: Path) -> Callable[..., tuple[Evaluation, str]]:
    """Evaluates a run that knows nothing of gender and something of mask."""

    def call(*, details: bool = False) -> tuple[Evaluation, str]:
        save_people(tmp_path / "runs/lost", photos=4, tasks=["gender"], strength=0.0)
        save_people(tmp_path / "runs/good", photos=4, tasks=["mask"], strength=2.0)
        console = Console(file=io.StringIO(), width=100)
        done = evaluate_oof(
            [tmp_path / "runs"], out_dir=tmp_path / "out", console=console, details=details
        )
        return done, console.file.getvalue()  # type: ignore[attr-defined]

    return call


def test_majority_scores_are_those_of_a_constant_prediction(
    evaluated: Callable[..., tuple[Evaluation, str]], tmp_path: Path
) -> None:
    done, said = evaluated(details=True)
    data = json.loads(done.path.read_text())
    for task, run in (("gender", "lost"), ("mask", "good")):
        targets = pl.read_parquet(tmp_path / "runs" / run / "oof.parquet")[f"{task}_target"]
        constant = np.full(len(targets), np.bincount(targets).argmax())
        f1 = f1_score(targets, constant, average="macro", zero_division=0)
        accuracy = accuracy_score(targets, constant)
        (report,) = (each for each in data["reports"] if each["task"] == task)
        (analysis,) = (each for each in data["diagnoses"] if each["task"] == task)
        for found in (report, analysis):
            assert found["majority_macro_f1"] == pytest.approx(f1)
            assert found["majority_accuracy"] == pytest.approx(accuracy)
        row = next(line for line in said.splitlines() if f"│ {task} " in line)
        shown = [cell.strip() for cell in row.split("│")[4:8]]
        assert shown[1] == f"{f1:.4f}" and shown[3] == f"{accuracy:.4f}", row
        assert f"majority {accuracy:.3f}" in said, "beside the intervals"
    assert "always predicting the most frequent class" in said


@pytest.mark.parametrize("details", [False, True])
def test_a_task_at_chance_is_named_with_its_figures(
    evaluated: Callable[..., tuple[Evaluation, str]], details: bool
) -> None:
    done, said = evaluated(details=details)
    by_task = {each.task: each.chance for each in done.analyses}
    assert by_task["mask"].is_better and not by_task["gender"].is_better
    flat = " ".join(said.split())
    assert f"gender: no better than chance ({by_task['gender']})" in flat
    assert "chance 0.500" in flat and "mask: no better" not in flat
    (stored,) = (
        each["chance"] for each in json.loads(done.path.read_text())["diagnoses"]
        if each["task"] == "gender"
    )  # fmt: skip
    assert stored["is_better"] is False and stored["margin"]["low"] < 0 < stored["margin"]["high"]
    if not details:
        majority = next(each.majority for each in done.analyses if each.task == "mask")
        line = next(line for line in said.splitlines() if line.startswith("  mask "))
        assert f"majority {majority.macro_f1:.3f}  accuracy" in line


def test_a_slice_has_the_majority_of_its_own_photos() -> None:
    targets = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    (first, second) = score_slices(
        "task", targets=targets, preds=targets, people=np.arange(8), n_classes=2,
        facts={"by": ["a"] * 4 + ["b"] * 4},
    )  # fmt: skip
    assert {first.value, second.value} == {"a", "b"}
    found = {each.value: each.to_dict() for each in (first, second)}
    assert found["a"]["majority_accuracy"] == 0.75 and found["b"]["majority_accuracy"] == 1.0
    assert found["a"]["majority_macro_f1"] == pytest.approx((2 * 0.75 / 1.75) / 2)
