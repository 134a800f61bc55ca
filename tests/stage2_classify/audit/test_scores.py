"""The audit's figures, each against a value counted by hand: a sign or a swap changes them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from cropfirst.core.bootstrap import Interval
from cropfirst.stage2_classify.audit.answers import SCHEMA, face_boxes
from cropfirst.stage2_classify.audit.scores import score_task
from cropfirst.stage2_classify.metrics.chance import ChanceTest

PERSON_OF = {"a": "p", "b": "p", "c": "q", "d": "r"}
CHANCE = ChanceTest(0.9, 0.5, Interval(0.4, 0.3, 0.5), 3)


def _table(answers: dict[str, dict[str, int]], **more: dict[str, float]) -> pl.DataFrame:
    """Answers to photos of class 1: variant -> key -> predicted class."""
    rows = [
        {
            "key": key, "task": "gender", "variant": variant, "target": 1, "pred": pred,
            **{n: known[key] for n, known in more.items() if variant == "original"},
        }
        for variant, preds in answers.items()
        for key, pred in preds.items()
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def test_bg_gap_is_mixed_same_minus_mixed_rand_over_photos_that_have_both() -> None:
    table = _table(
        {
            "original": {"a": 1, "b": 1, "c": 1, "d": 0},
            "mixed_same": {"a": 1, "b": 1, "c": 1},
            "mixed_rand": {"a": 0, "b": 1, "c": 0, "d": 0},
        }
    )
    found = score_task(
        table, "gender", n_classes=2, person_of=PERSON_OF, chance=CHANCE, detected=["b", "c"]
    )
    assert found.variants["mixed_same"].accuracy == 1
    assert found.variants["mixed_rand"].accuracy == 0.25
    assert found.gap is not None and found.gap_detected is not None
    assert found.gap.value == pytest.approx(2 / 3)
    assert found.gap_detected.value == pytest.approx(1 / 2)
    assert found.gap.low <= found.gap.value <= found.gap.high
    assert (found.n_people, found.n_photos) == (3, 4)


def test_only_bg_and_the_grad_cam_share_are_those_of_their_own_rows() -> None:
    table = _table(
        {
            "original": {"a": 1, "b": 1, "c": 1, "d": 1},
            "only_bg_b": {"a": 0, "b": 0, "c": 0, "d": 1},
            "only_bg_t": {"a": 0, "b": 0, "c": 1, "d": 1},
        },
        cam={"a": 0.9, "b": 0.7, "c": 0.8, "d": float("nan")},
        cam_area={"a": 0.1, "b": 0.3, "c": 0.2, "d": 0.9},
    )
    found = score_task(table, "gender", n_classes=2, person_of=PERSON_OF, chance=CHANCE)
    assert found.variants["only_bg_b"].accuracy == 0.25
    assert found.variants["only_bg_t"].accuracy == 0.5
    # A map without any mass has no share; its photo does not count.
    assert found.cam is not None and found.cam.value == pytest.approx(0.8)
    assert found.cam_area == pytest.approx(0.2)
    assert found.gap is None


def test_the_face_box_is_in_the_crops_own_fractions_and_turns_with_it() -> None:
    row = {"box": [24, 4, 44, 24], "window": [20, 0, 60, 40], "angle": None}
    upright, turned = face_boxes([row, row | {"angle": 90.0}])
    np.testing.assert_allclose(upright, [0.1, 0.1, 0.6, 0.6], atol=1e-6)
    # Crops are turned by OpenCV's rule: at 90 degrees, what was on the left is at the bottom.
    np.testing.assert_allclose(turned, [0.1, 0.4, 0.6, 0.9], atol=1e-6)
