"""Area resize by an integral image (summed-area table; Crow, SIGGRAPH 1984), in NumPy.

The bins are whole pixels, those of `interpolate(mode="area")`, so that the networks see the means
that stage 1 gives them. Sums are int32 and may wrap around in large photos; differences are exact.
"""

from __future__ import annotations

import cv2
import numpy as np

from cropfirst.core.faces.pyramid import area_bins


class IntegralImage:
    """The integral image of one photo."""

    def __init__(self, photo: np.ndarray) -> None:
        """Sum the pixels of a photo, (H, W, 3) uint8, from its top left corner."""
        self.height, self.width = photo.shape[:2]
        # A fourth channel makes each entry 16 bytes, which is read as one value.
        sums = cv2.integral(cv2.cvtColor(photo, cv2.COLOR_RGB2RGBA), sdepth=cv2.CV_32S)
        self._table = np.asarray(sums, np.int32).reshape(self.height + 1, -1).view(np.complex128)

    def resize(self, height: int, width: int) -> np.ndarray:
        """Return the photo at another size, (1, 3, height, width) float32 in [-1, 1]."""
        (y0, y1), (x0, x1) = area_bins(self.height, height), area_bins(self.width, width)
        # Columns first: what is left is a few per cent of the photo.
        rows = self._table[y1].view(np.int32) - self._table[y0].view(np.int32)
        entries = rows.view(np.complex128)
        sums = entries.take(x1, axis=1).view(np.int32) - entries.take(x0, axis=1).view(np.int32)
        area = ((y1 - y0)[:, None] * (x1 - x0)).astype(np.float32)
        return _normalise(sums.reshape(1, height, width, 4), area[None])

    def crops(self, windows: np.ndarray, size: int) -> np.ndarray:
        """Return windows of the photo at a network's size.

        Args:
            windows: (N, 4) int64 x0, y0, x1, y1, half open, inside the photo and not empty.

        Returns:
            (N, 3, size, size) float32 in [-1, 1].
        """
        step = np.arange(size, dtype=np.int64)[None, :, None]
        start, length = windows[:, None, :2], (windows[:, 2:] - windows[:, :2])[:, None, :]
        low = start + step * length // size
        high = start - (-(step + 1) * length // size)
        flat, stride = self._table.reshape(-1), self.width + 1
        bottom, top = ((each[..., 1] * stride)[:, :, None] for each in (high, low))
        right, left = (each[:, None, :, 0] for each in (high, low))
        sums = flat.take(bottom + right).view(np.int32) - flat.take(bottom + left).view(np.int32)
        sums -= flat.take(top + right).view(np.int32)
        sums += flat.take(top + left).view(np.int32)
        wide, tall = (high - low)[..., 0], (high - low)[..., 1]
        area = (tall[:, :, None] * wide[:, None, :]).astype(np.float32)
        return _normalise(sums.reshape(-1, size, size, 4), area)


def _normalise(sums: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Return means scaled to [-1, 1]. (N, h, w, 4) int32, (N, h, w) -> (N, 3, h, w) float32."""
    planes = np.empty((len(sums), 3, *sums.shape[1:3]), np.float32)
    for channel in range(3):
        np.divide(sums[..., channel].astype(np.float32), area, out=planes[:, channel])
    planes -= np.float32(127.5)
    planes *= np.float32(0.0078125)
    return planes
