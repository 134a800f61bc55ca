"""The crops of each batch of an epoch: shuffled, weighted by class, or oversampled.

Knows row numbers and classes; opens no crop. An epoch's batches depend on (seed, fold, epoch)
alone, so there is no state to save for a resumed run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler, WeightedRandomSampler

Rows = NDArray[np.int64]
SamplerKind = Literal["shuffle", "weighted", "oversample"]
LEAST_CROPS = 2
"""Smallest training batch of each process."""


@dataclass(frozen=True)
class BatchRequest:
    """One batch to load: what the sampler asks of the data set.

    It contains its epoch and step because augmentation is seeded by them, and loader processes
    outlive both.
    """

    epoch: int
    step: int
    rows: Rows
    """(B,) row numbers; partners, if there are any, come last."""
    n_partners: int = 0
    """Number of rows at the end that are only mixed into the others."""
    positions: Rows | None = None
    """(b,) indices into `rows` that this process loads, if several share the batch; None = all."""


def part_of(n: int, share: tuple[int, int]) -> range:
    """Return the part of range(n) that belongs to this process: contiguous, as equal as possible.

    Args:
        share: (rank, size) of this process among those that divide the n.
    """
    rank, size = share
    return range(n * rank // size, n * (rank + 1) // size)


@dataclass(frozen=True)
class Balance:
    """The way in which the sampler balances classes."""

    kind: SamplerKind = "shuffle"
    strata: Rows | None = None
    """(N,) class of every row of the data set; None for `shuffle`."""
    power: float = 1.0
    """weighted: a class of n rows is drawn in proportion to n ** (1 - power)."""
    max_repeats: int = 10
    """oversample: largest number of copies of one row in an epoch."""


def merge_strata(codes: Sequence[Rows]) -> Rows:
    """Number the combinations of several tasks' classes, (N,) each; -1 counts as a class."""
    _, strata = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)
    return strata.reshape(-1).astype(np.int64)


def draw_rows(rows: Rows, balance: Balance, *, seed: tuple[int, ...]) -> Rows:
    """Draw the rows of one epoch, in the order of training.

    Args:
        rows: (n,) rows of the training part.
        seed: (seed, fold, epoch).
    """
    random = np.random.default_rng(seed)
    if balance.kind == "shuffle" or balance.strata is None:
        return random.permutation(rows)
    strata = balance.strata[rows]
    counts = np.bincount(strata)
    if balance.kind == "weighted":
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        weights = counts[strata].astype(np.float64) ** -balance.power
        drawn = WeightedRandomSampler(weights.tolist(), len(rows), generator=generator)
        return rows[np.fromiter(drawn, np.int64, len(rows))]
    parts = []
    for stratum in np.flatnonzero(counts):
        part = rows[strata == stratum]
        n = min(int(counts.max()), len(part) * balance.max_repeats)
        # Every row as often as the others or once more.
        extra = random.permutation(part)[: n % len(part)]
        parts.append(np.concatenate([np.tile(part, n // len(part)), extra]))
    return random.permutation(np.concatenate(parts))


def rarest_rows(rows: Rows, codes: Rows) -> Rows:
    """Return those of `rows` that have the rarest class among them; -1 is no class."""
    known = rows[codes[rows] >= 0]
    if not len(known):
        return known
    classes, counts = np.unique(codes[known], return_counts=True)
    return known[codes[known] == classes[counts.argmin()]]


def swap_rows(rows: Rows, swapped: Rows, probability: float, *, seed: tuple[int, ...]) -> Rows:
    """Replace some rows by rows that show the same photo's head in another room.

    Args:
        rows: (n,) rows of photos.
        swapped: (N, D) rows of the D draws of each photo; -1 where a photo has no such crop.
        probability: share of the rows to replace, 0 to 1.
        seed: (seed, fold, epoch, step).
    """
    random = np.random.default_rng((*seed, 1))  # 0 decides on partners
    chosen = random.random(len(rows)) < probability
    others = swapped[rows, random.integers(swapped.shape[1], size=len(rows))]
    return np.where(chosen & (others >= 0), others, rows)


class EpochSampler(Sampler[BatchRequest]):
    """Batches of an epoch: drawn by (seed, fold, epoch), or in order if `seed` is None.

    Attributes:
        epoch: number of the epoch that the next iteration is for; set before each.
        partners: rows to mix batches with, with probability `partner_prob`.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        batch_size: int,
        seed: tuple[int, ...] | None,
        balance: Balance | None = None,
        partners: Rows | None = None,
        partner_prob: float = 0.0,
        swapped: Rows | None = None,
        swap_prob: float = 0.0,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Sample the batches of `rows`.

        Args:
            batch_size: number of crops in a batch, of all processes together.
            swapped: (N, D) rows that replace each row with probability `swap_prob`, see
                `swap_rows`; None replaces none.
            share: (rank, size) of this process among those that share each batch.
        """
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.balance = balance or Balance()
        self.partners = partners
        self.partner_prob = partner_prob
        self.swapped = swapped
        self.swap_prob = swap_prob
        self.share = share
        self.epoch = 0
        self._n = len(rows if seed is None else draw_rows(rows, self.balance, seed=(*seed, 0)))

    def __len__(self) -> int:
        return len(self._starts())

    @property
    def n_crops(self) -> int:
        """Number of crops in an epoch, without partners."""
        return self._n

    def __iter__(self) -> Iterator[BatchRequest]:
        rows = self.rows
        if self.seed is not None:
            rows = draw_rows(rows, self.balance, seed=(*self.seed, self.epoch))
        for step, start in enumerate(self._starts()):
            yield self._request(step, rows[start : start + self.batch_size])

    def _request(self, step: int, rows: Rows) -> BatchRequest:
        if self.seed is None:
            return BatchRequest(self.epoch, step, rows, positions=self._positions(len(rows)))
        n_rows, n_partners = len(rows), 0
        seed = (*self.seed, self.epoch, step)
        if self.partners is not None:
            random = np.random.default_rng(seed)
            if random.random() < self.partner_prob:
                n_partners = n_rows
                rows = np.concatenate([rows, random.choice(self.partners, n_rows)])
        if self.swapped is not None:
            rows = swap_rows(rows, self.swapped, self.swap_prob, seed=seed)
        positions = self._positions(n_rows, partners=n_partners > 0)
        return BatchRequest(self.epoch, step, rows, n_partners, positions)

    def _positions(self, n: int, *, partners: bool = False) -> Rows | None:
        if self.share[1] == 1:
            return None
        # A network needs at least one crop: without a part in a small last batch, take the first.
        own = np.array(part_of(n, self.share) or range(1), np.int64)
        return np.concatenate([own, own + n]) if partners else own

    def _starts(self) -> range:
        # Batch norm fails on a last batch of one crop per process, so such a batch is left out.
        least = LEAST_CROPS * self.share[1]
        drop = self.seed is not None and self._n >= least
        return range(0, self._n - (least - 1 if drop else 0), self.batch_size)


def choose_balance(
    kind: SamplerKind,
    codes: Mapping[str, Rows],
    *,
    tasks: Sequence[str],
    power: float,
    max_repeats: int,
) -> Balance:
    """Build the balance of some tasks' classes.

    Args:
        codes: task -> (N,) class numbers.
    """
    if kind == "shuffle":
        return Balance()
    return Balance(kind, merge_strata([codes[task] for task in tasks]), power, max_repeats)
