"""Work ahead: in order, within its budget, and with errors where they belong."""

from __future__ import annotations

import threading
import time

import pytest

from cropfirst.core.prefetch import in_batches, prefetch


def test_results_come_in_order_whatever_finishes_first() -> None:
    def work(item: int) -> int:
        time.sleep(0.01 if item % 3 == 0 else 0.0)
        return item * item

    got = list(prefetch(range(50), work, workers=4, size_of=lambda _: 1))
    assert got == [(item, item * item) for item in range(50)]


def test_no_more_is_held_than_the_budget() -> None:
    """Results that nobody has taken yet stay below the budget plus those that the workers hold."""
    lock, state = threading.Lock(), {"made": 0}
    taken = 0
    most = 0

    def work(_: int) -> int:
        with lock:
            state["made"] += 1
        return 10

    for _ in prefetch(range(200), work, workers=2, size_of=lambda size: size, max_bytes=50):
        taken += 1
        time.sleep(0.001)
        most = max(most, state["made"] - taken)
    assert taken == 200
    assert most <= 5 + 2 * 2 + 1


def test_a_result_larger_than_the_budget_passes() -> None:
    got = list(prefetch(range(3), lambda item: item, workers=1, size_of=lambda _: 99, max_bytes=1))
    assert [result for _, result in got] == [0, 1, 2]


def test_an_error_in_the_work_reaches_the_caller() -> None:
    def work(item: int) -> int:
        if item == 5:
            raise RuntimeError("five")
        return item

    with pytest.raises(RuntimeError, match="five"):
        list(prefetch(range(100), work, workers=2, size_of=lambda _: 1))


def test_batches_keep_to_size_and_count() -> None:
    batches = list(in_batches([5, 5, 5, 20, 1, 1, 1, 1], size_of=int, max_size=10, max_count=3))
    assert batches == [[5, 5], [5], [20], [1, 1, 1], [1]]
