"""The predictions of runs for every variant of every photo, out of fold, kept block by block.

The variants of a block of photos are composed once for all runs, and cropped once for each crop
set. The answers to a block are a file of their own, so that a killed audit goes on. Knows nothing
of scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cropfirst.cache.tables import read_table, write_table
from cropfirst.core.fingerprint import fingerprint
from cropfirst.stage2_classify.audit.backgrounds import PhotoReader, in_threads
from cropfirst.stage2_classify.audit.cam import NoMapError, TaskCam, mass_inside
from cropfirst.stage2_classify.audit.plan import AuditPlan, Kind, tasks_of
from cropfirst.stage2_classify.audit.runs import AuditRun
from cropfirst.stage2_classify.audit.variants import Image
from cropfirst.stage2_classify.predict.predictor import Member

FORMAT = 1
COMPOSED = 2
"""Version of how heads are cut out and composed: raise it with any change of their pixels."""
BLOCK_BYTES = 256 << 20
"""Most bytes of the crops of one block."""
MOST_IN_BLOCK = 96
"""Most photos of one block."""
SCHEMA = {
    "key": pl.String(),
    "task": pl.String(),
    "variant": pl.String(),
    "target": pl.Int32(),
    "pred": pl.Int32(),
    "cam": pl.Float32(),  # of the original: share of Grad-CAM's mass in the face box
    "cam_area": pl.Float32(),  # share of the crop that the face box is
}


@dataclass(frozen=True)
class RunAnswers:
    """All answers of one run."""

    table: pl.DataFrame
    """Columns as in `SCHEMA`."""
    note: str
    """Reason why there is no Grad-CAM; "" where there is one."""


@dataclass(frozen=True)
class CropBlock:
    """The crops of one crop set, of a block of photos in all variants."""

    keys: list[str]
    crops: dict[Kind, list[Image | None]]
    """Variant -> one crop per key; None where nobody gives a background."""
    boxes: npt.NDArray[np.float32]
    """(N, 4) xyxy of the faces in their crops, as fractions of the crop's side."""


def collect_answers(
    runs: Sequence[AuditRun],
    plan: AuditPlan,
    reader: PhotoReader,
    *,
    folder: Path,
    device: Any,
    batch_size: int = 64,
    tick: Callable[[int], None] = lambda count: None,
) -> list[RunAnswers]:
    """Let the runs predict every variant of every photo.

    Args:
        runs: each photo is predicted by the fold that has not seen its person.
        plan: the photos and the donors of their backgrounds.
        reader: of whole photos.
        folder: gets a file per run and block; those of an earlier call that fit are used again.
        device: where the models run.
        batch_size: crops that are predicted at once.
        tick: told of each photo that a run has predicted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables: list[list[pl.DataFrame]] = [[] for _ in runs]
    used: set[Path] = set()
    for keys in _blocks(runs, plan):
        files = [folder / f"{_block_name(run, plan, keys)}.parquet" for run in runs]
        used.update(files)
        waiting = [run for run, file in zip(runs, files, strict=True) if not file.is_file()]
        blocks = _compose(waiting, plan, reader, keys)
        for run, file, parts in zip(runs, files, tables, strict=True):
            if not file.is_file():
                table = _predict(run, plan, blocks[run.crops.name], device, batch_size)
                write_table(file, table, kind="audit", version=FORMAT)
            parts.append(
                read_table(file, kind="audit", version=FORMAT, fix="delete it, audit again")
            )
            tick(sum(key in run.fold_of for key in keys))
    for file in folder.glob("*.parquet"):
        if file not in used:
            file.unlink()
    return [
        RunAnswers(pl.concat(parts), _cam_fault(run, device))
        for run, parts in zip(runs, tables, strict=True)
    ]


def face_boxes(rows: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.float32]:
    """Return where faces are in their crops: (N, 4) xyxy as fractions of the crop's side."""
    boxes = np.zeros((len(rows), 4), np.float32)
    for index, row in enumerate(rows):
        x0, y0, x1, y1 = row["box"]
        left, top, right, _ = row["window"]
        side = right - left
        corners = np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]]) - (left, top)
        angle = np.deg2rad(row["angle"] or 0.0)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        turned = (corners - side / 2) @ turn.T + side / 2
        boxes[index] = np.clip(np.r_[turned.min(0), turned.max(0)] / side, 0, 1)
    return boxes


