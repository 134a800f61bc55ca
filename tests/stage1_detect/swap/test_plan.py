"""Which photos get another room, which lend theirs, and in what words the others are left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from cropfirst.stage1_detect.crops.cut_out import FILLS_PHOTO, CutOut
from cropfirst.stage1_detect.swap.plan import Swaps, plan_swaps


def _row(key: str, **changes: Any) -> dict[str, Any]:
    return {
        "key": key, "group": key.split("/")[0], "status": "detected", "content_hash": key,
        "width": 100, "height": 120, "box": [30.0, 30.0, 70.0, 80.0], "landmarks": None,
        "n_faces": 1, "window": [25.0, 30.0, 75.0, 80.0], "angle": 0.0, **changes,
    }  # fmt: skip


def _cut_out(shade: int, *, fault: str = "", lends: bool = True) -> CutOut:
    room = np.full((8, 8, 3), shade, np.uint8).tobytes().hex()
    return CutOut({"fault": fault, "lends": lends, "room": room}, b"", b"")


KEYS = [f"{person}/{photo}" for person in "abcdef" for photo in range(3)]
ROWS = {key: _row(key) for key in KEYS}
CUT_OUTS = {key: _cut_out(10 * n) for n, key in enumerate(KEYS)}


def _plan(
    rows: dict[str, Any] | None = None, cut_outs: dict[str, Any] | None = None, **how: Any
) -> Swaps:
    strata = {key: "odd" if key[0] in "ace" else "even" for key in KEYS}
    how = {"draws": 1, "seed": 0, **how}
    return plan_swaps({**ROWS, **(rows or {})}, {**CUT_OUTS, **(cut_outs or {})}, strata, **how)


def _reasons(swaps: Swaps) -> dict[str, str]:
    return {
        key: each.left_out.text for key, (each, *_) in swaps.items() if each.left_out is not None
    }


def _donors(swaps: Swaps) -> set[str | None]:
    return {each.donor for all_draws in swaps.values() for each in all_draws}


def test_every_photo_gets_the_room_of_another_person() -> None:
    swaps = _plan(draws=5)
    assert not _reasons(swaps) and all(len(each) == 5 for each in swaps.values())
    for key, each in swaps.items():
        assert [swap.draw for swap in each] == list(range(5))
        assert all(swap.donor and swap.donor[0] != key[0] and swap.recipe for swap in each)
    assert _donors(swaps) == set(KEYS)


def test_a_recipe_is_that_of_the_head_the_window_and_the_room() -> None:
    first = _plan()["a/0"][0]
    assert first.donor is not None and first == _plan()["a/0"][0]
    for change in ({"content_hash": "x"}, {"box": [31.0, 30.0, 70.0, 80.0]}, {"angle": 2.0},
                   {"window": [20.0, 30.0, 80.0, 90.0]}, {"landmarks": [1.0] * 10}):  # fmt: skip
        changed = _plan({"a/0": _row("a/0", **change)})["a/0"][0]
        assert changed.donor == first.donor and changed.recipe != first.recipe, change
    lent = _plan({first.donor: _row(first.donor, content_hash="x")})["a/0"][0]
    assert lent.donor == first.donor and lent.recipe != first.recipe


def test_each_reason_has_plain_words() -> None:
    rows = {
        "a/0": _row("a/0", status="sibling"), "c/0": _row("c/0", box=[0.0, 0.0, 8.0, 9.0]),
    }  # fmt: skip
    cut_outs = {
        "a/1": _cut_out(1, fault="GrabCut failed: why"), "a/2": _cut_out(2, fault=FILLS_PHOTO),
        "b/0": None,
    }  # fmt: skip
    left = {key: each for key, each in CUT_OUTS.items() if key != "a/0"}
    swaps = plan_swaps({**ROWS, **rows}, {**left, **cut_outs}, {}, draws=1, seed=0)
    assert _reasons(swaps) == {
        "a/0": "no face was found in the photo itself",
        "a/1": "the head could not be cut out: GrabCut failed: why",
        "a/2": "the head fills the photo",
        "b/0": "the photo is gone or has changed since it was detected",
        "c/0": "the face found is far from where the other photos have theirs",
    }
    assert not _donors(swaps) & {"a/0", "a/1", "a/2", "b/0", "c/0"}


def test_a_room_with_a_trace_of_a_head_is_not_lent_but_its_own_head_is_used() -> None:
    rows = {
        "a/0": _row("a/0", status="retried"), "a/1": _row("a/1", n_faces=2),
        "a/2": _row("a/2", box=[30.0, 52.0, 56.0, 78.0]),
    }  # fmt: skip
    swaps = _plan(rows, {"b/0": _cut_out(10, lends=False)}, draws=60)
    assert not _reasons(swaps)
    assert not _donors(swaps) & {"a/0", "a/1", "a/2", "b/0"} and "b/1" in _donors(swaps)


def test_faces_without_a_typical_place_are_all_used() -> None:
    rng = np.random.default_rng(0)
    rows = {}
    for key in KEYS:
        x, y, side = *rng.uniform(0, 80, 2), rng.uniform(5, 20)
        rows[key] = _row(key, box=[x, y, x + side, y + side])
    assert not _reasons(_plan(rows))


def test_one_person_or_two_have_no_other_rooms() -> None:
    for people in ("a", "ab"):
        rows = {key: ROWS[key] for key in KEYS if key[0] in people}
        cut_outs = {key: CUT_OUTS[key] for key in rows}
        swaps = plan_swaps(rows, cut_outs, {}, draws=2, seed=0)
        assert set(_reasons(swaps).values()) == {"fewer than 2 other people have a room to lend"}, (
            people
        )
        assert len(swaps) == len(rows)


def test_one_room_for_all_is_no_other_room() -> None:
    alike = {key: _cut_out(100 + n % 3) for n, key in enumerate(KEYS)}
    swaps = _plan(None, alike, draws=2)
    assert set(_reasons(swaps).values()) == {"all photos show the same room"}
    assert all(len(each) == 2 and not each[1].recipe for each in swaps.values())


def test_no_photos_are_planned_as_none() -> None:
    assert plan_swaps({}, {}, {}, draws=1, seed=0) == {}
