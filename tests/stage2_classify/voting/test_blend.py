"""Votes, ties, routes, temperature and thresholds: by hand, and against the plain soft vote."""

from __future__ import annotations

import numpy as np
import pytest

from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.voting.blend import (
    blend,
    majority_codes,
    vote_members,
    vote_runs,
    voted_names,
)
from cropfirst.stage2_classify.voting.soft_vote import Condition, vote
from cropfirst.stage2_classify.voting.vote_plan import TaskPlan, VotePlan, equal_plan


def dirichlet(seed: int, n_classes: int, n_rows: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(n_classes), n_rows).astype(np.float32)


def test_an_equal_plan_is_the_plain_vote(schema: LabelSchema) -> None:
    probs = {
        "three": {"mask": dirichlet(1, 3), "gender": dirichlet(2, 2), "age": dirichlet(3, 3)},
        "code": {"class18": dirichlet(4, 18)},
        "age": {"age": dirichlet(5, 3)},
    }
    planned, plain = vote_runs(probs, schema, VotePlan()), vote(list(probs.values()), schema)
    assert set(planned.probs) == set(plain.probs) == {"mask", "gender", "age"}
    for task in plain.probs:
        np.testing.assert_allclose(planned.probs[task], plain.probs[task], atol=1e-6)
        np.testing.assert_array_equal(planned.preds[task], plain.preds[task])
    np.testing.assert_array_equal(planned.code, plain.code)


def test_runs_of_the_code_alone_decide_it_jointly(schema: LabelSchema) -> None:
    probs = {"one": {"class18": dirichlet(1, 18)}, "two": {"class18": dirichlet(2, 18)}}
    planned, plain = vote_runs(probs, schema, VotePlan()), vote(list(probs.values()), schema)
    assert voted_names(probs, schema) == ("class18",)
    np.testing.assert_array_equal(planned.code, plain.code)
    for task in ("mask", "gender", "age"):
        np.testing.assert_array_equal(planned.preds[task], plain.preds[task])
        np.testing.assert_allclose(planned.probs[task], plain.probs[task], atol=1e-5)


def test_members_of_a_run_count_as_one_by_their_mean(schema: LabelSchema) -> None:
    tables = [dirichlet(seed, 3) for seed in range(3)]
    votes = [{"mask": table} for table in tables]
    found = vote_members(votes, ["big", "big", "small"], schema, VotePlan())
    mean = ((tables[0] + tables[1]) / 2 + tables[2]) / 2
    np.testing.assert_allclose(found.probs["mask"], mean, atol=1e-5)


def test_a_hard_vote_counts_heads_and_settles_ties_by_the_mean() -> None:
    tables = {
        "a": np.array([[0.9, 0.1], [0.6, 0.4]], np.float32),
        "b": np.array([[0.4, 0.6], [0.1, 0.9]], np.float32),
        "c": np.array([[0.4, 0.6], [np.nan, np.nan]], np.float32),
    }
    soft = blend(tables, equal_plan(list(tables)))
    hard = blend(tables, equal_plan(list(tables), vote="hard"))
    assert soft.preds.tolist() == [0, 1]
    assert hard.preds.tolist() == [1, 1]  # two heads against one; one each, and b is surer
    np.testing.assert_allclose(hard.probs.sum(1), 1, atol=1e-5)


def test_a_tie_of_codes_is_settled_task_by_task() -> None:
    codes = np.array([[0, 5], [7, 5], [13, 9]])
    assert majority_codes(codes, np.array([6, 9])).tolist() == [6, 5]


def test_hard_votes_of_whole_codes_and_ties_within_the_contest(schema: LabelSchema) -> None:
    def sure(*codes: int) -> dict[str, np.ndarray]:
        """Multi-task probabilities that plainly say these codes."""
        parts = [schema.split_code(code) for code in codes]
        return {
            task: np.eye(schema.num_classes(task), dtype=np.float32)[[p[task] for p in parts]]
            for task in ("mask", "gender", "age")
        }

    # Photo 0: two of three say 4. Photo 1: three codes, but gender and age have majorities.
    probs = {"a": sure(4, 0), "b": sure(4, 6), "c": sure(9, 13)}
    plans = {task: equal_plan(list(probs), vote="hard") for task in ("mask", "gender", "age")}
    found = vote_runs(probs, schema, VotePlan(plans))
    assert found.code is not None
    parts = schema.split_code(int(found.code[1]))
    assert found.code[0] == 4 and parts["gender"] == 0 and parts["age"] == 0


