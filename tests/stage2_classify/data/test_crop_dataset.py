"""From the crop cache to batches: the same whatever reads them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from cropfirst.cache import Cache, CropSet
from cropfirst.core.errors import CacheMissingError, TrainError
from cropfirst.stage2_classify.data.augment import Augmenter
from cropfirst.stage2_classify.data.crop_dataset import CropDataset, choose_workers, make_loader
from cropfirst.stage2_classify.data.crop_source import (
    CropSource,
    Preload,
    choose_preload,
    resize_crop,
)
from cropfirst.stage2_classify.data.prefetcher import Prefetcher
from cropfirst.stage2_classify.data.sampling import BatchRequest, EpochSampler
from cropfirst.stage2_classify.model.models import build_classifier

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


@contextmanager
def starting_by(method: str | None) -> Iterator[None]:
    """Processes are started so; None = the platform's way."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(method, force=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(before, force=True)


def batches(
    crops: CropSet, *, workers: int, preload: Preload, epochs: int = 2, augment: str = "strong"
) -> list[torch.Tensor]:
    dataset = CropDataset(
        CropSource(crops, KEYS, preload=preload),
        {"mask": np.arange(len(KEYS)), "years": np.arange(len(KEYS), dtype=np.float32)},
        augmenter=Augmenter((augment,), erase=0.5),
        seed=(3, 0),
    )
    sampler = EpochSampler(np.arange(len(KEYS)), batch_size=4, seed=(3, 0))
    loader = make_loader(dataset, sampler, workers=workers, device=CPU)
    out = []
    for epoch in range(1, epochs + 1):
        sampler.epoch = epoch
        for batch in loader:
            assert list(batch.targets) == ["mask", "years"]
            parts = (batch.crops, batch.targets["mask"], batch.targets["years"])
            out.append(torch.cat([part.flatten().double() for part in parts]))
    return out


@pytest.mark.parametrize(
    ("workers", "preload", "start"),
    [(0, "ram", None), (2, "none", None), (2, "ram", None), (0, "none", "forkserver"),
     (2, "none", "forkserver"), (1, "ram", "forkserver")],
)  # fmt: skip
def test_workers_and_preloading_change_no_batch(
    crops: CropSet, workers: int, preload: Preload, start: str | None
) -> None:
    want = batches(crops, workers=0, preload="none")
    with starting_by(start):
        got = batches(crops, workers=workers, preload=preload)
    assert len(got) == len(want) == 6
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))
    assert not torch.equal(want[0], want[3])  # the second epoch is another


@pytest.mark.parametrize("device", [False, True])
def test_processes_that_share_a_batch_see_what_one_would(crops: CropSet, device: bool) -> None:
    dataset = CropDataset(
        CropSource(crops, KEYS),
        {"mask": np.arange(11)},
        augmenter=Augmenter(("basic" if device else "strong",), erase=0.5),
        seed=(3, 0),
        params_only=device,
    )
    rows = np.array([8, 3, 4, 1, 0, 6, 2, 9, 5, 7])  # the last five are partners
    whole = dataset.__getitems__(BatchRequest(1, 2, rows, 5))
    parts = [
        dataset.__getitems__(BatchRequest(1, 2, rows, 5, np.array(places)))
        for places in ([0, 1, 5, 6], [2, 3, 4, 7, 8, 9])
    ]
    assert [(part.n_total, part.n_partners, part.step) for part in parts] == [(5, 2, 2), (5, 3, 2)]
    order = [0, 1, 5, 6, 2, 3, 4, 7, 8, 9]
    assert torch.equal(torch.cat([part.crops for part in parts]), whole.crops[order])
    together = torch.cat([part.targets["mask"] for part in parts])
    assert together.tolist() == rows[order].tolist()
    for each in ("params", "lights") if device else ("lights",):
        got = [getattr(part, each) for part in parts]
        want = getattr(whole, each)
        for one, two, both in zip(*got, want, strict=True) if each == "params" else [(*got, want)]:
            assert torch.equal(torch.cat([one, two]), both[order])


def test_crops_come_back_as_they_were_written(crops: CropSet) -> None:
    for preload in ("none", "ram"):
        dataset = CropDataset(CropSource(crops, KEYS, preload=preload), {"mask": np.arange(11)})
        batch = dataset.__getitems__(BatchRequest(1, 0, np.array([4, 0])))
        assert batch.crops.dtype == torch.uint8
        assert batch.targets["mask"].tolist() == [4, 0]
        assert np.array_equal(batch.crops[0].numpy(), crops.reader()[KEYS[4]])


