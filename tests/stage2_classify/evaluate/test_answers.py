"""Evaluating predictions against a table of answers, or against the labels of the data set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, f1_score

from cropfirst.core.errors import CacheCorruptError, DataError
from cropfirst.stage2_classify.datasets.sample import PhotoSet, Sample
from cropfirst.stage2_classify.evaluate.evaluate import (
    evaluate_answers,
    evaluate_labels,
)
from cropfirst.stage2_classify.labels.schema import LabelSchema, Task
from cropfirst.stage2_classify.voting.prediction_table import prediction_table, write_submission
from cropfirst.stage2_classify.voting.soft_vote import Vote

N = 60


def _probs(seed: int, n_classes: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(n_classes), N).astype(np.float32)


def _truth(schema: LabelSchema) -> dict[str, np.ndarray]:
    """Class numbers of photo 0, 1, ...: the same whatever the run."""
    random = np.random.default_rng(99)
    return {task.name: random.integers(0, task.num_classes, N) for task in schema.tasks}


def _predictions(folder: Path, schema: LabelSchema, *, tasks: int = 3) -> tuple[Path, np.ndarray]:
    """Make the table that predict writes for N eval photos, and the codes in it."""
    names = schema.task_names[:tasks]
    probs = {name: _probs(20 + i, schema.num_classes(name)) for i, name in enumerate(names)}
    preds = {name: table.argmax(1).astype(np.int32) for name, table in probs.items()}
    code = preds["mask"] * 6 + preds["gender"] * 3 + preds["age"] if tasks == 3 else None
    samples = tuple(
        Sample(f"eval/images/{row:03d}.jpg", folder / f"{row:03d}.jpg", split="eval")
        for row in range(N)
    )
    rows = tuple((Path(sample.key).name, sample.key) for sample in reversed(samples))
    table = prediction_table(
        samples,
        Vote(probs, preds, code),
        schema,
        statuses=["detected"] * (N - 4) + ["unreadable"] * 4,
        members=np.ones(N, np.int32),
        image_ids={key: image_id for image_id, key in rows},
    )
    folder.mkdir(parents=True)
    table.write_parquet(folder / "predictions.parquet")
    if code is not None:
        photos = PhotoSet(folder, "contest", samples, submission=rows)
        write_submission(folder / "submission.csv", photos, table, schema)
    return folder, np.zeros(0) if code is None else code


def _answers(path: Path, codes: Mapping[str, object], *, header: str = "ImageID,ans") -> Path:
    path.write_text("\n".join([header, *(f"{name},{code}" for name, code in codes.items())]))
    return path


def _true_codes(schema: LabelSchema) -> dict[str, int]:
    truth = _truth(schema)
    codes = truth["mask"] * 6 + truth["gender"] * 3 + truth["age"]
    return {f"{row:03d}.jpg": int(codes[row]) for row in (3, 1, 2, 0, *range(4, N))}


def test_answers_score_a_submission(schema: LabelSchema, tmp_path: Path) -> None:
    folder, said = _predictions(tmp_path / "out", schema)
    codes = _true_codes(schema)
    answers = _answers(tmp_path / "answers.csv", codes)
    done = evaluate_answers(answers, folder, schema=schema, out_dir=tmp_path / "scores")
    truth = np.array([codes[f"{row:03d}.jpg"] for row in range(N)])
    report = done.report("class18")
    assert report is not None
    assert report.macro_f1 == pytest.approx(f1_score(truth, said, average="macro"))
    mask = done.report("mask")
    assert mask is not None
    assert mask.macro_f1 == pytest.approx(f1_score(truth // 6, said // 6, average="macro"))
    assert [(each.status, each.n_photos) for each in mask.statuses] == [
        ("detected", N - 4), ("unreadable", 4)
    ]  # fmt: skip
    assert json.loads(done.path.read_text())["kind"] == "answers"

    for name in ("submission.csv", "predictions.parquet"):
        other = evaluate_answers(answers, folder / name, schema=schema, out_dir=tmp_path / name[:4])
        for each in done.reports:
            same = other.report(each.task)
            assert same is not None and same.macro_f1 == each.macro_f1
            assert (same.statuses == ()) == (name == "submission.csv")


def test_answers_score_the_tasks_there_are(schema: LabelSchema, tmp_path: Path) -> None:
    folder, _ = _predictions(tmp_path / "out", schema, tasks=2)
    answers = _answers(tmp_path / "answers.csv", _true_codes(schema))
    done = evaluate_answers(answers, folder, schema=schema, out_dir=tmp_path / "scores")
    assert [each.task for each in done.reports] == ["mask", "gender"]


def test_answers_with_a_bom_and_windows_lines_are_read(schema: LabelSchema, tmp_path: Path) -> None:
    folder, _ = _predictions(tmp_path / "out", schema)
    answers = _answers(tmp_path / "answers.csv", _true_codes(schema))
    answers.write_bytes(b"\xef\xbb\xbf" + answers.read_bytes().replace(b"\n", b"\r\n"))
    done = evaluate_answers(answers, folder, schema=schema, out_dir=tmp_path / "scores")
    assert done.reports[0].n_photos == N


def test_answers_for_other_photos_are_named(schema: LabelSchema, tmp_path: Path) -> None:
    folder, _ = _predictions(tmp_path / "out", schema)
    codes = _true_codes(schema)
    del codes["007.jpg"], codes["005.jpg"]
    codes["strange.jpg"] = 1
    answers = _answers(tmp_path / "answers.csv", codes)
    with pytest.raises(DataError) as caught:
        evaluate_answers(answers, folder, schema=schema, out_dir=tmp_path / "scores")
    assert "2 predicted photos have no answer, such as 005.jpg, 007.jpg" in str(caught.value)
    assert "1 answers are for photos that were not predicted, such as strange.jpg" in str(
        caught.value
    )
    assert not (tmp_path / "scores").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ImageID,ans\n000.jpg,18\n", r"line 2: ans='18' is not a code from 0 to 17"),
        ("ImageID,ans\n000.jpg,1\n001.jpg,-1\n", "line 3: ans='-1'"),
        ("ImageID,ans\n000.jpg,wear\n", "ans='wear'"),
        ("ImageID,ans\n000.jpg\n", "ans=None"),
        ("ImageID,ans\n000.jpg,1\n000.jpg,1\n", "000.jpg occurs twice"),
        ("file,code\n000.jpg,1\n", r"no column ImageID, ans \(it has file, code\)"),
        ("ImageID,ans\n", "only a header"),
        ("", "no column"),
    ],
)
def test_answers_that_are_none_are_refused(
    schema: LabelSchema, tmp_path: Path, text: str, message: str
) -> None:
    folder, _ = _predictions(tmp_path / "out", schema)
    path = tmp_path / "answers.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        evaluate_answers(path, folder, schema=schema, out_dir=tmp_path / "scores")


def test_predictions_that_are_none_are_refused(schema: LabelSchema, tmp_path: Path) -> None:
    answers = _answers(tmp_path / "answers.csv", _true_codes(schema))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"cropfirst predict first"):
        evaluate_answers(answers, tmp_path / "empty", schema=schema, out_dir=tmp_path)
    with pytest.raises(DataError, match="there is no file"):
        evaluate_answers(tmp_path / "no.csv", tmp_path, schema=schema, out_dir=tmp_path)
    foreign = tmp_path / "foreign.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(foreign)
    with pytest.raises(DataError, match="no column key"):
        evaluate_answers(answers, foreign, schema=schema, out_dir=tmp_path)
    foreign.write_bytes(b"not parquet")
    with pytest.raises(CacheCorruptError, match="not readable"):
        evaluate_answers(answers, foreign, schema=schema, out_dir=tmp_path)


def test_predictions_of_another_schema_are_refused(schema: LabelSchema, tmp_path: Path) -> None:
    folder, _ = _predictions(tmp_path / "out", schema)
    answers = _answers(tmp_path / "answers.csv", _true_codes(schema))
    mask, *rest = schema.tasks
    renamed = Task("mask", ("on", "off", "half"), mask.facts)
    other = LabelSchema("other", (renamed, *rest), schema.combined)
    with pytest.raises(DataError, match="--schema"):
        evaluate_answers(answers, folder, schema=other, out_dir=tmp_path / "scores")
    plain = LabelSchema("plain", schema.tasks)
    with pytest.raises(DataError, match="has none"):
        evaluate_answers(answers, folder, schema=plain, out_dir=tmp_path / "scores")


def test_own_labels_score_the_photos_that_have_them(schema: LabelSchema, tmp_path: Path) -> None:
    folder, _ = _predictions(tmp_path / "out", schema)
    genders = [("male", "female")[row % 2] for row in range(30)]
    samples = tuple(
        Sample(f"eval/images/{row:03d}.jpg", folder, split="eval", labels={"gender": gender})
        for row, gender in enumerate(genders)
    )
    photos = PhotoSet(folder, "csv", samples)
    done = evaluate_labels(photos, folder, schema=schema, out_dir=tmp_path / "scores")
    (report,) = done.reports
    said = pl.read_parquet(folder / "predictions.parquet")["gender_pred"].to_list()[:30]
    assert report.task == "gender" and report.n_photos == 30
    assert report.accuracy == pytest.approx(accuracy_score(genders, said))
    assert report.note == f"30 of {N} predicted photos have a label"
    with pytest.raises(DataError, match="--answers"):
        evaluate_labels(PhotoSet(folder, "csv", ()), folder, schema=schema, out_dir=tmp_path)
