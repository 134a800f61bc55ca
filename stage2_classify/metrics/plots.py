"""Pictures of results. Draws with matplotlib's objects on Agg: no pyplot, no display, no state.

Knows counts and class names; knows nothing of runs.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cropfirst.core.charts import new_figure
from cropfirst.core.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cropfirst.stage2_classify.metrics.calibration import Reliability


def save_confusion(
    path: Path, matrix: npt.NDArray[np.integer], *, classes: Sequence[str], title: str
) -> None:
    """Write a confusion matrix as PNG: counts as numbers, each row's shares as shade.

    Args:
        path: replaced in one step.
        matrix: (C, C) counts, truth in rows, prediction in columns.
        classes: C names.
    """
    count = len(classes)
    if matrix.shape != (count, count):
        raise ValueError(f"wanted a ({count}, {count}) matrix for {count} classes, {matrix.shape}")
    support = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(support, 1)
    side = float(np.clip(2.5 + 0.55 * count, 4.5, 24.0))
    figure = new_figure(side + 0.8, side)
    axes = figure.add_subplot()
    shade = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    figure.colorbar(shade, ax=axes, shrink=0.8, label="share of the true class")
    ticks = np.arange(count)
    # A class may be named "$" or "a_b": its name is no formula.
    axes.set_xticks(ticks, classes, rotation=0 if count <= 3 else 90, parse_math=False)
    axes.set_yticks(
        ticks,
        [f"{name} ({n})" for name, n in zip(classes, support[:, 0], strict=True)],
        parse_math=False,
    )
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (photos)")
    axes.set_title(title, parse_math=False)
    if count <= 40:
        size = 10 if count <= 8 else 7
        for row, column in np.ndindex(count, count):
            if matrix[row, column]:
                colour = "white" if shares[row, column] > 0.55 else "black"
                text = f"{matrix[row, column]}"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
    write_figure(path, figure)


def save_reliability(path: Path, found: Reliability, *, title: str) -> None:
    """Write a reliability diagram as PNG: accuracy against confidence, and how many photos each."""
    figure = new_figure(5.0, 5.2)
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    edges = np.linspace(0, 1, len(found.counts) + 1)
    there = found.counts > 0
    width = edges[1] - edges[0]
    middle = edges[:-1] + width / 2
    top.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle="--")
    top.bar(middle[there], found.accuracy[there], width * 0.9, color="#3b75af", label="accuracy")
    top.plot(found.confidence[there], found.accuracy[there], "o", color="#c44e2b", markersize=4,
             label="mean confidence of the bin")  # fmt: skip
    top.set_ylabel("accuracy")
    top.set_ylim(0, 1)
    top.legend(loc="upper left", fontsize=8)
    top.set_title(title, parse_math=False)
    bottom.bar(middle, found.counts, width * 0.9, color="0.6")
    bottom.set_ylabel("photos")
    bottom.set_xlabel("confidence")
    bottom.set_xlim(0, 1)
    write_figure(path, figure)


def save_gallery(
    path: Path,
    crops: Sequence[npt.NDArray[np.uint8]],
    captions: Sequence[str],
    *,
    title: str,
    columns: int = 8,
) -> None:
    """Write crops with captions as PNG, row by row.

    Args:
        crops: (H, W, 3) uint8 RGB each; at least one.
    """
    rows = -(-len(crops) // columns)
    figure = new_figure(1.5 * columns, 1.9 * rows + 0.5)
    for place, (crop, caption) in enumerate(zip(crops, captions, strict=True)):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.imshow(crop)
        axes.set_axis_off()
        axes.set_title(caption, fontsize=7, parse_math=False)
    figure.suptitle(title, fontsize=10, parse_math=False)
    write_figure(path, figure)


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG in one step."""
    raw = io.BytesIO()
    with warnings.catch_warnings():
        # The font lacks a script: boxes in the picture, the names are in evaluation.json too.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(raw, format="png")
    write_atomic(path, raw.getvalue())
