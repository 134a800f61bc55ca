"""Pictures of the report: crops and files as data URIs, charts as SVG.

Knows pixels and numbers; knows nothing of runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cropfirst.core.charts import COLOURS, INK, as_svg, new_figure, style_axes
from cropfirst.core.html import jpeg_uri

if TYPE_CHECKING:
    from markupsafe import Markup

CROP_SIDE = 112
"""Side in pixels of a crop on the page."""
LARGEST = 1600
"""Longer side in pixels beyond which a picture from a file is shrunk."""


def gallery_item(crop: npt.NDArray[np.uint8], caption: str) -> dict[str, str]:
    """Return a crop of (H, W, 3) uint8 RGB as an item of a gallery."""
    return {"uri": jpeg_uri(crop, side=CROP_SIDE), "caption": caption}


def file_uri(path: Path) -> str | None:
    """Return a picture from a file as a data URI; None where it is not a picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    image.thumbnail((LARGEST, LARGEST))
    return jpeg_uri(np.asarray(image))


def draw_curves(
    histories: Mapping[str, Mapping[str, Sequence[float]]], columns: Sequence[str], *, label: str
) -> Markup:
    """Return the learning curves of a run, one colour per fold and one line style per column.

    Args:
        histories: fold -> column -> one value per epoch.
        columns: one or two, drawn solid and dotted.
        label: name of the values.
    """
    figure = new_figure(4.6, 2.7)
    axes = figure.add_subplot()
    for number, (fold, history) in enumerate(histories.items()):
        for column, style in zip(columns, ("-", ":"), strict=False):
            values = history.get(column, [])
            name = f"{fold} {column}" if len(columns) > 1 else fold
            epochs = np.arange(1, len(values) + 1)
            axes.plot(epochs, values, style, color=COLOURS[number % len(COLOURS)], label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    if len(histories) * len(columns) <= 8:
        axes.legend(fontsize=7, frameon=False, labelcolor=INK)
    style_axes(axes)
    return as_svg(figure, f"{label} over epochs")


def draw_gains(rows: Sequence[tuple[str, float, float, float]]) -> Markup:
    """Return a chart of differences with their intervals, one per line, with a mark at 0.

    Args:
        rows: name, value, low, high.
    """
    figure = new_figure(4.8, 0.55 + 0.27 * len(rows))
    axes = figure.add_subplot()
    places = np.arange(len(rows))[::-1]
    values = np.array([row[1] for row in rows])
    bounds = np.array([[row[1] - row[2], row[3] - row[1]] for row in rows]).T
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.errorbar(
        values, places, xerr=np.maximum(bounds, 0), fmt="o", color=COLOURS[0], markersize=4
    )
    axes.set_yticks(places, [row[0] for row in rows], fontsize=8, parse_math=False)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    style_axes(axes)
    return as_svg(figure, "differences with intervals")
