"""The audit's pictures, for a person to judge: the composites, what each crop keeps of them, where
runs look, and the gaps.

Knows pixels and scores; asks the reader for photos; knows nothing of how scores came about.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cropfirst.core.charts import COLOURS, INK, new_figure, style_axes, write_png
from cropfirst.core.files import write_atomic
from cropfirst.stage2_classify.audit.answers import Plan, face_boxes, look
from cropfirst.stage2_classify.audit.backgrounds import PhotoReader
from cropfirst.stage2_classify.audit.cam import NoMapError
from cropfirst.stage2_classify.audit.runs import AuditRun
from cropfirst.stage2_classify.audit.scores import TaskAudit
from cropfirst.stage2_classify.audit.variants import (
    MIXED,
    VARIANTS,
    Image,
    compose,
    plain_variants,
)

TILE, GAP, HEAD = 136, 6, 34
LABELS = {
    "original": "Original",
    "only_bg_b": "Only-BG-B",
    "only_bg_t": "Only-BG-T",
    "only_fg": "Only-FG",
    "mixed_same": "Mixed-Same",
    "mixed_rand": "Mixed-Rand",
    "mixed_next": "Mixed-Next",
}
PHOTOS, LOOKS = 6, 8


@dataclass(frozen=True)
class Picture:
    """A PNG that was written."""

    file: str
    title: str
    caption: str


def variant_sheets(
    runs: Sequence[AuditRun], plan: Plan, reader: PhotoReader, out_dir: Path
) -> list[Picture]:
    """For each task, some photos in all variants, and what each crop set keeps of two of them."""
    pictures = []
    keys = _spread(plan.rooms.keys, PHOTOS)
    by_set = {run.crops.name: run for run in runs}
    for task in plan.donors:
        rows, names = [], []
        crops: list[list[Image | None]] = []
        crop_names: list[str] = []
        for n, key in enumerate(keys):
            made = _variants(runs, plan, reader, task, key)
            if made is None:
                continue
            rows.append([made.get(name) for name in VARIANTS])
            names.append(_label(runs, task, key))
            for set_name, run in by_set.items() if n < 2 else ():
                if key in run.rows:
                    cut = [_cut(made.get(name), run, key, reader) for name in VARIANTS]
                    crops.append(cut)
                    crop_names.append(set_name.rpartition("-")[0])
        columns = [LABELS[name] for name in VARIANTS]
        for stem, lines, titles, what in (
            ("variants", rows, names, "the photos as they are changed"),
            ("crops", crops, crop_names, "what the crops keep of them"),
        ):
            file = f"{stem}-{task}.png"
            title = f"{task}: {what}"
            _grid(out_dir / file, lines, rows=titles, columns=columns, title=title)
            caption = (
                "Heads are found by GrabCut. Mixed-Same has the room of another person of the "
                f"same {task}, Mixed-Rand of a random one, Mixed-Next of the next class."
            )
            pictures.append(Picture(file, title, caption))
    return pictures


def cam_sheet(
    run: AuditRun, plan: Plan, reader: PhotoReader, out_dir: Path, *, device: Any
) -> list[Picture]:
    """Where a run looks: some crops that its first fold has not seen, a line for each task."""
    from cropfirst.stage2_classify.predict.predictor import Member

    fold = min(run.members)
    keys = [key for key in plan.rooms.keys if run.fold_of.get(key) == fold and key in run.rows]
    keys = _spread(keys, LOOKS)
    crops = {key: _original(run, key, reader) for key in keys}
    keys = [key for key in keys if crops[key] is not None]
    if not keys:
        return []
    member = Member.load(run.members[fold], device=device)
    there = [crop for key in keys if (crop := crops[key]) is not None]
    boxes = face_boxes([run.rows[key] for key in keys])
    rows: list[list[Image | None]] = [[_with_box(c, b) for c, b in zip(there, boxes, strict=True)]]
    try:
        for task in run.tasks:
            maps = look(there, member, task)
            rows.append([_overlay(*each) for each in zip(there, maps, boxes, strict=True)])
    except NoMapError:
        return []
    title = f"{run.name}: where it looks"
    file = f"cam-{_plain(run.name)}.png"
    columns = ["" for _ in keys]
    _grid(out_dir / file, rows, rows=["crop", *run.tasks], columns=columns, title=title)
    caption = "Grad-CAM of the predicted class (red is much), out of fold; white: the face box."
    return [Picture(file, title, caption)]


def gap_chart(out_dir: Path, audits: Sequence[tuple[AuditRun, TaskAudit]]) -> list[Picture]:
    """BG-Gaps with their intervals, a panel for each task."""
    known = [(run, each) for run, each in audits if each.gap is not None]
    tasks = list(dict.fromkeys(each.task for _, each in known))
    if not tasks:
        return []
    lines = max(sum(each.task == task for _, each in known) for task in tasks)
    figure = new_figure(3.2 * len(tasks) + 2, 0.34 * lines + 1.6)
    panels = figure.subplots(1, len(tasks), squeeze=False, sharex=True)[0]
    for panel, task in zip(panels, tasks, strict=True):
        here = [(run, each.gap) for run, each in known if each.task == task]
        for line, (_, gap) in enumerate(here):
            assert gap is not None
            panel.plot([gap.low * 100, gap.high * 100], [line, line], color=COLOURS[0], lw=2)
            panel.plot([gap.value * 100], [line], "o", color=COLOURS[0], ms=5)
        panel.axvline(0, color=INK, lw=1)
        panel.set_yticks(range(len(here)), [run.name for run, _ in here], parse_math=False)
        panel.set_ylim(len(here) - 0.5, -0.5)
        panel.set_xlabel("BG-Gap, points of accuracy")
        style_axes(panel, task)
    write_png(out_dir / "gaps.png", figure)
    caption = "Accuracy in rooms of the same class minus that in rooms of random classes, 95 %."
    return [Picture("gaps.png", "How much the runs lean on the background", caption)]


def _variants(
    runs: Sequence[AuditRun], plan: Plan, reader: PhotoReader, task: str, key: str
) -> dict[str, Image] | None:
    run = next(run for run in runs if key in run.rows)
    index = plan.place[key]
    scene = plan.rooms.scene(index, reader, run.rows[key])
    if scene is None:
        return None
    made = plain_variants(scene)
    for name in MIXED:
        donor = int(plan.donors[task][name][index])
        if donor >= 0:
            made[name] = compose(scene, plan.rooms.room(donor))
    return made


def _cut(photo: Image | None, run: AuditRun, key: str, reader: PhotoReader) -> Image | None:
    if photo is None:
        return None
    return np.asarray(reader.crop(photo, run.rows[key], run.crops.config["crop"]), np.uint8)


def _original(run: AuditRun, key: str, reader: PhotoReader) -> Image | None:
    photo = reader.read(run.rows[key])
    return None if photo is None else _cut(np.asarray(photo, np.uint8), run, key, reader)


def _label(runs: Sequence[AuditRun], task: str, key: str) -> str:
    """The photo's class, in words."""
    for run in runs:
        code = run.targets.get(task, {}).get(key)
        if code is not None:
            return run.schema.class_names(task)[code]
    return ""


