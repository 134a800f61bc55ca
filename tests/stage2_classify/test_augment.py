"""Augmentation: seeded, varied, and harmless to its input."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cropfirst.stage2_classify.augment import AUGMENTS, Augment


def crop() -> NDArray[np.uint8]:
    """A ramp: left is darker than right, so that a mirror shows."""
    ramp = np.linspace(60, 180, 48).astype(np.uint8)
    return np.repeat(np.repeat(ramp[None, :, None], 48, axis=0), 3, axis=2).copy()


def test_the_same_seed_gives_the_same_pixels_in_any_order() -> None:
    augment, other = Augment("basic"), Augment("basic")
    forwards = [augment(crop(), seed=(0, 1, i)) for i in range(8)]
    backwards = [other(crop(), seed=(0, 1, i)) for i in reversed(range(8))]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))


def test_seeds_differ_in_every_part() -> None:
    augment = Augment("basic")

    def pictures(*prefix: int) -> bytes:
        return b"".join(augment(crop(), seed=(*prefix, row)).tobytes() for row in range(6))

    assert len({pictures(0, 1), pictures(1, 1), pictures(0, 2)}) == 3
    assert len({augment(crop(), seed=(0, row)).tobytes() for row in range(12)}) > 6


def test_shape_and_type_stay_and_the_input_is_untouched() -> None:
    image = crop()
    out = Augment("basic")(image, seed=(3,))
    assert (out.shape, out.dtype) == (image.shape, np.uint8)
    assert np.array_equal(image, crop())


def test_the_transforms_fire_independently_of_each_other() -> None:
    # With one seed given to each transform, a mirrored crop would always be shifted as well.
    augment = Augment("basic")
    seen = set()
    for seed in range(200):
        out = augment(crop(), seed=(seed,)).astype(int)
        mirrored = out[:, :10].mean() > out[:, -10:].mean()
        moved = bool(np.ptp(out[:, 24], axis=0).max() > 0 or abs(out.mean() - 120) > 3)
        seen.add((bool(mirrored), moved))
    assert seen == {(False, False), (False, True), (True, False), (True, True)}


def test_none_changes_nothing() -> None:
    assert np.array_equal(Augment("none")(crop(), seed=(0,)), crop())


@pytest.mark.parametrize("clone", [lambda a: a, lambda a: pickle.loads(pickle.dumps(a))])
@pytest.mark.parametrize("name", sorted(AUGMENTS))
def test_it_travels_to_other_processes(name: str, clone: Callable[[Augment], Augment]) -> None:
    augment = Augment(name)
    before = augment(crop(), seed=(5,))
    assert np.array_equal(clone(augment)(crop(), seed=(5,)), before)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match="pick one of basic, none"):
        Augment("cutmix")
