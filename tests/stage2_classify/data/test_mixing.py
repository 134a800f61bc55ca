"""Two crops in one: pixels, labels and shares go together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cropfirst.stage2_classify.config import MixConfig
from cropfirst.stage2_classify.data.mixing import Mixer, join_halves, mix_targets, paste_rectangle

CLASSES = {"mask": 3, "gender": 2}


def batch(n: int = 6, *, size: int = 50) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Crops whose every pixel is their number, which is also their class."""
    images = torch.arange(n).float().view(n, 1, 1, 1).expand(n, 3, size, size).clone()
    number = torch.arange(n)
    return images, {"mask": number % 3, "gender": number % 2, "years": number.float()}


def mixer(**config: Any) -> Mixer:
    return Mixer(MixConfig.model_validate({"prob": 1.0, **config}), CLASSES)


@pytest.mark.parametrize("kind", ["mixup", "cutmix", "half_cutmix"])
def test_labels_have_the_share_that_the_pixels_have(kind: str) -> None:
    for seed in range(12):
        images, targets = batch()
        mixed, shares = mixer(kind=kind)(images, targets, n_partners=0, seed=(seed,))
        assert mixed.shape == images.shape
        # The mean of the pixels is the mean of the numbers, by their shares.
        assert torch.allclose(mixed.mean((1, 2, 3)), shares["years"], atol=0.02)
        for task, count in CLASSES.items():
            assert shares[task].shape == (6, count)
            assert torch.allclose(shares[task].sum(1), torch.ones(6))
        other = (torch.arange(6) - 1) % 6
        second = (shares["years"] - torch.arange(6)) / (other - torch.arange(6))
        want = torch.nn.functional.one_hot(other % 3, 3) * second[:, None]
        want += torch.nn.functional.one_hot(torch.arange(6) % 3, 3) * (1 - second)[:, None]
        assert torch.allclose(shares["mask"], want, atol=1e-5)


def test_halves_meet_at_an_upright_line_near_the_middle() -> None:
    lines = set()
    for seed in range(60):
        images, targets = batch(2, size=100)
        mixed, _ = mixer(kind="half_cutmix")(images, targets, n_partners=0, seed=(seed,))
        assert bool((mixed == mixed[:, :1, :1]).all())  # every row is like the first
        (change,) = (mixed[0, 0, 0].diff() != 0).nonzero().flatten().tolist()
        lines.add((change + 1, float(mixed[0, 0, 0, 0])))
    assert {line for line, _ in lines} <= set(range(46, 55))
    assert len({line for line, _ in lines}) > 4
    assert {left for _, left in lines} == {0.0, 1.0}  # either may be on the left


def test_a_fixed_share_is_kept() -> None:
    images, targets = batch()
    _, shares = mixer(kind="mixup", ratio=0.5)(images, targets, n_partners=0, seed=(1,))
    assert shares["mask"].max() == 0.5
    first, second = batch(1, size=64)[0], batch(2, size=64)[0][1:]
    mixed, share = paste_rectangle(first, second, share=0.75, centre=(32, 32))
    assert share == 0.75 == 1 - float(mixed.mean())
    assert paste_rectangle(first, second, share=0.75, centre=(0, 0))[1] > 0.9  # cut by the border


def test_the_same_seed_mixes_the_same_way_and_prob_is_a_share_of_batches() -> None:
    images, targets = batch()
    half = mixer(kind="cutmix", prob=0.5)
    mixed = [half(images.clone(), targets, n_partners=0, seed=(0, s))[0] for s in range(200)]
    again = [half(images.clone(), targets, n_partners=0, seed=(0, s))[0] for s in range(200)]
    assert all(torch.equal(a, b) for a, b in zip(mixed, again, strict=True))
    touched = np.mean([not torch.equal(each, images) for each in mixed])
    assert 0.35 < touched < 0.65


def test_partners_are_mixed_in_and_gone() -> None:
    images, targets = batch(8)
    rare = mixer(kind="half_cutmix", rare="mask")
    mixed, shares = rare(images, targets, n_partners=4, seed=(3,))
    assert len(mixed) == len(shares["mask"]) == 4
    for place in range(4):
        assert set(mixed[place].unique().tolist()) == {float(place), float(place + 4)}
    alone, same = rare(images, targets, n_partners=0, seed=(3,))  # none was drawn for this batch
    assert torch.equal(alone, images) and torch.equal(same["mask"], targets["mask"])


def test_one_crop_or_nothing_to_do_leaves_the_batch_alone() -> None:
    images, targets = batch(1)
    got, same = mixer(kind="mixup")(images, targets, n_partners=0, seed=(0,))
    assert torch.equal(got, images)
    assert same["mask"].dtype == torch.int64


def test_class_numbers_become_shares_and_values_are_averaged() -> None:
    got = mix_targets(torch.tensor([2]), torch.tensor([0]), share=0.7, n_classes=3)
    assert got.tolist() == [pytest.approx([0.3, 0, 0.7])]
    assert mix_targets(torch.tensor([20.0]), torch.tensor([60.0]), share=0.75).tolist() == [30.0]


def test_memory_layout_stays() -> None:
    images = torch.rand(4, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    joined, _ = join_halves(images, images.flip(0), at=0.5)
    assert joined.is_contiguous(memory_format=torch.channels_last)
