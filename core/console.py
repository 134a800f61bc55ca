"""Lines on the console, the same from everywhere. Knows rich; needs nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def say(console: Console | None, text: str, *, style: str = "") -> None:
    """Print one line as it is: paths may hold brackets, and are not to be wrapped.

    Args:
        console: None says nothing.
    """
    if console is not None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
