"""The types that a layout yields: samples, problems and the rows of a submission.

Knows nothing of any layout, of classes or of pixels: `labels` are raw facts as the data set has
them, `{"mask": "wear", "gender": "female", "age": 24}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Split = Literal["train", "eval"]
Fact = str | int | float


@dataclass(frozen=True)
class Sample:
    """A photo. Its file may be missing or broken: stage 1 finds out and records it."""

    key: str
    """POSIX path relative to the data root, valid UTF-8; the same string in every table."""
    path: Path
    """Path of the file; differs from the key where its name is not valid UTF-8."""
    split: Split = "train"
    group: str | None = None
    """Person; None where unknown."""
    labels: Mapping[str, Fact] = field(default_factory=dict, hash=False)
    """Name -> raw fact; a fact that is not known is absent."""


@dataclass(frozen=True)
class Problem:
    """Something in the data set that could not be used as it is, and what was done."""

    where: str
    message: str


@dataclass(frozen=True)
class PhotoSet:
    """An opened data set with every photo exactly once, sorted by key."""

    root: Path
    layout: str
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...] = ()
    submission: tuple[tuple[str, str], ...] | None = None
    """(image id, key) of the rows that a submission must have, in their order; None: none asked."""
    submission_columns: tuple[str, str] = ("ImageID", "ans")
    own_columns: bool = False
    """Whether the labels are named by the user, so that every column of words may be a task."""
    corrections: str | None = None
    """One line that says what the corrections changed; None where there were none."""
    not_taken: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Extension -> number of files that look like images and are not among the samples."""
    not_read: tuple[str, ...] = ()
    """Paths, relative to the root, of files that may have labels and that the layout does not
    read."""
    recognised: bool = False
    """Whether the layout was recognised, rather than named by the user."""
    impossible: int = 0
    """Number of photos with a value that cannot be, such as an age of 150: it was left out."""

    def __len__(self) -> int:
        return len(self.samples)

    def by_split(self, split: Split) -> tuple[Sample, ...]:
        """Return the samples of one split, sorted by key."""
        return tuple(sample for sample in self.samples if sample.split == split)

    def by_key(self) -> dict[str, Sample]:
        """Return key -> sample."""
        return {sample.key: sample for sample in self.samples}
