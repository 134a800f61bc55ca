"""The interface of the engines that run the three networks.

An engine takes pictures, channels last, and returns raw numbers; what they mean is the cascade's
business. Every engine returns the same numbers but for the last bits: a test holds each to the same
boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from cropfirst.stage1_detect.mtcnn.pyramid.canvas import Piece

EngineName = Literal["auto", "numba", "torch"]


class PhotoBatch(Protocol):
    """Photos of any sizes, and how parts of them are resized."""

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each photo."""

    @property
    def sizes(self) -> Tensor:
        """`shapes` as (B, 2) int64 on the device."""

    def draw_strips(self, strips: Sequence[Piece]) -> Tensor:
        """The pixels of a group of strips of the photos' levels.

        Returns:
            (1 + P, 4) float32: row 0 is what no photo shows, (0, 0, 0, 1); then strip after strip,
            row by row, RGB in [-1, 1] and 0 in the fourth channel.
        """

    def crop_resize(self, photo: Tensor, windows: Tensor, size: int) -> Tensor:
        """Area-resize one window of its photo per candidate.

        Args:
            photo: (N,) int64, which photo each window is cut from.
            windows: (N, 4) int64 x0, y0, x1, y1, half open, inside the photo and not empty.
            size: side of the result in pixels.

        Returns:
            (N, size, size, 3) float32 in [-1, 1].
        """


class Engine(Protocol):
    """The three nets. One instance may be used by several threads."""

    name: str
    device: torch.device

    @property
    def group_pixels(self) -> int:
        """Pixels of pyramid levels that `scan` does best with (one strip may be more)."""

    def scan(
        self, images: PhotoBatch, strips: Sequence[Piece], least: float
    ) -> tuple[Tensor, Tensor]:
        """P-Net over strips of levels: (N, 5) float32 logit and offsets of the cells whose logit is
        above `least`, and their (N,) int64 places (`canvas.pack_place`), in any order."""

    def cells(self, pictures: Tensor) -> Tensor:
        """P-Net on what single cells see. (N, 12, 12, 3) -> (N, 5) float32: logit, offsets."""

    def refine(self, crops: Tensor) -> Tensor:
        """R-Net. (N, 24, 24, 3) -> (N, 5) float32: logit, offsets."""

    def decide(self, crops: Tensor) -> Tensor:
        """O-Net. (N, 48, 48, 3) -> (N, 15) float32: logit, offsets, landmarks (five x, five y)."""
