"""Charts of scores: confusion matrices and reliability diagrams.

Knows counts and class names; knows nothing of runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cropfirst.core.charts import COLOURS, INK, new_figure, style_axes, write_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cropfirst.stage2_classify.metrics.calibration import Reliability


def save_confusion(
    path: Path, matrix: npt.NDArray[np.integer], *, classes: Sequence[str], title: str
) -> None:
    """Write a confusion matrix as PNG: counts as numbers, the share of each row as shade.

    Args:
        path: replaced in one step.
        matrix: (C, C) counts, truth in rows, prediction in columns.
        classes: C names.

    Raises:
        ValueError: the matrix does not have a row and a column per class.
    """
    count = len(classes)
    if matrix.shape != (count, count):
        raise ValueError(
            f"expected a ({count}, {count}) matrix for {count} classes, got {matrix.shape}"
        )
    support = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(support, 1)
    side = float(np.clip(2.5 + 0.55 * count, 4.5, 24.0))
    figure = new_figure(side + 0.8, side)
    axes = figure.add_subplot()
    shade = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    figure.colorbar(shade, ax=axes, shrink=0.8, label="share of the true class")
    ticks = np.arange(count)
    axes.set_xticks(ticks, classes, rotation=0 if count <= 3 else 90, parse_math=False)
    names = [f"{name} ({n})" for name, n in zip(classes, support[:, 0], strict=True)]
    axes.set_yticks(ticks, names, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (photos)")
    style_axes(axes, title)
    if count <= 40:
        size = 10 if count <= 8 else 7
        for row, column in np.argwhere(matrix).tolist():
            colour = "white" if shares[row, column] > 0.55 else INK
            text = str(matrix[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
    write_png(path, figure)


def draw_reliability(found: Reliability, *, title: str = "") -> Figure:
    """Return a chart of accuracy against confidence; a dot's area is its number of photos."""
    figure = new_figure(3.3, 3.2)
    axes = figure.add_subplot()
    known = found.counts > 0
    confidence, accuracy = found.confidence[known], found.accuracy[known]
    sizes = 10 + 300 * found.counts[known] / max(int(found.counts.sum()), 1)
    axes.plot([0, 1], [0, 1], "--", color=INK, linewidth=0.8)
    axes.plot(confidence, accuracy, "-", color=COLOURS[0], linewidth=1)
    axes.scatter(confidence, accuracy, s=sizes, color=COLOURS[0], alpha=0.7)
    axes.set_xlim(0, 1.03)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    style_axes(axes, title)
    return figure
