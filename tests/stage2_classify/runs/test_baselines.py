"""Baselines: which runs they are, where they vote all the same, and what the user is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cropfirst.configs import save_config
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.predict.ensemble_file import choose_ensemble
from cropfirst.stage2_classify.runs.baselines import (
    BASELINES,
    baseline_background,
    choose_voters,
    run_baseline,
    voting_oofs,
)
from cropfirst.stage2_classify.runs.checkpoints import find_checkpoints, voting_checkpoints
from cropfirst.stage2_classify.runs.oof_predictions import read_oof_runs
from cropfirst.stage2_classify.runs.run_paths import run_of
from cropfirst.stage2_classify.voting.soft_vote import marginals, select_tasks

Save = Callable[..., Path]


@pytest.mark.parametrize("background", ["photo", "center", "box", "mean_box"])
def test_runs_on_crops_with_background_are_baselines(background: str) -> None:
    crop_set = {"config": {"crop": {"background": background}}}
    assert background in BASELINES
    for settings in (None, {}, {"data": {}}, {"data": {"swap_rooms": 0}}):
        assert baseline_background(crop_set, settings) == background
    assert baseline_background(crop_set, {"data": {"swap_rooms": 0.5}}) is None


@pytest.mark.parametrize("crop_set", [
    {}, {"config": {}}, {"name": "box-224-1"}, {"config": {"crop": {"background": "ellipse"}}},
    {"config": {"crop": {"background": "segment"}}}, {"config": {"crop": {"background": "hull"}}},
])  # fmt: skip
def test_all_other_runs_are_not(crop_set: dict[str, Any]) -> None:
    assert baseline_background(crop_set) is None


def test_a_run_says_by_its_files_whether_it_is_a_baseline(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "fold0").mkdir(parents=True)
    assert run_baseline(run) is None, "nothing is known of its crops"
    about = {"crop_set": {"config": {"crop": {"background": "photo"}}}}
    (run / "run.json").write_text(json.dumps(about))
    assert run_baseline(run) == run_baseline(run / "fold0") == "photo"
    save_config({"data": {"swap_rooms": 0.5}}, run / "config.yaml")
    assert run_baseline(run) is None and run_baseline(run / "fold0") is None


@pytest.fixture
def votes(
    save_member: Save, make_crops: Any, tmp_path: Path
) -> Callable[..., tuple[dict[str, set[str]], tuple[str, ...]]]:
    """Saves runs given as NAME="BACKGROUND TASK TASK..." and returns what each votes on."""

    def call(*named: str, **runs: str) -> tuple[dict[str, set[str]], tuple[str, ...]]:
        for name, text in runs.items():
            background, *tasks = text.split()
            crops = make_crops({"a.jpg": "detected"}, background=background)
            save_member(name, crops, tasks=tasks)
        paths = [tmp_path / "runs", *(tmp_path / "runs" / name for name in named)]
        found, voters = voting_checkpoints(find_checkpoints(paths), paths)
        heads = {run_of(folder).name: set(meta["heads"])
                 for folder, meta in zip(found.folders, found.metas, strict=True)}  # fmt: skip
        return heads, voters.notes

    return call


def test_a_folder_of_runs_does_not_name_its_baselines(votes: Any, tmp_path: Path) -> None:
    runs = {"faces": "ellipse gender", "square": "box gender", "whole": "photo gender"}
    heads, (note,) = votes(**runs)
    assert heads == {"faces": {"gender"}}
    assert "square (box crops), whole (photo crops)" in note
    assert f"--runs {tmp_path / 'runs'} --runs {tmp_path / 'runs/square'}" in note
    heads, (note,) = votes("whole", **runs)
    assert (
        heads == {"faces": {"gender"}, "whole": {"gender"}} and "whole" not in note.split("--")[0]
    )
    assert votes("square", "whole/fold0", **runs)[1] == ()
    assert votes("square", "whole/fold0/best_f1", **runs)[1] == ()


def test_baselines_vote_where_no_other_run_does(votes: Any) -> None:
    heads, (note,) = votes(square="box gender", whole="photo gender age")
    assert heads == {"square": {"gender"}, "whole": {"gender", "age"}}
    assert "only baselines predict age, gender" in note and "square (box crops)" in note


def test_a_baseline_votes_on_those_of_its_tasks_alone(votes: Any) -> None:
    heads, (note,) = votes(faces="ellipse gender", square="box mask gender age")
    assert heads == {"faces": {"gender"}, "square": {"mask", "age"}}
    assert "only baselines predict age, mask, so" in note


def test_of_a_code_a_baseline_votes_on_parts(votes: Any, schema: LabelSchema) -> None:
    heads, _ = votes(faces="ellipse gender", square="box class18")
    assert heads == {"faces": {"gender"}, "square": {"mask", "age"}}
    heads, _ = votes("square", faces="ellipse gender", square="box class18")
    assert heads["square"] == {"class18"}


def test_a_baseline_that_says_who_meets_a_condition_is_kept(votes: Any, tmp_path: Path) -> None:
    """The age of men needs a run that says who is a man, without a condition of its own."""
    runs = {"of_men": "ellipse age", "masked": "ellipse gender", "square": "box gender age mask"}
    votes(**runs)
    for name, where in (("of_men", {"gender": "male"}), ("masked", {"mask": "wear"})):
        path = tmp_path / "runs" / name / "fold0/best_f1/meta.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "where": where}))
    paths = [tmp_path / "runs"]
    found, voters = voting_checkpoints(find_checkpoints(paths), paths)
    assert voters.of(tmp_path / "runs/square") == {"gender", "mask"}
    members = [{name: np.full((1, len(classes)), 1 / len(classes), np.float32)
                for name, classes in meta["heads"].items()} for meta in found.metas]  # fmt: skip
    assert set(choose_ensemble(paths).vote(members).preds) == {"mask", "gender", "age"}


def test_the_vote_of_a_part_is_that_of_these_tasks(
    votes: Any, schema: LabelSchema, tmp_path: Path
) -> None:
    votes(faces="ellipse gender", square="box class18")
    ensemble = choose_ensemble([tmp_path / "runs"])
    rng = np.random.default_rng(0)
    joint = rng.dirichlet(np.ones(18), 5).astype(np.float32)
    gender = rng.dirichlet(np.ones(2), 5).astype(np.float32)
    by_run = {"faces": {"gender": gender}, "square": {"class18": joint}}
    members = [by_run[run_of(folder).name] for folder in ensemble.found.folders]
    found = ensemble.vote(members).probs
    np.testing.assert_allclose(found["gender"], gender, atol=1e-6)
    for task in ("mask", "age"):
        np.testing.assert_allclose(found[task], marginals(joint, schema)[task], atol=1e-6)
    whole = select_tasks({"class18": joint}, {"mask", "gender", "age"}, schema)
    assert list(whole) == ["class18"]


def test_out_of_fold_predictions_vote_as_checkpoints_do(
    save_people: Save, schema: LabelSchema, tmp_path: Path
) -> None:
    tasks = {"faces": ["gender"], "square": ["mask", "gender", "age"], "whole": ["gender"]}
    for name, background in (("faces", "ellipse"), ("square", "box"), ("whole", "photo")):
        run = save_people(tmp_path / "runs" / name, photos=1, tasks=tasks[name])
        about = {"crop_set": {"config": {"crop": {"background": background}}}}
        (run / "run.json").write_text(json.dumps(about))
    paths = [tmp_path / "runs"]
    _, oofs, _ = read_oof_runs(paths)
    voters = choose_voters(oofs, paths, schema)
    assert voters.left_out == (tmp_path / "runs/whole",)
    heads = {oof.name: set(oof.probs) for oof in voting_oofs(oofs, voters, schema)}
    assert heads == {"faces": {"gender"}, "square": {"mask", "age"}}
    voters = choose_voters(oofs, [*paths, tmp_path / "runs/square"], schema)
    assert len(voting_oofs(oofs, voters, schema)[1].probs) == 3
