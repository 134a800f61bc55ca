"""The interface of the engines that run the three networks.

An engine takes pixels, channels last, and returns the networks' raw outputs; the cascade decides
what they mean. All engines return the same numbers apart from the last bits; the tests require the
same boxes of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from cropfirst.stage1_detect.mtcnn.pyramid.levels import Tile

EngineName = Literal["auto", "numba", "torch"]


class PhotoBatch(Protocol):
    """Photos of any sizes, and how parts of them are resized."""

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each photo."""

    @property
    def sizes(self) -> Tensor:
        """`shapes` as (B, 2) int64 on the device."""

    def resize_strips(self, strips: Sequence[Tile]) -> Tensor:
        """Return the pixels of a group of strips of the photos' levels.

        Returns:
            (1 + P, 4) float32: row 0 is (0, 0, 0, 1), for pixels outside every photo; then strip
            after strip, row by row, RGB in [-1, 1] and 0 in the fourth channel.
        """

    def crop_resize(self, photo: Tensor, windows: Tensor, size: int) -> Tensor:
        """Area-resize one window of its photo per candidate.

        Args:
            photo: (N,) int64, index of the photo that each window is cut from.
            windows: (N, 4) int64 x0, y0, x1, y1, half open, inside the photo and not empty.
            size: side of the result in pixels.

        Returns:
            (N, size, size, 3) float32 in [-1, 1].
        """


class Engine(Protocol):
    """The three networks. One instance may be used by several threads."""

    name: str
    device: torch.device

    @property
    def group_pixels(self) -> int:
        """Number of pixels of pyramid levels that suit one call of `run_pnet`."""

    def run_pnet(
        self, images: PhotoBatch, strips: Sequence[Tile], min_logit: float
    ) -> tuple[Tensor, Tensor]:
        """Run P-Net over strips of levels.

        Returns:
            (N, 5) float32 logit and offsets of the outputs whose logit is above `min_logit`, and
            their (N,) int64 positions (`levels.pack_position`), in any order.
        """

    def run_pnet_on_windows(self, windows: Tensor) -> Tensor:
        """Run P-Net on single windows. (N, 12, 12, 3) -> (N, 5) float32: logit, offsets."""

    def run_rnet(self, crops: Tensor) -> Tensor:
        """Run R-Net. (N, 24, 24, 3) -> (N, 5) float32: logit, offsets."""

    def run_onet(self, crops: Tensor) -> Tensor:
        """Run O-Net. (N, 48, 48, 3) -> (N, 15) float32: logit, offsets, landmarks (five x, five
        y)."""
