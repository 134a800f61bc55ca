"""Runs the members of an ensemble, one after the other, on crops from the cache.

Knows members, crop sets and keys; knows nothing of votes, labels or submissions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from cropfirst.cache import CropReader, CropSet
from cropfirst.stage2_classify.predict.predictor import Member
from cropfirst.stage2_classify.progress import count_bar
from cropfirst.stage2_classify.runs.run_paths import run_of

Probs = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def predict_members(
    folders: Sequence[Path],
    crop_sets: Mapping[str, CropSet],
    keys: Sequence[Sequence[str]],
    *,
    device: torch.device,
    batch_size: int,
    tta: Sequence[str] = (),
    console: Console,
) -> Iterator[dict[str, Probs]]:
    """Yield each member's task -> (N, classes) probabilities of its photos, in their order.

    One member is loaded at a time: reading the crops again costs less than keeping all in memory.

    Args:
        folders: checkpoint folders, one per member.
        crop_sets: fingerprint -> crop set, of every crop set that a member was trained on.
        keys: the photos that each member predicts; all of them have crops.
        tta: kinds of test-time augmentation, see `tta.TTA_KINDS`.
    """
    with count_bar(console, "crops") as progress:
        bar = progress.add_task("predict", total=sum(map(len, keys)))
        for folder, photos in zip(folders, keys, strict=True):
            progress.update(bar, description=f"{run_of(folder).name}/{folder.parent.name}")
            member = Member.load(folder, device=device, tta=tta)
            reader = crop_sets[member.meta["crop_set"]["fingerprint"]].reader()
            batches = _prefetch(member, reader, photos, batch_size=batch_size)
            counted = _count(batches, lambda count: progress.advance(bar, count))
            probs = member.predict_batches(counted)
            reader.close()
            yield probs


def scatter_rows(probs: Probs, rows: Rows, n_photos: int) -> Probs:
    """Return (n_photos, C) float32 with `probs` in their rows, and NaN elsewhere."""
    table = np.full((n_photos, probs.shape[1]), np.nan, np.float32)
    table[rows] = probs
    return table


def _prefetch(
    member: Member, reader: CropReader, keys: Sequence[str], *, batch_size: int
) -> Iterator[torch.Tensor]:
    """Yield batches of crops, read by one thread while the device works on the batch before."""

    def read(at: int) -> torch.Tensor:
        return member.stack([reader[key] for key in keys[at : at + batch_size]])

    waiting: deque[Future[torch.Tensor]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for at in range(0, len(keys), batch_size):
            waiting.append(pool.submit(read, at))
            if len(waiting) > 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _count(
    batches: Iterator[torch.Tensor], advance: Callable[[int], None]
) -> Iterator[torch.Tensor]:
    for batch in batches:
        yield batch
        advance(len(batch))
