"""The audit's pictures: the changed photos, what the crops keep of them, and the gaps.

Knows pixels and scores; asks the reader for photos; knows nothing of how scores came about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cropfirst.core.charts import COLOURS, INK, new_figure, style_axes, write_png
from cropfirst.core.sheet import SheetTile, write_sheet
from cropfirst.stage2_classify.audit.backgrounds import PhotoReader
from cropfirst.stage2_classify.audit.plan import AuditPlan
from cropfirst.stage2_classify.audit.runs import AuditRun
from cropfirst.stage2_classify.audit.scores import TaskAudit
from cropfirst.stage2_classify.audit.variants import LABELS, Image

PHOTOS, CROPPED = 6, 2
"""Number of photos that are shown in all variants, and of those that are shown as crops too."""


@dataclass(frozen=True)
class Picture:
    """A PNG that was written."""

    file: str
    title: str
    caption: str


def draw_variants(
    out_dir: Path, runs: Sequence[AuditRun], plan: AuditPlan, reader: PhotoReader
) -> list[Picture]:
    """Write for each task some photos in all variants, and what each crop set keeps of two."""
    pictures = []
    by_set = {run.crops.name: run for run in runs}
    for task in plan.donors:
        photos: list[SheetTile | None] = []
        crops: list[SheetTile | None] = []
        for number, key in enumerate(_spread(plan.backgrounds.keys, PHOTOS)):
            images = _variants(runs, plan, reader, task, key)
            label = _label(runs, task, key)
            photos += [_tile(name, label, images.get(name)) for name in LABELS if images]
            for set_name, run in by_set.items() if images and number < CROPPED else ():
                if key in run.rows:
                    config, row = run.crops.config["crop"], run.rows[key]
                    for name in LABELS:
                        photo = images.get(name)
                        crop = None if photo is None else reader.crop(photo, row, config)
                        crops.append(_tile(name, set_name.rpartition("-")[0], crop))
        caption = (
            f"Heads are found by GrabCut. Mixed-Same: before the background of another person of "
            f"the same {task}; Mixed-Rand: of a random one; Mixed-Next: of the next class."
        )
        for stem, tiles, what in (
            ("variants", photos, "the photos as they are changed"),
            ("crops", crops, "what the crops keep of them"),
        ):
            picture = Picture(f"{stem}-{task}.png", f"{task}: {what}", caption)
            write_sheet(tiles, out_dir / picture.file, picture.title, columns=len(LABELS))
            pictures.append(picture)
    return pictures


def draw_gaps(out_dir: Path, found: Sequence[tuple[AuditRun, TaskAudit]]) -> list[Picture]:
    """Write the BG-Gaps with their intervals, one panel per task."""
    gaps: dict[str, list[tuple[str, float, float, float]]] = {}
    for run, each in found:
        if each.gap is not None:
            value, low, high = (100 * x for x in (each.gap.value, each.gap.low, each.gap.high))
            unclear = each.verdict.finding == "cannot tell"
            name = f"{run.name}\n({each.verdict.finding})" if unclear else run.name
            gaps.setdefault(each.task, []).append((name, value, low, high))
    if not gaps:
        return []
    figure = new_figure(3.2 * len(gaps) + 2, 0.34 * max(map(len, gaps.values())) + 1.6)
    panels = figure.subplots(1, len(gaps), squeeze=False, sharex=True)[0]
    for panel, (task, rows) in zip(panels, gaps.items(), strict=True):
        for line, (_, value, low, high) in enumerate(rows):
            panel.plot([low, high], [line, line], color=COLOURS[0], linewidth=2)
            panel.plot([value], [line], "o", color=COLOURS[0], markersize=5)
        panel.axvline(0, color=INK, linewidth=1)
        panel.set_yticks(range(len(rows)), [name for name, *_ in rows], parse_math=False)
        panel.set_ylim(len(rows) - 0.5, -0.5)
        panel.set_xlabel("BG-Gap, points of accuracy")
        style_axes(panel, task)
    write_png(out_dir / "gaps.png", figure)
    caption = "Accuracy before backgrounds of the same class minus that before random ones, 95 %."
    return [Picture("gaps.png", "How much the runs lean on the background", caption)]


def _variants(
    runs: Sequence[AuditRun], plan: AuditPlan, reader: PhotoReader, task: str, key: str
) -> dict[str, Image]:
    """Return the variants of a photo; none where it is gone meanwhile."""
    run = next(run for run in runs if key in run.rows)
    split = plan.split(key, reader, run.rows[key])
    made = {} if split is None else dict(plan.variants(key, split, [task]))
    return {name: image for (_, name), image in made.items() if image is not None}


def _tile(variant: str, note: str, image: Image | None) -> SheetTile | None:
    return None if image is None else SheetTile(image, LABELS[variant], note)


def _label(runs: Sequence[AuditRun], task: str, key: str) -> str:
    """Return the name of a photo's class; "" where no run knows it."""
    for run in runs:
        code = run.targets.get(task, {}).get(key)
        if code is not None:
            return run.schema.class_names(task)[code]
    return ""


def _spread(keys: Sequence[str], count: int) -> list[str]:
    """Choose some keys evenly; neighbours are of one person."""
    places = np.linspace(0, len(keys) - 1, min(count, len(keys)))
    # Some steps aside, so that not all are the same shot of each person.
    return [keys[(round(place) + 3 * n) % len(keys)] for n, place in enumerate(places)]
