"""The names of splits, in folders and in tables."""

from __future__ import annotations

from cropfirst.core.text import normal_form
from cropfirst.stage2_classify.datasets.sample import Split

SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(
        ("eval", "val", "valid", "validation", "dev", "test", "testing", "tst"), "eval"
    ),
}
"""Name of a split, in lower case -> the split."""


def split_of(name: str) -> Split | None:
    """Return the split that a folder or a cell names, in any case; None where it names none."""
    return SPLITS.get(normal_form(name).casefold())
