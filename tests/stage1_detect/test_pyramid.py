"""Area resize by integral image gives the bins of `interpolate(mode="area")`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from cropfirst.stage1_detect.pyramid import (
    _integral_on_device,
    crop_resize,
    integral_images,
    resize_level,
)

CPU = torch.device("cpu")


def _photo(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _area(photo: np.ndarray, height: int, width: int) -> torch.Tensor:
    pixels = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float()
    return interpolate(pixels, size=(height, width), mode="area")


@pytest.mark.parametrize("size", [(30, 40), (59, 77), (12, 13), (60, 80), (90, 100), (1, 1)])
def test_resize_level_equals_area_interpolation(size: tuple[int, int]) -> None:
    photos = [_photo(60, 80, seed=1), _photo(60, 80, seed=2)]
    images = integral_images(photos, device=CPU)
    got = resize_level(images.group([0, 1]), *size)
    wanted = torch.cat([_area(photo, *size) for photo in photos])
    torch.testing.assert_close(got, wanted, atol=1e-3, rtol=0)


def test_group_of_photos_that_do_not_follow_each_other() -> None:
    photos = [_photo(20, 30, seed=1), _photo(25, 25, seed=2), _photo(20, 30, seed=3)]
    images = integral_images(photos, device=CPU)
    got = resize_level(images.group([0, 2]), 10, 10)
    wanted = torch.cat([_area(photos[i], 10, 10) for i in (0, 2)])
    torch.testing.assert_close(got, wanted, atol=1e-3, rtol=0)


def test_crop_resize_of_mixed_photos_equals_cropping_one_by_one() -> None:
    photos = [_photo(60, 80, seed=1), _photo(33, 20, seed=2), _photo(100, 50, seed=3)]
    rng = np.random.default_rng(4)
    photo = rng.integers(0, 3, 64)
    windows = []
    for index in photo:
        height, width = photos[index].shape[:2]
        x0, y0 = rng.integers(0, width - 1), rng.integers(0, height - 1)
        windows.append([x0, y0, rng.integers(x0 + 1, width + 1), rng.integers(y0 + 1, height + 1)])
    images = integral_images(photos, device=CPU)
    got = crop_resize(images, torch.from_numpy(photo), torch.tensor(windows), 24)
    for index, (x0, y0, x1, y1), crop in zip(photo, windows, got, strict=True):
        wanted = _area(photos[index][y0:y1, x0:x1], 24, 24)[0]
        torch.testing.assert_close(crop, wanted, atol=1e-3, rtol=0)


def test_sums_may_wrap_around_without_harm() -> None:
    """White, 9.4 megapixels: the table passes 2**31, every difference must still be exact."""
    photo = np.full((2350, 4000, 3), 255, dtype=np.uint8)
    images = integral_images([photo], device=CPU)
    assert int(images.table.min()) < 0, "the photo is too small to show anything"
    level = resize_level(images.group([0]), 30, 40)
    assert level.min() == level.max() == 255
    window = torch.tensor([[3000, 1000, 4000, 2350]])
    crop = crop_resize(images, torch.tensor([0]), window, 48)
    assert crop.min() == crop.max() == 255


@pytest.mark.parametrize("size", [(1, 1), (33, 20), (2350, 4000)])
def test_the_gpus_integral_image_is_the_cpus(size: tuple[int, int]) -> None:
    """The device's path on CPU tensors; the last size wraps around in both."""
    photo = np.full((*size, 3), 255, np.uint8) if size[0] > 1000 else _photo(*size)
    table = integral_images([photo], device=CPU).table
    assert torch.equal(_integral_on_device(photo, CPU), table)
