"""The table of limits: what it says at an error rate, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from cropfirst.door.sets import ClassLimits, SetTable, count_sizes, names_of, possible_classes

TABLE = SetTable(
    {
        "wear": ClassLimits(99, (0.01, 0.05, 0.1), (0.0, 0.2, 0.4)),
        "bare": ClassLimits(19, (0.05, 0.1), (0.1, 0.6)),
    }
)


def test_the_table_survives_json() -> None:
    assert SetTable.from_dict(json.loads(json.dumps({**TABLE.to_dict(), "alpha": 0.1}))) == TABLE


@pytest.mark.parametrize(
    ("alpha", "limits"),
    [(0.05, (0.2, 0.1)), (0.0999, (0.2, 0.1)), (0.1, (0.4, 0.6)), (0.9, (0.4, 0.6))],
)  # fmt: skip
def test_between_two_error_rates_the_smaller_one_holds(
    alpha: float, limits: tuple[float, float]
) -> None:
    assert tuple(TABLE.at(alpha)) == limits


def test_an_error_rate_below_what_the_people_carry_is_refused() -> None:
    assert TABLE.smallest_alpha == 0.05
    with pytest.raises(ValueError, match=r"0\.01 needs more people .*wear 99, bare 19.* 0\.05"):
        TABLE.at(0.01)
    for alpha in (0, 1, float("nan")):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            TABLE.at(alpha)


def test_classes_are_possible_from_their_limit_on() -> None:
    probs = np.array([[0.4, 0.6], [0.39, 0.61], [0.41, 0.59], [0.3, 0.3]], np.float64)
    possible = possible_classes(probs, TABLE.at(0.1))
    assert [names_of(row, ("wear", "bare")) for row in possible] == [
        ("wear", "bare"), ("bare",), ("wear",), (),
    ]  # fmt: skip
    assert count_sizes(possible) == {"one": 2, "several": 1, "none": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"classes": {}},
        {"classes": []},
        {"classes": {"wear": {"people": 9, "alphas": [], "limits": []}}},
        {"classes": {"wear": {"people": 9, "alphas": [0.2, 0.1], "limits": [0, 1]}}},
        {"classes": {"wear": {"people": 9, "alphas": [0.1, 0.2], "limits": [0.5, 0.4]}}},
        {"classes": {"wear": {"people": 9, "alphas": [0.1], "limits": [0.1, 0.2]}}},
        {"classes": {"wear": {"people": 9, "alphas": [0.1], "limits": [float("nan")]}}},
        {"classes": {"wear": {"people": 9, "alphas": [0.1]}}},
        {},
    ],
)
def test_a_damaged_table_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"table of limits|a class needs error rates"):
        SetTable.from_dict(change)
