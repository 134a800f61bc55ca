"""Layout `folders`: one folder per class, the class being the label `label`.

Optional folders train/ and eval/ (or val/, test/, in any case) contain the classes; photos that are
directly in eval/ are to be predicted on. Where each class has folders of its own, one per person
(class/person/photo), these are the persons.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from cropfirst.core.errors import DataError
from cropfirst.core.text import normal_form
from cropfirst.stage2_classify.datasets.listing import Listing, list_photos
from cropfirst.stage2_classify.datasets.sample import Fact, PhotoSet, Problem, Sample, Split
from cropfirst.stage2_classify.datasets.splits import SPLITS, split_of

WANTS = (
    "two or more folders of photos, one per class; optional train/ and eval/ (or val/, test/) that "
    "contain the classes"
)
_MASKED_FACE_NET = re.compile(r"(\d{5})_Mask\w*")
"""Names of MaskedFace-Net: the number is that of the person's photo in FFHQ."""


@dataclass(frozen=True)
class _Place:
    """The split, the class folder and the person's folder of a photo."""

    split: Split | None
    """Split; None where the photo is in a folder beside the splits."""
    label: str | None
    person: str | None


def fits(root: Path) -> bool:
    """Return whether there are photos of at least two classes."""
    if not root.is_dir():
        return False
    listing = list_photos(root)
    has_splits = _has_splits(listing)
    classes = {_place(key, has_splits).label for key, _ in listing.photos}
    return len(classes - {None}) >= 2


def open_layout(root: Path) -> PhotoSet:
    """Return every photo below the folder; one that is in no class folder has no label.

    Raises:
        DataError: some of the top folders are splits, and others with the same classes are not.
    """
    listing = list_photos(root)
    has_splits = _has_splits(listing)
    places = {key: _place(key, has_splits) for key, _ in listing.photos}
    persons = _persons(places)
    samples, problems = [], list(listing.problems)
    beside: defaultdict[str, int] = defaultdict(int)
    for key, path in listing.photos:
        place = places[key]
        if place.split is None:
            beside[key.partition("/")[0]] += 1
            continue
        labels: dict[str, Fact] = {} if place.label is None else {"label": place.label}
        if place.label is None and place.split == "train":
            problems.append(Problem(key, "is in no class folder; it has no label"))
        samples.append(Sample(key, Path(path), place.split, persons.get(key), labels))
    for name, count in sorted(beside.items()):
        text = f"its {count} photos are left out: it is neither a split nor in one"
        problems.append(Problem(f"{name}/", text))
    return PhotoSet(
        root, "folders", tuple(samples), tuple(problems), not_taken=listing.not_taken,
        not_read=listing.not_read, own_columns=True,
    )  # fmt: skip


def _has_splits(listing: Listing) -> bool:
    """Return whether the folders at the top are splits, not classes.

    They are splits where all of them are called so, or where one of them is called a training split
    and one an evaluation split.
    """
    tops: defaultdict[str, set[str]] = defaultdict(set)
    for key, _ in listing.photos:
        parts = key.split("/")
        if len(parts) > 1:
            tops[parts[0]].update(parts[1:2] if len(parts) > 2 else ())
    splits = {split_of(name) for name in tops} - {None}
    unknown = sorted(name for name in tops if split_of(name) is None)
    if tops and (not unknown or len(splits) == 2):
        return True
    if splits:
        known = next(name for name in tops if split_of(name))
        alike = [name for name in unknown if len(tops[name]) > 1 and tops[name] == tops[known]]
        if alike:
            raise DataError(
                f"the folders {known} and {', '.join(alike)} hold the same classes "
                f"({', '.join(sorted(tops[known]))}), so they are splits, and {alike[0]!r} names "
                f"none: rename it to one of {', '.join(SPLITS)}, or move it away"
            )
    return False


def _place(key: str, has_splits: bool) -> _Place:
    parts = [normal_form(part) for part in key.split("/")]
    split: Split | None = "train"
    if has_splits and len(parts) > 1:
        split = split_of(parts.pop(0))
    label = parts[0] if len(parts) > 1 else None
    return _Place(split, label, "/".join(parts[1:-1]) or None)


def _persons(places: dict[str, _Place]) -> dict[str, str]:
    """Return the person of each photo, where folders or names tell it."""
    names = {key: key.rpartition("/")[2].partition(".")[0] for key in places}
    numbers = {key: _MASKED_FACE_NET.fullmatch(name) for key, name in names.items()}
    if all(numbers.values()):
        return {key: found[1] for key, found in numbers.items() if found}
    labelled = {key: place for key, place in places.items() if place.label is not None}
    if not all(place.person for place in labelled.values()):
        return {}
    return {key: place.person for key, place in labelled.items() if place.person}
