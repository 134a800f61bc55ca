"""Winograd's minimal filtering for 3x3 convolutions (Lavin & Gray, CVPR 2016), as formulas.

A tile of `side` x `side` results costs (side + 2)^2 multiplications per pair of channels, where the
plain sum costs 9 side^2. Formulas are written once, for anything that can be added, subtracted and
multiplied by a number: NumPy arrays in the tests, vector registers in `llvm`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Formula = Callable[[Sequence[Any]], list[Any]]


@dataclass(frozen=True)
class Winograd:
    """F(side x side, 3 x 3): output_transform(sum of transform_weights(w) * input_transform(x)).

    Each formula is applied down the columns and then along the rows.
    """

    side: int
    """Side of a tile of results."""
    input_transform: Formula
    """Formula from side + 2 inputs to side + 2 values (B^T)."""
    output_transform: Formula
    """Formula from side + 2 values to `side` results (A^T)."""
    kernel: np.ndarray
    """(side + 2, 3) float64 transform of the weights (G)."""

    @property
    def input_side(self) -> int:
        """Side of a tile of inputs."""
        return self.side + 2

    def transform_weights(self, weight: np.ndarray) -> np.ndarray:
        """Transform weights. (out, in, 3, 3) -> (input_side * input_side, in, out) float32."""
        values = np.einsum("ia,jb,ocab->ijco", self.kernel, self.kernel, weight.astype(np.float64))
        return values.reshape(self.input_side**2, *weight.shape[1::-1]).astype(np.float32)


def _input_transform_3(d: Sequence[Any]) -> list[Any]:
    falling = d[3] - d[1]
    return [
        falling + (d[0] - d[2]) * 2.0,
        d[3] - d[2] - d[1] * 2.0,
        d[3] - d[2] * 3.0 + d[1] * 2.0,
        falling,
        d[4] - d[2] - falling * 2.0,
    ]


def _output_transform_3(m: Sequence[Any]) -> list[Any]:
    both = m[1] + m[2]
    return [m[0] + both + m[3], m[1] - m[2] + m[3] * 2.0, both + m[3] * 4.0 + m[4]]


def _input_transform_4(d: Sequence[Any]) -> list[Any]:
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


def _output_transform_4(m: Sequence[Any]) -> list[Any]:
    near, far = m[1] + m[2], m[3] + m[4]
    slope, steep = m[1] - m[2], m[3] - m[4]
    return [
        m[0] + near + far,
        slope + steep * 2.0,
        near + far * 4.0,
        slope + steep * 8.0 + m[5],
    ]


# The points 0, 1, -1, 2 and infinity: tiles of side 3 fill R- and O-Net's 9 x 9 and 21 x 21 results
# exactly.
WINOGRAD_3 = Winograd(
    3,
    _input_transform_3,
    _output_transform_3,
    np.array(
        [[1 / 2, 0, 0], [-1 / 2, -1 / 2, -1 / 2], [-1 / 6, 1 / 6, -1 / 6], [1 / 6, 1 / 3, 2 / 3],
         [0, 0, 1]]
    ),
)  # fmt: skip

# The points 0, 1, -1, 2, -2 and infinity.
WINOGRAD_4 = Winograd(
    4,
    _input_transform_4,
    _output_transform_4,
    np.array(
        [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
         [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]
    ),
)  # fmt: skip
