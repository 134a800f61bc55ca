"""What one net hands to the next: boxes of any photos, and what the nets have said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

NetName = Literal["pnet", "rnet", "onet"]
Rows = TypeVar("Rows", bound="Candidates")


@dataclass(frozen=True)
class Candidates:
    """Boxes that a net takes for a face."""

    boxes: Tensor  # (N, 4)
    scores: Tensor  # (N,)
    photo: Tensor  # (N,) int64
    place: Tensor  # (N,) int64, of the P-Net cell that they come from: see `canvas.pack_place`

    def pick(self: Rows, index: Tensor) -> Rows:
        return type(self)(*(value[index] for value in vars(self).values()))


@dataclass(frozen=True)
class Proposals(Candidates):
    """P-Net's own, its offsets not applied yet."""

    offsets: Tensor  # (N, 4)

    @staticmethod
    def join(parts: Sequence[Proposals], device: torch.device) -> Proposals:
        if not parts:
            zero = torch.zeros(0, device=device)
            whole = zero.long()
            return Proposals(zero.view(0, 4), zero, whole, whole, zero.view(0, 4))
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return Proposals(*(torch.cat(column) for column in columns))


class Answers:
    """What R- and O-Net have said of candidates, by the place that each comes from: the same
    proposal always comes to the same window."""

    def __init__(self, device: torch.device) -> None:
        none = torch.zeros(0, dtype=torch.int64, device=device)
        nothing = torch.zeros((0, 15), device=device)
        self._known = {"rnet": (none, nothing[:, :5]), "onet": (none, nothing)}

    def missing(self, net: NetName, place: Tensor) -> Tensor:
        """Indices of those that the net has not answered."""
        return (~torch.isin(place, self._known[net][0])).nonzero()[:, 0]

    def add(self, net: NetName, place: Tensor, outputs: Tensor) -> None:
        places, known = self._known[net]
        places, order = torch.cat([places, place]).sort()
        self._known[net] = places, torch.cat([known, outputs[:, : known.shape[1]]])[order]

    def of(self, net: NetName, place: Tensor) -> Tensor:
        """(N, 5 or 15) outputs; every place must have been added."""
        places, known = self._known[net]
        return known[torch.searchsorted(places, place)]
