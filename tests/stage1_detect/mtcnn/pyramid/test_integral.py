"""Area resize gives the bins of `interpolate(mode="area")`, both ways."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from cropfirst.stage1_detect.mtcnn.engines.numba.area import RawPhotos
from cropfirst.stage1_detect.mtcnn.pyramid.integral import IntegralImages
from cropfirst.stage1_detect.mtcnn.pyramid.levels import PyramidLevel, split_into_strips

CPU = torch.device("cpu")
Take = Callable[[list[np.ndarray]], RawPhotos | IntegralImages]


@pytest.fixture(params=["area", "integral"])
def take(request: pytest.FixtureRequest) -> Take:
    """Return the two resizes: the CPU's, and that of devices, here on CPU tensors."""
    return (
        RawPhotos.from_photos
        if request.param == "area"
        else lambda photos: IntegralImages.from_photos(photos, CPU)
    )


def _photo(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _area(photo: np.ndarray, height: int, width: int) -> torch.Tensor:
    pixels = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float()
    return interpolate(pixels, size=(height, width), mode="area")


def _draw(take: Take, photos: list[np.ndarray], sizes: list[tuple[int, int]]) -> list[torch.Tensor]:
    """Each photo at each size, (H, W, 3) in [0, 255], all drawn as one group."""
    images = take(photos)
    strips = [
        strip
        for photo in range(len(photos))
        for index, size in enumerate(sizes)
        for strip in split_into_strips(PyramidLevel(photo, index, 1.0, *size))
    ]
    pixels = images.resize_strips(strips) * 128 + 127.5
    parts = pixels[1:, :3].split([strip.height * strip.width for strip in strips])
    return [
        torch.cat([part for part, strip in zip(parts, strips, strict=True) if strip.level == level])
        .view(level.height, level.width, 3)
        for level in dict.fromkeys(strip.level for strip in strips)
    ]  # fmt: skip


@pytest.mark.parametrize("size", [(30, 40), (59, 77), (12, 13), (60, 80), (90, 100), (11, 11)])
def test_levels_equal_area_interpolation(take: Take, size: tuple[int, int]) -> None:
    photos = [_photo(60, 80, seed=1), _photo(60, 80, seed=2), _photo(71, 33, seed=3)]
    sizes = [size, (15, 20)]
    wanted = [_area(photo, *each) for photo in photos for each in sizes]
    for got, expected in zip(_draw(take, photos, sizes), wanted, strict=True):
        torch.testing.assert_close(got, expected[0].permute(1, 2, 0), atol=1e-3, rtol=0)


def test_crop_resize_of_mixed_photos_equals_cropping_one_by_one(take: Take) -> None:
    photos = [_photo(60, 80, seed=1), _photo(33, 20, seed=2), _photo(100, 50, seed=3)]
    rng = np.random.default_rng(4)
    photo = rng.integers(0, 3, 64)
    windows = []
    for index in photo:
        height, width = photos[index].shape[:2]
        x0, y0 = rng.integers(0, width - 1), rng.integers(0, height - 1)
        windows.append([x0, y0, rng.integers(x0 + 1, width + 1), rng.integers(y0 + 1, height + 1)])
    images = take(photos)
    got = images.crop_resize(torch.from_numpy(photo), torch.tensor(windows), 24)
    for index, (x0, y0, x1, y1), crop in zip(photo, windows, got, strict=True):
        wanted = _area(photos[index][y0:y1, x0:x1], 24, 24)[0]
        pixels = crop.permute(2, 0, 1) * 128 + 127.5
        torch.testing.assert_close(pixels, wanted, atol=1e-3, rtol=0)


def test_sums_may_wrap_around_without_harm() -> None:
    """White, 9.4 megapixels: the table passes 2**31, every difference must still be exact."""
    photo = np.full((2350, 4000, 3), 255, dtype=np.uint8)
    images = IntegralImages.from_photos([photo], CPU)
    assert int(images.table.min()) < 0, "the photo is too small to show anything"
    (level,) = _draw(lambda _: images, [photo], [(30, 40)])
    assert level.min() == level.max() == 255
    window = torch.tensor([[3000, 1000, 4000, 2350]])
    crop = images.crop_resize(torch.tensor([0]), window, 48) * 128 + 127.5
    assert crop.min() == crop.max() == 255


def test_bins_of_many_rows_do_not_overflow() -> None:
    """A bin of 375 x 466 white pixels: more than 16 bits a column, more than 24 in all."""
    photo = np.full((9000, 11200, 3), 255, dtype=np.uint8)
    photo[4000:5000, 3000:7000] = 0
    images = RawPhotos.from_photos([photo])
    for x0, y0, x1, y1, value in ((0, 0, 3000, 9000, 255), (3000, 4000, 7000, 5000, 0)):
        crop = images.crop_resize(torch.tensor([0]), torch.tensor([[x0, y0, x1, y1]]), 24)
        assert (crop * 128 + 127.5 == value).all()


def test_both_ways_agree_to_the_last_bit() -> None:
    photos = [_photo(300, 400, seed=5), _photo(1, 1), _photo(700, 90, seed=6)]
    levels = [PyramidLevel(i, 0, 1.0, max(11, h // 3), max(11, w // 4))
              for i, (h, w) in enumerate(p.shape[:2] for p in photos)]  # fmt: skip
    strips = [strip for level in levels for strip in split_into_strips(level)]
    area, integral = RawPhotos.from_photos(photos), IntegralImages.from_photos(photos, CPU)
    drawn = area.resize_strips(strips)
    assert torch.equal(drawn, integral.resize_strips(strips))
    assert torch.equal(torch.from_numpy(area.resize_strips_rgb(strips)), drawn[1:, :3].flatten())
    photo = torch.tensor([2, 0, 0, 1])
    windows = torch.tensor([[0, 0, 90, 700], [3, 5, 222, 111], [9, 8, 10, 9], [0, 0, 1, 1]])
    for size in (24, 48):
        got = area.crop_resize(photo, windows, size)
        assert torch.equal(got, integral.crop_resize(photo, windows, size))
