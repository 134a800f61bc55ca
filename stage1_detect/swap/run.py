"""Make the swapped twin of a crop set, or bring it up to date.

Two passes, each of which skips what the cache already holds:
1. cut out: read the photos with a face of their own, and store their heads and backgrounds;
2. swap: read the photos whose swapped crop is missing or of another recipe, and set their heads
   into the rooms of others.
Both commit in batches; a kill loses at most the open batch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from cropfirst.cache import CROP_SCHEMA, Cache, CropSet, Encoded, encode_crop
from cropfirst.cache.swapped import (
    SPLIT,
    SWAPPED,
    count_draws,
    draw_settings,
    remove_draws,
    swapped_draw,
)
from cropfirst.core.console import say
from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.config import DetectConfig, SwapConfig
from cropfirst.stage1_detect.photos.read import PhotoRef
from cropfirst.stage1_detect.pipeline.progress import Progress
from cropfirst.stage1_detect.pipeline.rows import NO_SEGMENT
from cropfirst.stage1_detect.swap.compose import VERSION, swapped_crop
from cropfirst.stage1_detect.swap.cut_outs import store_cut_outs
from cropfirst.stage1_detect.swap.draw_writer import DrawWriter
from cropfirst.stage1_detect.swap.plan import CHANGED, OWN_FACE, LeftOut, Swap, Swaps, plan_swaps
from cropfirst.stage1_detect.swap.read import HeadReader
from cropfirst.stage1_detect.swap.summary import SwapSummary, summarize

Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Swapped:
    """A swapped crop, or why there is none."""

    swap: Swap
    crop: Encoded | None
    fault: str = ""
    """Why the crop has an ellipse instead of a segment; "" if it has what was configured."""


def swap_rooms(
    photos: Sequence[PhotoRef],
    cache: Cache,
    crops: CropSet,
    config: DetectConfig,
    strata: Mapping[str, str],
    *,
    asked: SwapConfig | None,
    console: Console | None = None,
) -> SwapSummary:
    """Make the swapped twin of a crop set, or bring it up to date.

    Args:
        photos: the photos to swap, and whose rooms are used. Rows of other photos of the crop set
            are kept.
        cache: the open cache; it is locked meanwhile.
        crops: the crop set, as `detect` has filled it.
        config: its settings.
        strata: key -> class of the photo as an opaque word; photos may be missing.
        asked: the draws and the seed that are wanted; further draws of this seed are kept. None
            keeps number and seed of the draws that are there.
        console: where progress is shown; None shows none.

    Raises:
        DetectError: `asked` is None, and there is no draw.
        CacheError: the cache is locked, or cannot be written.
    """
    started = time.perf_counter()
    with cache.lock():
        draws = _open_draws(crops, asked, console)
        reader = HeadReader(cache, photos, config)
        known = {
            row["key"]: row
            for row in crops.manifest.read().to_dicts()
            if row["split"] == SPLIT and row["crop_hash"] is not None
        }
        rows = {photo.key: known[photo.key] for photo in photos if photo.key in known}
        own = {key: row for key, row in rows.items() if row["status"] in OWN_FACE}
        cut_outs_made = store_cut_outs(list(own.values()), reader, console=console)
        about = {key: reader.about(row) for key, row in own.items()}
        seed = int(draws[0].config[SWAPPED]["seed"])
        swaps = plan_swaps(rows, about, strata, draws=len(draws), seed=seed)
        crops_made, changed = _fill_draws(draws, rows, swaps, reader, console=console)
        for draw in draws:
            draw.manifest.compact(keep=known)
    return summarize(
        crops,
        swaps,
        cut_outs_made=cut_outs_made,
        crops_made=crops_made,
        changed=changed,
        seconds=time.perf_counter() - started,
        cut_outs=reader.store.folder,
    )


def _open_draws(crops: CropSet, asked: SwapConfig | None, console: Console | None) -> list[CropSet]:
    """Return the draws to fill, after removing those that were made with other settings."""
    count = count_draws(crops)
    if asked is None and not count:
        raise DetectError(
            f"{crops.folder} has no swapped twin to bring up to date: run cropfirst detect DATA "
            "--swap-rooms"
        )
    old = [found for n in range(count) if (found := draw_settings(crops, n)) is not None]
    seed = asked.seed if asked is not None else next((each.get("seed", 0) for each in old), 0)
    settings = {"seed": seed, "version": VERSION}
    if any(each != settings for each in old):
        folder = crops.folder / SWAPPED
        say(console, f"{folder}: made again, since its crops were made with other settings")
        remove_draws(crops)
        count = count if asked is None else 0
    wanted = count if asked is None else max(count, asked.draws)
    return [swapped_draw(crops, n, settings) for n in range(wanted)]


def _fill_draws(
    draws: Sequence[CropSet],
    rows: Mapping[str, Row],
    swaps: Swaps,
    reader: HeadReader,
    *,
    console: Console | None,
) -> tuple[int, bool]:
    """Write the rows and crops that are missing or of another recipe.

    Returns:
        Number of crops that were made, and whether any row was written.
    """
    writer = DrawWriter(draws, every=reader.config.commit_photos)
    made = 0
    try:
        todo = _write_rows(draws, rows, swaps, writer)

        def swap(row: Row) -> list[_Swapped]:
            return _swap_photo(row, todo[row["key"]], rows, reader)

        pending = [rows[key] for key in todo]
        if pending:
            with Progress(console, "swap rooms", total=len(pending)) as progress:
                for row, results in reader.in_threads(pending, swap, size_of=_total_bytes):
                    for each in results:
                        made += each.crop is not None
                        writer.add(each.swap.draw, _new_row(row, each), each.crop)
                    progress.advance(1)
    finally:
        writer.close()
    return made, writer.rows > 0


def _write_rows(
    draws: Sequence[CropSet], rows: Mapping[str, Row], swaps: Swaps, writer: DrawWriter
) -> dict[str, list[Swap]]:
    """Write the rows of photos that are left out, and return the swapped crops to make by key."""
    known = [{row["key"]: row for row in draw.manifest.read().to_dicts()} for draw in draws]
    todo: dict[str, list[Swap]] = {}
    for key, each in swaps.items():
        for swap in each:
            old = known[swap.draw].get(key)
            if swap.left_out is not None:
                row = _row(rows[key], left_out=swap.left_out)
            elif old is None or old["recipe"] != swap.recipe:
                todo.setdefault(key, []).append(swap)
                continue
            else:
                kept = ("recipe", "crop_hash", "error_type", "error")
                row = _row(rows[key]) | {name: old[name] for name in kept}
            if row != old:
                writer.add(swap.draw, row)
    return todo


def _swap_photo(
    row: Row, swaps: Sequence[Swap], rows: Mapping[str, Row], reader: HeadReader
) -> list[_Swapped]:
    """Set the head of a photo into the rooms of its donors."""
    own = reader.cut_out(row)
    rooms = []
    for swap in swaps:
        assert swap.donor is not None
        donor = reader.cut_out(rows[swap.donor])
        rooms.append(None if donor is None else donor.background())
    made = []
    with reader.photo(row) as photo:
        for swap, room in zip(swaps, rooms, strict=True):
            if photo is None or own is None or room is None:
                made.append(_Swapped(swap, None))
                continue
            crop, window = swapped_crop(photo, own.mask(), room, row, reader.config.crop)
            made.append(_Swapped(swap, encode_crop(crop), window.fault))
    return made


def _total_bytes(made: Sequence[_Swapped]) -> int:
    return sum(0 if each.crop is None else each.crop.nbytes for each in made)


def _new_row(row: Row, made: _Swapped) -> dict[str, Any]:
    """Return the row of a swapped crop, whose hash is still missing, or of one that failed."""
    if made.crop is None:
        return _row(row, left_out=CHANGED)
    fault = LeftOut(NO_SEGMENT, made.fault) if made.fault else None
    return _row(row, left_out=fault) | {"recipe": made.swap.recipe}


def _row(row: Row, *, left_out: LeftOut | None = None) -> dict[str, Any]:
    """Return the row of a draw: that of the crop set, without its crop."""
    return {name: row[name] for name in CROP_SCHEMA} | {
        "recipe": "",
        "crop_hash": None,
        "error_type": None if left_out is None else left_out.kind,
        "error": None if left_out is None else left_out.text,
    }
