"""Soft voting: means by hand, marginals by the sum over codes, and who decides the code."""

from __future__ import annotations

import numpy as np
import pytest

from cropfirst.stage2_classify.labels.schema import Combined, LabelSchema, Task
from cropfirst.stage2_classify.voting.soft_vote import (
    combine_codes,
    marginals,
    soft_vote,
    split_codes,
    vote,
)


def _probs(rng_seed: int, shape: tuple[int, int]) -> np.ndarray:
    table = np.random.default_rng(rng_seed).random(shape)
    return (table / table.sum(1, keepdims=True)).astype(np.float32)


def _one_hot(codes: list[int], size: int, *, sure: float = 0.9) -> np.ndarray:
    table = np.full((len(codes), size), (1 - sure) / (size - 1), np.float32)
    table[np.arange(len(codes)), codes] = sure
    return table


def test_soft_vote_is_the_mean() -> None:
    mean = soft_vote([np.array([[0.8, 0.2]]), np.array([[0.2, 0.8]]), np.array([[0.5, 0.5]])])
    np.testing.assert_allclose(mean, [[0.5, 0.5]], atol=1e-7)
    assert mean.dtype == np.float32


def test_soft_vote_weighs_members() -> None:
    mean = soft_vote([np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])], weights=[3, 1])
    np.testing.assert_allclose(mean, [[0.75, 0.25]])


def test_soft_vote_counts_only_members_that_have_seen_the_photo() -> None:
    blind = np.array([[np.nan, np.nan], [0.0, 1.0], [np.nan, np.nan]])
    mean = soft_vote([np.array([[0.6, 0.4], [1.0, 0.0], [np.nan, np.nan]]), blind])
    np.testing.assert_allclose(mean[:2], [[0.6, 0.4], [0.5, 0.5]])
    assert np.isnan(mean[2]).all()


@pytest.mark.parametrize(
    ("members", "weights"),
    [
        ([], None),
        ([np.zeros((2, 2)), np.zeros((3, 2))], None),
        ([np.zeros((2, 2)), np.zeros((2, 3))], None),
        ([np.zeros(2)], None),
        ([np.zeros((1, 2))], [1.0, 2.0]),
        ([np.zeros((1, 2)), np.zeros((1, 2))], [0.0, 0.0]),
        ([np.zeros((1, 2)), np.zeros((1, 2))], [2.0, -1.0]),
    ],
)
def test_soft_vote_refuses_what_does_not_fit(
    members: list[np.ndarray], weights: list[float] | None
) -> None:
    with pytest.raises(ValueError, match=r"wanted|needs"):
        soft_vote(members, weights=weights)


def test_marginals_sum_over_the_codes_of_a_class(schema: LabelSchema) -> None:
    joint = _probs(0, (5, 18))
    parts = marginals(joint, schema)
    for name, table in parts.items():
        by_hand = np.zeros_like(table)
        for code in range(18):
            by_hand[:, schema.split_code(code)[name]] += joint[:, code]
        np.testing.assert_allclose(table, by_hand, atol=1e-6)
    assert list(parts) == ["mask", "gender", "age"]


def test_codes_of_arrays_are_those_of_the_schema(schema: LabelSchema) -> None:
    codes = np.arange(18, dtype=np.int32)
    parts = split_codes(codes, schema)
    for code in range(18):
        assert {name: int(part[code]) for name, part in parts.items()} == schema.split_code(code)
    back = combine_codes(parts, schema)
    assert back is not None
    np.testing.assert_array_equal(back, codes)
    assert combine_codes({"mask": parts["mask"]}, schema) is None


def test_tasks_make_the_code(schema: LabelSchema) -> None:
    ballot = vote(
        [
            {"mask": _one_hot([2, 0], 3)},
            {"gender": _one_hot([1, 0], 2)},
            {"age": _one_hot([2, 1], 3)},
        ],
        schema,
    )
    assert ballot.code is not None
    assert ballot.code.tolist() == [2 * 6 + 1 * 3 + 2, 1]
    assert list(ballot.probs) == ["mask", "gender", "age"]


def test_the_surer_members_win_a_task(schema: LabelSchema) -> None:
    members = [
        {"gender": np.array([[0.45, 0.55]])},
        {"gender": np.array([[0.45, 0.55]])},
        {"gender": np.array([[0.95, 0.05]])},
    ]
    ballot = vote(members, schema)
    assert ballot.preds["gender"].tolist() == [0]  # two to one against it by show of hands
    assert ballot.code is None


