"""The interface of the engines that run the three networks.

An engine takes pictures, channels last, and returns raw numbers; what they mean is the cascade's
business. Every engine returns the same numbers but for the last bits: a test holds each to the same
boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from cropfirst.stage1_detect.mtcnn.pyramid.canvas import Piece
from cropfirst.stage1_detect.mtcnn.pyramid.integral import IntegralImages

if TYPE_CHECKING:
    from cropfirst.stage1_detect.mtcnn.engines.numba.area import Photos

EngineName = Literal["auto", "numba", "torch"]
Pictures: TypeAlias = "Photos | IntegralImages"
"""A batch of photos in the form that an engine reads them."""


class Engine(Protocol):
    """The three nets. One instance may be used by several threads."""

    name: str
    device: torch.device

    @property
    def group_pixels(self) -> int:
        """Pixels of pyramid levels that `scan` does best with (one strip may be more)."""

    def scan(
        self, images: Pictures, strips: Sequence[Piece], least: float
    ) -> tuple[Tensor, Tensor]:
        """P-Net over strips of levels: (N, 5) float32 logit and offsets of the cells whose logit is
        above `least`, and their (N,) int64 places (`canvas.pack_place`), in any order."""

    def cells(self, pictures: Tensor) -> Tensor:
        """P-Net on what single cells see. (N, 12, 12, 3) -> (N, 5) float32: logit, offsets."""

    def refine(self, crops: Tensor) -> Tensor:
        """R-Net. (N, 24, 24, 3) -> (N, 5) float32: logit, offsets."""

    def decide(self, crops: Tensor) -> Tensor:
        """O-Net. (N, 48, 48, 3) -> (N, 15) float32: logit, offsets, landmarks (five x, five y)."""
