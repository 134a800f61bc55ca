"""An audit concludes only what its intervals allow."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from cropfirst.core.bootstrap import Interval
from cropfirst.stage2_classify.audit.answers import SCHEMA
from cropfirst.stage2_classify.audit.scores import TaskAudit, score_task
from cropfirst.stage2_classify.audit.verdict import WIDE, conclude
from cropfirst.stage2_classify.metrics.chance import ChanceTest, compare_with_chance


def above(value: float, *, low: float | None = None, people: int = 50) -> ChanceTest:
    """A comparison with chance of two classes, whose margin is `value`."""
    margin = Interval(value, value / 2 if low is None else low, 2 * abs(value))
    return ChanceTest(0.5 + value, 0.5, margin, people)


GOOD, LOST = above(0.4), above(0.02, low=-0.03)


@pytest.mark.parametrize(
    ("gap", "chance", "mixed", "finding", "cause"),
    [
        (Interval(0.2, 0.1, 0.3), GOOD, GOOD, "uses the background", ""),
        (Interval(0.01, 0.001, 0.02), GOOD, GOOD, "uses the background", ""),
        # It may look lost where the rooms of validation are others, and still use the background.
        (Interval(0.2, 0.1, 0.3), LOST, GOOD, "uses the background", ""),
        (Interval(0.2, 0.1, 0.3), LOST, LOST, "cannot tell", "at chance"),
        (Interval(0.0, -0.01, 0.01), GOOD, GOOD, "no use was found", ""),
        (Interval(-0.02, -0.03, -0.01), GOOD, GOOD, "no use was found", ""),
        (Interval(0.0, -0.01, 0.01), LOST, GOOD, "cannot tell", "at chance"),
        (Interval(0.0, -0.01, 0.01), GOOD, LOST, "cannot tell", "at chance"),
        (Interval(0.0, -0.01, 0.01), above(0.4, people=4), GOOD, "cannot tell", "at chance"),
        (Interval(0.0, -0.06, WIDE + 0.001), GOOD, GOOD, "cannot tell", "wide interval"),
        (Interval(0.0, -0.06, WIDE), GOOD, GOOD, "no use was found", ""),
        # Of 6 points above chance, more than 3 might come from the background.
        (Interval(0.0, -0.04, 0.031), GOOD, above(0.06), "cannot tell", "wide interval"),
        (Interval(0.0, -0.04, 0.029), GOOD, above(0.06), "no use was found", ""),
        (None, GOOD, GOOD, "cannot tell", "no gap"),
        (None, GOOD, None, "cannot tell", "no gap"),
    ],
)
def test_verdicts(
    gap: Interval | None, chance: ChanceTest, mixed: ChanceTest | None, finding: str, cause: str
) -> None:
    found = conclude(gap, chance, mixed)
    assert (found.finding, found.cause) == (finding, cause)
    assert bool(found.reason) == (finding == "cannot tell")


def test_reasons_have_the_figures() -> None:
    gap = Interval(0.0, -0.04, 0.031)
    assert "reaches +3.1 points, above 3.0" in conclude(gap, GOOD, above(0.06)).reason
    assert f"on the photos as they are ({LOST})" in conclude(gap, LOST, LOST).reason
    assert f"on Mixed-Same ({LOST})" in conclude(gap, GOOD, LOST).reason


def audited(preds: dict[str, np.ndarray], targets: np.ndarray) -> TaskAudit:
    """The audit of 40 people with three photos each, and these predictions by variant."""
    keys = [f"{row:03d}" for row in range(len(targets))]
    rows = [
        {"key": key, "task": "gender", "variant": variant, "target": target, "pred": pred}
        for variant, column in preds.items()
        for key, target, pred in zip(keys, targets.tolist(), column.tolist(), strict=True)
    ]
    table = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    person_of = {key: f"person {row // 3}" for row, key in enumerate(keys)}
    people = np.arange(len(keys)) // 3
    chance = compare_with_chance(people, targets, preds["original"], 2)
    return score_task(table, "gender", n_classes=2, person_of=person_of, chance=chance)


def test_a_run_that_calls_nearly_everybody_female_is_not_said_to_ignore_the_background() -> None:
    """Its gap is 0 with the narrowest of intervals, and it knows nothing."""
    targets = np.repeat(np.arange(40) % 2, 3)
    nearly = np.ones(120, int)
    nearly[[0, 50]] = 0
    found = audited(dict.fromkeys(("original", "mixed_same", "mixed_rand"), nearly), targets)
    assert found.gap == Interval(0, 0, 0)
    assert str(found.verdict) == "cannot tell: at chance"
    assert found.variants["original"].majority.accuracy == 0.5


def test_runs_that_know_faces_or_rooms_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(40) % 2, 3)
    knows = np.where(rng.random(120) < 0.9, targets, 1 - targets)
    face = audited({"original": knows, "mixed_same": knows, "mixed_rand": knows}, targets)
    assert face.verdict.finding == "no use was found"
    coin = rng.integers(0, 2, 120)
    room = audited({"original": knows, "mixed_same": knows, "mixed_rand": coin}, targets)
    assert room.verdict.finding == "uses the background"
    # Composites confuse it: before any background it guesses, so that no gap can be seen.
    lost = audited({"original": knows, "mixed_same": coin, "mixed_rand": coin}, targets)
    assert str(lost.verdict) == "cannot tell: at chance" and "Mixed-Same" in lost.verdict.reason
    nowhere = audited({"original": knows}, targets)
    assert nowhere.gap is None and nowhere.chance_mixed is None
    assert nowhere.verdict.cause == "no gap"


def test_one_class_is_no_trouble() -> None:
    zeros = np.zeros(120, int)
    found = audited(dict.fromkeys(("original", "mixed_same", "mixed_rand"), zeros), zeros)
    assert found.verdict.finding == "cannot tell" and found.chance.chance == 1
