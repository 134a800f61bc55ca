"""Print lines on the console. Knows rich only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def say(console: Console | None, text: str, *, style: str = "") -> None:
    """Print a line without markup, highlighting or wrapping, since paths may contain brackets.

    Args:
        console: where to print; None prints nothing.
        style: a style of rich, such as `yellow`.
    """
    if console is not None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
