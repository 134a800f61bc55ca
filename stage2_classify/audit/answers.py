"""What the runs say of every variant of every photo, out of fold; kept block by block.

A block of photos is composed once for all runs, and cut once for each crop set. Its answers are a
file of their own, so that a killed audit goes on. Knows nothing of scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cropfirst.cache.tables import read_table, write_table
from cropfirst.core.fingerprint import fingerprint
from cropfirst.stage2_classify.audit.backgrounds import PhotoReader, Rooms, in_threads
from cropfirst.stage2_classify.audit.cam import CamScope, NoMapError, mass_inside
from cropfirst.stage2_classify.audit.runs import AuditRun
from cropfirst.stage2_classify.audit.variants import (
    MIXED,
    VARIANTS,
    Image,
    compose,
    plain_variants,
)
from cropfirst.stage2_classify.predict.predictor import Member

FORMAT = 1
BLOCK_BYTES = 256 << 20
"""Crops of one block."""
MOST_IN_BLOCK = 96
CAM_BATCH = 16
SCHEMA = {
    "key": pl.String(),
    "task": pl.String(),
    "variant": pl.String(),
    "target": pl.Int32(),
    "pred": pl.Int32(),
    "cam": pl.Float32(),  # of the original: share of Grad-CAM's mass in the face box
    "cam_area": pl.Float32(),  # share of the crop that the face box is
}
Kind = tuple[str, str]
"""Task, "" for all, and variant."""


@dataclass(frozen=True)
class Plan:
    """What is asked, of which photos."""

    rooms: Rooms
    donors: Mapping[str, Mapping[str, npt.NDArray[np.int64]]]
    """Task -> mixed variant -> (N,) rows of `rooms`; -1 = nobody."""
    cam_keys: frozenset[str]
    """Photos that Grad-CAM looks at."""
    place: Mapping[str, int] = field(default_factory=dict)
    """Key -> row of `rooms`."""

    def kinds(self, tasks: Sequence[str]) -> list[Kind]:
        """All variants that runs of these tasks are shown."""
        plain = [("", name) for name in VARIANTS if name not in MIXED]
        return plain + [(task, name) for task in tasks for name in MIXED]


@dataclass(frozen=True)
class Answers:
    """One run's answers."""

    table: pl.DataFrame
    """Of `SCHEMA`."""
    note: str
    """Why there is no Grad-CAM; "" where there is."""


def ask(
    runs: Sequence[AuditRun],
    plan: Plan,
    reader: PhotoReader,
    *,
    folder: Path,
    device: Any,
    batch_size: int = 64,
    tick: Callable[[int], None] = lambda count: None,
) -> list[Answers]:
    """Show the runs every variant.

    Args:
        folder: gets a file a run and block; those that fit are not asked again.
        tick: told of each photo that a run has answered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables: list[list[pl.DataFrame]] = [[] for _ in runs]
    used: set[Path] = set()
    scopes: dict[int, str] = {}
    for keys in _blocks(runs, plan):
        files = [folder / f"{_name(run, plan, keys)}.parquet" for run in runs]
        used.update(files)
        waiting = [run for run, file in zip(runs, files, strict=True) if not file.is_file()]
        shown = _show(waiting, plan, reader, keys)
        for index, (run, file) in enumerate(zip(runs, files, strict=True)):
            if not file.is_file():
                table = _answer(run, plan, shown[run.crops.name], device, batch_size)
                write_table(file, table, kind="audit", version=FORMAT)
            tables[index].append(
                read_table(file, kind="audit", version=FORMAT, mend="delete it, audit again")
            )
            tick(sum(key in run.fold_of for key in keys))
    for file in folder.glob("*.parquet"):
        if file not in used:
            file.unlink()
    for index, run in enumerate(runs):
        scopes[index] = _cam_fault(run, device)
    return [Answers(pl.concat(parts), scopes[n]) for n, parts in enumerate(tables)]


@dataclass(frozen=True)
class Shown:
    """A block's crops of one crop set."""

    keys: list[str]
    crops: dict[Kind, list[Image | None]]
    """One a key; None where nobody lends a room."""
    boxes: npt.NDArray[np.float32]
    """(N, 4) the face's place in the crop, as fractions of its side."""


def _show(
    runs: Sequence[AuditRun], plan: Plan, reader: PhotoReader, keys: Sequence[str]
) -> dict[str, Shown]:
    """Crop set -> the block's crops of every variant."""
    sets = {run.crops.name: run for run in runs}
    tasks = list(dict.fromkeys(task for run in runs for task in run.tasks))
    kinds = plan.kinds(tasks)

    def make(key: str) -> dict[str, dict[Kind, Image | None]] | None:
        index, first = plan.place[key], next(run for run in runs if key in run.rows)
        scene = plan.rooms.scene(index, reader, first.rows[key])
        if scene is None:
            return None
        here = {name: run for name, run in sets.items() if key in run.rows}
        crops: dict[str, dict[Kind, Image | None]] = {name: {} for name in here}
        plain = plain_variants(scene)
        for task, name in kinds:  # one at a time: photos may be large
            donor = int(plan.donors[task][name][index]) if task else -1
            picture = compose(scene, plan.rooms.room(donor)) if donor >= 0 else plain.get(name)
            for each, run in here.items():
                config = run.crops.config["crop"]
                crops[each][task, name] = (
                    None if picture is None else reader.crop(picture, run.rows[key], config)
                )
        return crops

    shown = {
        name: Shown([], {kind: [] for kind in kinds}, np.empty((0, 4), np.float32)) for name in sets
    }
    wanted = [key for key in keys if any(key in run.rows and key in run.fold_of for run in runs)]
    for key, made in in_threads(wanted, make):
        for name, crops in (made or {}).items():
            shown[name].keys.append(key)
            for kind, crop in crops.items():
                shown[name].crops[kind].append(crop)
    return {
        name: Shown(each.keys, each.crops, face_boxes([sets[name].rows[key] for key in each.keys]))
        for name, each in shown.items()
    }