def test_weights_leave_runs_out_and_a_route_chooses_them_by_state() -> None:
    tables = {"a": np.tile([[0.8, 0.2]], (3, 1)), "b": np.tile([[0.2, 0.8]], (3, 1))}
    alone = blend(tables, TaskPlan({"": {"a": 1.0, "b": 0.0}}))
    np.testing.assert_allclose(alone.probs, tables["a"], atol=1e-5)
    routed = TaskPlan({"wear": {"a": 1.0}, "normal": {"b": 1.0}}, route="mask")
    route_probs = {"wear": np.array([1.0, 0.0, 0.5]), "normal": np.array([0.0, 1.0, 0.5])}
    found = blend(tables, routed, route_probs=route_probs)
    np.testing.assert_allclose(found.probs[:, 0], [0.8, 0.2, 0.5], atol=1e-5)
    # A run of weight 0 still decides where nobody else has seen the photo.
    tables["a"][0] = np.nan
    lone = blend(tables, TaskPlan({"": {"a": 1.0, "b": 0.0}}))
    np.testing.assert_allclose(lone.probs[0], [0.2, 0.8], atol=1e-5)


def test_a_route_follows_the_answers_to_another_task(schema: LabelSchema) -> None:
    mask = np.array([[1, 0, 0], [0, 0, 1]], np.float32)
    young, old = np.array([[1, 0, 0]] * 2, np.float32), np.array([[0, 0, 1]] * 2, np.float32)
    probs = {"a": {"mask": mask, "age": young}, "b": {"age": old}}
    route = TaskPlan(
        {"wear": {"a": 1.0}, "incorrect": {"a": 0.5, "b": 0.5}, "normal": {"b": 1.0}}, route="mask"
    )
    assert vote_runs(probs, schema, VotePlan({"age": route})).preds["age"].tolist() == [0, 2]


def test_temperature_changes_no_answer_and_thresholds_do() -> None:
    tables = {"a": np.array([[0.6, 0.4], [0.9, 0.1]], np.float32)}
    flat = blend(tables, TaskPlan({"": {"a": 1.0}}, temperature=3.0))
    assert flat.preds.tolist() == [0, 0] and flat.probs[1, 0] < 0.7
    np.testing.assert_allclose(flat.probs.sum(1), 1, atol=1e-6)
    moved = blend(tables, TaskPlan({"": {"a": 1.0}}, offsets=(0.0, 0.5)))
    assert moved.preds.tolist() == [1, 0]
    np.testing.assert_allclose(moved.probs, tables["a"], atol=1e-6)  # still what is believed


def test_photos_that_nobody_has_seen_get_the_prior_untouched(schema: LabelSchema) -> None:
    table = dirichlet(1, 2, 3)
    table[1] = np.nan
    plan = VotePlan({"gender": TaskPlan({"": {"a": 1.0}}, offsets=(0.0, 9.0))})
    prior = vote([{"gender": np.array([[0.7, 0.3]])}], schema)
    found = vote_runs({"a": {"gender": table}}, schema, plan, prior=prior)
    assert found.preds["gender"].tolist() == [1, 0, 1]
    np.testing.assert_allclose(found.probs["gender"][1], [0.7, 0.3], atol=1e-6)
    with pytest.raises(ValueError, match="no run and no prior"):
        vote_runs({"a": {"gender": table}}, schema, plan)


def test_a_run_with_a_condition_votes_where_it_is_likely_to_be_met(schema: LabelSchema) -> None:
    gender = np.array([[1, 0], [0, 1]], np.float32)
    probs = {
        "all": {"gender": gender, "age": np.array([[1, 0, 0]] * 2, np.float32)},
        "men": {"age": np.array([[0, 0, 1]] * 2, np.float32)},
    }
    weights = {"": {"all": 0.1, "men": 0.9}}
    conditions = {"all": None, "men": Condition({"gender": 0})}
    found = vote_runs(probs, schema, VotePlan({"age": TaskPlan(weights)}), conditions=conditions)
    assert found.preds["age"].tolist() == [2, 0]
