"""Pictures of results. Draws with matplotlib's objects on Agg: no pyplot, no display, no state.

Knows counts and class names; knows nothing of runs.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cropfirst.cache import write_atomic


def save_confusion(
    path: Path, matrix: npt.NDArray[np.integer], *, classes: Sequence[str], title: str
) -> None:
    """Write a confusion matrix as PNG: counts as numbers, each row's shares as shade.

    Args:
        path: replaced in one step.
        matrix: (C, C) counts, truth in rows, prediction in columns.
        classes: C names.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(classes)
    if matrix.shape != (count, count):
        raise ValueError(f"wanted a ({count}, {count}) matrix for {count} classes, {matrix.shape}")
    support = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(support, 1)
    side = float(np.clip(2.5 + 0.55 * count, 4.5, 24.0))
    figure = Figure(figsize=(side + 0.8, side), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
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
    raw = io.BytesIO()
    with warnings.catch_warnings():
        # The font lacks a script: boxes in the picture, the names are in evaluation.json too.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(raw, format="png")
    write_atomic(path, raw.getvalue())
