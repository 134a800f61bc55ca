"""Report of several detectors' scores: a JSON file, and a table for the console."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from cropfirst.core.bootstrap import Interval
from cropfirst.core.files import write_atomic
from cropfirst.stage1_detect.harden.recall.recall import MIN_IOU, MIN_SIZE
from cropfirst.stage1_detect.harden.recall.scores import DetectorScores, scores_as_dicts

FORMAT = 1


def write_recall_json(
    path: Path, scores: Sequence[DetectorScores], *, photos: int, facts: Mapping[str, str]
) -> None:
    """Write all scores with their intervals; equal input gives equal bytes.

    Args:
        photos: number of photos.
        facts: what the run was, e.g. its data, seed and time.
    """
    data = {
        "format": FORMAT,
        "min_size": MIN_SIZE,
        "min_iou": MIN_IOU,
        "photos": photos,
        "facts": dict(facts),
        "detectors": scores_as_dicts(scores),
    }
    write_atomic(path, json.dumps(data, indent=2, ensure_ascii=False).encode())


def recall_table(scores: Sequence[DetectorScores]) -> Table:
    """Make a table of recall by state and false positives per photo, with their intervals."""
    states = list(scores[0].counts)
    heads = [f"{name or 'unknown'} ({scores[0].counts[name][1]})" for name in states]
    table = Table(show_lines=True)
    for head in ("detector", *heads, "false per photo"):
        table.add_column(Text(head))
    for each in scores:
        cells = [*(each.recall[name] for name in states), each.false_per_photo]
        table.add_row(Text(each.name), *map(_cell, cells))
        if each is not scores[0]:
            gains = [*(each.gain[name] for name in states), each.more_false]
            table.add_row(Text("  change"), *(_cell(gain, "+") for gain in gains))
    return table


def _cell(interval: Interval, sign: str = "") -> Text:
    """Return a value above its bounds; a dash stands for NaN."""
    value, low, high = (
        "-" if math.isnan(each) else f"{each:{sign}.3f}"
        for each in (interval.value, interval.low, interval.high)
    )
    return Text(f"{value}\n").append(f"{low} to {high}", style="dim")
