"""The paired bootstrap over people, against a loop that resamples photos one by one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from cropfirst.core.bootstrap import Interval
from cropfirst.stage2_classify.metrics.intervals import (
    Paired,
    ece_intervals,
    mean_intervals,
    number_people,
    paired_difference,
    score_intervals,
)


def make_task(
    *, people: int = 30, photos: int = 4, classes: int = 3, seed: int = 0, better: float = 0.3
) -> Paired:
    """Two models that are right about half the time, the second more often; persons in common."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(people), photos)
    targets = rng.integers(0, classes, len(who))
    first = np.where(rng.random(len(who)) < 0.5, targets, rng.integers(0, classes, len(who)))
    second = np.where(rng.random(len(who)) < better, targets, first)
    return Paired(who, targets, (first, second), classes)


def sklearn_gap(task: Paired, rows: np.ndarray) -> float:
    one, two = (
        f1_score(task.targets[rows], preds[rows], average="macro", zero_division=0.0)
        for preds in task.preds
    )
    return float(two - one)


def test_value_and_interval_are_those_of_the_loop() -> None:
    tasks = [make_task(seed=0), make_task(seed=1, classes=5)]
    found = paired_difference(tasks, resamples=300, seed=7)
    rng, n_people = np.random.default_rng(7), 30
    gaps = []
    for drawn in rng.integers(0, n_people, (300, n_people)):
        rows = [np.concatenate([np.flatnonzero(t.people == p) for p in drawn]) for t in tasks]
        gaps.append(np.mean([sklearn_gap(t, r) for t, r in zip(tasks, rows, strict=True)]))
    everyone = np.arange(len(tasks[0].targets))
    assert found.value == pytest.approx(np.mean([sklearn_gap(t, everyone) for t in tasks]))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(gaps, [0.025, 0.975])))
    assert found.low < found.value < found.high and found.is_clear


def test_many_photos_of_one_person_do_not_make_it_surer() -> None:
    """Ten copies of each photo say nothing new, and must not narrow the interval."""
    few = make_task(people=20, photos=1)
    copies = Paired(
        np.repeat(few.people, 10),
        np.repeat(few.targets, 10),
        (np.repeat(few.preds[0], 10), np.repeat(few.preds[1], 10)),
        few.n_classes,
    )
    assert paired_difference([copies]) == paired_difference([few])


def test_copies_of_a_photo_narrow_no_interval() -> None:
    """All three other intervals; over photos they would be sqrt(9) = 3 times as narrow."""
    rng, people = np.random.default_rng(3), np.arange(200)
    targets = rng.integers(0, 3, 200)
    preds = np.where(rng.random(200) < 0.6, targets, rng.integers(0, 3, 200))
    bins, gap = rng.integers(0, 5, 200), rng.normal(0.3, 1, 200)

    def intervals(people: np.ndarray, copies: int) -> list[Interval]:
        def more(values: np.ndarray) -> np.ndarray:
            return np.repeat(values, copies)

        return [
            *score_intervals(people, more(targets), more(preds), 3),
            *mean_intervals(people, more(gap)[:, None]),
            *ece_intervals(people, [(more(bins), more(gap))]),
        ]

    one, nine = intervals(people, 1), intervals(np.repeat(people, 9), 9)
    photos = intervals(np.arange(200 * 9), 9)
    for alone, copied, narrow in zip(one, nine, photos, strict=True):
        want = (alone.value, alone.low, alone.high)
        assert (copied.value, copied.low, copied.high) == pytest.approx(want)
        if alone.value:  # the change of a single model's calibration error is 0
            ratio = (alone.high - alone.low) / (narrow.high - narrow.low)
            assert ratio == pytest.approx(3, rel=0.15)


def test_people_are_numbered_by_name_and_photos_of_nobody_are_their_own() -> None:
    keys = ["d.jpg", "a.jpg", "c.jpg", "b.jpg"]
    found = number_people(keys, {"a.jpg": "person x", "b.jpg": "person x", "c.jpg": "person y"})
    assert found[1] == found[3] and len(set(found.tolist())) == 3


def test_equal_models_differ_by_nothing() -> None:
    task = make_task()
    same = Paired(task.people, task.targets, (task.preds[0], task.preds[0]), task.n_classes)
    found = paired_difference([same])
    assert (found.value, found.low, found.high) == (0, 0, 0) and not found.is_clear


def test_a_class_that_nobody_has_does_not_count() -> None:
    task = make_task(classes=2)
    wide = Paired(task.people, task.targets, task.preds, 18)
    assert paired_difference([wide]) == paired_difference([task])


def test_blocks_of_resamples_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from cropfirst.core import bootstrap as resample

    whole = paired_difference([make_task()], resamples=100)
    monkeypatch.setattr(resample, "BLOCK_CELLS", 7 * 30)
    assert paired_difference([make_task()], resamples=100) == whole


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Over many data sets of the same two models, whose difference is known from a large one."""
    truth = paired_difference([make_task(people=40_000, seed=99)], resamples=1).value
    inside = 0
    for seed in range(200):
        found = paired_difference([make_task(people=60, seed=seed)], resamples=400)
        inside += found.low <= truth <= found.high
    assert 180 <= inside <= 199


def test_nothing_to_compare_is_refused() -> None:
    empty = np.zeros(0, np.int64)
    for tasks in ([], [Paired(empty, empty, (empty, empty), 3)]):
        with pytest.raises(ValueError, match="at least one"):
            paired_difference(tasks)
