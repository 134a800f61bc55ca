"""From the crop cache to batches: the same whatever reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cropfirst.cache import Cache, CacheMissingError, CropSet
from cropfirst.stage2_classify.augment import Augment
from cropfirst.stage2_classify.crop_dataset import (
    CropDataset,
    CropSource,
    EpochSampler,
    make_loader,
    pick_workers,
    resize_crop,
)

CPU = torch.device("cpu")
KEYS = [f"p{i}/photo.jpg" for i in range(11)]


@pytest.fixture
def crops(tmp_path: Path) -> CropSet:
    crop_set = Cache.open(tmp_path / "cache", create=True).crop_set("toy-24", {"image_size": 24})
    rng = np.random.default_rng(0)
    with crop_set.writer() as writer:
        for key in KEYS:
            writer.put(key, rng.integers(0, 256, (24, 24, 3)).astype(np.uint8))
    return crop_set


def batches(crops: CropSet, *, workers: int, preload: bool, epochs: int = 2) -> list[torch.Tensor]:
    dataset = CropDataset(
        CropSource(crops, KEYS, preload=preload),
        np.arange(len(KEYS))[:, None],
        augment=Augment("basic"),
        seed=(3, 0),
    )
    sampler = EpochSampler(np.arange(len(KEYS)), batch_size=4, seed=(3, 0))
    loader = make_loader(dataset, sampler, workers=workers, device=CPU)
    out = []
    for epoch in range(1, epochs + 1):
        sampler.epoch = epoch
        out += [torch.cat([images.flatten(), targets.flatten()]) for images, targets in loader]
    return out


@pytest.mark.parametrize(("workers", "preload"), [(0, True), (2, False), (2, True)])
def test_workers_and_preloading_change_no_batch(
    crops: CropSet, workers: int, preload: bool
) -> None:
    want = batches(crops, workers=0, preload=False)
    got = batches(crops, workers=workers, preload=preload)
    assert len(got) == len(want) == 6
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))
    assert not torch.equal(want[0], want[3])  # the second epoch is another


def test_crops_come_back_as_they_were_written(crops: CropSet) -> None:
    source = CropSource(crops, KEYS)
    dataset = CropDataset(source, np.arange(11)[:, None], augment=Augment("none"))
    images, targets = dataset.__getitems__([(1, 4), (1, 0)])
    assert images.dtype == torch.uint8
    assert targets.tolist() == [[4], [0]]
    assert np.array_equal(images[0].numpy(), crops.reader()[KEYS[4]])


def test_another_image_size_resizes(crops: CropSet) -> None:
    for size in (12, 48):
        for preload in (False, True):
            source = CropSource(crops, KEYS, image_size=size, preload=preload)
            assert source[0].shape == (size, size, 3)
    crop = crops.reader()[KEYS[0]].astype(float)
    means = crop.reshape(12, 2, 12, 2, 3).mean((1, 3))
    assert np.abs(CropSource(crops, KEYS, image_size=12)[0] - means).max() <= 1


def test_resizing_up_is_smooth_and_the_same_size_costs_nothing() -> None:
    step = np.zeros((4, 4, 3), np.uint8)
    step[:, 2:] = 200
    assert len(np.unique(resize_crop(step, 16))) > 2
    assert resize_crop(step, 4) is step


def test_a_crop_that_is_not_there_is_named(crops: CropSet) -> None:
    with pytest.raises(CacheMissingError, match="nobody"):
        CropSource(crops, [*KEYS, "nobody.jpg"], preload=True)


def test_an_epoch_has_every_row_once_but_for_a_last_single_one() -> None:
    for n, left_out in ((11, 0), (12, 0), (9, 1), (1, 0)):
        sampler = EpochSampler(np.arange(n), batch_size=4, seed=(0,))
        rows = [row for batch in sampler for _, row in batch]
        assert len(rows) == len(set(rows)) == n - left_out
        assert len(sampler) == len(list(sampler))


def test_validation_is_in_order_and_complete() -> None:
    sampler = EpochSampler(np.array([5, 7, 9]), batch_size=2, seed=None)
    assert list(sampler) == [[(0, 5), (0, 7)], [(0, 9)]]


def test_every_epoch_has_another_order() -> None:
    sampler = EpochSampler(np.arange(50), batch_size=50, seed=(0, 1))
    orders = []
    for epoch in (1, 2, 1):
        sampler.epoch = epoch
        orders.append([row for _, row in next(iter(sampler))])
    assert orders[0] == orders[2] != orders[1]


def test_workers_are_picked_by_device_and_size() -> None:
    assert pick_workers(3, n_photos=10, device=CPU) == 3
    assert pick_workers(None, n_photos=100_000, device=CPU) == 0
    assert pick_workers(None, n_photos=100, device=torch.device("cuda")) == 0
    assert 0 <= pick_workers(None, n_photos=100_000, device=torch.device("cuda")) <= 8
