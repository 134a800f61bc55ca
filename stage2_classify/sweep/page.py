"""The table of a sweep as one HTML page that needs no other file; and how its numbers are written.

Knows rows of the table; knows nothing of how they came about. No torch.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

TEMPLATE = Path(__file__).with_name("page.html")
METHOD = (
    "macro F1 is out of fold: its mean and standard deviation over the folds. The difference is "
    "that of macro F1 over all photos that both lines have, paired by photo, with a 95 % "
    "percentile interval over people (2,000 resamples). It holds the trained models fixed, so it "
    "says nothing of another seed; and of twenty lines that change nothing, one is expected to "
    "look clear."
)
Row = Mapping[str, Any]


def sweep_page(
    rows: Sequence[Row],
    *,
    title: str,
    tasks: Sequence[str],
    extra: Sequence[str],
    baseline: str,
    failures: Sequence[str],
    notes: Sequence[str],
    settings: Mapping[str, Row],
) -> str:
    """The whole page.

    Args:
        rows: of the comparison's table, in the order to show at first.
        tasks: what macro F1 is the mean over.
        extra: tasks with a column of their own.
        settings: line -> dotted setting -> value, of which those that differ are shown.
    """
    span = _span(rows)
    return Template(TEMPLATE.read_text("utf-8")).substitute(
        title=html.escape(title),
        tasks=html.escape(", ".join(tasks)),
        baseline=html.escape(baseline),
        header=_header(extra),
        rows="\n".join(_row(row, extra, span) for row in rows),
        failures=_list("Not finished", failures),
        notes=_list("Notes", notes),
        settings=_settings_table(settings),
        method=html.escape(METHOD),
    )


def is_better(row: Row) -> bool:
    """Whether the interval lies above 0."""
    return row["diff_low"] is not None and row["diff_low"] > 0


def is_worse(row: Row) -> bool:
    """Whether the interval lies below 0."""
    return row["diff_high"] is not None and row["diff_high"] < 0


def number(value: float | None, form: str = "") -> str:
    """As `format` writes it; empty where there is none."""
    return "" if value is None or math.isnan(value) else format(value, form)


def plus_minus(mean: float | None, sd: float | None, *, digits: int = 4) -> str:
    """Mean and standard deviation; empty where there is none."""
    form = f".{digits}f"
    return f"{number(mean, form)} ± {number(sd, form)}" if number(mean) else ""


def gap(row: Row) -> str:
    """The difference from the baseline, with its bounds."""
    if row["is_baseline"]:
        return "baseline"
    if row["diff"] is None:
        return ""
    return f"{row['diff']:+.3f} [{row['diff_low']:+.3f}, {row['diff_high']:+.3f}]"


def _span(rows: Sequence[Row]) -> float:
    """The largest bound of all intervals: half the width of the picture of each."""
    found = [row[name] for row in rows for name in ("diff_low", "diff_high")]
    return max((abs(value) for value in found if value is not None), default=0.0) or 1.0


def _header(extra: Sequence[str]) -> str:
    names = ["macro F1 (folds)", "macro F1 (all)", "difference", *extra]
    names += ["folds", "epochs", "px", "parameters", "seconds"]
    cells = [_TEXT_HEAD, *(f'<th scope="col">{_button(name)}</th>' for name in names)]
    return "".join(cells)


def _button(name: str) -> str:
    return f'<button type="button">{html.escape(name)}</button>'


_TEXT_HEAD = f'<th scope="col" class="text">{_button("line")}</th>'


def _row(row: Row, extra: Sequence[str], span: float) -> str:
    kind = "base" if row["is_baseline"] else "worse" if is_worse(row) else ""
    kind = "better" if is_better(row) else kind
    name = html.escape(row["line"], quote=True)
    cells = [
        f'<th scope="row" class="text" data-v="{name}">{name}</th>',
        _cell(row["macro_f1_mean"], plus_minus(row["macro_f1_mean"], row["macro_f1_sd"])),
        _cell(row["macro_f1"], number(row["macro_f1"], ".4f")),
        _cell(0.0 if row["is_baseline"] else row["diff"], _drawn_gap(row, span)),
        *(
            _cell(row[f"{task}_mean"], plus_minus(row[f"{task}_mean"], row[f"{task}_sd"]))
            for task in extra
        ),
        _cell(row["folds_finished"], f"{row['folds_finished']}/{row['folds']}"),
        _cell(row["epochs"], number(row["epochs"])),
        _cell(row["image_size"], number(row["image_size"])),
        _cell(row["n_params"], number(row["n_params"], ",")),
        _cell(row["seconds"], number(row["seconds"], ".1f")),
    ]
    return f'<tr class="{kind}">{"".join(cells)}</tr>'


def _cell(value: float | None, shown: str) -> str:
    known = value is not None and not math.isnan(value)
    return f'<td data-v="{value if known else ""}">{shown}</td>'


def _drawn_gap(row: Row, span: float) -> str:
    """The difference in figures, and its interval drawn on one scale for all lines."""
    if row["is_baseline"] or row["diff"] is None:
        return gap(row)
    low, mid, high = (60 + 56 * row[key] / span for key in ("diff_low", "diff", "diff_high"))
    return (
        f"{row['diff']:+.4f} <small>{row['diff_low']:+.4f} to {row['diff_high']:+.4f}</small>"
        '<svg viewBox="0 0 120 14" width="120" height="14" aria-hidden="true">'
        '<line class="zero" x1="60" x2="60" y1="0" y2="14"/>'
        f'<line class="ci" x1="{low:.1f}" x2="{high:.1f}" y1="7" y2="7"/>'
        f'<circle cx="{mid:.1f}" cy="7" r="3.5"/></svg>'
    )


def _list(title: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    return f"<h2>{title}</h2><ul>{''.join(f'<li>{html.escape(each)}</li>' for each in items)}</ul>"


def _settings_table(settings: Mapping[str, Row]) -> str:
    """The settings that are not the same in all lines."""
    keys = list(dict.fromkeys(key for found in settings.values() for key in found))
    differ = [
        key for key in keys if len({repr(each.get(key, "")) for each in settings.values()}) > 1
    ]
    if not differ:
        return ""
    head = "".join(f'<th scope="col">{html.escape(key)}</th>' for key in differ)
    rows = "".join(
        f'<tr><th scope="row" class="text">{html.escape(line)}</th>'
        + "".join(f"<td>{html.escape(str(found.get(key, '')))}</td>" for key in differ)
        + "</tr>"
        for line, found in settings.items()
    )
    return (
        '<h2>Settings that differ</h2><div class="scroll"><table><thead><tr>'
        f'<th scope="col" class="text">line</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
