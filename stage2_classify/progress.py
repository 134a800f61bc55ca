"""Progress on the console: a bar with rates, and one line per epoch.

Knows numbers and names; knows nothing of models. A console of None shows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cropfirst.core.console import say


def count_bar(console: Console | None, unit: str, *, show: bool = True) -> Progress:
    """Return a bar that counts, with the remaining time; it disappears when it ends."""
    console = console or Console(quiet=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=console.quiet or not show,
    )


class TrainProgress:
    """A bar over the crops of all folds and epochs, with running loss, F1 and learning rate."""

    def __init__(self, console: Console | None, *, total: int) -> None:
        """Create the bar.

        Args:
            total: number of crops in all folds and epochs, for training and validation.
        """
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console or Console(quiet=True),
            disable=console is None,
            transient=True,
        )
        self._bar = self._progress.add_task("crops", total=total, numbers="")

    def __enter__(self) -> TrainProgress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin_epoch(self, *, fold: str, epoch: int, epochs: int) -> None:
        """Show the fold and epoch."""
        self._progress.update(self._bar, description=f"{fold} epoch {epoch}/{epochs}")

    def advance(self, crops: int) -> None:
        """Advance by some crops."""
        self._progress.update(self._bar, advance=crops)

    def show(self, numbers: Mapping[str, float]) -> None:
        """Show running numbers beside the bar."""
        text = " ".join(f"{name} {_short(value)}" for name, value in numbers.items())
        self._progress.update(self._bar, numbers=text)

    def say(self, text: str, *, style: str = "") -> None:
        """Print a line above the bar."""
        if not self._progress.disable:
            say(self._progress.console, text, style=style)


def epoch_line(fold: str, row: Mapping[str, float], *, epochs: int, best: bool) -> str:
    """Return the line of a finished epoch; `row` has no validation if nobody is held out."""
    parts = [f"{fold} epoch {row['epoch']:.0f}/{epochs}", f"loss {row['train_loss']:.4f}"]
    if "val_loss" in row:
        parts += [f"val loss {row['val_loss']:.4f}", f"val F1 {row['val_f1']:.4f}"]
    if "swapped_f1" in row:
        parts.append(f"swapped F1 {row['swapped_f1']:.4f}")
    return "  ".join([*parts, f"{row['crops_per_s']:.0f}/s", *(["best"] if best else [])])


def _short(value: float) -> str:
    return f"{value:.1e}" if 0 < abs(value) < 1e-2 else f"{value:.3f}"
