"""Folds by person, stratified by label.

Knows keys, persons and class numbers; knows nothing of crops or models. No person is ever in two
folds: with photos of one person on both sides, validation measures memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cropfirst.core.errors import TrainError


def make_folds(
    keys: Sequence[str],
    *,
    groups: Sequence[str | None],
    targets: NDArray[np.integer],
    n_folds: int,
    seed: int = 0,
    known: Sequence[int | None] | None = None,
) -> NDArray[np.int32]:
    """Assign a fold to every photo, independently of the photos' order.

    Args:
        groups: person of each photo; None is a person of its own.
        targets: (N,) or (N, tasks) class numbers; several tasks are stratified jointly.
        known: fold that a photo's person must stay in, None for new people; None leaves all free.

    Returns:
        (N,) int32 in [0, n_folds).

    Raises:
        TrainError: there are fewer persons than folds, or a task has one class only (overall, or in
            the training part of a fold).
    """
    columns = np.asarray(targets).reshape(len(keys), -1)
    _check_classes(columns)
    order = np.argsort(np.asarray(keys, dtype=np.str_), kind="stable")
    persons, codes = _encode_groups(keys, groups), _joint_codes(columns)
    n_persons = len(set(persons.tolist()))
    if n_persons < n_folds:
        raise TrainError(
            f"{n_folds} folds need at least {n_folds} persons with a label, the data set has "
            f"{n_persons}: lower --folds (2 at least), or add people"
        )
    folds = np.empty(len(keys), np.int32)
    fixed = _fixed_folds(persons, known)
    folds[order] = _split(persons[order], codes[order], n_folds=n_folds, seed=seed, fixed=fixed)
    check_folds(folds, groups)
    for fold in range(n_folds):
        training = columns[folds != fold]
        if any(len(np.unique(column)) < 2 for column in training.T):
            raise TrainError(
                f"beside fold {fold} only one class is left to train on: too few persons have the "
                "other classes; lower --folds, or add people"
            )
    return folds


def check_folds(folds: NDArray[np.integer], groups: Sequence[str | None]) -> None:
    """Check that no person is in two folds.

    Raises:
        TrainError: a person is.
    """
    seen: dict[str, int] = {}
    for fold, group in zip(folds.tolist(), groups, strict=True):
        if group is not None and seen.setdefault(group, fold) != fold:
            raise TrainError(
                f"person {group!r} is in folds {seen[group]} and {fold}: validation would measure "
                "memory; make new folds (another --name)"
            )


def _check_classes(columns: NDArray[np.integer]) -> None:
    if not len(columns):
        raise TrainError("no photo to train on: none has both a crop and the label")
    for column in columns.T:
        if len(np.unique(column)) < 2:
            raise TrainError(
                f"the task has one class only: all {len(column)} photos with a label have class "
                f"number {column[0]}; nothing can be learned from that, check the labels or --task"
            )


def _encode_groups(keys: Sequence[str], groups: Sequence[str | None]) -> NDArray[np.int64]:
    """Number the persons by their sorted names, so that the photos' order does not matter."""
    names = [f"g{g}" if g is not None else f"k{k}" for k, g in zip(keys, groups, strict=True)]
    return np.unique(np.asarray(names, dtype=np.str_), return_inverse=True)[1].reshape(-1)


def _joint_codes(columns: NDArray[np.integer]) -> NDArray[np.int64]:
    return np.unique(columns, axis=0, return_inverse=True)[1].reshape(-1)


def _fixed_folds(persons: NDArray[np.int64], known: Sequence[int | None] | None) -> dict[int, int]:
    """Return person -> fold, for those that have one."""
    pairs = zip(persons.tolist(), known or (), strict=False)
    return {person: fold for person, fold in pairs if fold is not None}


def _split(
    persons: NDArray[np.int64],
    codes: NDArray[np.int64],
    *,
    n_folds: int,
    seed: int,
    fixed: Mapping[int, int],
) -> NDArray[np.int32]:
    """Assign persons greedily, those with the rarest classes first, to the least filled fold.

    A person's row counts its photos of each class, and of all classes, as shares of the total.
    Adding it to fold f increases the sum of squares over folds by an amount that
    `filled[f] @ row` measures, and that sum is smallest for an even distribution. scikit-learn's
    StratifiedGroupKFold does the same by search, but it may put a rare class into one fold only if
    persons are alike and shuffled, and its folds depend on its version.
    """
    counts = np.zeros((persons.max() + 1, codes.max() + 2))
    np.add.at(counts, (persons, codes), 1)
    counts[:, -1] = counts.sum(1)
    shares = counts / counts.sum(0)
    order = np.random.default_rng(seed).permutation(len(shares))
    weights = (shares**2).sum(1)
    # Rounded, so that ties are ties on every machine.
    order = order[np.argsort(-np.round(weights[order] / weights.max(), 9), kind="stable")]
    filled = np.zeros((n_folds, shares.shape[1]))
    folds = np.empty(len(shares), np.int32)
    for person, fold in fixed.items():
        filled[fold] += shares[person]
        folds[person] = fold
    for person in order:
        if int(person) in fixed:
            continue
        row = shares[person]
        fold = int(np.argmin(np.round(filled @ (row / row.max()), 9)))
        filled[fold] += row
        folds[person] = fold
    return folds[persons]
