"""Work ahead in threads, in order, within a budget of bytes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores that this process may use, which in a container or under taskset are fewer than all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_ahead(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    *,
    workers: int,
    size_of: Callable[[Result], int],
    max_bytes: int = 256_000_000,
) -> Iterator[tuple[Item, Result]]:
    """Yield (item, work(item)) in order, with the next ones computed meanwhile.

    Args:
        workers: threads; 0 = one a core.
        size_of: bytes that a result holds.
        max_bytes: no new work starts while results that wait hold more than this; a single result
            may be larger.
    """
    workers = workers or available_cores()
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    source = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="ahead") as pool:

        def top_up() -> None:
            held = sum(size_of(job.result()) for _, job in waiting if job.done())
            pending = sum(not job.done() for _, job in waiting)
            while pending < 2 * workers and held < max_bytes:
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
    """The items, `size` at a time; the last slice may be shorter."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


def in_batches(
    items: Iterable[Item],
    *,
    size_of: Callable[[Item], int],
    max_size: int,
    max_count: int | None = None,
) -> Iterator[list[Item]]:
    """Group items so that a group's sizes add up to no more than `max_size` (one item may)."""
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
