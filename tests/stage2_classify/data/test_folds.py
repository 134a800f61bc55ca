"""Folds by person: no leak, stratified, the same for any order of the photos."""

from __future__ import annotations

import time

import numpy as np
import pytest

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.data.folds import check_folds, make_folds


def people(n: int, photos: int = 7) -> tuple[list[str], list[str | None]]:
    keys = [f"p{p:03d}/{i}.jpg" for p in range(n) for i in range(photos)]
    return keys, [key.split("/")[0] for key in keys]


def test_no_person_is_in_two_folds_and_every_photo_is_in_one() -> None:
    keys, groups = people(50)
    targets = np.random.default_rng(0).integers(0, 3, len(keys))
    folds = make_folds(keys, groups=groups, targets=targets, n_folds=5)
    assert folds.dtype == np.int32
    assert set(folds.tolist()) == {0, 1, 2, 3, 4}
    for person in set(groups):
        assert len({f for f, g in zip(folds.tolist(), groups, strict=True) if g == person}) == 1


def test_classes_are_spread_evenly_over_the_folds() -> None:
    keys, groups = people(100)
    targets = np.array([int(group[1:]) % 10 == 0 for group in groups if group])  # 10 % of people
    folds = make_folds(keys, groups=groups, targets=targets.astype(int), n_folds=5)
    shares = [targets[folds == fold].mean() for fold in range(5)]
    assert shares == pytest.approx([0.1] * 5, abs=0.02)


def test_several_tasks_are_stratified_jointly() -> None:
    keys, groups = people(120, photos=1)
    person = np.arange(120)
    targets = np.stack([person % 2, person % 3], axis=1)
    folds = make_folds(keys, groups=groups, targets=targets, n_folds=4)
    for fold in range(4):
        counts = np.bincount(targets[folds == fold] @ [3, 1], minlength=6)
        assert counts.tolist() == [5] * 6


def test_the_order_of_the_photos_does_not_matter() -> None:
    keys, groups = people(30, photos=3)
    targets = np.random.default_rng(1).integers(0, 3, len(keys))
    folds = make_folds(keys, groups=groups, targets=targets, n_folds=3, seed=7)
    shuffle = np.random.default_rng(2).permutation(len(keys))
    again = make_folds(
        [keys[i] for i in shuffle],
        groups=[groups[i] for i in shuffle],
        targets=targets[shuffle],
        n_folds=3,
        seed=7,
    )
    assert np.array_equal(again, folds[shuffle])


def test_another_seed_gives_other_folds() -> None:
    keys, groups = people(30)
    targets = np.random.default_rng(0).integers(0, 2, len(keys))
    split = [make_folds(keys, groups=groups, targets=targets, n_folds=3, seed=s) for s in (0, 1)]
    assert not np.array_equal(split[0], split[1])


def test_photos_without_a_person_stand_for_themselves() -> None:
    keys, groups = people(9, photos=4)
    mixed = [None if group == "p000" else group for group in groups]
    targets = np.arange(len(keys)) % 2
    none = make_folds(keys, groups=[None] * len(keys), targets=targets, n_folds=4)
    assert np.bincount(none).tolist() == [9] * 4
    folds = make_folds(keys, groups=mixed, targets=targets, n_folds=2)
    assert np.bincount(folds).tolist() == [18] * 2
    assert set(folds[:4].tolist()) == {0, 1}  # the photos of nobody may part


def test_many_photos_are_split_in_a_moment() -> None:
    keys = [f"{i:06d}" for i in range(30_000)]
    targets = np.random.default_rng(0).integers(0, 18, len(keys))
    started = time.process_time()
    folds = make_folds(keys, groups=[None] * len(keys), targets=targets, n_folds=5)
    assert time.process_time() - started < 5
    spread = np.array([np.bincount(targets[folds == fold], minlength=18) for fold in range(5)])
    assert np.ptp(spread, axis=0).max() <= 1


@pytest.mark.parametrize("n_people", [3, 4, 5, 8])
def test_as_many_folds_as_persons_leave_none_empty(n_people: int) -> None:
    keys, groups = people(n_people)
    targets = np.array([int(group[1:]) == 0 for group in groups if group]).astype(int)
    targets[0] = 0
    targets[-1] = 1
    folds = make_folds(keys, groups=groups, targets=targets, n_folds=n_people)
    assert set(folds.tolist()) == set(range(n_people))


def test_classes_smaller_than_the_number_of_folds_are_no_error() -> None:
    keys, groups = people(12, photos=1)
    folds = make_folds(keys, groups=groups, targets=np.arange(12), n_folds=3)
    assert np.bincount(folds).tolist() == [4, 4, 4]


def test_fewer_persons_than_folds_name_the_flag() -> None:
    keys, groups = people(3)
    with pytest.raises(TrainError, match=r"4 persons.*has 3: lower --folds"):
        make_folds(keys, groups=groups, targets=np.arange(len(keys)) % 2, n_folds=4)


def test_one_class_is_an_error() -> None:
    keys, groups = people(9)
    with pytest.raises(TrainError, match=r"one class only: all 63 photos .* class number 2"):
        make_folds(keys, groups=groups, targets=np.full(len(keys), 2), n_folds=3)


def test_a_class_that_only_one_person_has_cannot_be_learned_beside_its_fold() -> None:
    keys, groups = people(9)
    targets = np.array([group == "p000" for group in groups]).astype(int)
    with pytest.raises(TrainError, match="only one class is left to train on"):
        make_folds(keys, groups=groups, targets=targets, n_folds=3)


def test_a_leak_is_an_error_that_names_the_person() -> None:
    check_folds(np.array([0, 0, 1]), ["a", "a", "b"])
    check_folds(np.array([0, 1]), [None, None])
    with pytest.raises(TrainError, match="person 'a' is in folds 0 and 1"):
        check_folds(np.array([0, 1, 1]), ["a", "a", "b"])
