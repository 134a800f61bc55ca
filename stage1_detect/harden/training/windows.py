"""Windows of a photo with what a net is to output for them. Knows no photos or nets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cropfirst.stage1_detect.mtcnn.candidates import NetName

WINDOW_KINDS = ("real", "pasted", "bare", "part", "unsure", "none")
"""The kinds of windows: with a face covered in the photo itself, a face covered by pasting, a bare
face, a part of a face, something that only the teacher can judge, or no face."""
REAL, PASTED, BARE, PART, UNSURE, NONE = range(6)
WINDOW_SIZES: dict[NetName, int] = {"pnet": 12, "rnet": 24, "onet": 48}
"""Side of each net's input in pixels."""


@dataclass(frozen=True)
class Windows:
    """N windows with their targets."""

    boxes: np.ndarray
    """(N, 4) float32 xyxy in the view's pixels."""
    pixels: np.ndarray
    """(N, S, S, 3) uint8."""
    kind: np.ndarray
    """(N,) int8 index into `WINDOW_KINDS`."""
    offsets: np.ndarray
    """(N, 4) float32 fractions of the window; NaN if there is no target."""
    landmarks: np.ndarray
    """(N, 10) float32 fractions of the window, five x and five y; NaN if there is no target."""
    teacher: np.ndarray
    """(N, 5 or 15) float32 output of the teacher on the same pixels."""

    @staticmethod
    def join(parts: list[Windows]) -> Windows:
        """Concatenate windows."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return Windows(*(np.concatenate(column) for column in columns))

    def take(self, rows: np.ndarray) -> Windows:
        """Return a copy of some rows."""
        return Windows(*(column[rows] for column in vars(self).values()))

    def __len__(self) -> int:
        return len(self.kind)
