"""Charts by matplotlib in one style: as SVG in the colours of the page around them, or as PNG.

Draws with matplotlib's objects on Agg: no pyplot, no display, no state. Knows figures; knows
nothing of what they show.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from cropfirst.core.files import write_atomic
from cropfirst.core.fonts import HOW_TO_INSTALL, find_font, missing_letters

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1b1f25"
"""Colour of text and axes; an SVG replaces it by the page's own, which changes with its theme."""
COLOURS = ("#3b7dd8", "#d9662b", "#2f9e62", "#a05cc9", "#c23b5a", "#8a7a1f")
"""Colours that can be told apart on white and on black."""


def new_figure(width: float, height: float, *, dpi: int = 110) -> Figure:
    """Return an empty figure.

    Args:
        width, height: inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Axes, title: str = "") -> None:
    """Give axes the common look: no background, a left and a bottom line, small text in `INK`."""
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)
    axes.tick_params(colors=INK, labelsize=8)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)
        label.set_fontsize(9)
    # A name such as "$" or "a_b" is no formula.
    axes.set_title(title, fontsize=10, color=INK, parse_math=False)


def as_svg(figure: Figure, label: str) -> Markup:
    """Return a figure as an SVG element with real text; the same figure gives the same element.

    Args:
        label: what the figure shows, for those who cannot see it.
    """
    import matplotlib
    from markupsafe import Markup, escape

    raw = io.StringIO()
    settings = {"svg.fonttype": "none", "svg.hashsalt": label, "font.family": "sans-serif"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(raw, format="svg", transparent=True, metadata={"Date": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", raw.getvalue(), flags=re.DOTALL)
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    # Several charts share one page: their clip paths must not share a name.
    name = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>c{name}-", text)
    text = text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
    # Written by matplotlib, which escapes what it is given.
    return Markup(text)  # nosec B704


def write_png(path: Path, figure: Figure) -> None:
    """Write a figure as PNG in one step."""
    show_letters(figure)
    raw = io.BytesIO()
    figure.savefig(raw, format="png")
    write_atomic(path, raw.getvalue())


def show_letters(figure: Figure) -> None:
    """Draw the texts of a figure in fonts that have their letters.

    Where no font on this machine has them, names at an axis become their number, counted from 0,
    other letters become `?`, and the figure says so.
    """
    from matplotlib import font_manager
    from matplotlib.text import Text

    axes = [axis for each in figure.axes for axis in (each.xaxis, each.yaxis)]
    written = [axis.get_ticklabels() for axis in axes]  # made when they are asked for
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    letters = "".join(text.get_text() for text in texts)
    missing = missing_letters(letters)
    if not missing:
        return
    font = find_font(missing)
    if font is not None:
        font_manager.fontManager.addfont(font)
        family = font_manager.FontProperties(fname=font).get_name()
        for text in texts:
            text.set_fontfamily(["DejaVu Sans", family])
        return
    for axis, labels in zip(axes, written, strict=True):
        if missing_letters("".join(label.get_text() for label in labels)):
            numbers = [str(number) for number in range(len(labels))]
            axis.set_ticks(axis.get_ticklocs(), numbers)
    for text in texts:
        text.set_text("".join("?" if each in missing else each for each in text.get_text()))
    figure.supxlabel(
        f"Names are shown as numbers: no font has their letters.\nTo show them, {HOW_TO_INSTALL}.",
        fontsize=7,
    )
