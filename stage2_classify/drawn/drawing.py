"""Drawing with OpenCV: smooth shapes, tapered strokes and soft shadows.

Everything is drawn at twice the photo's size and shrunk at the end, in coordinates of a movable
frame (origin, unit, angle). Knows nothing of faces, rooms or labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import cv2
import numpy as np
import numpy.typing as npt

Colour = tuple[int, int, int]
Points = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]
PointList = Points | Sequence[tuple[float, float]]

SUPERSAMPLE = 2
_SHIFT = 4  # cv2 draws with 1/16 pixel precision


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour that is `share` (0-1) of the way from `first` to `second`."""
    r, g, b = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return min(max(r, 0), 255), min(max(g, 0), 255), min(max(b, 0), 255)


def shade(colour: Colour, factor: float) -> Colour:
    """Return a colour made darker (`factor` < 1) or, up to white, lighter (> 1)."""
    return mix((0, 0, 0), colour, factor) if factor <= 1 else mix(colour, (255,) * 3, factor - 1)


def smooth(points: PointList, *, closed: bool = True, steps: int = 8) -> Points:
    """Return a Catmull-Rom spline through points, `steps` samples per span: (M, 2) float32."""
    p = np.asarray(points, np.float32)
    if closed:
        p = np.concatenate([p[-1:], p, p[:2]])
    else:
        p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False, dtype=np.float32)[None, :, None]
    a, b, c, d = (p[i : len(p) - 3 + i, None, :] for i in range(4))
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    out = curve.reshape(-1, 2)
    return out if closed else np.concatenate([out, p[-2:-1]])


def mirrored(half: PointList) -> Points:
    """Return a symmetric closed polygon, given its right half from the top down."""
    right = np.asarray(half, np.float32)
    left = right[::-1] * np.array([-1, 1], np.float32)
    return np.concatenate([right, left[np.abs(left[:, 0]) > 1e-6]])


