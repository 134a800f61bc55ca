"""Show the progress of a pass over photos: rate, remaining time, and counts of outcomes."""

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
"""Seconds between lines when the output is not a terminal."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} photos/s", style="cyan")


class Progress:
    """A progress bar over photos, or plain lines when the output is not a terminal."""

    def __init__(self, console: Console | None, title: str, *, total: int) -> None:
        """Prepare the bar; it is shown within a `with` block.

        Args:
            console: None shows nothing.
            title: one word for what is being done.
            total: number of photos.
        """
        self._counts: Counter[str] = Counter()
        self._bar = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=14),  # the line fits into 80 columns
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
        """Count `photos` more as done, and add `counts` of their outcomes to the line."""
        self._counts.update(counts)
        line = " ".join(f"{name} {count}" for name, count in sorted(self._counts.items()))
        self._bar.update(self._task, advance=photos, counts=line)
        self._done += photos
        if self._console is not None and not self._console.is_terminal:
            self._print_line(self._console, line)

    def _print_line(self, console: Console, counts: str) -> None:
        """Print a line if the last one was `LINE_EVERY` seconds ago."""
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
