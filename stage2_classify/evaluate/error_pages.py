"""Slices, calibration and mistakes on the console and as pictures. Computes nothing. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cropfirst.cache import CropReader, CropSet
from cropfirst.core.charts import write_png
from cropfirst.core.sheet import SheetTile, write_sheet
from cropfirst.stage2_classify.evaluate.error_analysis import Diagnosis, Mistake
from cropfirst.stage2_classify.metrics.slices import Slice

SHOWN = 8
"""Slices of a task on the console."""
GALLERY = 32
"""Mistakes of a task in its gallery."""


def print_diagnoses(console: Console, diagnoses: Sequence[Diagnosis]) -> None:
    """Print each task's intervals and calibration, and its worst slices."""
    table = Table(title="with 95 % intervals over people")
    table.add_column("task")
    for column in ("people", "macro F1", "accuracy", "calibration error", "mistakes"):
        table.add_column(column, justify="right")
    for each in diagnoses:
        ece = str(each.ece) if each.ece else "-"
        counts = (str(each.n_people), str(each.macro_f1), str(each.accuracy), ece)
        table.add_row(Text(each.task), *counts, str(len(each.mistakes)))
    console.print(table)
    slices = [each for diagnosis in diagnoses for each in diagnosis.slices[:SHOWN]]
    if slices:
        console.print(_slice_table(slices))


def draw_diagnoses(
    out_dir: Path, diagnoses: Sequence[Diagnosis], crops: CropSet | None
) -> list[Path]:
    """Write a reliability diagram and a gallery of the surest mistakes for each task."""
    from cropfirst.stage2_classify.evaluate.task_report import file_name
    from cropfirst.stage2_classify.metrics.plots import draw_reliability

    pictures = []
    reader = None if crops is None else crops.reader()
    for each in diagnoses:
        if each.reliability is not None:
            path = out_dir / f"reliability_{file_name(each.task)}.png"
            title = f"{each.task}: calibration error {each.reliability.ece:.3f}"
            write_png(path, draw_reliability(each.reliability, title=title))
            pictures.append(path)
        path = out_dir / f"mistakes_{file_name(each.task)}.png"
        path.unlink(missing_ok=True)  # of an earlier call: there may be none now
        shown = [] if reader is None else with_crops(each.mistakes, reader, most=GALLERY)
        if shown:
            tiles = [_tile(crop, mistake.caption) for mistake, crop in shown]
            title = f"{each.task}: the surest of {len(each.mistakes)} mistakes"
            write_sheet(tiles, path, title)
            pictures.append(path)
    if reader is not None:
        reader.close()
    return pictures


def with_crops(
    mistakes: Sequence[Mistake], reader: CropReader, *, most: int
) -> list[tuple[Mistake, npt.NDArray[np.uint8]]]:
    """The first mistakes that have a crop, no more than two of one person."""
    shown: list[tuple[Mistake, npt.NDArray[np.uint8]]] = []
    seen: dict[str, int] = {}
    for mistake in mistakes:
        if mistake.key not in reader or seen.get(mistake.person, 0) >= 2:
            continue
        seen[mistake.person] = seen.get(mistake.person, 0) + 1
        shown.append((mistake, reader[mistake.key]))
        if len(shown) == most:
            break
    return shown


def _tile(crop: npt.NDArray[np.uint8], caption: str) -> SheetTile:
    truth, _, answer = caption.partition(" → ")
    return SheetTile(crop, truth, f"predicted {answer}")


def _slice_table(slices: Sequence[Slice]) -> Table:
    table = Table(title="worst slices (expected: accuracy, were its classes as easy as elsewhere)")
    for column in ("task", "slice"):
        table.add_column(column)
    for column in ("photos", "people", "accuracy", "expected", "macro F1"):
        table.add_column(column, justify="right")
    last = slices[0].task
    for each in slices:
        if each.task != last:
            table.add_section()
        last = each.task
        expected = "-" if np.isnan(each.expected) else f"{each.expected:.3f}"
        name = f"{each.by}: {each.value}" + (" (few)" if each.is_small else "")
        numbers = (str(each.n_photos), str(each.n_people), str(each.accuracy), expected)
        table.add_row(Text(each.task), Text(name), *numbers, f"{each.macro_f1.value:.3f}")
    return table
