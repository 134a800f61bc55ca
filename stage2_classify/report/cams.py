"""Grad-CAM maps over crops, of right and of wrong predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cropfirst.cache import Cache, CropSet
from cropfirst.core.errors import CropfirstError
from cropfirst.stage2_classify.audit.cam import TaskCam
from cropfirst.stage2_classify.evaluate.error_analysis import find_crops
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.predict.predictor import Member
from cropfirst.stage2_classify.report.pictures import gallery_item
from cropfirst.stage2_classify.runs.oof_predictions import OofPredictions
from cropfirst.stage2_classify.runs.parquet import read_parquet

Image = npt.NDArray[np.uint8]
EACH = 12
"""Number of right predictions per task, and of wrong ones."""


@dataclass(frozen=True)
class CamSheets:
    """Galleries of crops under their maps."""

    sheets: tuple[dict[str, Any], ...]
    """Galleries with `title` and `items`; see `pictures.gallery_item`."""
    why: str = ""
    """Reason why some are missing; "" where none is."""


def cam_sheets(
    oofs: Sequence[OofPredictions],
    schema: LabelSchema,
    cache: Cache | None,
    *,
    device: torch.device,
) -> CamSheets:
    """Draw the surest right and wrong predictions for each task, of the first run that knows it.

    The maps of a photo come from the fold that has not seen its person.
    """
    if cache is None:
        return CamSheets((), "There is no crop cache, so Grad-CAM has no crops.")
    sheets: list[dict[str, Any]] = []
    faults: list[str] = []
    for task in schema.names:
        oof = next((oof for oof in oofs if task in oof.probs and oof.path), None)
        if oof is None:
            continue
        try:
            crops = find_crops(cache, [oof.path], faults) if oof.path else None
            if crops is not None:
                sheets += _sheets(oof, task, schema, crops, device=device)
        except CropfirstError as error:
            faults.append(f"{task}, {oof.name}: {error}")
    return CamSheets(tuple(sheets), "; ".join(dict.fromkeys(faults)))


def overlay(crop: Image, heat: npt.NDArray[np.float32]) -> Image:
    """Return a crop under its map, warm where the map is high.

    Args:
        crop: (S, S, 3) uint8 RGB.
        heat: (S, S) from 0 to 1.
    """
    import matplotlib

    warm = matplotlib.colormaps["inferno"](heat)[..., :3] * 255
    share = 0.25 + 0.4 * heat[..., None]
    return np.asarray(crop * (1 - share) + warm * share).clip(0, 255).astype(np.uint8)


def _sheets(
    oof: OofPredictions, task: str, schema: LabelSchema, crops: CropSet, *, device: torch.device
) -> list[dict[str, Any]]:
    assert oof.path is not None
    probs, truth = oof.probs[task], oof.targets[task]
    preds = probs.argmax(axis=1)
    fold_of = dict(read_parquet(oof.path / "oof.parquet").select("key", "fold").iter_rows())
    names = schema.class_names(task)
    reader = crops.reader()
    sheets = []
    for title, is_right in (("right", True), ("wrong", False)):
        rows = [row for row in np.argsort(-probs.max(axis=1), kind="stable").tolist()
                if (preds[row] == truth[row]) == is_right and oof.keys[row] in reader]  # fmt: skip
        chosen = _spread(rows, preds, oof.keys)
        found = _maps(oof, task, [oof.keys[row] for row in chosen], fold_of, reader, device=device)
        items = []
        for row in chosen:
            answer = names[truth[row]] if is_right else f"{names[truth[row]]} → {names[preds[row]]}"
            caption = f"{answer} {probs[row].max():.0%}"
            items.append(gallery_item(found[oof.keys[row]], caption))
        if items:
            sheets.append({"title": f"{task}, {title} ({oof.name})", "items": items})
    reader.close()
    return sheets


def _spread(rows: Sequence[int], preds: npt.NDArray[Any], keys: Sequence[str]) -> list[int]:
    """Choose up to `EACH` rows: all predicted classes in turn, different folders first."""
    by_class: dict[int, list[int]] = {}
    seen: set[str] = set()
    later: list[int] = []
    for row in rows:
        folder = keys[row].rpartition("/")[0]
        if folder in seen:
            later.append(row)
            continue
        seen.add(folder)
        by_class.setdefault(int(preds[row]), []).append(row)
    turns = max(map(len, by_class.values()), default=0)
    ordered = [
        queue[turn] for turn in range(turns) for queue in by_class.values() if turn < len(queue)
    ]
    return (ordered + later)[:EACH]


def _maps(
    oof: OofPredictions,
    task: str,
    keys: Sequence[str],
    fold_of: dict[str, int],
    reader: Any,
    *,
    device: torch.device,
) -> dict[str, Image]:
    """Return key -> crop under its map, each by the fold that holds its person out."""
    assert oof.path is not None
    found: dict[str, Image] = {}
    for fold in sorted({fold_of[key] for key in keys}):
        own = [key for key in keys if fold_of[key] == fold]
        member = Member.load(oof.path / f"fold{fold}" / "best_f1", device=device)
        batch = member.stack([reader[key] for key in own])
        heat = TaskCam(member.model, task).maps(batch)
        for key, crop, each in zip(own, batch.numpy(), heat, strict=True):
            found[key] = overlay(crop, each)
    return found
