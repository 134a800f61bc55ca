"""Draws reliability diagrams and galleries of mistakes. Computes nothing. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cropfirst.cache import CropReader, CropSet
from cropfirst.core.charts import write_png
from cropfirst.core.sheet import SheetTile, write_sheet
from cropfirst.stage2_classify.evaluate.error_analysis import ErrorAnalysis, Mistake
from cropfirst.stage2_classify.evaluate.task_report import file_name
from cropfirst.stage2_classify.metrics.plots import draw_reliability

GALLERY = 32
"""Number of mistakes in the gallery of a task."""


def write_error_pictures(
    out_dir: Path, analyses: Sequence[ErrorAnalysis], crops: CropSet | None
) -> list[Path]:
    """Write a reliability diagram and a gallery of the most confident mistakes for each task."""
    pictures = []
    reader = None if crops is None else crops.reader()
    for each in analyses:
        if each.reliability is not None:
            path = out_dir / f"reliability_{file_name(each.task)}.png"
            title = f"{each.task}: calibration error {each.reliability.ece:.3f}"
            write_png(path, draw_reliability(each.reliability, title=title))
            pictures.append(path)
        path = out_dir / f"mistakes_{file_name(each.task)}.png"
        path.unlink(missing_ok=True)  # of an earlier call: this one may have none
        shown = [] if reader is None else mistakes_with_crops(each.mistakes, reader, most=GALLERY)
        if shown:
            tiles = [_tile(crop, mistake.caption) for mistake, crop in shown]
            title = f"{each.task}: the most confident of {len(each.mistakes)} mistakes"
            write_sheet(tiles, path, title)
            pictures.append(path)
    if reader is not None:
        reader.close()
    return pictures


def mistakes_with_crops(
    mistakes: Sequence[Mistake], reader: CropReader, *, most: int
) -> list[tuple[Mistake, npt.NDArray[np.uint8]]]:
    """Return the first mistakes that have a crop, at most two per person."""
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
