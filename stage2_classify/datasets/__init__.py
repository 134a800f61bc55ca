"""Data sets of several layouts, opened as one `PhotoSet`.

A layout is one file that says whether a folder fits it and yields the samples. Nothing here opens a
photograph, imports torch or knows a class.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets import (
    contest,
    csv_table,
    fairface,
    folders,
    photos,
    utkface,
)
from cropfirst.stage2_classify.datasets.clean import clean_samples
from cropfirst.stage2_classify.datasets.corrections import apply_corrections
from cropfirst.stage2_classify.datasets.describe import describe
from cropfirst.stage2_classify.datasets.photos import open_files
from cropfirst.stage2_classify.datasets.sample import Fact, PhotoSet, Problem, Sample, Split

__all__ = [
    "LAYOUTS",
    "WANTS",
    "Fact",
    "PhotoSet",
    "Problem",
    "Sample",
    "Split",
    "apply_corrections",
    "describe",
    "open_dataset",
    "open_files",
    "recognise",
]

_ADAPTERS = {
    "contest": contest,
    "fairface": fairface,
    "csv": csv_table,
    "utkface": utkface,
    "folders": folders,
    "photos": photos,
}
"""In the order in which they are tried."""

LAYOUTS: dict[str, Callable[[Path], PhotoSet]] = {
    name: adapter.open_layout for name, adapter in _ADAPTERS.items()
}
WANTS: dict[str, str] = {name: adapter.WANTS for name, adapter in _ADAPTERS.items()}
"""Layout -> what a folder of it holds, in one line."""


def open_dataset(
    root: str | Path, *, layout: str | None = None, corrections: str | Path | None = None
) -> PhotoSet:
    """Open a data set: every photo once, sorted by key, labels corrected.

    Args:
        root: the data set's folder (for `csv` also the table itself).
        layout: one of `LAYOUTS`; None recognises it.
        corrections: a CSV of label corrections, or the name of a shipped one (`contest`).

    Raises:
        DataError: no such folder or layout, no photos, a table that is not what it should be, a
            path that leaves the data set, a photo named twice, or a person in two splits.
    """
    path = _existing(root)
    name = recognise(path) if layout is None else _layout(layout)
    opened = LAYOUTS[name](path)
    if not opened.samples:
        raise DataError(f"{root} holds no photos in the layout {name!r}: {WANTS[name]}")
    samples = tuple(sorted(opened.samples, key=lambda sample: sample.key))
    samples, found, impossible = clean_samples(samples)
    problems, summary = (*opened.problems, *found), None
    if corrections is not None:
        samples, report = apply_corrections(samples, corrections)
        problems, summary = (*problems, *report.problems), report.summary
    _check_keys(samples)
    _check_groups(samples)
    return replace(
        opened,
        samples=samples,
        problems=problems,
        corrections=summary,
        recognised=layout is None,
        impossible=impossible,
    )


def recognise(root: str | Path) -> str:
    """Return the layout of a data set: the first of `LAYOUTS` that fits.

    Raises:
        DataError: none fits, or several tables could be meant; the message lists the layouts.
    """
    path = _existing(root)
    for name, adapter in _ADAPTERS.items():
        if adapter.fits(path):
            return name
    raise DataError(f"{root} holds no photos in any layout that is known:\n{_layouts()}")


def _existing(root: str | Path) -> Path:
    path = Path(root)
    if path.is_dir() or (path.is_file() and path.suffix.lower() == ".csv"):
        return path.resolve()
    if path.exists():
        raise DataError(f"{root} is a file: wanted a folder of photos (or a .csv table of them)")
    raise DataError(f"{root} does not exist: wanted a folder of photos")


def _layout(name: str) -> str:
    if name in LAYOUTS:
        return name
    near = difflib.get_close_matches(name, LAYOUTS, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise DataError(f"unknown layout {name!r}{hint}; the layouts are:\n{_layouts()}")


def _layouts() -> str:
    return "\n".join(f"  {name}: {text}" for name, text in WANTS.items())


def _check_keys(samples: tuple[Sample, ...]) -> None:
    for one, other in itertools.pairwise(samples):
        if one.key == other.key:
            raise DataError(
                f"two photos have the key {one.key!r} ({str(one.path)!r}, {str(other.path)!r}): "
                f"name each photo once"
            )


def _check_groups(samples: tuple[Sample, ...]) -> None:
    splits: dict[str, Sample] = {}
    for sample in samples:
        if sample.group is None:
            continue
        first = splits.setdefault(sample.group, sample)
        if first.split != sample.split:
            raise DataError(
                f"group {sample.group!r} is in two splits: {first.key!r} ({first.split}) and "
                f"{sample.key!r} ({sample.split}). A person may be in one only, or the evaluation "
                f"tests what it was trained on: mend the split or the group"
            )
