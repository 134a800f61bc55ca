"""Photos that have crops and are not there: how many are allowed, and whose rows stay.

A folder of a disk that is not mounted looks as if its photos had been deleted. Knows rows and
files; writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cropfirst.core.errors import DetectError


def find_others(
    crop_rows: Mapping[str, Mapping[str, Any]], keys: Collection[str], root: Path | None
) -> tuple[set[str], set[str]]:
    """Return the keys with rows that are not among those of a run: on disk, and gone.

    Args:
        keys: keys of the photos of the run.
        root: folder that keys are relative to; None if it is unknown, so that all count as gone.
    """
    others = crop_rows.keys() - keys
    on_disk = {key for key in others if root is not None and (root / key).is_file()}
    return on_disk, others - on_disk


def check_gone(
    crop_rows: Mapping[str, Mapping[str, Any]], gone: Collection[str], *, max_missing: float
) -> None:
    """Refuse a run in which more photos are gone than are deleted at once.

    Args:
        crop_rows: rows of the crop set, by key.
        gone: keys of photos that are not there.
        max_missing: largest share, 0 to 1, of the photos with crops.

    Raises:
        DetectError: more are gone.
    """
    lost = sorted(key for key in gone if _has_crop(crop_rows, key))
    if not lost:
        return
    known = sum(_has_crop(crop_rows, key) for key in crop_rows)
    if len(lost) > max_missing * known:
        raise DetectError(
            f"{len(lost)} of the {known} photos that have crops are not there, such as "
            f"{lost[0]}: is their disk mounted? Nothing was changed. If they were removed on "
            "purpose, run again with --set max_missing=1"
        )


def _has_crop(crop_rows: Mapping[str, Mapping[str, Any]], key: str) -> bool:
    row = crop_rows.get(key)
    return row is not None and row["crop_hash"] is not None
