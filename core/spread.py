"""The choice of a few items that are spread evenly over many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def spread(items: Sequence[T], most: int) -> list[T]:
    """Return at most `most` items in their order: the first, the last, and evenly between them.

    Fewer items than `most` are all returned.
    """
    return [items[at] for at in np.linspace(0, len(items) - 1, min(most, len(items)), dtype=int)]
