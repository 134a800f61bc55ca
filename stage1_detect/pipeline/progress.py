"""Progress of a pass over photos: rate, ETA and counts of how the photos fared."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from cropfirst.core.console import say

LINE_EVERY = 15.0
"""Seconds between lines where the output is no terminal."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} photos/s", style="cyan")


class Progress:
    """A progress bar over photos; does nothing without a console.

    Args:
        title: what is being done, one word.
        total: photos in all.
    """

    def __init__(self, console: Console | None, title: str, *, total: int) -> None:
        self._counts: Counter[str] = Counter()
        self._bar = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=14),  # all of it fits into 80 columns
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[counts]}"),
            console=console,
            disable=console is None or not console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=total, counts="")
        self._console, self._title, self._total = console, title, total
        self._done, self._started = 0, time.monotonic()
        self._next_line = self._started + LINE_EVERY

    def advance(self, photos: int, **counts: int) -> None:
        """Count `photos` more as done; `counts` add to the line of how they fared."""
        self._counts.update(counts)
        line = " ".join(f"{name} {count}" for name, count in sorted(self._counts.items()))
        self._bar.update(self._task, advance=photos, counts=line)
        self._done += photos
        if self._console is not None and not self._console.is_terminal:
            self._print_line(self._console, line)

    def _print_line(self, console: Console, counts: str) -> None:
        """Logs have no bar: a plain line now and then instead."""
        now = time.monotonic()
        if now < self._next_line:
            return
        self._next_line = now + LINE_EVERY
        rate = self._done / (now - self._started)
        left = (self._total - self._done) / rate
        text = f"{self._title} {self._done}/{self._total}, {rate:.1f} photos/s, {left:.0f} s left"
        text += f"; {counts}" if counts else ""
        say(console, text)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
