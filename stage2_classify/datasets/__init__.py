"""Data sets of several layouts, opened as one `PhotoSet`.

A layout is one file that says whether a folder fits it and yields the samples. Nothing here opens a
photograph, imports torch or knows a class.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets import (
    adience,
    celeba,
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
from cropfirst.stage2_classify.datasets.listing import list_photos, only_folder
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
    "celeba": celeba,
    "adience": adience,
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
    name, folder = _recognise(path) if layout is None else (_layout(layout), path)
    inner = [] if layout is None else list(_inner_folders(path))
    if inner and not _ADAPTERS[name].fits(path):
        folder = next((each for each in inner if _ADAPTERS[name].fits(each)), path)
    opened = LAYOUTS[name](folder)
    if folder != path:
        opened = _with_prefix(opened, path, folder.relative_to(path).as_posix())
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
    return _recognise(_existing(root))[0]


def _recognise(root: Path) -> tuple[str, Path]:
    """Return the layout of a data set, and its folder: the root, or the only folder inside it."""
    labelled = {name: each for name, each in _ADAPTERS.items() if each is not photos}
    for folder in itertools.chain((root,), _inner_folders(root)):
        try:
            for name, adapter in labelled.items():
                if adapter.fits(folder):
                    return name, folder
        except DataError:
            if folder == root:
                raise
            break  # what is inside is doubtful: the photos are taken without labels, as a whole
    if photos.fits(root):
        return "photos", root
    raise DataError(f"{root} holds no photos in any layout that is known:\n{_layouts()}")


def _inner_folders(root: Path) -> Iterator[Path]:
    """Yield the folder that has all photos of a folder, then the one inside it, ..."""
    folder = root
    while folder.is_dir() and (name := only_folder(list_photos(folder))) is not None:
        folder = folder / name
        yield folder


def _with_prefix(opened: PhotoSet, root: Path, prefix: str) -> PhotoSet:
    """Return a data set that was opened in a folder inside its root, with keys from the root."""
    submission = opened.submission
    if submission is not None:
        submission = tuple((name, f"{prefix}/{key}") for name, key in submission)
    return replace(
        opened,
        root=root,
        samples=tuple(replace(each, key=f"{prefix}/{each.key}") for each in opened.samples),
        problems=(
            Problem(root.name, f"the data set is in its only folder {prefix}/"),
            *opened.problems,
        ),
        submission=submission,
        not_read=tuple(f"{prefix}/{file}" for file in opened.not_read),
    )


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
                f"tests what it was trained on: correct the split or the group"
            )