def test_what_is_left_to_the_device_comes_to_the_same(crops: CropSet) -> None:
    """As batches of the network: the crops are smooth, so interpolation hardly tells."""
    model = build_classifier("test_resnet", {"mask": 3}, image_size=24)
    source = CropSource(crops, KEYS, preload="ram")
    source._pixels = np.stack([smooth(row) for row in range(11)])
    request = BatchRequest(1, 2, np.arange(11), n_partners=0)
    ready = []
    for place in ("cpu", "device", "memory"):
        dataset = CropDataset(
            source,
            {"mask": np.arange(11)},
            augmenter=Augmenter(("basic",), erase=0.3),
            seed=(0, 0),
            params_only=place != "cpu",
        )
        feed = Prefetcher(
            model,
            make_loader(
                dataset, EpochSampler(np.arange(11), batch_size=4, seed=None), workers=0, device=CPU
            ),
        )
        if place == "memory":
            source.on_device = torch.from_numpy(source._pixels)
            feed.on_device = source.on_device
        ready.append(feed.prepare(dataset.__getitems__(request)).images)
    assert torch.equal(ready[1], ready[2])
    gap = (ready[0] - ready[1]).abs() * 255 * float(model.std.min())
    assert float(gap.max()) < 3, f"largest difference {float(gap.max()):.2f} levels"


def test_light_and_contrast_arrive_with_the_normalisation(crops: CropSet) -> None:
    model = build_classifier("test_resnet", {"mask": 3}, image_size=24)
    source = CropSource(crops, KEYS, preload="ram")
    sampler = EpochSampler(np.arange(11), batch_size=11, seed=None)
    dataset = CropDataset(
        source, {"mask": np.arange(11)}, augmenter=Augmenter(("basic",)), seed=(0, 0)
    )
    feed = Prefetcher(model, make_loader(dataset, sampler, workers=0, device=CPU), reuse=True)
    batch = dataset.__getitems__(BatchRequest(1, 0, np.arange(11)))
    assert batch.lights is not None
    factor, summand = batch.lights[:, :, None, None, None].unbind(1)
    assert len(factor.unique()) > 3 and len(summand.unique()) > 3
    want = model.prepare(batch.crops.float() * factor + summand)
    assert (feed.prepare(batch).images - want).abs().max() < 1e-5
    # The memory is used again: a batch is no more once the next one is made.
    first, second = feed.prepare(batch).images, feed.prepare(batch).images
    assert first.data_ptr() == second.data_ptr()


def smooth(row: int) -> np.ndarray:
    ramp = np.linspace(0, 200, 24)
    return (np.stack([ramp[:, None] + ramp[None] / 5] * 3, axis=2) + row).astype(np.uint8)


def test_another_image_size_resizes(crops: CropSet) -> None:
    for size in (12, 48):
        for preload in ("none", "ram"):
            source = CropSource(crops, KEYS, image_size=size, preload=preload)
            assert source[0].shape == (size, size, 3)
    crop = crops.reader()[KEYS[0]].astype(float)
    means = crop.reshape(12, 2, 12, 2, 3).mean((1, 3))
    assert np.abs(CropSource(crops, KEYS, image_size=12)[0] - means).max() <= 1


def test_crops_are_held_where_they_fit() -> None:
    assert choose_preload("none", n_bytes=1, device=CPU) == "none"
    assert choose_preload("auto", n_bytes=1 << 20, device=CPU) == "ram"
    assert choose_preload("device", n_bytes=1 << 20, device=CPU) == "ram"
    assert choose_preload("auto", n_bytes=1 << 60, device=CPU) == "none"
    with starting_by("forkserver"):
        assert choose_preload("auto", n_bytes=1 << 20, device=CPU) == "none"
    with pytest.raises(TrainError, match=r"data\.preload=ram: the crops take 1073741824\.0 GiB"):
        choose_preload("ram", n_bytes=1 << 60, device=CPU)


def test_resizing_up_is_smooth_and_the_same_size_costs_nothing() -> None:
    step = np.zeros((4, 4, 3), np.uint8)
    step[:, 2:] = 200
    assert len(np.unique(resize_crop(step, 16))) > 2
    assert resize_crop(step, 4) is step


def test_a_crop_that_is_not_there_is_named(crops: CropSet) -> None:
    with pytest.raises(CacheMissingError, match="nobody"):
        CropSource(crops, [*KEYS, "nobody.jpg"], preload="ram")


def test_workers_are_picked_by_device_and_size() -> None:
    assert choose_workers(3, n_photos=10, device=CPU) == 3
    assert choose_workers(None, n_photos=100_000, device=CPU) == 0
    assert choose_workers(None, n_photos=100, device=torch.device("cuda")) == 0
    assert 0 <= choose_workers(None, n_photos=100_000, device=torch.device("cuda")) <= 8
