"""The swapped twin of a crop set: which photos it may be compared on, and which were left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cropfirst.cache import Cache, CropSet
from cropfirst.cache.swapped import SWAPPED, list_draws, open_swapped, swapped_draw
from cropfirst.core.errors import CacheMismatchError

KEYS = ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")
EVAL, UNREADABLE = "eval.jpg", "torn.jpg"


def row_of(key: str, **changes: Any) -> dict[str, Any]:
    """A crop row of a detected photo of the train split."""
    number = float(len(key) + sum(key.encode()) % 7)
    return {
        "key": key, "split": "train", "group": key[0], "status": "detected", "recipe": key,
        "content_hash": f"{key:0>32}", "width": 60, "height": 80, "box": [1.1, 2.2, 30.3, number],
        "landmarks": None, "n_faces": 1, "window": [0.0, 1.0, 40.0, 41.0], "angle": 0.0, **changes,
    }  # fmt: skip


def put(crops: CropSet, rows: Sequence[dict[str, Any]], *, shade: int = 0) -> None:
    """Write rows, each with a crop of its own unless it has an error."""
    with crops.writer() as writer:
        for row in rows:
            if row.get("error") is None:
                crop = np.full((8, 8, 3), shade + sum(row["key"].encode()) % 99, np.uint8)
                row["crop_hash"] = writer.put(row["key"], crop)
    crops.manifest.append(rows)


@pytest.fixture
def crops(tmp_path: Path) -> CropSet:
    made = Cache.open(tmp_path / "cache", create=True).crop_set("box-8-x", {"crop": {"size": 8}})
    put(made, [row_of(key) for key in KEYS])
    put(made, [row_of(EVAL, split="eval")])
    put(made, [row_of(UNREADABLE, status="unreadable", error_type="Torn", error="torn", box=None)])
    return made


def test_a_crop_set_without_draws_has_no_twin(crops: CropSet) -> None:
    assert open_swapped(crops) is None and list_draws(crops) == []


def test_a_hand_made_twin_is_read_as_it_was_made(crops: CropSet) -> None:
    for n in range(2):
        put(swapped_draw(crops, n, {"seed": 5}), [row_of(key) for key in KEYS], shade=n + 1)
    twin = open_swapped(crops)
    assert twin is not None and twin.is_finished and twin.n_outdated == 0
    assert twin.usable == frozenset(KEYS) and not twin.left_out and not twin.left_out_statuses
    assert [draw.name for draw in twin.draws] == ["box-8-x/swapped/0", "box-8-x/swapped/1"]
    assert [draw.config[SWAPPED] for draw in twin.draws] == [
        {"draw": 0, "seed": 5}, {"draw": 1, "seed": 5},
    ]  # fmt: skip
    assert all(draw.config["crop"] == crops.config["crop"] for draw in twin.draws)
    original, first, second = (each.reader()[KEYS[0]] for each in (crops, *twin.draws))
    assert (first == original + 1).all() and (second == original + 2).all()


def test_draws_are_no_crop_sets_of_the_cache(crops: CropSet) -> None:
    put(swapped_draw(crops, 0, {}), [row_of(key) for key in KEYS])
    cache = Cache.open(crops.folder.parents[1])
    assert cache.crop_sets() == ["box-8-x"] and cache.find().name == "box-8-x"


def test_photos_that_were_left_out_are_counted_by_reason_and_status(crops: CropSet) -> None:
    rows = [row_of(key) for key in KEYS]
    rows[1] |= {"error_type": "NoCutOut", "error": "no head was cut out: 0.1 of the ellipse"}
    rows[2] |= {"error_type": "NoCutOut", "error": "no head was cut out: 0.2 of the ellipse"}
    rows[3] |= {"error_type": "NoDonor", "error": "there is nobody else"}
    put(crops, [row_of(KEYS[2], status="retried"), row_of(KEYS[3])])
    put(swapped_draw(crops, 0, {}), rows)
    twin = open_swapped(crops)
    assert twin is not None and twin.is_finished and twin.usable == {KEYS[0]}
    assert twin.left_out == {"no head was cut out": 2, "there is nobody else": 1}
    assert twin.left_out_statuses == {"detected": 2, "retried": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"content_hash": "1" * 32}, {"box": [1.1, 2.2, 30.4, 9.0]}, {"landmarks": [1.0] * 10},
        {"window": [0.0, 1.0, 41.0, 42.0]}, {"angle": 1.5},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_row_of_a_photo_that_was_cropped_again_is_not_used(
    crops: CropSet, change: dict[str, Any]
) -> None:
    put(swapped_draw(crops, 0, {}), [row_of(key) for key in KEYS])
    before = open_swapped(crops)
    put(crops, [row_of(KEYS[0], **change)])
    after = open_swapped(crops)
    assert before is not None and after is not None
    assert after.usable == frozenset(KEYS[1:]) and after.n_outdated == 1
    assert not after.is_finished and after.fingerprint != before.fingerprint


def test_a_photo_is_usable_only_if_every_draw_has_its_crop(crops: CropSet) -> None:
    put(swapped_draw(crops, 0, {}), [row_of(key) for key in KEYS])
    put(swapped_draw(crops, 1, {}), [row_of(key) for key in KEYS[:2]])
    twin = open_swapped(crops)
    assert twin is not None and twin.usable == frozenset(KEYS[:2])
    assert twin.n_outdated == 2 and not twin.is_finished and not twin.left_out


def test_the_fingerprint_is_that_of_the_pixels(crops: CropSet) -> None:
    def shown() -> str:
        twin = open_swapped(crops)
        assert twin is not None
        return twin.fingerprint

    draw = swapped_draw(crops, 0, {})
    put(draw, [row_of(key) for key in KEYS])
    first = shown()
    assert shown() == first and len(first) == 16
    put(draw, [row_of(KEYS[0])], shade=9)
    second = shown()
    put(draw, [row_of(KEYS[0])])
    assert second != first and shown() == first


def test_a_draw_of_other_settings_or_other_crops_is_refused(crops: CropSet) -> None:
    draw = swapped_draw(crops, 0, {"seed": 1})
    assert swapped_draw(crops, 0, {"seed": 1}) == draw
    with pytest.raises(CacheMismatchError, match="another config"):
        swapped_draw(crops, 0, {"seed": 2})
    (draw.folder / "config.json").write_text('{"crop": {"size": 9}, "swapped": {"draw": 0}}')
    with pytest.raises(CacheMismatchError, match="is no twin of the crops"):
        open_swapped(crops)
