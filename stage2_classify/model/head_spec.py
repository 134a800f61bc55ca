"""The outputs of a head: enough to build it, and to read its outputs as probabilities.

Knows numbers; knows nothing of facts or networks. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class HeadSpec:
    """The outputs of a head: enough to build it, and to turn outputs into probabilities."""

    class_of: tuple[int, ...]
    """Output class (bin, rank) -> class of the schema, ascending; one per class for regression."""
    kind: str = "classes"
    """classes, coral, corn or regression."""
    edges: tuple[float, ...] = ()
    """Inner edges of the schema's bins, for regression."""
    centre: float = 0.0
    """Mean of the learned numbers, which outputs are relative to."""
    scale: float = 1.0
    """Their standard deviation, the unit of outputs."""
    spread: float = 1.0
    """Standard deviation assumed around a predicted number, in its unit, for regression."""
    mse: float = 0.0
    """Weight of the squared error on one more output, the last; 0 = no such output."""

    @classmethod
    def plain(cls, n_classes: int) -> HeadSpec:
        """Return the spec of one logit per class."""
        return cls(tuple(range(n_classes)))

    @property
    def n_classes(self) -> int:
        """Number of classes of the schema."""
        return max(self.class_of) + 1

    @property
    def width(self) -> int:
        """Number of outputs for one crop."""
        if self.kind == "regression":
            return 1
        return len(self.class_of) - (self.kind != "classes") + (self.mse > 0)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, JSON-able."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HeadSpec:
        """Return the spec that `to_dict` described."""
        tuples = {key: tuple(data[key]) for key in ("class_of", "edges")}
        return cls(**{**data, **tuples})
