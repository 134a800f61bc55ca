"""Options made from the fields of a config: their help, and the settings that they give."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click
import pytest
from click.testing import CliRunner
from pydantic import Field

from cropfirst import configs
from cropfirst.configs import Config, load_config
from cropfirst.configs.options import find_field, setting
from cropfirst.stage2_classify import datasets


class Part(Config):
    """A group."""

    rate: float = Field(0.5, gt=0, le=1)
    """Learning rate, e.g. 0.1 or `0.2`. Not shown."""
    size: int | None = Field(None, ge=2)
    """Number of crops; null = all of them. Not shown."""
    kind: Literal["near", "far"] = "near"
    """Kind of crop. `near`: not shown."""
    mirror: bool = False
    """Mirror crops."""


class Whole(Config):
    """A config."""

    task: str
    """Task to learn."""
    part: Part = Part()
    """A group."""


def command_of(model: type[Config]) -> click.Command:
    @click.command()
    @setting(model, "task", "--task", metavar="NAME")
    @setting(model, "part.rate", "--rate")
    @setting(model, "part.size", "--size")
    @setting(model, "part.kind", "--kind")
    @setting(model, "part.mirror", "--mirror/--no-mirror")
    @click.option("--other", default=3)
    def command(values: dict[str, Any], other: int) -> None:
        click.echo(repr((values, other)))

    return command


def rows_of(command: click.Command) -> dict[str, str]:
    """The first spelling of each option -> its help, on one line."""
    context = click.Context(command, terminal_width=200, max_content_width=200)
    records = [each.get_help_record(context) for each in command.params]
    return {record[0]: record[1] for record in records if record is not None}


def test_help_comes_from_the_field() -> None:
    rows = rows_of(command_of(Whole))
    assert rows["--task NAME"] == "Task to learn."
    assert rows["--rate X"] == "Learning rate, e.g. 0.1 or 0.2.  [default: 0.5; x>0, x<=1]"
    assert rows["--size N"] == "Number of crops.  [default: all of them; x>=2]"
    assert rows["--kind [near|far]"] == "Kind of crop.  [default: near]"
    assert rows["--mirror / --no-mirror"] == "Mirror crops.  [default: no-mirror]"


def test_a_changed_default_changes_the_help() -> None:
    class Other(Part):
        rate: float = Field(0.25, gt=0)
        """Learning rate."""
        mirror: bool = True
        """Mirror crops."""

    class Changed(Whole):
        part: Other = Other()
        """A group."""

    rows = rows_of(command_of(Changed))
    assert rows["--rate X"] == "Learning rate.  [default: 0.25; x>0]"
    assert rows["--mirror / --no-mirror"] == "Mirror crops.  [default: mirror]"


def test_a_command_may_say_what_a_field_means_to_it() -> None:
    option = setting(Whole, "part.rate", "--rate", help="Rate of all.", default="the recipes'")
    rows = rows_of(click.command()(option(lambda values: None)))
    assert rows["--rate X"] == "Rate of all.  [default: the recipes'; x>0, x<=1]"


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ("", {}),
        ("--rate 1 --other 4", {"part.rate": 1.0}),
        ("--size 3 --no-mirror", {"part.size": 3, "part.mirror": False}),
        ("--mirror --kind far", {"part.mirror": True, "part.kind": "far"}),
        ("--task a,b", {"task": "a,b"}),
        ("--size 0", {"part.size": 0}),
    ],
)
def test_a_command_receives_the_settings_that_were_given(
    given: str, values: dict[str, Any]
) -> None:
    result = CliRunner().invoke(command_of(Whole), given.split())
    assert result.output == f"{(values, 4 if 'other' in given else 3)!r}\n"


def test_the_values_are_what_load_config_takes() -> None:
    context = command_of(Whole).make_context("x", ["--task", "age", "--size", "4"])
    config = load_config(Whole, values=context.params["values"])
    assert config == Whole(task="age", part=Part(size=4))


def test_a_value_of_the_wrong_type_names_the_option() -> None:
    result = CliRunner().invoke(command_of(Whole), ["--size", "many"])
    assert result.exit_code == 2 and "Invalid value for '--size'" in result.output


@pytest.mark.parametrize("key", ["nothing", "part.nothing", "task.nothing"])
def test_an_option_for_no_field_is_refused(key: str) -> None:
    with pytest.raises(KeyError):
        find_field(Whole, key)


def test_help_lists_the_layouts_of_the_data_sets() -> None:
    from cropfirst.cli import main

    for name in ("detect", "train", "predict", "harden"):
        result = CliRunner().invoke(main, [name, "--help"])
        assert ", ".join(datasets.LAYOUTS) in " ".join(result.output.split())


DATASETS = "stage2_classify/datasets/"


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("fairface", {f"{DATASETS}__init__.py", f"{DATASETS}fairface.py"}),
        ("utkface", {f"{DATASETS}__init__.py", f"{DATASETS}utkface.py"}),
    ],
)
def test_a_layout_is_named_in_its_file_and_one_entry(name: str, files: set[str]) -> None:
    root = Path(configs.__file__).parents[1]
    folders = ("configs", "stage1_detect", "stage2_classify")
    paths = [path for folder in folders for path in (root / folder).rglob("*.py")]
    paths += [root / "cli.py", root / "api.py"]
    named = [path for path in paths if f'"{name}"' in path.read_text("utf-8")]
    assert {path.relative_to(root).as_posix() for path in named} == files
