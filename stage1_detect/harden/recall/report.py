"""What a hardening was worth, in a folder: report.html, which needs no other file, and behind it
recall.json, Parquet tables, curves as SVG and contact sheets as PNG.

Knows detections and known faces; knows nothing of nets or of how they were trained.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.table import Table
from rich.text import Text

from cropfirst.cache.tables import write_table
from cropfirst.core.bootstrap import Interval
from cropfirst.core.files import make_folder, write_atomic
from cropfirst.core.sheet import TILE_SIDE, SheetTile, write_sheet
from cropfirst.stage1_detect.harden.recall.charts import TITLES, draw_curves
from cropfirst.stage1_detect.harden.recall.compare import (
    Scored,
    curve_table,
    face_table,
    figures,
    score_detectors,
)
from cropfirst.stage1_detect.harden.recall.tiles import (
    KINDS,
    ReadPhoto,
    Shown,
    choose,
    cut_tiles,
    sort_out,
)
from cropfirst.stage1_detect.harden.training.truth import KnownFaces
from cropfirst.stage1_detect.mtcnn.detector import Detections

TEMPLATE = Path(__file__).with_name("recall.html")
FORMAT = 1


def write_recall_report(
    folder: Path,
    detectors: Mapping[str, Sequence[Detections]],
    truth: Sequence[KnownFaces],
    keys: Sequence[str],
    *,
    photos: ReadPhoto,
    facts: Mapping[str, str],
    thresholds: Mapping[str, float] | None = None,
    title: str = "Faces found, by mask state",
    min_size: float = 40,
    min_iou: float = 0.4,
    most: int = 48,
) -> Path:
    """Measure detectors on the same photos and write all that shows it.

    The first detector is what the others are compared with; the sheets show what the last one finds
    that the first does not, and the other way round. Equal input gives equal files.

    Args:
        folder: made where it is not there; files of an earlier report are replaced.
        detectors: name -> faces of each photo, with the P- and R-Net thresholds of use and a low
            O-Net threshold (0.01, say), from which the curves are drawn.
        truth: all known faces of each photo, small ones too.
        keys: the photos' keys, in the same order.
        photos: opens the photo of a key, (H, W, 3) uint8 RGB; asked only for those shown. May raise
            ReadError: its tiles are then grey.
        facts: what the run was, in the order to show: data, command, time, seed.
        thresholds: name -> O-Net threshold of use; 0.7 where it is not named.
        min_size: shorter side from which on a known face counts, in pixels.
        most: tiles a sheet.

    Returns:
        The page.

    Raises:
        ValueError: no detector, no photo, or unequally many.
        CacheError: the disk is full, or refuses the write.
    """
    scored = score_detectors(
        detectors, truth, thresholds=thresholds, min_size=min_size, min_iou=min_iou
    )
    faces = face_table(
        detectors, truth, keys, thresholds=thresholds, min_size=min_size, min_iou=min_iou
    )
    first, last = scored[0], scored[-1]
    changed = sort_out(
        detectors[first.name], detectors[last.name], truth, keys,
        thresholds=(first.threshold, last.threshold), min_size=min_size, min_iou=min_iou,
    )  # fmt: skip
    charts, sheets = draw_curves(scored), _sheets(changed, photos, most)
    make_folder(folder)
    write_table(folder / "known_faces.parquet", faces, kind="known_faces", version=FORMAT)
    curves = curve_table(scored)
    write_table(folder / "recall_curves.parquet", curves, kind="recall_curves", version=FORMAT)
    for name, chart in charts.items():
        write_atomic(folder / f"{name}.svg", chart.encode())
    for kind in KINDS:
        path = folder / f"{kind}.png"
        path.unlink(missing_ok=True)
        if sheets.get(kind):
            tiles, total = sheets[kind]
            write_sheet(tiles, path, f"{KINDS[kind]}: {len(tiles)} of {total}")
    how = {"min_size": min_size, "min_iou": min_iou, "photos": len(truth)}
    data = {"format": FORMAT, **how, "facts": dict(facts), "detectors": figures(scored)}
    write_atomic(folder / "recall.json", json.dumps(data, indent=2, ensure_ascii=False).encode())
    page = folder / "report.html"
    write_atomic(page, _page(scored, charts, sheets, title=title, facts=facts, how=how).encode())
    return page


def recall_table(scored: Sequence[Scored]) -> Table:
    """Recall by state and false positives a photo, each with its interval, for the console."""
    states = list(scored[0].counts)
    heads = [f"{name or 'unknown'} ({scored[0].counts[name][1]})" for name in states]
    table = Table(show_lines=True)
    for head in ("detector", *heads, "false a photo"):
        table.add_column(Text(head))
    for one in scored:
        cells = [*(one.recall[name] for name in states), one.false_a_photo]
        table.add_row(Text(one.name), *map(_cell, cells))
        if one is not scored[0]:
            gains = [*(one.gain[name] for name in states), one.more_false]
            table.add_row(Text("  change"), *(_cell(each, "+") for each in gains))
    return table


def _cell(interval: Interval, sign: str = "") -> Text:
    value, low, high = _told(interval, sign)
    return Text(f"{value}\n").append(f"{low} to {high}", style="dim")


Sheets = dict[str, tuple[list[SheetTile], int]]


def _sheets(changed: Mapping[str, Sequence[Shown]], photos: ReadPhoto, most: int) -> Sheets:
    """Tiles of each kind that occurs, and how many there are in all."""
    chosen = {kind: choose(changed[kind], most) for kind in KINDS}
    tiles = iter(cut_tiles([face for faces in chosen.values() for face in faces], photos))
    return {
        kind: ([next(tiles) for _ in faces], len(changed[kind]))
        for kind, faces in chosen.items()
        if faces
    }


def _page(
    scored: Sequence[Scored],
    charts: Mapping[str, str],
    sheets: Sheets,
    *,
    title: str,
    facts: Mapping[str, str],
    how: Mapping[str, Any],
) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    galleries = [
        {
            "id": kind,
            "title": KINDS[kind],
            "total": total,
            "tiles": [
                {"uri": _jpeg(tile.image), "title": tile.title, "key": tile.note} for tile in tiles
            ],
        }
        for kind, (tiles, total) in sheets.items()
    ]
    return environment.from_string(TEMPLATE.read_text("utf-8")).render(
        title=title,
        facts=facts,
        how=how,
        side=TILE_SIDE,
        first=scored[0],
        last=scored[-1],
        scored=scored,
        titles=TITLES,
        told=_told,
        charts={name: _svg_uri(chart) for name, chart in charts.items()},
        galleries=galleries,
    )


def _told(interval: Interval, sign: str = "") -> tuple[str, str, str]:
    """A value and its bounds in words; what is not a number is a dash."""
    value, low, high = (
        "-" if math.isnan(each) else f"{each:{sign}.3f}"
        for each in (interval.value, interval.low, interval.high)
    )
    return value, low, high


def _jpeg(image: np.ndarray) -> str:
    raw = io.BytesIO()
    Image.fromarray(image).save(raw, format="JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(raw.getvalue()).decode()}"


def _svg_uri(chart: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(chart.encode()).decode()}"
