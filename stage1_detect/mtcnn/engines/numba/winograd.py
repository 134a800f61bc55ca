"""Winograd's minimal filtering for 3x3 convolutions (Lavin & Gray, CVPR 2016), as formulas.

A tile of `side` x `side` results costs (side + 2)^2 multiplications a pair of channels, where the
plain sum costs 9 side^2. Formulas are written once, for anything that adds, subtracts and takes a
number times itself: NumPy arrays here, vector registers in `simd`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Formula = Callable[[Sequence[Any]], list[Any]]


@dataclass(frozen=True)
class Winograd:
    """F(side x side, 3 x 3): results are gather(sum of weights(w) * spread(x)), each formula taken
    down the columns and then along the rows."""

    side: int
    """Results of a tile, down and across."""
    spread: Formula
    """side + 2 inputs to side + 2 values (B^T)."""
    gather: Formula
    """side + 2 values to `side` results (A^T)."""
    kernel: np.ndarray
    """(side + 2, 3) float64 (G)."""

    @property
    def reach(self) -> int:
        """Inputs of a tile, down and across."""
        return self.side + 2

    def weights(self, weight: np.ndarray) -> np.ndarray:
        """(out, in, 3, 3) -> (reach * reach, in, out) float32."""
        values = np.einsum("ia,jb,ocab->ijco", self.kernel, self.kernel, weight.astype(np.float64))
        return values.reshape(self.reach**2, *weight.shape[1::-1]).astype(np.float32)


def _spread_3(d: Sequence[Any]) -> list[Any]:
    falling = d[3] - d[1]
    return [
        falling + (d[0] - d[2]) * 2.0,
        d[3] - d[2] - d[1] * 2.0,
        d[3] - d[2] * 3.0 + d[1] * 2.0,
        falling,
        d[4] - d[2] - falling * 2.0,
    ]


def _gather_3(m: Sequence[Any]) -> list[Any]:
    both = m[1] + m[2]
    return [m[0] + both + m[3], m[1] - m[2] + m[3] * 2.0, both + m[3] * 4.0 + m[4]]


def _spread_4(d: Sequence[Any]) -> list[Any]:
    even, odd = d[4] - d[2] * 4.0, d[3] - d[1] * 4.0
    high, low = d[4] - d[2], (d[3] - d[1]) * 2.0
    return [
        d[4] - d[2] * 5.0 + d[0] * 4.0,
        even + odd,
        even - odd,
        high + low,
        high - low,
        d[5] - d[3] * 5.0 + d[1] * 4.0,
    ]


def _gather_4(m: Sequence[Any]) -> list[Any]:
    near, far = m[1] + m[2], m[3] + m[4]
    slope, steep = m[1] - m[2], m[3] - m[4]
    return [
        m[0] + near + far,
        slope + steep * 2.0,
        near + far * 4.0,
        slope + steep * 8.0 + m[5],
    ]


# The points 0, 1, -1, 2 and infinity: tiles of 3 fill R- and O-Net's 9 and 21 results exactly.
TILES_OF_3 = Winograd(
    3,
    _spread_3,
    _gather_3,
    np.array(
        [[1 / 2, 0, 0], [-1 / 2, -1 / 2, -1 / 2], [-1 / 6, 1 / 6, -1 / 6], [1 / 6, 1 / 3, 2 / 3],
         [0, 0, 1]]
    ),
)  # fmt: skip

# The points 0, 1, -1, 2, -2 and infinity.
TILES_OF_4 = Winograd(
    4,
    _spread_4,
    _gather_4,
    np.array(
        [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
         [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]
    ),
)  # fmt: skip
