"""Photos of a published data set that a list names: the list and the files on disk, joined.

Users often have a part of such a data set. What is on disk counts: each of its photos is a sample,
and rows of the list without a file are left out and counted. Knows no format of a list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets.listing import Listing
from cropfirst.stage2_classify.datasets.sample import Fact, Problem, Sample, Split


@dataclass(frozen=True)
class ListedPhoto:
    """The entries of a list for one photo."""

    split: Split = "train"
    group: str | None = None
    labels: Mapping[str, Fact] = field(default_factory=dict)


def join_listed(
    listing: Listing, rows: Mapping[str, ListedPhoto], name_of: Callable[[str], str], *, table: str
) -> tuple[tuple[Sample, ...], tuple[Problem, ...]]:
    """Return a sample for each photo on disk, with what the list says of it, and the problems.

    Args:
        rows: name of a photo in the list -> what it says.
        name_of: returns the name in the list of a key.
        table: file name of the list, for messages.

    Raises:
        DataError: two files have one name in the list, or none is in it.
    """
    samples, keys = [], dict[str, str]()
    unlisted = []
    for key, path in listing.photos:
        name = name_of(key)
        row = rows.get(name)
        if row is None:
            unlisted.append(key)
        elif name in keys:
            raise DataError(
                f"{keys[name]} and {key} are the same photo of {table}: move one of the two "
                "folders away, so that no photo is in training and validation at once"
            )
        else:
            keys[name] = key
        row = row or ListedPhoto()
        samples.append(Sample(key, Path(path), row.split, row.group, row.labels))
    if not keys:
        raise DataError(
            f"none of the {len(rows)} photos of {table} is in its folder (a photo there: "
            f"{listing.photos[0][0] if listing.photos else 'none'}): put them beside the list, or "
            "name another layout (--layout photos)"
        )
    problems = []
    if unlisted:
        text = f"has no row for {len(unlisted)} photos, such as {unlisted[0]}; they have no labels"
        problems.append(Problem(table, text))
    if gone := sorted(rows.keys() - keys.keys()):
        text = f"names {len(gone)} photos that are not there, such as {gone[0]}; they are left out"
        problems.append(Problem(table, text))
    return tuple(samples), tuple(problems)