def _answer(run: AuditRun, plan: Plan, shown: Shown, device: Any, batch_size: int) -> pl.DataFrame:
    """A run's answers to one block."""
    rows: list[dict[str, Any]] = []
    for fold, folder in run.members.items():
        here = [n for n, key in enumerate(shown.keys) if run.fold_of.get(key) == fold]
        if not here:
            continue
        member = Member.load(folder, device=device)
        for task, variant in plan.kinds(run.tasks):
            crops = [(n, shown.crops[task, variant][n]) for n in here]
            there = [(n, crop) for n, crop in crops if crop is not None]
            if not there:
                continue
            probs = member.predict_crops([crop for _, crop in there], batch_size=batch_size)
            for name in [task] if task else run.tasks:
                preds = probs[name].argmax(1).tolist()
                for (n, _), pred in zip(there, preds, strict=True):
                    rows.append(_row(run, shown.keys[n], name, variant, pred))
        rows = _with_cams(run, plan, shown, member, here, rows)
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _row(run: AuditRun, key: str, task: str, variant: str, pred: int) -> dict[str, Any]:
    target = run.targets[task][key]
    return {"key": key, "task": task, "variant": variant, "target": target, "pred": pred}


def _with_cams(
    run: AuditRun,
    plan: Plan,
    shown: Shown,
    member: Member,
    here: Sequence[int],
    rows: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """The rows, those of originals that Grad-CAM looks at with what it sees."""
    looked = [n for n in here if shown.keys[n] in plan.cam_keys]
    found: dict[tuple[str, str], tuple[float, float]] = {}
    crops = [shown.crops["", "original"][n] for n in looked]
    for task in run.tasks if looked else ():
        try:
            maps = look([crop for crop in crops if crop is not None], member, task)
        except NoMapError:
            return rows
        boxes = shown.boxes[looked]
        inside = mass_inside(maps, boxes * maps.shape[1])
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        for n, share, area in zip(looked, inside.tolist(), areas.tolist(), strict=True):
            found[task, shown.keys[n]] = share, area
    for row in rows:
        if row["variant"] == "original" and (row["task"], row["key"]) in found:
            row["cam"], row["cam_area"] = found[row["task"], row["key"]]
    return rows


def look(crops: Sequence[Image], member: Member, task: str) -> npt.NDArray[np.float32]:
    """Grad-CAM of crops, (N, S, S) from 0 to 1.

    Raises:
        NoMapError: the backbone has no spatial features.
    """
    scope = CamScope(member.model, task)
    starts = range(0, len(crops), CAM_BATCH)
    return np.concatenate([scope.maps(member.stack(crops[at : at + CAM_BATCH])) for at in starts])


def face_boxes(rows: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.float32]:
    """(N, 4) xyxy of the faces in their crops, as fractions of the crop's side."""
    boxes = np.zeros((len(rows), 4), np.float32)
    for n, row in enumerate(rows):
        x0, y0, x1, y1 = row["box"]
        left, top, right, _ = row["window"]
        side = right - left
        corners = np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]]) - (left, top)
        angle = np.deg2rad(row["angle"] or 0.0)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        turned = (corners - side / 2) @ turn.T + side / 2
        boxes[n] = np.clip(np.r_[turned.min(0), turned.max(0)] / side, 0, 1)
    return boxes


def _cam_fault(run: AuditRun, device: Any) -> str:
    """Why a run has no Grad-CAM."""
    member = Member.load(next(iter(run.members.values())), device=device)
    try:
        CamScope(member.model, run.tasks[0])
    except NoMapError as error:
        return str(error)
    return ""


def _blocks(runs: Sequence[AuditRun], plan: Plan) -> Iterator[list[str]]:
    """The photos, some at a time, as many as there is memory for."""
    tasks = list(dict.fromkeys(task for run in runs for task in run.tasks))
    sides = {run.crops.name: int(run.crops.config["crop"]["image_size"]) for run in runs}
    each = len(plan.kinds(tasks)) * sum(side**2 * 3 for side in sides.values())
    count = int(np.clip(BLOCK_BYTES // each, 8, MOST_IN_BLOCK))
    keys = plan.rooms.keys
    for start in range(0, len(keys), count):
        yield list(keys[start : start + count])


def _name(run: AuditRun, plan: Plan, keys: Sequence[str]) -> str:
    """Names all that decides a run's answers to a block."""
    rows = [plan.place[key] for key in keys]
    lenders = {
        f"{task} {name}": [plan.rooms.keys[d] if d >= 0 else "" for d in donors[rows].tolist()]
        for task in run.tasks
        for name, donors in plan.donors[task].items()
    }
    return fingerprint(
        {
            "format": FORMAT,
            "weights": [meta["weights_hash"] for meta in run.metas.values()],
            "crops": run.crops.fingerprint,
            "photos": [run.rows[key]["content_hash"] for key in keys if key in run.rows],
            "targets": {task: [run.targets[task].get(key) for key in keys] for task in run.tasks},
            "lenders": lenders,
            "cams": [key in plan.cam_keys for key in keys],
        }
    )
