"""The changed photos of the audit: head and background stay or go, each as a whole."""

from __future__ import annotations

import numpy as np
import pytest

from cropfirst.core.compositing import BLANK
from cropfirst.stage2_classify.audit.probe import background_features, probe
from cropfirst.stage2_classify.audit.variants import (
    MIXED,
    pick_donors,
    plain_variants,
    split_foreground,
)

HEAD, FLOOR, WALL = (220, 160, 120), (20, 120, 30), (30, 40, 200)
FACE = (40, 30, 60, 56)


def _photo(wall: tuple[int, int, int] = WALL) -> tuple[np.ndarray, np.ndarray]:
    """A wall over a floor, and a head; and where the head is."""
    photo = np.empty((96, 100, 3), np.uint8)
    photo[:48], photo[48:] = wall, FLOOR
    head = np.zeros((96, 100), np.uint8)
    head[26:60, 36:64] = 255
    photo[head > 0] = HEAD
    return photo, head


def _has(photo: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((photo == colour).all(-1).any())


def test_variants_keep_what_their_names_say() -> None:
    photo, head = _photo()
    made = plain_variants(split_foreground(photo, head, FACE))
    np.testing.assert_array_equal(made["original"], photo)
    assert not _has(made["only_bg_b"], HEAD) and _has(made["only_bg_b"], (BLANK,) * 3)
    assert not _has(made["only_bg_t"], HEAD) and not _has(made["only_bg_t"], (BLANK,) * 3)
    # What is beside the head goes on behind it: wall over floor, as if nobody were there.
    assert (made["only_bg_t"][:48] == WALL).all() and (made["only_bg_t"][48:] == FLOOR).all()
    assert _has(made["only_fg"], HEAD) and not _has(made["only_fg"], WALL)
    assert (made["only_fg"][head == 0] == BLANK).all()


@pytest.mark.parametrize("face", [(0, 0, 100, 96), (-50, -50, 5, 5), (0, 20, 100, 60)])
def test_a_head_anywhere_leaves_a_background_of_the_photos_size(face: tuple[int, ...]) -> None:
    photo, _ = _photo()
    split = split_foreground(photo, np.zeros((96, 100), np.uint8), face)
    assert split.background.shape == photo.shape
    x0, y0, x1, y1 = split.box
    assert 0 <= x0 <= x1 <= 100 and 0 <= y0 <= y1 <= 96


def test_donors_are_other_people_of_the_class_that_the_variant_says() -> None:
    targets = np.repeat([0, 1, 2], 8)
    people = np.arange(24) // 2
    donors = pick_donors(targets, people, np.ones(24, bool), n_classes=3)
    assert set(donors) == set(MIXED)
    for rows in donors.values():
        assert (rows >= 0).all() and (people[rows] != people).all()
    assert (targets[donors["mixed_same"]] == targets).all()
    assert (targets[donors["mixed_next"]] == (targets + 1) % 3).all()
    assert len(set(targets[donors["mixed_rand"]].tolist())) == 3
    again = pick_donors(targets, people, np.ones(24, bool), n_classes=3)
    other = pick_donors(targets, people, np.ones(24, bool), n_classes=3, seed=1)
    assert all((donors[name] == again[name]).all() for name in MIXED)
    assert any((donors[name] != other[name]).any() for name in MIXED)


def test_nobody_is_their_own_donor_and_unclean_backgrounds_are_the_last_choice() -> None:
    targets, people = np.array([0, 0, 1, 1, 1]), np.array([0, 0, 1, 2, 3])
    clean = np.array([True, True, True, False, True])
    donors = pick_donors(targets, people, clean, n_classes=2)
    assert donors["mixed_same"][:2].tolist() == [-1, -1]  # nobody else has class 0
    assert 3 not in np.concatenate(list(donors.values())).tolist()
    donors = pick_donors(targets, people, np.zeros(5, bool), n_classes=2)
    assert (donors["mixed_same"][2:] >= 2).all()


def test_the_probe_finds_a_shortcut_where_there_is_one_and_none_where_not() -> None:
    rng = np.random.default_rng(0)
    people = np.arange(120) // 3
    label = people % 2
    walls = [
        np.full((40, 30, 3), (200, 40, 40) if code else (40, 40, 200), np.uint8) for code in label
    ]
    noisy = [
        np.clip(wall + rng.normal(0, 20, wall.shape), 0, 255).astype(np.uint8) for wall in walls
    ]
    features = np.stack([background_features(image) for image in noisy])
    told = probe("wall", features, label, people, n_classes=2)
    assert told.macro_f1 > 0.95 and told.low > 0.9
    chance = probe("luck", features, rng.integers(0, 2, 40)[people], people, n_classes=2)
    assert chance.low < 0.55 and told.majority_macro_f1 < 0.4
