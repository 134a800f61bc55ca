"""Slices, intervals, mistakes and shifts of classes, by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cropfirst.stage2_classify.datasets.sample import PhotoSet, Sample
from cropfirst.stage2_classify.evaluate.error_analysis import analyze_task
from cropfirst.stage2_classify.evaluate.evaluate import (
    Evaluation,
    evaluate_answers,
    evaluate_oof,
)
from cropfirst.stage2_classify.labels.photo_facts import in_thirds, photo_facts
from cropfirst.stage2_classify.labels.schema import Combined, LabelSchema
from cropfirst.stage2_classify.metrics.calibration import confidence_gaps
from cropfirst.stage2_classify.metrics.intervals import (
    ece_intervals,
    mean_intervals,
    score_intervals,
)
from cropfirst.stage2_classify.metrics.slices import MIN_PHOTOS, score_slices
from cropfirst.stage2_classify.runs.oof_vote import OofVote
from cropfirst.stage2_classify.voting.class_shift import class_shift
from cropfirst.stage2_classify.voting.soft_vote import combine_codes


def test_the_worst_slice_is_worse_than_its_classes_explain() -> None:
    """Class 1 is hard everywhere; place c is bad at both classes."""
    place = np.repeat(["a", "b", "c"], 100)
    targets = np.concatenate([np.zeros(100), np.ones(100), np.repeat([0, 1], 50)]).astype(int)
    preds = targets.copy()
    preds[100:150] = 0  # b holds class 1 alone, half of it wrong
    preds[200:240], preds[250:290] = 1, 0  # c: most of both wrong
    found = score_slices(
        "task", targets=targets, preds=preds, people=np.arange(300), n_classes=2,
        facts={"place": tuple(place), "task": tuple(place)},
    )  # fmt: skip
    assert [each.value for each in found] == ["c", "b", "a"]
    assert {each.by for each in found} == {"place"}  # its own classes are no slices of a task
    worst = found[0]
    # Elsewhere: class 0 always right, class 1 half: (50 + 25) / 100.
    assert worst.expected == pytest.approx(0.75) and worst.accuracy.value == pytest.approx(0.2)
    assert worst.accuracy.low < 0.2 < worst.accuracy.high and worst.n_people == 100
    assert worst.matrix.tolist() == [[10, 40], [40, 10]]


def test_small_slices_come_last_and_say_so() -> None:
    targets = np.zeros(MIN_PHOTOS + 3, int)
    preds = targets.copy()
    preds[-3:] = 1
    words = ("many",) * MIN_PHOTOS + ("few",) * 3
    many, few = score_slices(
        "t", targets=targets, preds=preds, people=targets, n_classes=2, facts={"by": words}
    )
    assert (many.value, few.value) == ("many", "few")
    assert few.is_small and not many.is_small


def test_intervals_hold_the_value_and_shrink_with_people() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 400)
    preds = np.where(rng.random(400) < 0.8, targets, 1 - targets)
    f1, accuracy = score_intervals(np.arange(400), targets, preds, 2)
    assert accuracy.value == pytest.approx((targets == preds).mean())
    assert f1.low < f1.value < f1.high
    few, _ = score_intervals(np.arange(400) // 40, targets, preds, 2)
    assert few.value == f1.value
    (mean,) = mean_intervals(np.arange(400), (targets == preds)[:, None].astype(float))
    assert (mean.low, mean.high) == pytest.approx((accuracy.low, accuracy.high), abs=0.01)
    with pytest.raises(ValueError, match="at least one photo"):
        score_intervals(np.array([], int), np.array([], int), np.array([], int), 2)


def test_one_person_has_no_interval_to_speak_of() -> None:
    f1, _ = score_intervals(np.zeros(9, int), np.zeros(9, int), np.zeros(9, int), 2)
    assert (f1.value, f1.low, f1.high) == (1.0, 1.0, 1.0)


def test_the_calibration_error_has_an_interval_over_people() -> None:
    rng = np.random.default_rng(1)
    probs = np.tile([[0.9, 0.1]], (300, 1))
    targets = (rng.random(300) > 0.6).astype(int)
    gaps = confidence_gaps(probs, targets)
    before, after, change = ece_intervals(np.arange(300), [gaps, (gaps[0], gaps[1] * 0)])
    assert before.value == pytest.approx(0.9 - (targets == 0).mean())
    assert before.low < before.value < before.high and after.value == 0
    assert change.value == pytest.approx(-before.value) and change.high < 0


def _answered(targets: list[int], preds: list[int], probs: np.ndarray | None) -> OofVote:
    keys = tuple(f"train/{row}.jpg" for row in range(len(targets)))
    return OofVote(keys, np.array(targets), np.array(preds), ("detected",) * len(keys), 0, probs)


def test_mistakes_are_the_surest_first(schema: LabelSchema) -> None:
    probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    answered = _answered([0, 0, 0, 1], [0, 1, 1, 1], probs)
    found = analyze_task("gender", answered, schema, people={}, photos=None, crop_rows=None)
    assert [(m.key, m.true, m.predicted) for m in found.mistakes] == [
        ("train/2.jpg", "male", "female"),
        ("train/1.jpg", "male", "female"),
    ]
    assert found.mistakes[0].confidence == pytest.approx(0.8)
    assert found.n_people == 4 and found.slices == () and found.ece is not None


def test_a_class_without_a_mistake_is_no_trouble(schema: LabelSchema) -> None:
    answered = _answered([0, 1, 1], [0, 1, 1], None)
    found = analyze_task("gender", answered, schema, people={}, photos=None, crop_rows=None)
    assert found.mistakes == () and found.macro_f1.value == 1.0
    assert found.reliability is None and found.to_dict()["ece"] is None


def test_slices_come_from_labels_and_crops(schema: LabelSchema, make_photos) -> None:
    labels = {
        f"train/{row}.jpg": {"mask": "wear", "gender": "male", "age": 20 + row, "race": race}
        for row, race in enumerate(["x", "y", "x", "x"])
    }
    photos: PhotoSet = make_photos(list(labels), labels=labels)
    rows = pl.DataFrame(
        {
            "key": list(labels)[:3],
            "status": ["detected", "detected", "prior"],
            "prob": [0.5, 0.9995, None],
            "box": [[0.0, 0.0, 10.0, 30.0], [0.0, 0.0, 10.0, 90.0], None],
        }
    )
    facts = photo_facts(tuple(labels), photos, schema, rows)
    assert facts["race"] == ("x", "y", "x", "x")
    assert facts["crop"] == ("detected", "detected", "prior", None)
    assert facts["detector score"] == ("0 to 0.9", "0.999 to 1", None, None)
    assert facts["face height"][0] != facts["face height"][1] and facts["face height"][2] is None
    assert "mask" not in facts and "gender" not in facts  # one value: nothing to compare
    assert in_thirds([1, 2, 3, float("nan")], "px")[3] is None
    assert in_thirds([float("nan")], "px") == (None,)


def test_a_shift_of_classes_is_seen_and_chance_is_not() -> None:
    rng = np.random.default_rng(0)
    same = class_shift("mask", rng.choice(3, 700, p=[0.7, 0.2, 0.1]), [0.7, 0.2, 0.1], "abc")
    assert not same.is_large and same.value < 0.06
    other = class_shift("mask", np.array([0] * 300 + [1] * 700), [0.7, 0.2, 0.1], "abc")
    assert other.is_large and other.value == pytest.approx(0.5)
    assert "a 70.0% -> 30.0%" in str(other)
    # Four photos are of any shares.
    assert not class_shift("mask", np.array([0, 0, 1, 1]), [0.7, 0.2, 0.1], "abc").is_large


def _photo_set(root: Path, *, photos: int, known: bool) -> PhotoSet:
    """The 50 people of `save_people`; every second one of them is of place a."""
    return PhotoSet(
        root,
        "contest",
        tuple(
            Sample(
                f"{person:02d}/{copy}.jpg",
                root / "none.jpg",
                group=f"{person:02d}" if known else None,
                labels={"place": "ab"[person % 2]},
            )
            for person in range(50)
            for copy in range(photos)
        ),
    )


def _intervals(found: Evaluation) -> np.ndarray:
    """(K, 3) value, low and high of every interval of an evaluation."""
    intervals = []
    for each in found.analyses:
        intervals += [each.macro_f1, each.accuracy, *([each.ece] if each.ece else [])]
        for part in sorted(each.slices, key=lambda part: (part.by, part.value)):
            intervals += [part.macro_f1, part.accuracy]
    return np.array([(each.value, each.low, each.high) for each in intervals])


def _width(intervals: np.ndarray) -> float:
    return float((intervals[:, 2] - intervals[:, 1]).mean())


def test_identical_photos_of_a_person_do_not_narrow_any_interval(
    save_people: Callable[..., Path], tmp_path: Path
) -> None:
    """Drawing photos instead of people would halve every interval: sqrt(4) = 2."""

    def score(photos: int, *, known: bool) -> np.ndarray:
        run = tmp_path / f"{photos}{known}" / "run"
        save_people(run, photos=photos, tasks=["gender"], known=known)
        people = _photo_set(tmp_path, photos=photos, known=known)
        return _intervals(evaluate_oof([run], out_dir=tmp_path / "out", photos=people))

    one = score(1, known=True)
    assert len(one) == 3 + 2 * 2
    np.testing.assert_allclose(score(4, known=True), one)
    assert _width(one) / _width(score(4, known=False)) == pytest.approx(2, abs=0.15)


def test_intervals_of_answers_are_over_people_too(
    save_people: Callable[..., Path], schema: LabelSchema, tmp_path: Path
) -> None:
    tasks = ("mask", "gender")
    two = LabelSchema("two", tuple(map(schema.task, tasks)), Combined("code", tasks))

    def score(photos: int) -> np.ndarray:
        table = pl.read_parquet(save_people(tmp_path / f"{photos}", photos=photos) / "oof.parquet")
        truth = combine_codes({task: table[f"{task}_target"].to_numpy() for task in tasks}, two)
        assert truth is not None
        preds = np.where(np.arange(len(truth)) // photos % 3 == 0, 0, truth)
        for name, codes in (("answers", truth), ("submission", preds)):
            columns = {"ImageID": table["key"], "ans": codes}
            pl.DataFrame(columns).write_csv(tmp_path / f"{name}.csv")
        found = evaluate_answers(
            tmp_path / "answers.csv",
            tmp_path / "submission.csv",
            schema=two,
            out_dir=tmp_path / "out",
            photos=_photo_set(tmp_path, photos=photos, known=True),
        )
        return _intervals(found)

    one = score(1)
    assert len(one) > 20 and _width(one) > 0.1
    np.testing.assert_allclose(score(4), one)
