"""Tests of the random changes of windows, and of the windows that must not change."""

from __future__ import annotations

import numpy as np
import pytest

from cropfirst.stage1_detect.harden.training.jitter import jitter_windows
from cropfirst.stage1_detect.harden.training.windows import (
    BARE,
    NONE,
    PART,
    PASTED,
    REAL,
    UNSURE,
    Windows,
)

KINDS = (REAL, PASTED, BARE, PART, UNSURE, NONE)


def make_windows(size: int, count: int = 300) -> Windows:
    """Make windows of noise, each about its own grey level."""
    rng = np.random.default_rng(size)
    grey = rng.uniform(100, 150, (count, 1, 1, 1))
    pixels = np.clip(grey + rng.normal(0, 15, (count, size, size, 3)), 0, 255).astype(np.uint8)
    kind = np.resize(np.array(KINDS, np.int8), count)
    rows = np.arange(count, dtype=np.float32)[:, None]
    boxes = rows + np.array([0, 0, size, size], np.float32)
    said = (np.tile(rows, 4), np.tile(rows, 10), np.tile(rows, 15))
    return Windows(boxes, pixels, kind, *said)


@pytest.mark.parametrize("size", [12, 24, 48])
def test_windows_with_the_teachers_targets_stay_and_all_others_change(size: int) -> None:
    windows = make_windows(size)
    before = windows.pixels.copy()
    seen = jitter_windows(windows, np.random.default_rng(0))
    np.testing.assert_array_equal(windows.pixels, before)
    same = (seen.pixels == before).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(same, np.isin(windows.kind, (BARE, UNSURE)))
    for name in ("boxes", "kind", "offsets", "landmarks", "teacher"):
        np.testing.assert_array_equal(getattr(seen, name), getattr(windows, name))


def test_equal_seeds_give_equal_changes() -> None:
    windows = make_windows(24)
    one, two, other = (jitter_windows(windows, np.random.default_rng(s)).pixels for s in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_light_and_contrast_change_a_little_and_one_in_five_is_partly_covered() -> None:
    windows = make_windows(48, 3000)
    seen = jitter_windows(windows, np.random.default_rng(0)).pixels.astype(float)
    free = ~np.isin(windows.kind, (BARE, UNSURE))
    was = windows.pixels.astype(float)
    # Of a covered window some columns or rows no longer go with what they were.
    likeness = np.array(
        [
            min(np.corrcoef(a[part].ravel(), b[part].ravel())[0, 1] for part in _QUARTERS)
            for a, b in zip(seen[free], was[free], strict=True)
        ]
    )
    assert 0.15 < (likeness < 0.8).mean() < 0.25
    whole = likeness > 0.95
    light = seen[free][whole].mean(axis=(1, 2, 3)) - was[free][whole].mean(axis=(1, 2, 3))
    contrast = seen[free][whole].std(axis=(1, 2, 3)) / was[free][whole].std(axis=(1, 2, 3))
    assert 6 < light.std() < 16
    assert abs(light.mean()) < 2
    assert 0.08 < np.log(contrast).std() < 0.2


_QUARTERS = [np.s_[y : y + 12, x : x + 12] for y in range(0, 48, 12) for x in range(0, 48, 12)]
