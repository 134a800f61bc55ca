"""What an adapter yields: samples, the problems met on the way, and the rows of a submission.

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
    """One photograph. Its file may be missing or broken: stage 1 finds out and records it."""

    key: str
    """POSIX path relative to the data root, valid UTF-8; the same string in every table."""
    path: Path
    """Where the file lies; not the key where the name on disk is not valid UTF-8."""
    split: Split = "train"
    group: str | None = None
    """The person; None where unknown."""
    labels: Mapping[str, Fact] = field(default_factory=dict, hash=False)
    """Raw facts by name; a fact that is not known is absent."""


@dataclass(frozen=True)
class Problem:
    """Something of the data set that could not be used as it stands, and what was done."""

    where: str
    message: str


@dataclass(frozen=True)
class PhotoSet:
    """A data set, opened: every photo exactly once, sorted by key."""

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
    """One line on what the corrections changed; None where there were none."""
    not_taken: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Extension -> number of files that look like images and are not among the samples."""
    recognised: bool = False
    """Whether the layout was recognised, rather than named by the user."""
    impossible: int = 0
    """Number of photos with a value that cannot be, such as an age of 150: it was left out."""

    def __len__(self) -> int:
        return len(self.samples)

    def by_split(self, split: Split) -> tuple[Sample, ...]:
        """The samples of one split, sorted by key."""
        return tuple(sample for sample in self.samples if sample.split == split)

    def by_key(self) -> dict[str, Sample]:
        """The samples by their key."""
        return {sample.key: sample for sample in self.samples}
