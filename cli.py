"""The command line: the group of all commands, its errors as messages, and how it is stopped.

A command is a module of its own, which is imported when the command is used: `--help` imports none.
"""

from __future__ import annotations

import difflib
import importlib
import os
import signal
import threading
import time
from typing import Any

import click

from cropfirst.core.errors import ConfigError, CropfirstError, PeerError
from cropfirst.core.stopping import EXIT_CODES, GRACE, Stopper, Terminated

STOPPING = f"\nStopping after the step that is running; in {GRACE:.0f} s at the latest."
STOPPED = "\n{word}. What was finished is kept: run the same command to go on."
COMMANDS = {
    "Prepare a data set": {
        "eda": "Summarise a data set before training.",
        "detect": "Find the face in every photo and write the crops to a cache.",
        "harden": "Train the detector to find masked faces in your photos.",
        "mask": "Copy bare faces to a new data set, many of them with a mask.",
        "verify": "Check the cache and the runs for damage, and repair them.",
        "compact": "Merge the crop files of several workers into one.",
    },
    "Train": {
        "train": "Train a classifier on the crops, one model per fold.",
        "sweep": "Train several recipes and compare them on the same folds.",
        "tune": "Search for the settings with the highest macro F1.",
    },
    "Predict": {
        "ensemble": "Find the best way to combine the votes of the runs.",
        "calibrate": "Calibrate when a class is possible, and a face unknown.",
        "predict": "Predict a data set from its crops, or single photos.",
        "export": "Write a bundle that runs without PyTorch, and check it.",
    },
    "Judge": {
        "evaluate": "Score predictions, and show where they are wrong.",
        "audit": "Measure how much the runs depend on the background.",
        "proof": "Show what validation promises, and what a new place gives.",
        "relabel": "Find labels that are probably wrong.",
        "report": "Write one HTML page about some runs.",
    },
    "Use it": {
        "watch": "Say who is in front of a camera, as events.",
        "serve": "Serve the page of a bundle, and its predictions over HTTP.",
    },
    "Try it": {
        "demo": "Run all steps on portraits that are drawn for it.",
    },
}
"""Section of the help -> command -> the first line of its own help."""
OF_STAGE_1 = ("detect", "harden", "mask", "compact")
"""Commands in stage1_detect/commands.py; any other is a module in stage2_classify/commands/."""
OF_DOOR = ("watch", "serve")
"""Commands in door/NAME/command.py."""


class LazyGroup(click.Group):
    """Imports a command when it is used, and lists all commands without importing one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = f"stage2_classify.commands.{cmd_name}"
        if cmd_name in OF_STAGE_1:
            module = "stage1_detect.commands"
        elif cmd_name in OF_DOOR:
            module = f"door.{cmd_name}.command"
        command: click.Command = getattr(importlib.import_module(f"cropfirst.{module}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in section.items()])


class CropfirstGroup(LazyGroup):
    """Prints our errors as messages; any other error is a bug and keeps its stack trace."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["cropfirst.arguments"] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        # OpenMP's default is to spin for milliseconds: two trainings on one CPU then starve each
        # other (measured: 6 times slower than with this, which costs one alone 6 to 10 %).
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        # Of several processes that train together, only the first one prints. RANK alone may be
        # left in the environment by something else: a launcher sets WORLD_SIZE too.
        is_first = _process_number() == 0
        stopper = Stopper(STOPPED if is_first else "", notice=STOPPING if is_first else "")
        try:
            with stopper:
                return super().invoke(ctx)
        except click.ClickException as error:
            if not is_first:
                _wait_for_first_process()
                ctx.exit(error.exit_code)
            raise
        except PeerError as error:
            if not is_first:
                _wait_for_first_process()
                ctx.exit(1)
            raise click.ClickException(str(error)) from error
        except ConfigError as error:
            raise click.ClickException(_with_process(_with_commands(error))) from error
        except CropfirstError as error:
            raise click.ClickException(_with_process(str(error))) from error
        except (FileExistsError, NotADirectoryError) as error:
            raise click.ClickException(
                f"wanted a folder at {error.filename}, and there is a file in the way: choose "
                "another, or move the file"
            ) from error
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise click.ClickException(
                _with_process(f"{error.strerror or error}{where}")
            ) from error
        except (KeyboardInterrupt, Terminated):
            stopper.print_message()
            ctx.exit(stopper.code or EXIT_CODES[signal.SIGINT])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "see cropfirst --help"
            raise click.UsageError(f"no command {args[0]!r}: {hint}", ctx)
        name, command, rest = super().resolve_command(ctx, args)
        if _launcher_number("WORLD_SIZE", 1) > 1 and name != "train":
            raise click.UsageError(
                f"several processes were launched, and only train can share the work: start "
                f"{name} without a launcher (for more processes, see its --backend or --jobs)"
            )
        return name, command, rest


def _launcher_number(name: str, alone: int) -> int:
    """Return RANK or WORLD_SIZE as accelerate launch or torchrun sets it, else `alone`."""
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else alone


def _process_number() -> int:
    """Return the number of this process among those that a launcher started; 0 without one."""
    return _launcher_number("RANK", 0) if _launcher_number("WORLD_SIZE", 1) > 1 else 0


def _with_process(text: str) -> str:
    """Return an error's text, with the process in front if it is not the first of several."""
    rank, size = _process_number(), _launcher_number("WORLD_SIZE", 1)
    return f"process {rank + 1} of {size} on {os.uname().nodename}: {text}" if rank else text


def _with_commands(error: ConfigError) -> str:
    """Return the text of an error, with the commands that the unknown settings belong to."""
    if not error.unknown:
        return str(error)
    from cropfirst.stage2_classify.commands.other_settings import name_commands

    return "\n".join([str(error), *name_commands(error.unknown)])


def _wait_for_first_process(*, seconds: float = 3) -> None:
    """Wait for the first process to print: when one ends, the launcher ends the others."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(seconds)


@click.group(cls=CropfirstGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cropfirst")
def main() -> None:
    """Classify people in photographs by their faces, not by the background behind them.

    The usual order is detect, train, predict, evaluate; each command has --help.
    """


if __name__ == "__main__":
    main()
