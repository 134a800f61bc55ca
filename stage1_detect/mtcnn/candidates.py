"""The candidates that one network passes to the next: boxes of any photos, and their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

NetName = Literal["pnet", "rnet", "onet"]
CandidatesT = TypeVar("CandidatesT", bound="Candidates")


@dataclass(frozen=True)
class Candidates:
    """Boxes that a network takes for a face."""

    boxes: Tensor
    """(N, 4) float32 xyxy in photo pixels."""
    scores: Tensor
    """(N,) float32 in [0, 1]."""
    photo: Tensor
    """(N,) int64 index of the photo."""
    position: Tensor
    """(N,) int64 position of the P-Net output that the box comes from: see
    `levels.pack_position`."""

    def select(self: CandidatesT, index: Tensor) -> CandidatesT:
        """Return the rows that an index or a mask selects."""
        return type(self)(*(value[index] for value in vars(self).values()))


@dataclass(frozen=True)
class Proposals(Candidates):
    """Boxes of P-Net before its offsets are applied."""

    offsets: Tensor
    """(N, 4) float32 offsets of the sides as fractions of the box."""

    @staticmethod
    def concat(parts: Sequence[Proposals]) -> Proposals:
        """Return the rows of all parts, of which there must be one at least."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return Proposals(*(torch.cat(column) for column in columns))


class OutputCache:
    """Outputs of R- and O-Net by the position that each candidate comes from.

    The same P-Net output always leads to the same windows, so no window is run twice.
    """

    def __init__(self, device: torch.device) -> None:
        positions = torch.zeros(0, dtype=torch.int64, device=device)
        outputs = torch.zeros((0, 15), device=device)
        self._known = {"rnet": (positions, outputs[:, :5]), "onet": (positions, outputs)}

    def missing(self, net: NetName, position: Tensor) -> Tensor:
        """Return the indices of the positions that have no output of that network."""
        return (~torch.isin(position, self._known[net][0])).nonzero()[:, 0]

    def add(self, net: NetName, position: Tensor, outputs: Tensor) -> None:
        """Keep a network's (N, 5 or 15) outputs for (N,) positions."""
        positions, known = self._known[net]
        positions, order = torch.cat([positions, position]).sort()
        self._known[net] = positions, torch.cat([known, outputs[:, : known.shape[1]]])[order]

    def get(self, net: NetName, position: Tensor) -> Tensor:
        """Return (N, 5 or 15) outputs; every position must have been added."""
        positions, known = self._known[net]
        return known[torch.searchsorted(positions, position)]
