"""Augmentation: seeded, varied, harmless to its input, and the same on the device."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.data.augment import (
    POLICIES,
    Augmenter,
    AugmentParams,
    affine_matrices,
    apply_on_cpu,
    apply_on_device,
)
from cropfirst.stage2_classify.data.augment_lists import build_transform

SIZE = 48


def crop() -> NDArray[np.uint8]:
    """A ramp: left is darker than right, so that a mirror shows, and red grows downwards."""
    ramp = np.linspace(60, 180, SIZE).astype(np.uint8)
    image = np.repeat(np.repeat(ramp[None, :, None], SIZE, axis=0), 3, axis=2).copy()
    image[..., 0] = ramp[:, None]
    return image


def augment(augmenter: Augmenter, n: int = 8, *, seed: tuple[int, ...] = (0, 1)) -> NDArray[Any]:
    """The same crop `n` times, augmented as one batch."""
    rows = np.arange(n)
    params = augmenter.draw(rows, size=SIZE, seed=seed)
    out = np.empty((n, SIZE, SIZE, 3), np.uint8)
    for place, image in enumerate(out):
        source, extra = crop(), augmenter.transforms_of(place)
        if extra is not None:
            source = extra(source, seed=(*seed, place))
        apply_on_cpu(source, params, place, out=image)
    return out


@pytest.mark.parametrize("name", sorted(POLICIES))
@pytest.mark.parametrize("clone", [lambda a: a, lambda a: pickle.loads(pickle.dumps(a))])
def test_the_same_seed_gives_the_same_pixels_in_every_process(
    name: str, clone: Callable[[Augmenter], Augmenter]
) -> None:
    augmenter = Augmenter((name,), erase=0.5)
    before = augment(augmenter)
    assert np.array_equal(augment(clone(augmenter)), before)
    other = augment(augmenter, seed=(0, 2))
    assert not np.array_equal(other, before)


def test_crops_of_a_batch_differ_and_the_input_is_untouched() -> None:
    pictures = augment(Augmenter(("basic",)), 48)
    assert len({picture.tobytes() for picture in pictures}) > 12
    source = crop()
    params = Augmenter(("basic",)).draw(np.arange(9), size=SIZE, seed=(3,))
    for place in range(9):
        apply_on_cpu(source, params, place, out=np.empty_like(source))
    assert np.array_equal(source, crop())


def test_mirror_and_move_fire_independently_of_each_other() -> None:
    params = Augmenter(("basic",)).draw(np.arange(400), size=SIZE, seed=(0,))
    both = {(bool(a), bool(b)) for a, b in zip(params.mirrored, params.moved, strict=True)}
    assert len(both) == 4
    assert 0.4 < float(params.mirrored.mean()) < 0.6
    assert 0.4 < float((params.lights[:, 0] != 1).mean()) < 0.6


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_no_policy_turns_faces_upside_down(name: str) -> None:
    """Of the ramp's red, which grows downwards: it never shrinks by much."""
    if name == "randaugment":  # may solarise, which turns values round, not pixels
        params = Augmenter((name,)).draw(np.arange(200), size=SIZE, seed=(0,))
        assert (params.matrices[:, 1, 1] > 0).all()
        return
    pictures = augment(Augmenter((name,)), 60).astype(float)
    top, bottom = pictures[:, :8, :, 0].mean((1, 2)), pictures[:, -8:, :, 0].mean((1, 2))
    assert (bottom > top - 25).all()


def test_an_affine_map_moves_what_it_says() -> None:
    none = {"scale": np.ones((1, 2)), "shift": np.zeros((1, 2)), "turn": np.zeros(1)}
    plain = np.array([[1, 0, 0], [0, 1, 0]])

    def at(point: tuple[float, float], *, mirrored: bool = False, **changes: Any) -> Any:
        parts = {**none, **{key: np.array([value], float) for key, value in changes.items()}}
        matrix = affine_matrices(**parts, mirrored=np.array([mirrored]), size=11)[0]
        return (matrix @ np.array([*point, 1])).tolist()

    assert np.allclose(affine_matrices(**none, mirrored=np.array([False]), size=11)[0], plain)
    assert at((2, 3), mirrored=True) == pytest.approx([8, 3])
    assert at((2, 3), shift=(1, -2)) == pytest.approx([1, 5])  # where the new pixel came from
    assert at((9, 5), scale=(2, 2)) == pytest.approx([7, 5])
    assert at((9, 5), turn=90.0) == pytest.approx([5, 1])
    assert at((2, 5), mirrored=True, shift=(1, 0)) == pytest.approx([7, 5])


