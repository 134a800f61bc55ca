"""Charts by matplotlib that a page takes up as SVG and shows in its own colours, light or dark.

Knows figures; knows nothing of what they show.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#123457"
"""Stands for the page's own text colour, which changes with its theme."""


def new_figure(width: float, height: float, *, dpi: int = 110) -> Figure:
    """A figure of so many inches, on Agg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def ink_axes(figure: Figure, *, labelsize: float) -> Axes:
    """Axes without a ground, left and below only, drawn in `INK`."""
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)
    axes.tick_params(colors=INK, labelsize=labelsize)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    return axes


def as_svg(figure: Figure, label: str) -> str:
    """The figure as an SVG element with real text; the same figure gives the same text.

    Args:
        label: what it is; also the seed of its ids.
    """
    import matplotlib

    raw = io.StringIO()
    settings = {"svg.fonttype": "none", "svg.hashsalt": label, "font.family": "sans-serif"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(raw, format="svg", transparent=True, metadata={"Date": None})
    text = raw.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return text[text.index("<svg") :].replace(INK, "currentColor")
