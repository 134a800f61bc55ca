"""Commands that consist of other commands, each run as if it had been typed. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console


def run_step(console: Console, name: str, *arguments: str | Path) -> None:
    """Print another command of the group, and run it.

    Raises:
        click.ClickException: it failed.
    """
    words: Sequence[str] = [str(each) for each in arguments]
    console.rule(f"cropfirst {name} {' '.join(words)}", align="left")
    root = click.get_current_context().find_root()
    assert isinstance(root.command, click.Group)
    command = root.command.get_command(root, name)
    assert command is not None
    command.main(list(words), standalone_mode=False, parent=root)
