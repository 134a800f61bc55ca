"""Layout `folders`: one folder a class, the class being the label `label`.

Optional folders train/ and eval/ (or val/, test/) lie above the classes; photos that lie directly
in eval/ are to be predicted on.
"""

from __future__ import annotations

from pathlib import Path

from cropfirst.stage2_classify.datasets.csv_table import SPLITS
from cropfirst.stage2_classify.datasets.listing import Listing, list_photos
from cropfirst.stage2_classify.datasets.sample import Fact, PhotoSet, Problem, Sample, Split

WANTS = (
    "two or more folders of photos, one a class; optional train/ and eval/ (or val/, test/) above "
    "the classes"
)


def fits(root: Path) -> bool:
    """Whether there are photos of at least two classes."""
    if not root.is_dir():
        return False
    listing = list_photos(root)
    has_splits = _has_splits(listing)
    classes = {_place(key, has_splits)[1] for key, _ in listing.photos}
    return len(classes - {None}) >= 2


def open_layout(root: Path) -> PhotoSet:
    """Every photo below the folder; one that lies in no class folder has no label."""
    listing = list_photos(root)
    has_splits = _has_splits(listing)
    samples, problems = [], list(listing.problems)
    for key, path in listing.photos:
        split, name = _place(key, has_splits)
        labels: dict[str, Fact] = {} if name is None else {"label": name}
        if name is None and split == "train":
            problems.append(Problem(key, "lies in no class folder; it has no label"))
        samples.append(Sample(key, Path(path), split, labels=labels))
    return PhotoSet(root, "folders", tuple(samples), tuple(problems))


def _has_splits(listing: Listing) -> bool:
    """Whether the folders at the top are splits: all of them, or they are classes."""
    tops = {key.partition("/")[0].lower() for key, _ in listing.photos if "/" in key}
    return bool(tops) and tops <= SPLITS.keys()


def _place(key: str, has_splits: bool) -> tuple[Split, str | None]:
    parts = key.split("/")
    if has_splits:
        split = SPLITS[parts[0].lower()] if len(parts) > 1 else "train"
        return split, parts[1] if len(parts) > 2 else None
    return "train", parts[0] if len(parts) > 1 else None