def _compose(
    runs: Sequence[AuditRun], plan: AuditPlan, reader: PhotoReader, keys: Sequence[str]
) -> dict[str, CropBlock]:
    """Return crop set -> crops of a block of photos in every variant."""
    sets = {run.crops.name: run for run in runs}
    tasks = tasks_of(runs)

    def compose(key: str) -> dict[str, dict[Kind, Image | None]]:
        here = {name: run for name, run in sets.items() if key in run.rows}
        split = plan.split(key, reader, next(iter(here.values())).rows[key])
        crops: dict[str, dict[Kind, Image | None]] = {name: {} for name in here if split}
        for kind, photo in plan.variants(key, split, tasks) if split else ():
            for name, run in here.items():
                config = run.crops.config["crop"]
                crops[name][kind] = (
                    None if photo is None else reader.crop(photo, run.rows[key], config)
                )
        return crops

    found: dict[str, dict[str, dict[Kind, Image | None]]] = {name: {} for name in sets}
    wanted = [key for key in keys if any(key in run.rows and key in run.fold_of for run in runs)]
    for key, crops in in_threads(wanted, compose):
        for name, made in crops.items():
            found[name][key] = made
    return {
        name: CropBlock(
            list(made),
            {kind: [crops[kind] for crops in made.values()] for kind in plan.kinds(tasks)},
            face_boxes([sets[name].rows[key] for key in made]),
        )
        for name, made in found.items()
    }


def _predict(
    run: AuditRun, plan: AuditPlan, block: CropBlock, device: Any, batch_size: int
) -> pl.DataFrame:
    """Return the answers of a run to one block, each photo by the fold that holds it out."""
    rows: list[dict[str, Any]] = []
    for fold, folder in run.checkpoints.items():
        here = [n for n, key in enumerate(block.keys) if run.fold_of.get(key) == fold]
        if not here:
            continue
        member = Member.load(folder, device=device)
        shares = _cam_shares(run, plan, block, member, here)
        for task, variant in plan.kinds(run.tasks):
            known = [(n, crop) for n in here if (crop := block.crops[task, variant][n]) is not None]
            if not known:
                continue
            probs = member.predict_crops([crop for _, crop in known], batch_size=batch_size)
            for name in [task] if task else run.tasks:
                for (n, _), pred in zip(known, probs[name].argmax(1).tolist(), strict=True):
                    key = block.keys[n]
                    row = {"key": key, "task": name, "variant": variant, "pred": pred}
                    row["target"] = run.targets[name][key]
                    if variant == "original":
                        row["cam"], row["cam_area"] = shares.get((name, key), (None, None))
                    rows.append(row)
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _cam_shares(
    run: AuditRun, plan: AuditPlan, block: CropBlock, member: Member, here: Sequence[int]
) -> dict[tuple[str, str], tuple[float, float]]:
    """Return (task, key) -> shares of Grad-CAM's mass and of the crop that are in the face box.

    Empty where the backbone has no spatial features.
    """
    chosen = [n for n in here if block.keys[n] in plan.cam_keys]
    crops = [crop for n in chosen if (crop := block.crops["", "original"][n]) is not None]
    boxes = block.boxes[chosen]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    found: dict[tuple[str, str], tuple[float, float]] = {}
    for task in run.tasks if chosen else ():
        try:
            maps = TaskCam(member.model, task).maps(member.stack(crops))
        except NoMapError:
            return {}
        inside = mass_inside(maps, boxes * maps.shape[1])
        for n, share, area in zip(chosen, inside.tolist(), areas.tolist(), strict=True):
            found[task, block.keys[n]] = share, area
    return found


def _cam_fault(run: AuditRun, device: Any) -> str:
    """Return the reason why a run has no Grad-CAM; "" where it has one."""
    member = Member.load(next(iter(run.checkpoints.values())), device=device)
    try:
        TaskCam(member.model, run.tasks[0])
    except NoMapError as error:
        return str(error)
    return ""


def _blocks(runs: Sequence[AuditRun], plan: AuditPlan) -> Iterator[list[str]]:
    """Yield the photos in blocks whose crops fit into `BLOCK_BYTES`."""
    sides = {run.crops.name: int(run.crops.config["crop"]["image_size"]) for run in runs}
    each = len(plan.kinds(tasks_of(runs))) * sum(side**2 * 3 for side in sides.values())
    count = int(np.clip(BLOCK_BYTES // each, 8, MOST_IN_BLOCK))
    keys = plan.backgrounds.keys
    for start in range(0, len(keys), count):
        yield list(keys[start : start + count])


def _block_name(run: AuditRun, plan: AuditPlan, keys: Sequence[str]) -> str:
    """Return a hash of everything that decides the answers of a run to a block."""
    rows, hashes = [plan.index_of[key] for key in keys], plan.backgrounds.hashes
    donors = {
        f"{task} {name}": [hashes[d] if d >= 0 else "" for d in found[rows].tolist()]
        for task in run.tasks
        for name, found in plan.donors[task].items()
    }
    return fingerprint(
        {
            "format": FORMAT,
            "composed": COMPOSED,
            "weights": [meta["weights_hash"] for meta in run.metas.values()],
            "crops": run.crops.fingerprint,
            "photos": [hashes[row] for row in rows],
            "recipes": [run.rows[key]["recipe"] for key in keys if key in run.rows],
            "targets": {task: [run.targets[task].get(key) for key in keys] for task in run.tasks},
            "donors": donors,
            "cams": [key in plan.cam_keys for key in keys],
        }
    )
