"""Compute results ahead in threads, in order, within a budget of bytes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Return the number of cores that this process may use; a container may have fewer than all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prefetch(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    *,
    workers: int,
    size_of: Callable[[Result], int],
    max_bytes: int = 256_000_000,
    expected: int = 0,
) -> Iterator[tuple[Item, Result]]:
    """Yield (item, work(item)) in order, while threads compute the next ones.

    Args:
        workers: number of threads; 0 means one per core.
        size_of: returns the size of a result in bytes.
        max_bytes: no new work starts while waiting results hold more than this; a single result
            may be larger.
        expected: size in bytes at which a result that is being computed is counted.
    """
    workers = workers or available_cores()
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    source = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="prefetch") as pool:

        def top_up() -> None:
            held = sum(size_of(job.result()) for _, job in waiting if job.done())
            pending = sum(not job.done() for _, job in waiting)
            while pending < 2 * workers and held + pending * expected < max_bytes:
                try:
                    item = next(source)
                except StopIteration:
                    return
                waiting.append((item, pool.submit(work, item)))
                pending += 1

        try:
            top_up()
            while waiting:
                item, job = waiting.popleft()
                result = job.result()
                top_up()
                yield item, result
        finally:
            for _, job in waiting:
                job.cancel()


def in_slices(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield the items, `size` at a time; the last slice may be shorter."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


def in_batches(
    items: Iterable[Item],
    *,
    size_of: Callable[[Item], int],
    max_size: int,
    max_count: int | None = None,
) -> Iterator[list[Item]]:
    """Group items up to a total size of `max_size`; a single item may be larger."""
    batch: list[Item] = []
    held = 0
    for item in items:
        size = size_of(item)
        full = max_count is not None and len(batch) >= max_count
        if batch and (full or held + size > max_size):
            yield batch
            batch, held = [], 0
        batch.append(item)
        held += size
    if batch:
        yield batch
