"""Scores against scikit-learn and by hand; what is joined, left out and refused is said."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from rich.console import Console
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from cropfirst.core.errors import CacheCorruptError, TrainError
from cropfirst.core.files import MARKER
from cropfirst.stage2_classify.evaluate.evaluate import (
    evaluate_oof,
)
from cropfirst.stage2_classify.labels.schema import LabelSchema, Task
from cropfirst.stage2_classify.voting.soft_vote import marginals

N = 60


def _probs(seed: int, n_classes: int, n_rows: int = N) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(n_classes), n_rows).astype(np.float32)


def _truth(schema: LabelSchema, n_rows: int = N) -> dict[str, np.ndarray]:
    """Class numbers of photo 0, 1, ...: the same whatever the run."""
    random = np.random.default_rng(99)
    return {task.name: random.integers(0, task.num_classes, n_rows) for task in schema.tasks}


def _save_run(
    run: Path,
    schema: LabelSchema,
    *,
    targets: Mapping[str, Sequence[int] | np.ndarray],
    probs: Mapping[str, np.ndarray],
    photos: Sequence[int] = range(N),
    statuses: Sequence[str] | None = None,
) -> Path:
    """An oof.parquet as train writes it, of the photos with these numbers."""
    columns: dict[str, Any] = {
        "key": [f"train/{photo:03d}.jpg" for photo in photos],
        "group": [f"{photo // 2}" for photo in photos],
        "fold": pl.Series([photo % 2 for photo in photos], dtype=pl.Int32),
        "status": list(statuses or ["detected"] * len(photos)),
    }
    for task, table in probs.items():
        own = np.asarray(targets[task])[list(photos)]
        columns[f"{task}_target"] = pl.Series(own, dtype=pl.Int32)
        columns[f"{task}_probs"] = pl.Series(
            table[list(photos)].tolist(), dtype=pl.List(pl.Float32)
        )
    run.mkdir(parents=True)
    pl.DataFrame(columns).write_parquet(run / "oof.parquet")
    (run / "schema.json").write_text(json.dumps(schema.to_dict()))
    return run


def test_one_run_scores_as_scikit_learn_does(schema: LabelSchema, tmp_path: Path) -> None:
    truth, probs = _truth(schema), _probs(1, 3)
    run = _save_run(tmp_path / "runs/age", schema, targets=truth, probs={"age": probs})
    done = evaluate_oof([run], out_dir=tmp_path / "out")
    (report,) = done.reports
    preds = probs.argmax(1)
    assert report.task == "age" and report.source == "age" and report.n_photos == N
    assert report.macro_f1 == pytest.approx(f1_score(truth["age"], preds, average="macro"))
    assert report.accuracy == pytest.approx(accuracy_score(truth["age"], preds))
    np.testing.assert_array_equal(report.matrix, confusion_matrix(truth["age"], preds))
    assert [each.name for each in report.classes] == ["<30", "30-59", ">=60"]
    assert done.report("age") is report and done.report("mask") is None


def test_what_is_written_says_what_was_found(schema: LabelSchema, tmp_path: Path) -> None:
    truth, probs = _truth(schema), {"mask": _probs(2, 3), "gender": _probs(3, 2)}
    run = _save_run(tmp_path / "runs/two", schema, targets=truth, probs=probs)
    done = evaluate_oof([run.parent], out_dir=tmp_path / "out")
    data = json.loads(done.path.read_text("utf-8"))
    assert data["kind"] == "oof" and "scikit-learn" in data["macro_f1"]
    assert [each["task"] for each in data["reports"]] == ["mask", "gender"]
    for each, report in zip(data["reports"], done.reports, strict=True):
        assert each["macro_f1"] == report.macro_f1 == each["macro_f1_detected"]
        assert each["confusion"] == report.matrix.tolist()
        assert sum(score["support"] for score in each["classes"]) == N
        assert (tmp_path / "out" / each["picture"]).is_file()
    assert [path.name for path in done.pictures] == ["confusion_mask.png", "confusion_gender.png"]
    for path in done.pictures:
        picture = cv2.imread(str(path))
        assert picture is not None and min(picture.shape[:2]) > 300 and picture.std() > 10
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        MARKER, "evaluation.json", "confusion_mask.png", "confusion_gender.png",
        "reliability_mask.png",
        "reliability_gender.png",
    }  # fmt: skip


def test_scores_are_told_apart_by_crop_status(schema: LabelSchema, tmp_path: Path) -> None:
    truth, probs = _truth(schema), _probs(4, 3)
    statuses = ["sibling", "detected", "detected", "prior"] * (N // 4)
    run = _save_run(
        tmp_path / "runs/m", schema, targets=truth, probs={"mask": probs}, statuses=statuses
    )
    report = evaluate_oof([run], out_dir=tmp_path / "out").reports[0]
    assert [(each.status, each.n_photos) for each in report.statuses] == [
        ("detected", 30), ("sibling", 15), ("prior", 15)
    ]  # fmt: skip
    rows = np.array(statuses) == "detected"
    wanted = f1_score(truth["mask"][rows], probs.argmax(1)[rows], average="macro")
    assert report.detected is not None and report.detected.macro_f1 == pytest.approx(wanted)
    assert report.detected.macro_f1 != report.macro_f1


def test_single_task_runs_are_joined_by_key_to_the_code(
    schema: LabelSchema, tmp_path: Path
) -> None:
    truth = _truth(schema)
    probs = {task.name: _probs(5 + i, task.num_classes) for i, task in enumerate(schema.tasks)}
    photos = {"mask": range(N), "gender": range(5, N), "age": [*range(50)]}
    for task, rows in photos.items():
        _save_run(
            tmp_path / "runs" / task, schema, targets=truth, probs={task: probs[task]}, photos=rows
        )
    console = Console(file=io.StringIO(), width=80)
    done = evaluate_oof(
        [tmp_path / "runs"], out_dir=tmp_path / "out", console=console, details=True
    )
    assert [(each.task, each.n_photos) for each in done.reports] == [
        ("mask", 60), ("gender", 55), ("age", 50), ("class18", 45)
    ]  # fmt: skip
    report = done.report("class18")
    assert report is not None and report.note.startswith("45 of 60 photos could be joined by key")
    both = range(5, 50)
    codes = {
        name: [
            schema.combine({task: int(table[task][row]) for task in schema.task_names})
            for row in both
        ]
        for name, table in (("truth", truth), ("said", {t: p.argmax(1) for t, p in probs.items()}))
    }
    assert report.macro_f1 == pytest.approx(
        f1_score(codes["truth"], codes["said"], average="macro")
    )
    assert report.accuracy == pytest.approx(accuracy_score(codes["truth"], codes["said"]))
    said = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    first = said[said.index("class18: rows are true, columns predicted") + 2]
    assert first.split() == ["0", *(str(count) if count else "." for count in report.matrix[0])]
    assert any("17 normal female >=60" in line for line in said)


def test_classes_that_occur_nowhere_are_left_out_and_named(
    schema: LabelSchema, tmp_path: Path
) -> None:
    truth = {"age": np.array([0, 1, 0, 1])}
    probs = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.3, 0.7, 0], [0.1, 0.9, 0]], np.float32)
    run = _save_run(
        tmp_path / "runs/age", schema, targets=truth, probs={"age": probs}, photos=range(4)
    )
    console = Console(file=io.StringIO(), width=200)
    (report,) = evaluate_oof([run], out_dir=tmp_path / "out", console=console, details=True).reports
    assert report.absent == (">=60",)
    assert report.macro_f1 == pytest.approx((2 / 3 + 0.8) / 2)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "of >=60; the macro F1 is over the other 2 classes" in said


def test_runs_of_one_task_are_scored_apart_and_together(
    schema: LabelSchema, tmp_path: Path
) -> None:
    truth, one, two = _truth(schema), _probs(10, 3), _probs(11, 3)
    _save_run(tmp_path / "runs/one", schema, targets=truth, probs={"mask": one})
    _save_run(tmp_path / "runs/two", schema, targets=truth, probs={"mask": two})
    console = Console(file=io.StringIO(), width=200)
    done = evaluate_oof(
        [tmp_path / "runs"], out_dir=tmp_path / "out", console=console, details=True
    )
    by_source = {each.source: each for each in done.reports}
    assert list(by_source) == ["one", "two", "soft vote of 2 runs"]
    for source, probs in zip(by_source, (one, two, one + two), strict=True):
        wanted = f1_score(truth["mask"], probs.argmax(1), average="macro")
        assert by_source[source].macro_f1 == pytest.approx(wanted)
    assert done.report("mask") is by_source["soft vote of 2 runs"]
    assert [path.name for path in done.pictures] == [
        "confusion_mask_one.png", "confusion_mask_two.png", "confusion_mask.png"
    ]  # fmt: skip
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "soft vote of 2 runs" in said and f"{by_source['two'].macro_f1:.4f}" in said
    assert str(done.path) in said


def test_a_run_of_the_code_is_scored_on_its_tasks_too(schema: LabelSchema, tmp_path: Path) -> None:
    truth = _truth(schema)
    codes = truth["mask"] * 6 + truth["gender"] * 3 + truth["age"]
    joint, mask = _probs(12, 18), _probs(13, 3)
    _save_run(tmp_path / "runs/code", schema, targets={"class18": codes}, probs={"class18": joint})
    _save_run(tmp_path / "runs/mask", schema, targets=truth, probs={"mask": mask})
    done = evaluate_oof([tmp_path / "runs"], out_dir=tmp_path / "out")
    alone = {each.task: each for each in done.reports if each.source == "code"}
    assert set(alone) == {"mask", "gender", "age", "class18"}
    assert alone["class18"].macro_f1 == pytest.approx(
        f1_score(codes, joint.argmax(1), average="macro")
    )
    assert alone["age"].accuracy == pytest.approx(  # as the likeliest code has it
        accuracy_score(truth["age"], joint.argmax(1) % 3)
    )
    together = done.report("mask")
    assert together is not None and together.source == "soft vote of 2 runs"
    mean = marginals(joint, schema)["mask"] + mask
    assert together.accuracy == pytest.approx(accuracy_score(truth["mask"], mean.argmax(1)))


def test_photos_whose_labels_differ_between_runs_are_left_out(
    schema: LabelSchema, tmp_path: Path
) -> None:
    truth = _truth(schema)
    corrected = {"mask": truth["mask"].copy()}
    corrected["mask"][:3] = (corrected["mask"][:3] + 1) % 3
    _save_run(tmp_path / "runs/one", schema, targets=truth, probs={"mask": _probs(14, 3)})
    _save_run(tmp_path / "runs/two", schema, targets=corrected, probs={"mask": _probs(15, 3)})
    report = evaluate_oof([tmp_path / "runs"], out_dir=tmp_path / "out").report("mask")
    assert report is not None and report.n_photos == N - 3
    assert "3 were left out, their labels differ" in report.note


def test_runs_without_a_photo_in_common_are_only_scored_apart(
    schema: LabelSchema, tmp_path: Path
) -> None:
    truth, probs = _truth(schema), {"mask": _probs(16, 3)}
    _save_run(tmp_path / "runs/a", schema, targets=truth, probs=probs, photos=range(20))
    _save_run(tmp_path / "runs/b", schema, targets=truth, probs=probs, photos=range(20, N))
    done = evaluate_oof([tmp_path / "runs"], out_dir=tmp_path / "out")
    assert [each.source for each in done.reports] == ["a", "b"]
    assert done.notes[0] == "mask: no photo is in all of a, b"


def test_runs_that_are_not_there_or_not_done(schema: LabelSchema, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"cropfirst train first"):
        evaluate_oof([tmp_path / "nowhere"], out_dir=tmp_path / "out")
    begun = tmp_path / "runs/begun"
    begun.mkdir(parents=True)
    (begun / "schema.json").write_text(json.dumps(schema.to_dict()))
    with pytest.raises(TrainError, match=r"no finished fold.*cropfirst train first"):
        evaluate_oof([begun.parent], out_dir=tmp_path / "out")
    done = _save_run(
        tmp_path / "runs/done", schema, targets=_truth(schema), probs={"mask": _probs(17, 3)},
        photos=range(10),
    )  # fmt: skip
    pl.DataFrame({"key": [str(row) for row in range(N)]}).write_parquet(done / "folds.parquet")
    notes = evaluate_oof([begun.parent], out_dir=tmp_path / "out").notes
    assert notes[0] == f"left out: {begun} has no finished fold"
    assert f"10 of its {N} photos" in notes[1]


def test_runs_of_different_schemas_name_each_other(schema: LabelSchema, tmp_path: Path) -> None:
    other = LabelSchema("other", (Task("mask", ("no", "yes"), ("mask",)),))
    one = _save_run(
        tmp_path / "runs/one", schema, targets=_truth(schema), probs={"mask": _probs(18, 3)}
    )
    zeros = {"mask": np.zeros(N, int)}
    two = _save_run(tmp_path / "runs/two", other, targets=zeros, probs={"mask": _probs(1, 2)})
    with pytest.raises(TrainError) as caught:
        evaluate_oof([tmp_path / "runs"], out_dir=tmp_path / "out")
    assert str(one) in str(caught.value) and str(two) in str(caught.value)


def test_a_table_of_another_shape_is_refused(schema: LabelSchema, tmp_path: Path) -> None:
    run = _save_run(
        tmp_path / "runs/m", schema, targets=_truth(schema), probs={"mask": _probs(1, 2)}
    )
    with pytest.raises(TrainError, match="3 numbers per row"):
        evaluate_oof([run], out_dir=tmp_path / "out")
    (run / "oof.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(CacheCorruptError, match="not readable"):
        evaluate_oof([run], out_dir=tmp_path / "out")


def test_scores_in_swapped_rooms_stand_beside_those_out_of_fold(
    save_in_rooms: Callable[..., Path], tmp_path: Path
) -> None:
    room = save_in_rooms(tmp_path / "room", own=6, swapped=-3)
    face = save_in_rooms(tmp_path / "face", own=4, swapped=4)
    console = Console(file=io.StringIO(), width=200)
    found = evaluate_oof([room, face], out_dir=tmp_path / "out", console=console)
    scores = {report.source: report.swapped for report in found.reports}
    assert scores["room"] is not None and scores["room"].falls
    assert scores["room"].macro_f1 < 0.4 < 0.9 < scores["room"].oof_macro_f1
    assert scores["face"] is not None and not scores["face"].falls
    vote = scores["soft vote of 2 runs"]
    assert vote is not None and scores["room"].macro_f1 < vote.macro_f1 < scores["face"].macro_f1
    stored = json.loads(found.path.read_text())["reports"]
    by_source = {report["source"]: report["swapped"] for report in stored}
    assert by_source["room"]["macro_f1"] == scores["room"].macro_f1
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"swapped-rooms F1 {vote}" in text and "gender: room falls by" in text
    (face / "swapped.parquet").unlink()
    found = evaluate_oof([face], out_dir=tmp_path / "out")
    assert found.reports[0].swapped is None
    assert any("not checked against other rooms" in note for note in found.notes)
