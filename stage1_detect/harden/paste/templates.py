"""Mask templates: pictures of masks with six points each, read from a folder or drawn. Knows no
faces."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import cv2
import numpy as np

from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.harden.paste.drawn_masks import TEMPLATE_KINDS, draw_template
from cropfirst.stage1_detect.harden.paste.head_model import FaceView

COLUMNS = ("file", *(f"{axis}{point}" for point in "abcdef" for axis in "xy"))
"""Columns of points.csv."""
SIZE = 256
"""Longer side of a template in pixels, which is enough for faces of 300 pixels."""
_MARGIN = 4
"""Transparent pixels around a template."""
FACE_VIEWS: tuple[FaceView, ...] = get_args(FaceView)
OPPOSITE: dict[FaceView, FaceView] = {"front": "front", "left": "right", "right": "left"}


@dataclass(frozen=True)
class Template:
    """A mask that can be pasted."""

    name: str
    view: FaceView
    """Direction in which a face looks that the mask fits, as seen."""
    image: np.ndarray
    """(H, W, 4) uint8 RGBA, alpha not premultiplied; longer side at most `SIZE`, plus a margin."""
    points: np.ndarray
    """(6, 2) float32 x, y: a-c the upper edge from left to right, d-f the lower one."""

    def mirrored(self) -> Template:
        """Return the same mask seen from the other side."""
        points = self.points[[2, 1, 0, 5, 4, 3]] * np.array([-1, 1], np.float32)
        points += np.array([self.image.shape[1] - 1, 0], np.float32)
        image = cv2.flip(self.image, 1)
        return Template(f"{self.name} mirrored", OPPOSITE[self.view], image, points)


def read_templates(folder: Path) -> list[Template]:
    """Read all templates that a folder's points.csv names; _left or _right in a name is the view.

    Raises:
        DetectError: there is no points.csv or no template in it, it has other columns, a picture is
            missing, unreadable or without alpha, or points are not numbers.
    """
    table = folder / "points.csv"
    if not table.is_file():
        raise DetectError(
            f"mask templates: {table} is absent; wanted a folder of PNGs with alpha and a "
            f"points.csv of columns {','.join(COLUMNS)}"
        )
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            rows = list(reader)
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise DetectError(f"mask templates: {table} cannot be read as CSV: {error}") from error
    if columns != COLUMNS:
        raise DetectError(
            f"mask templates: {table} must have the columns {','.join(COLUMNS)}, "
            f"got {','.join(columns) or 'none'}"
        )
    if not rows:
        raise DetectError(f"mask templates: {table} names no template; write one line per picture")
    return [_read(folder, row, line) for line, row in enumerate(rows, start=2)]


def _read(folder: Path, row: dict[str, str], line: int) -> Template:
    path = folder / (row["file"] or "")
    try:
        points = np.array([float(row[name]) for name in COLUMNS[1:]], dtype=np.float32)
    except (TypeError, ValueError):
        points = np.full(12, np.nan, dtype=np.float32)
    if not np.isfinite(points).all():
        raise DetectError(
            f"mask templates: {folder / 'points.csv'} line {line} ({row['file']}): "
            f"wanted 12 numbers after the file, got {[row[name] for name in COLUMNS[1:]]}"
        )
    if np.linalg.matrix_rank(points.reshape(6, 2) - points[:2]) < 2:
        raise DetectError(
            f"mask templates: {folder / 'points.csv'} line {line} ({row['file']}): the six points "
            "lie on one line; wanted a-c along the upper edge and d-f along the lower one"
        )
    if not path.is_file():
        raise DetectError(
            f"mask templates: {path} is absent, but line {line} of points.csv names it; "
            "add the picture or remove the line"
        )
    image = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4 or image.dtype != np.uint8:
        came = "no picture" if image is None else f"shape {image.shape}, {image.dtype}"
        raise DetectError(
            f"mask templates: {path} must be a PNG with alpha (8 bits, RGBA), got {came}; "
            "save it with a transparent background"
        )
    stem = path.stem
    view: FaceView = next((each for each in FACE_VIEWS if stem.endswith(f"_{each}")), "front")
    return _make_template(
        stem, view, cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA), points.reshape(6, 2)
    )


def drawn_templates(seed: int = 0) -> list[Template]:
    """Draw every kind of mask from three views, printed ones four times; equal seeds give equal
    pixels."""
    rng = np.random.default_rng(seed)
    templates = []
    lot = [
        *zip(TEMPLATE_KINDS, TEMPLATE_KINDS, strict=True),
        *((f"printed{n}", "printed") for n in range(2, 5)),
    ]
    for name, kind in lot:
        front_image, front_points = draw_template(kind, rng, turned=False)
        templates.append(_make_template(name, "front", front_image, front_points))
        left = _make_template(f"{name}_left", "left", *draw_template(kind, rng, turned=True))
        right = left.mirrored()
        templates += [left, Template(f"{name}_right", "right", right.image, right.points)]
    return templates


def _make_template(name: str, view: FaceView, image: np.ndarray, points: np.ndarray) -> Template:
    """Make a template of the working size, its colours spread under the transparent pixels."""
    scale = min(1.0, SIZE / max(image.shape[:2]))
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    alpha = image[..., 3:].astype(np.float32) / 255
    whole = np.dstack([image[..., :3] * alpha, alpha])
    part = np.pad(
        cv2.resize(whole, size, interpolation=cv2.INTER_AREA),
        ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)),
    )
    # Transparent pixels take the colour of opaque ones nearby; otherwise edges would show a seam.
    wide = cv2.GaussianBlur(part, (0, 0), 4) + np.array([1e-3, 1e-3, 1e-3, 1e-5], np.float32)
    solid = part[..., 3:] > 0.5
    rgb = np.where(
        solid, part[..., :3] / np.maximum(part[..., 3:], 1e-6), wide[..., :3] / wide[..., 3:]
    )
    kept = np.dstack([rgb, part[..., 3] * 255]).clip(0, 255).round().astype(np.uint8)
    return Template(name, view, kept, ((points + 0.5) * scale - 0.5 + _MARGIN).astype(np.float32))