def test_the_joint_mean_decides_among_code_members(schema: LabelSchema) -> None:
    joint = np.zeros((1, 18), np.float32)
    # The likeliest code is 0, though mask 1 (codes 6, 7) and gender 1 (4, 5, 10) add up to more.
    joint[0, [0, 6, 7, 10]] = [0.3, 0.25, 0.2, 0.25]
    ballot = vote([{"class18": joint}, {"class18": joint}], schema)
    assert ballot.code is not None and ballot.code.tolist() == [0]
    assert {name: int(codes[0]) for name, codes in ballot.preds.items()} == schema.split_code(0)
    assert ballot.probs["mask"][0].argmax() == 1
    np.testing.assert_allclose(ballot.probs["class18"], joint, atol=1e-7)


def test_a_code_member_lends_its_marginals_to_the_tasks(schema: LabelSchema) -> None:
    joint, mask = _probs(1, (4, 18)), _probs(2, (4, 3))
    ballot = vote([{"class18": joint}, {"mask": mask}], schema)
    parts = marginals(joint, schema)
    np.testing.assert_allclose(ballot.probs["mask"], (parts["mask"] + mask) / 2, atol=1e-6)
    np.testing.assert_allclose(ballot.probs["age"], parts["age"], atol=1e-6)
    assert "class18" not in ballot.probs
    expected = combine_codes({n: ballot.probs[n].argmax(1) for n in parts}, schema)
    assert ballot.code is not None and expected is not None
    np.testing.assert_array_equal(ballot.code, expected)


def test_a_member_of_another_task_leaves_the_joint_to_decide(schema: LabelSchema) -> None:
    glasses = Task("glasses", ("no", "yes"), ("glasses",))
    wider = LabelSchema("wider", (*schema.tasks, glasses), schema.combined)
    joint = _probs(3, (6, 18))
    ballot = vote([{"class18": joint}, {"glasses": _probs(4, (6, 2))}], wider)
    assert ballot.code is not None
    np.testing.assert_array_equal(ballot.code, joint.argmax(1))
    assert list(ballot.probs) == ["mask", "gender", "age", "glasses", "class18"]


def test_priors_speak_for_photos_that_no_member_has_seen(schema: LabelSchema) -> None:
    seen = np.array([[0.1, 0.8, 0.1], [np.nan] * 3], np.float32)
    priors = [{"mask": np.array([0.7, 0.2, 0.1])}, {"mask": np.array([0.5, 0.2, 0.3])}]
    ballot = vote([{"mask": seen}, {"mask": seen}], schema, priors=priors)
    np.testing.assert_allclose(ballot.probs["mask"], [[0.1, 0.8, 0.1], [0.6, 0.2, 0.2]], atol=1e-6)
    assert ballot.preds["mask"].tolist() == [1, 0]


def test_priors_of_the_code_speak_in_the_joint(schema: LabelSchema) -> None:
    joint = np.full((1, 18), np.nan, np.float32)
    prior = _probs(5, (1, 18))[0]
    ballot = vote([{"class18": joint}], schema, priors=[{"class18": prior}])
    assert ballot.code is not None and ballot.code.tolist() == [int(prior.argmax())]


def test_a_photo_that_nobody_speaks_for_is_refused(schema: LabelSchema) -> None:
    with pytest.raises(ValueError, match="mask"):
        vote([{"mask": np.full((1, 3), np.nan)}], schema)


def test_unknown_tasks_and_no_members_are_refused(schema: LabelSchema) -> None:
    with pytest.raises(ValueError, match="hat"):
        vote([{"hat": _probs(6, (1, 2))}], schema)
    with pytest.raises(ValueError, match="at least one"):
        vote([], schema)


def test_a_schema_without_a_code_has_none() -> None:
    plain = LabelSchema("plain", (Task("a", ("x", "y"), ("a",)), Task("b", ("x", "y"), ("b",))))
    ballot = vote([{"a": _probs(7, (2, 2)), "b": _probs(8, (2, 2))}], plain)
    assert ballot.code is None
    with pytest.raises(ValueError, match="no combined code"):
        split_codes(np.array([0]), plain)


def test_the_order_of_tasks_in_the_code_is_the_schemas(schema: LabelSchema) -> None:
    turned = LabelSchema("turned", schema.tasks, Combined("code", ("age", "mask")))
    ballot = vote([{"mask": _one_hot([1], 3), "age": _one_hot([2], 3)}], turned)
    assert ballot.code is not None and ballot.code.tolist() == [2 * 3 + 1]
