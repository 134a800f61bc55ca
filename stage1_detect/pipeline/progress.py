"""Show the progress of a pass over photos: rate, remaining time, and counts of outcomes.

One clock counts, which starts with the pass: the rate is that of all photos so far, and the
remaining time follows from it. Photos are done in batches, several at the same moment, so that a
rate over the last of them would be wrong by orders of magnitude.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from cropfirst.core.console import say

LINE_EVERY = 15.0
"""Seconds between lines when the output is not a terminal."""


def _rate_of(task: Task) -> float:
    """Return the number of photos per second since the start; 0 before the first."""
    return task.completed / task.elapsed if task.elapsed else 0.0


def _left_of(task: Task) -> float:
    """Return the remaining time in seconds at the rate so far, which must not be 0."""
    return (task.remaining or 0) / _rate_of(task)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = _rate_of(task)
        return Text(f"{rate:.1f} photos/s" if rate else "", style="cyan")


class _Left(ProgressColumn):
    def render(self, task: Task) -> Text:
        left = str(timedelta(seconds=round(_left_of(task)))) if _rate_of(task) else "-:--:--"
        return Text(left, style="progress.remaining")


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
            _Left(),
            TextColumn("{task.fields[counts]}"),
            console=console,
            disable=console is None or not console.is_terminal,
        )
        self._bar.add_task(title, total=total, counts="", start=False)
        (self._task,) = self._bar.tasks
        self._console, self._title = console, title
        self._next_line = LINE_EVERY

    @property
    def seconds(self) -> float:
        """Time since the pass started, or its duration once it has ended."""
        return self._task.elapsed or 0.0

    def advance(self, photos: int, **counts: int) -> None:
        """Count `photos` more as done, and add `counts` of their outcomes to the line."""
        self._counts.update(counts)
        line = " ".join(f"{name} {count}" for name, count in sorted(self._counts.items()))
        self._bar.update(self._task.id, advance=photos, counts=line)
        if self._console is not None and not self._console.is_terminal:
            self._print_line(self._console, line)

    def _print_line(self, console: Console, counts: str) -> None:
        """Print a line if the last one was `LINE_EVERY` seconds ago."""
        task = self._task
        if self.seconds < self._next_line or not task.completed:
            return
        self._next_line = self.seconds + LINE_EVERY
        text = (
            f"{self._title} {task.completed:.0f}/{task.total:.0f}, {_rate_of(task):.1f} photos/s, "
            f"{_left_of(task):.0f} s left"
        )
        text += f"; {counts}" if counts else ""
        say(console, text)

    def __enter__(self) -> Progress:
        self._bar.start_task(self._task.id)
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop_task(self._task.id)
        self._bar.stop()
