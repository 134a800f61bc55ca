"""Plan the draws of a swapped twin: which room each head gets, or why a photo is left out.

Knows crop rows and what is known of cut-outs; opens no photo and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cropfirst.cache.cut_outs import cut_out_id
from cropfirst.core.faces.boxes import iou
from cropfirst.core.fingerprint import fingerprint
from cropfirst.core.spread import spread
from cropfirst.stage1_detect.crops.cut_out import FILLS_PHOTO, CutOut
from cropfirst.stage1_detect.pipeline.resolve import MIN_PORTRAIT_IOU
from cropfirst.stage1_detect.swap.donors import LEAST_OTHERS, Candidate, Donors, people_of

Row = Mapping[str, Any]

OWN_FACE = ("detected", "retried")
"""Statuses of photos with a face of their own."""
LEAST_AGREEMENT = 0.25
"""IoU of a face with the typical one below which it may be none, such as an eye. Only where most
faces are at a similar place."""
LEAST_AGREEMENT_OF_DONORS = 0.4
"""The same for photos that lend their rooms: the rest of a face must not stay in them."""
ROOMS_ALIKE = 3.0
"""Median difference of two rooms, of 255 grey levels, up to which all photos show one room."""
PAIRS = 500
"""Number of pairs of photos whose rooms are compared."""


@dataclass(frozen=True)
class LeftOut:
    """The reason why a photo has no swapped crop."""

    kind: str
    """Name of the reason, in the column `error_type`."""
    text: str
    """Plain words; after a colon, the detail of this photo."""


BORROWED = LeftOut("BorrowedBox", "no face was found in the photo itself")
UNUSUAL = LeftOut("UnusualPlace", "the face found is far from where the other photos have theirs")
NO_ROOM = LeftOut("FillsPhoto", FILLS_PHOTO)
ONE_ROOM = LeftOut("OneRoom", "all photos show the same room")
NO_DONOR = LeftOut("NoDonor", f"fewer than {LEAST_OTHERS} other people have a room to lend")
CHANGED = LeftOut("Changed", "the photo is gone or has changed since it was detected")


@dataclass(frozen=True)
class Swap:
    """The room of a photo in one draw, or the reason why it is left out."""

    draw: int
    donor: str | None = None
    """Key of the photo that lends its room; None if the photo is left out."""
    recipe: str = ""
    """Hash of all that decides the swapped crop beside the settings of the draw; "" without one."""
    left_out: LeftOut | None = None
    """Why there is no donor; None if there is one."""


Swaps = Mapping[str, Sequence[Swap]]
"""Key -> what becomes of the photo in draw 0, 1 and so on."""


def plan_swaps(
    rows: Mapping[str, Row],
    cut_outs: Mapping[str, CutOut | None],
    strata: Mapping[str, str],
    *,
    draws: int,
    seed: int,
) -> Swaps:
    """Choose a donor for every photo in every draw.

    Donors are photos whose only face was plainly detected at a usual place, whose head could be cut
    out, and that show a room beside or above it.

    Args:
        rows: key -> crop row with a crop.
        cut_outs: key -> cut-out of the photos with a face of their own, its pictures may be left
            out; None for a photo that is gone or has changed.
        strata: key -> class as an opaque word; photos may be missing.
        draws: number of draws.
        seed: of all choices.
    """
    people = people_of({key: row["group"] for key, row in rows.items()})
    agreements = _agreements({key: rows[key] for key in cut_outs})
    reasons = {key: _reason(key, cut_outs, agreements) for key in rows}
    donors = Donors(
        Candidate(key, people[key], strata.get(key))
        for key, row in rows.items()
        if reasons[key] is None and _is_clean(row, cut_outs[key], agreements[key])
    )
    ids = {key: cut_out_id(rows[key]) for key in cut_outs}

    def swap(key: str, draw: int) -> Swap:
        if reasons[key] is not None:
            return Swap(draw, left_out=reasons[key])
        donor = donors.choose(key, people[key], seed=seed, draw=draw)
        if donor is None:
            return Swap(draw, left_out=NO_DONOR)
        row = rows[key]
        recipe = fingerprint([ids[key], row["window"], row["angle"], ids[donor]])
        return Swap(draw, donor, recipe)

    swaps = {key: [swap(key, draw) for draw in range(draws)] for key in rows}
    if _is_one_room(swaps, cut_outs):
        return {
            key: [replace(each, donor=None, recipe="", left_out=each.left_out or ONE_ROOM)
                  for each in made]
            for key, made in swaps.items()
        }  # fmt: skip
    return swaps


def _agreements(rows: Mapping[str, Row]) -> dict[str, float]:
    """Return key -> IoU of the face with the typical one; 1 where faces have no typical place."""
    if not rows:
        return {}
    boxes = np.array([row["box"] for row in rows.values()], np.float64)
    boxes /= [[row["width"], row["height"]] * 2 for row in rows.values()]
    values = iou(boxes, np.median(boxes, axis=0))[:, 0]
    if np.median(values) < MIN_PORTRAIT_IOU:
        values = np.ones_like(values)
    return dict(zip(rows, values.tolist(), strict=True))


def _reason(
    key: str, cut_outs: Mapping[str, CutOut | None], agreements: Mapping[str, float]
) -> LeftOut | None:
    """Return why the head of a photo cannot be used; None if it can."""
    if key not in cut_outs:
        return BORROWED
    cut_out = cut_outs[key]
    if cut_out is None:
        return CHANGED
    if cut_out.fault == FILLS_PHOTO:
        return NO_ROOM
    if cut_out.fault:
        return LeftOut("NoCutOut", f"the head could not be cut out: {cut_out.fault}")
    return UNUSUAL if agreements[key] < LEAST_AGREEMENT else None


def _is_clean(row: Row, cut_out: CutOut | None, agreement: float) -> bool:
    """Return whether no trace of a head is left in the background of a photo."""
    certain = row["status"] == "detected" and agreement >= LEAST_AGREEMENT_OF_DONORS
    return certain and row["n_faces"] == 1 and cut_out is not None and cut_out.lends_room


def _is_one_room(swaps: Swaps, cut_outs: Mapping[str, CutOut | None]) -> bool:
    """Return whether the rooms of photos hardly differ from those of their donors."""
    pairs = [
        (mine.room, lent.room)
        for key, (first, *_) in swaps.items()
        if first.donor is not None
        and (mine := cut_outs[key]) is not None
        and (lent := cut_outs[first.donor]) is not None
    ]
    if not pairs:
        return False
    differences = [np.abs(mine.astype(float) - lent).mean() for mine, lent in spread(pairs, PAIRS)]
    return bool(np.median(differences) <= ROOMS_ALIKE)
