"""Layout `photos`: any folder of photographs without labels, to predict on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets.listing import as_key, list_photos
from cropfirst.stage2_classify.datasets.sample import PhotoSet, Sample

WANTS = "any folder of photos, without labels (all are predicted on)"


def fits(root: Path) -> bool:
    """Return whether there is any photo."""
    return root.is_dir() and bool(list_photos(root).photos)


def open_layout(root: Path) -> PhotoSet:
    """Open every photo below a folder, in the split `eval`."""
    listing = list_photos(root)
    samples = tuple(Sample(key, Path(path), "eval") for key, path in listing.photos)
    return PhotoSet(
        root, "photos", samples, listing.problems, not_taken=listing.not_taken,
        not_read=listing.not_read,
    )  # fmt: skip


def open_files(files: Sequence[str | Path]) -> PhotoSet:
    """Open single photos that a user names; the root is the folder that they share.

    A file that does not exist is a sample all the same: stage 1 records it.

    Raises:
        DataError: no file is named, or a folder is.
    """
    paths = sorted({Path(os.path.abspath(file)) for file in files})
    if not paths:
        raise DataError("no photo is named: wanted one or more files")
    for path in paths:
        if path.is_dir():
            raise DataError(f"{path} is a folder: wanted photos")
    root = Path(os.path.commonpath([path.parent for path in paths]))
    samples = [Sample(as_key(path.relative_to(root).as_posix()), path, "eval") for path in paths]
    return PhotoSet(root, "photos", tuple(sorted(samples, key=lambda sample: sample.key)))
