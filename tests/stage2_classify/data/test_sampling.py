"""Which rows make an epoch: everyone, or classes in balance; the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from cropfirst.stage2_classify.data.sampling import (
    Balance,
    EpochSampler,
    choose_balance,
    draw_rows,
    merge_strata,
    part_of,
    rarest_rows,
)

CODES = np.repeat([0, 1, 2], [70, 25, 5])
ROWS = np.arange(100)


def test_weighted_draws_classes_equally_often() -> None:
    balance = Balance("weighted", CODES)
    drawn = np.concatenate([draw_rows(ROWS, balance, seed=(0, e)) for e in range(60)])
    assert len(drawn) == 6000
    shares = np.bincount(CODES[drawn]) / 6000
    assert shares == pytest.approx([1 / 3] * 3, abs=0.03)
    by_root = Balance("weighted", CODES, power=0.5)
    drawn = np.concatenate([draw_rows(ROWS, by_root, seed=(0, e)) for e in range(60)])
    want = np.sqrt([70, 25, 5]) / np.sqrt([70, 25, 5]).sum()
    assert np.bincount(CODES[drawn]) / 6000 == pytest.approx(want, abs=0.03)


def test_oversampling_keeps_every_photo_and_repeats_the_rare() -> None:
    drawn = draw_rows(ROWS, Balance("oversample", CODES), seed=(0, 1))
    assert np.bincount(CODES[drawn]).tolist() == [70, 70, 50]  # 5 rows, ten times each at most
    counts = np.bincount(drawn)
    assert set(counts[:70]) == {1}
    assert set(counts[70:95]) == {2, 3}  # none more than once oftener than another
    assert set(counts[95:]) == {10}
    limited = draw_rows(ROWS, Balance("oversample", CODES, max_repeats=2), seed=(0, 1))
    assert np.bincount(CODES[limited]).tolist() == [70, 50, 10]


@pytest.mark.parametrize("how", ["shuffle", "weighted", "oversample"])
def test_epochs_follow_from_their_seed_alone(how: str) -> None:
    balance = choose_balance(how, {"age": CODES}, tasks=["age"], power=1.0, max_repeats=10)  # type: ignore[arg-type]
    first, again, other = (draw_rows(ROWS, balance, seed=(0, e)) for e in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_only_the_training_part_is_drawn_from() -> None:
    part = np.flatnonzero(ROWS % 2)
    for how in ("weighted", "oversample"):
        assert set(draw_rows(part, Balance(how, CODES), seed=(0,))) <= set(part)  # type: ignore[arg-type]


def test_strata_are_combinations_and_unknown_is_one_too() -> None:
    strata = merge_strata([np.array([0, 0, 1, 1, -1]), np.array([0, 1, 0, 0, 0])])
    assert strata[2] == strata[3]
    assert len(set(strata.tolist())) == 4


def test_the_rarest_class_is_that_of_the_rows_asked_about() -> None:
    assert rarest_rows(ROWS, CODES).tolist() == [95, 96, 97, 98, 99]
    assert rarest_rows(np.arange(80), CODES).tolist() == list(range(70, 80))
    assert rarest_rows(np.arange(3), np.array([-1, -1, -1])).tolist() == []


def test_an_epoch_has_every_row_once_but_for_a_last_single_one() -> None:
    for n, left_out in ((11, 0), (12, 0), (9, 1), (1, 0)):
        sampler = EpochSampler(np.arange(n), batch_size=4, seed=(0,))
        rows = [row for request in sampler for row in request.rows.tolist()]
        assert len(rows) == len(set(rows)) == n - left_out
        assert len(sampler) == len(list(sampler))


def test_validation_is_in_order_and_complete() -> None:
    sampler = EpochSampler(np.array([5, 7, 9]), batch_size=2, seed=None)
    assert [request.rows.tolist() for request in sampler] == [[5, 7], [9]]


def test_every_epoch_has_another_order() -> None:
    sampler = EpochSampler(np.arange(50), batch_size=50, seed=(0, 1))
    orders = []
    for epoch in (1, 2, 1):
        sampler.epoch = epoch
        orders.append(next(iter(sampler)).rows.tolist())
    assert orders[0] == orders[2] != orders[1]


def test_partners_are_drawn_from_their_own_rows_as_often_as_asked() -> None:
    partners = np.array([95, 96])
    sampler = EpochSampler(
        np.arange(80), batch_size=8, seed=(0,), partners=partners, partner_prob=0.5
    )
    n_mixed = 0
    for sampler.epoch in range(20):
        for request in sampler:
            own = request.rows[: len(request.rows) - request.n_partners]
            assert len(own) == 8 and set(own) <= set(range(80))
            assert set(request.rows[len(own) :]) <= {95, 96}
            assert request.n_partners in (0, 8)
            n_mixed += request.n_partners == 8
    assert 70 < n_mixed < 130


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("seed", [(0,), None])
def test_processes_share_each_batch_and_leave_out_none(size: int, seed: tuple[int] | None) -> None:
    more = {"partners": np.array([95, 96]), "partner_prob": 0.5} if seed else {}
    alone = EpochSampler(np.arange(42), batch_size=8, seed=seed, **more)
    shared = [
        EpochSampler(np.arange(42), batch_size=8, seed=seed, share=(rank, size), **more)
        for rank in range(size)
    ]
    # 2 are left over: too few for two or three processes to learn from, enough to validate.
    assert [len(each) for each in shared] == [5 if seed else 6] * size
    for whole, *parts in zip(alone, *shared, strict=bool(not seed)):
        places = []
        for rank, part in enumerate(parts):
            assert part.rows.tolist() == whole.rows.tolist() and part.positions is not None
            n = len(whole.rows) - whole.n_partners
            own = [place for place in part.positions.tolist() if place < n]
            if len(part_of(n, (rank, size))):
                places += own
            else:
                assert own == [0], "a stand-in, since no network likes to see nothing"
            partners = [place - n for place in part.positions.tolist() if place >= n]
            assert partners == (own if whole.n_partners else [])
        assert places == list(range(n))


def test_an_oversampled_epoch_is_longer() -> None:
    sampler = EpochSampler(ROWS, batch_size=10, seed=(0,), balance=Balance("oversample", CODES))
    assert sampler.n_crops == 190
    assert len(sampler) == len(list(sampler)) == 19