def oval(x: float, y: float, width: float, height: float, *, n: int = 24) -> Points:
    """Return an ellipse of half axes `width` and `height` around (x, y): (n, 2) float32."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([x + width * np.cos(t), y + height * np.sin(t)], axis=1).astype(np.float32)


def box(x0: float, y0: float, x1: float, y1: float) -> Points:
    """Return an axis-parallel rectangle: (4, 2) float32."""
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float32)


class Drawing:
    """An RGB picture to draw on; shapes are given in units of the current frame."""

    def __init__(self, size: tuple[int, int], background: Colour) -> None:
        """Fill a picture with one colour; `size` is the finished (width, height) in pixels."""
        self.size = size
        shape = (size[1] * SUPERSAMPLE, size[0] * SUPERSAMPLE, 3)
        self.image: Image = np.full(shape, background, np.uint8)
        self.place(origin=(0.0, 0.0), unit=float(size[0]))

    def place(self, *, origin: tuple[float, float], unit: float, angle: float = 0.0) -> None:
        """Move the frame: origin and unit in photo pixels, angle in degrees clockwise."""
        self.unit = unit * SUPERSAMPLE
        turn = np.deg2rad(angle)
        cos, sin = np.cos(turn) * self.unit, np.sin(turn) * self.unit
        self._matrix = np.array([[cos, sin], [-sin, cos]], np.float32)
        self._origin = np.array(origin, np.float32) * SUPERSAMPLE

    def pixels(self, points: PointList) -> Points:
        """Return where points of the frame are in the finished photo: (N, 2) float32 pixels."""
        return (self._pixels(points) / SUPERSAMPLE).astype(np.float32, copy=False)

    def fill(self, points: PointList, colour: Colour) -> None:
        """Fill a polygon with anti-aliased edges."""
        cv2.fillPoly(self.image, [self._fixed(points)], colour, cv2.LINE_AA, _SHIFT)

    def line(
        self, points: PointList, colour: Colour, width: float, *, closed: bool = False
    ) -> None:
        """Draw a line of even width (in units, at least one drawn pixel)."""
        thickness = max(1, round(width * self.unit))
        pts = [self._fixed(points)]
        cv2.polylines(self.image, pts, closed, colour, thickness, cv2.LINE_AA, _SHIFT)

    def stroke(self, points: PointList, colour: Colour, width: float, *, tip: float = 0.0) -> None:
        """Draw a smooth brush stroke, `width` wide in the middle and `tip` x that at its ends."""
        self.fill(stroke_outline(points, width, tip=tip), colour)

    def soft(self, points: PointList, colour: Colour, *, alpha: float, blur: float) -> None:
        """Blend a polygon in with blurred edges; `blur` is the Gaussian's sigma in units."""
        p = self._pixels(points)
        sigma = max(blur * self.unit, 0.5)
        rows, cols = self._window(p, 3 * sigma)
        if rows.stop <= rows.start or cols.stop <= cols.start:
            return
        # a blurred layer needs few pixels: it is drawn small and enlarged
        small = max(sigma / 3, 1.0)
        h, w = rows.stop - rows.start, cols.stop - cols.start
        layer = np.zeros((int(h / small) + 1, int(w / small) + 1), np.float32)
        local = (p - np.array([cols.start, rows.start], np.float32)) / small
        fixed = np.round(local * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(layer, [fixed], float(alpha), cv2.LINE_8, _SHIFT)
        cv2.GaussianBlur(layer, (0, 0), sigma / small, dst=layer)
        weight = cv2.resize(layer, (w, h), interpolation=cv2.INTER_LINEAR)
        # filling with cv2 is ten times faster than np.full with three values
        flat = np.empty((h, w, 3), np.uint8)
        cv2.rectangle(flat, (0, 0), (w, h), colour, cv2.FILLED)
        self._blend(rows, cols, flat, weight.astype(np.float32, copy=False))

    @contextmanager
    def clipped(self, points: PointList) -> Iterator[None]:
        """Restrict what is drawn inside the `with` to a polygon."""
        rows, cols = self._window(self._pixels(points), 2.0)
        before = self.image.copy()
        yield
        inside = np.ascontiguousarray(self.image[rows, cols])
        self.image = before
        if inside.size == 0:
            return
        mask = np.zeros(inside.shape[:2], np.uint8)
        offset = np.array([cols.start, rows.start], np.int32) << _SHIFT
        cv2.fillPoly(mask, [self._fixed(points) - offset], 255, cv2.LINE_AA, _SHIFT)
        self._blend(rows, cols, inside, (mask / np.float32(255)).astype(np.float32))

    def finish(self) -> Image:
        """Return the picture at its finished size: (height, width, 3) uint8 RGB."""
        small = cv2.resize(self.image, self.size, interpolation=cv2.INTER_AREA)
        return small.astype(np.uint8, copy=False)

    def _blend(self, rows: slice, cols: slice, top: Image, weight: npt.NDArray[np.float32]) -> None:
        below = np.ascontiguousarray(self.image[rows, cols])
        self.image[rows, cols] = cv2.blendLinear(below, top, 1 - weight, weight)

    def _pixels(self, points: PointList) -> Points:
        moved = np.asarray(points, np.float32) @ self._matrix + self._origin
        return moved.astype(np.float32, copy=False)

    def _fixed(self, points: PointList) -> npt.NDArray[np.int32]:
        return np.round(self._pixels(points) * (1 << _SHIFT)).astype(np.int32)

    def _window(self, p: Points, pad: float) -> tuple[slice, slice]:
        h, w = self.image.shape[:2]
        x0, y0 = np.floor(p.min(axis=0) - pad).astype(int)
        x1, y1 = np.ceil(p.max(axis=0) + pad).astype(int) + 1
        return slice(max(0, int(y0)), min(h, int(y1))), slice(max(0, int(x0)), min(w, int(x1)))


def stroke_outline(points: PointList, width: float, *, tip: float = 0.0) -> Points:
    """Return the outline of a brush stroke along a smooth line through points."""
    line = smooth(points, closed=False, steps=6)
    along = np.gradient(line, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    swell = tip + (1 - tip) * np.sin(np.linspace(0, np.pi, len(line)))[:, None]
    half = normal * swell * (width / 2)
    return np.concatenate([line + half, (line - half)[::-1]]).astype(np.float32)
