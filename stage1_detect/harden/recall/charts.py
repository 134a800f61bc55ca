"""Curves of several detectors as SVG pictures that are readable on a phone, light or dark.

Knows figures; knows nothing of photos or pages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cropfirst.core.charts import INK, as_svg, ink_axes, new_figure
from cropfirst.stage1_detect.harden.recall.compare import Scored
from cropfirst.stage1_detect.harden.recall.recall import ALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THEME = "<style>svg{color:#1b1f24}@media(prefers-color-scheme:dark){svg{color:#e6e9ed}}</style>"
LINES = ("#d9662b", "#3b7dd8", "#2f9e62", "#a05cc9", "#c23b5a", "#8a7a1f")
"""Colours that can be told apart on white and on black."""
TITLES = {
    "wear": "mask worn",
    "incorrect": "mask worn wrongly",
    "normal": "no mask",
    "": "unknown state",
    ALL: "all faces",
}


def draw_curves(scored: Sequence[Scored]) -> dict[str, str]:
    """Two SVGs a state that occurs, and for all: `precision_recall_wear`, `false_recall_wear`, ...

    A dot marks the threshold of use.
    """
    states = list(scored[0].counts)
    if len(states) == 2:  # one state is all there is
        states = states[:1]
    lowest = _lowest_recall(scored)
    kinds = {"precision_recall": _precision_chart, "false_recall": _false_chart}
    return {
        f"{kind}_{state or 'unknown'}": draw(scored, state, lowest)
        for kind, draw in kinds.items()
        for state in states
    }


def _precision_chart(scored: Sequence[Scored], state: str, lowest: float) -> str:
    figure, axes = _axes(f"{TITLES[state]}")
    for colour, one in zip(_colours(scored), scored, strict=True):
        recall, precision = one.curve.recall[state], one.curve.precision
        axes.plot(recall, precision, color=colour, linewidth=1.4, label=_label(one))
        place = _place_of_use(one)
        if place is not None:
            axes.plot(recall[place], precision[place], "o", color=colour, markersize=5)
    axes.set_xlim(lowest, 1.005)
    axes.set_ylim(_lowest_precision(scored), 1.01)
    axes.set_xlabel("recall of these faces")
    axes.set_ylabel("precision over all states")
    axes.legend(loc="lower left", fontsize=9, frameon=False, labelcolor=INK)
    return _svg(figure, f"precision and recall, {TITLES[state]}")


def _false_chart(scored: Sequence[Scored], state: str, lowest: float) -> str:
    figure, axes = _axes(f"{TITLES[state]}")
    widest = 2 * max(max(one.false_a_photo.value for one in scored), 0.05)
    for colour, one in zip(_colours(scored), scored, strict=True):
        recall, false = one.curve.recall[state], one.curve.false_a_photo
        axes.step(false, recall, where="post", color=colour, linewidth=1.4, label=_label(one))
        place = _place_of_use(one)
        if place is not None:
            axes.plot(false[place], recall[place], "o", color=colour, markersize=5)
    axes.set_xlim(0, widest)
    axes.set_ylim(lowest, 1.01)
    axes.set_xlabel("false positives a photo")
    axes.set_ylabel("recall of these faces")
    axes.legend(loc="lower right", fontsize=9, frameon=False, labelcolor=INK)
    return _svg(figure, f"recall and false positives, {TITLES[state]}")


def _place_of_use(one: Scored) -> int | None:
    """Where on its curve the detector is used."""
    passed = int((one.curve.scores > one.threshold).sum())
    return passed - 1 if passed else None


def _lowest_recall(scored: Sequence[Scored]) -> float:
    """Where the axis starts: well below what is in use, so that differences show."""
    used = [interval.value for one in scored for interval in one.recall.values()]
    return max(0.0, np.floor(min(used, default=0.0) * 10 - 2) / 10)


def _lowest_precision(scored: Sequence[Scored]) -> float:
    places = [(one, _place_of_use(one)) for one in scored]
    used = [float(one.curve.precision[place]) for one, place in places if place is not None]
    return max(0.0, np.floor(min(used, default=0.0) * 10 - 2) / 10)


def _colours(scored: Sequence[Scored]) -> list[str]:
    return [LINES[i % len(LINES)] for i in range(len(scored))]


def _label(one: Scored) -> str:
    return one.name.replace("$", r"\$").lstrip("_") or "?"


def _axes(title: str) -> tuple[Figure, Axes]:
    figure = new_figure(3.4, 2.9, dpi=100)
    axes = ink_axes(figure, labelsize=9)
    axes.set_title(title, fontsize=9.5, color=INK)
    axes.grid(color="#8888", linewidth=0.4)
    return figure, axes


def _svg(figure: Figure, label: str) -> str:
    """As it is also shown alone, it knows the reader's theme itself."""
    return re.sub(r"(<svg[^>]*>)", rf"\g<1>{THEME}", as_svg(figure, label), count=1)