@pytest.mark.parametrize("name", ["basic", "strong"])
def test_the_device_does_what_the_cpu_does(name: str) -> None:
    augmenter = Augmenter((name,), erase=0.5)
    params = augmenter.draw(np.arange(40), size=SIZE, seed=(5,))
    assert (params.erased[:, 2] > params.erased[:, 0]).any()
    want = np.empty((40, SIZE, SIZE, 3), np.uint8)
    for place in range(40):
        apply_on_cpu(crop(), params, place, out=want[place])
    batch = torch.from_numpy(np.stack([crop()] * 40)).permute(0, 3, 1, 2).float()
    tensors = AugmentParams(*(torch.from_numpy(each) for each in params))
    got = apply_on_device(batch, tensors).permute(0, 2, 3, 1).numpy()
    gap = np.abs(got - want)
    assert gap.max() < 4, f"largest difference {gap.max():.2f} levels"
    assert gap.mean() < 0.5, f"mean difference {gap.mean():.3f} levels"


def test_erasing_takes_a_rectangle_of_one_colour_and_a_bounded_area() -> None:
    params = Augmenter(("none",), erase=1.0).draw(np.arange(300), size=224, seed=(1,))
    top, left, bottom, right = params.erased.T
    share = (bottom - top) * (right - left) / 224**2
    assert 0.015 < float(share.min()) < 0.05
    assert 0.2 < float(share.max()) <= 0.34
    assert (bottom <= 224).all() and (right <= 224).all()
    sometimes = Augmenter(("none",), erase=0.3).draw(np.arange(1000), size=224, seed=(1,))
    assert 0.2 < (sometimes.erased[:, 2] > 0).mean() < 0.4


def test_rows_may_have_policies_of_their_own() -> None:
    augmenter = Augmenter(("none", "basic"), np.array([0, 1] * 10))
    pictures = augment(augmenter, 20)
    changed = np.array([not np.array_equal(picture, crop()) for picture in pictures])
    assert not changed[::2].any()
    assert changed[1::2].sum() >= 6


def test_none_changes_nothing() -> None:
    assert Augmenter().does_nothing
    assert all(np.array_equal(picture, crop()) for picture in augment(Augmenter()))


def test_randaugment_changes_more_with_more_magnitude() -> None:
    def change(magnitude: float) -> float:
        pictures = augment(Augmenter(("randaugment",), magnitude=magnitude, ops=3), 30)
        mirrored = crop()[:, ::-1].astype(int)
        gaps = [
            min(np.abs(p.astype(int) - crop()).mean(), np.abs(p.astype(int) - mirrored).mean())
            for p in pictures
        ]
        return float(np.mean(gaps))

    assert change(1) < change(20)


def test_the_users_own_transforms_come_last() -> None:
    own = Augmenter(("basic",), transforms=[{"name": "ToGray", "p": 1.0}])
    pictures = augment(own)
    assert (np.ptp(pictures.astype(int), axis=3) <= 2).all()


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"name": "Claho"}, "names of albumentations' image transforms"),
        ({"name": "Compose"}, "names of albumentations' image transforms"),
        ({"p": 0.5}, "names of albumentations' image transforms"),
        ({"name": "CLAHE", "clip": 3}, r"albumentations refuses .*clip"),
        ({"name": "Rotate", "limit": "far"}, "albumentations refuses"),
    ],
)
def test_transforms_that_do_not_exist_are_explained(about: Mapping[str, Any], message: str) -> None:
    with pytest.raises(TrainError, match=message):
        build_transform(about)


def test_transforms_that_break_a_crop_are_explained() -> None:
    with pytest.raises(TrainError, match="must keep shape and type"):
        augment(Augmenter(("basic",), transforms=[{"name": "Resize", "height": 9, "width": 9}]))


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match="pick one of none, basic, randaugment, strong"):
        Augmenter(("cutmix",))