def _spread(keys: Sequence[str], count: int) -> list[str]:
    """Some keys, evenly: neighbours are of one person."""
    places = np.linspace(0, len(keys) - 1, min(count, len(keys)))
    # A prime step aside, so that not all are the same shot of each person.
    return [keys[(round(at) + 3 * n) % len(keys)] for n, at in enumerate(places)]


def _overlay(crop: Image, heat: Any, box: Any) -> Image:
    """A crop under its map, with the face box."""
    size = crop.shape[1], crop.shape[0]
    large = cv2.resize(np.asarray(heat, np.float32), size, interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap((255 * np.clip(large, 0, 1)).astype(np.uint8), cv2.COLORMAP_JET)
    mixed = cv2.addWeighted(crop, 0.55, colours[..., ::-1].copy(), 0.45, 0)
    return _with_box(np.asarray(mixed, np.uint8), box)


def _with_box(crop: Image, box: Any) -> Image:
    side = crop.shape[0]
    x0, y0, x1, y1 = (int(np.clip(value * side, 0, side - 1)) for value in box)
    drawn = crop.copy()
    cv2.rectangle(drawn, (x0, y0), (x1, y1), (255, 255, 255), max(1, side // 96))
    return drawn


def _grid(
    path: Path,
    lines: Sequence[Sequence[Image | None]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
) -> None:
    """Write pictures in lines and columns; one that is not there stays empty."""
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont, ImageOps

    left = 118
    width = left + len(columns) * (TILE + GAP) + GAP
    height = 2 * HEAD + len(lines) * (TILE + GAP) + GAP
    sheet = Pillow.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(17), ImageFont.load_default(12)
    draw.text((GAP, 8), title, fill="black", font=large)
    for n, name in enumerate(columns):
        draw.text((left + n * (TILE + GAP), HEAD + 10), name, fill="black", font=small)
    for m, (name, line) in enumerate(zip(rows, lines, strict=True)):
        y = 2 * HEAD + m * (TILE + GAP)
        draw.text((GAP, y + TILE // 2 - 8), name[:17], fill="black", font=small)
        for n, picture in enumerate(line):
            if picture is not None:
                tile = ImageOps.contain(Pillow.fromarray(picture), (TILE, TILE))
                x = left + n * (TILE + GAP) + (TILE - tile.width) // 2
                sheet.paste(tile, (x, y + (TILE - tile.height) // 2))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    write_atomic(path, buffer.getvalue())


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


def as_json(pictures: Sequence[Picture]) -> list[Mapping[str, str]]:
    """For audit.json."""
    return [{"file": p.file, "title": p.title, "caption": p.caption} for p in pictures]
