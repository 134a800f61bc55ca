"""The lines of a sweep, each a recipe at one point of a grid, and the folders of their runs.

Reads recipes and the texts of options; trains nothing and opens no crop. No torch.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cropfirst.configs import ConfigError, load_config, recipe_path
from cropfirst.stage2_classify.config import TrainConfig

DEFAULTS = "defaults"
"""Name of the line of a sweep without recipes."""
GridPoint = tuple[tuple[str, Any], ...]
"""Dotted settings with their values, in the order of the options."""


@dataclass(frozen=True)
class Line:
    """One row of the comparison: a recipe with the settings of one grid point."""

    name: str
    configs: tuple[TrainConfig, ...]
    """Config of each --task, whose `name` is the folder of its run within the line's."""

    @property
    def folder(self) -> str:
        """Name of the line's folder within the sweep's."""
        return folder_name(self.name)


def plan_lines(
    recipes: Sequence[str],
    grid: Sequence[str],
    *,
    tasks: Sequence[str] = (),
    overrides: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
) -> tuple[Line, ...]:
    """Return a line for every recipe at every point of the grid.

    Args:
        recipes: names or files of recipes; empty = the defaults.
        grid: `a.b=1,2` texts; several span a grid.
        tasks: values of --task of train; empty = those of each recipe.
        overrides: `a.b=c` texts for all lines, as for --set.
        values: dotted key -> value for all lines.

    Raises:
        ConfigError: a key or value that train would refuse, or two lines with the same name.
    """
    names = [DEFAULTS] if not recipes else [_name_of(recipe) for recipe in recipes]
    sources: Sequence[str | None] = recipes or [None]
    axes = [parse_grid(text) for text in grid]
    keys = [axis[0][0] for axis in axes if axis]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise ConfigError(f"--grid {twice} is given twice: name all its values in one --grid")
    points: list[GridPoint] = list(itertools.product(*axes))
    lines = [
        Line(
            _line_name(name, point),
            _configs(source, point, tasks=tasks, overrides=overrides, values=values or {}),
        )
        for name, source in zip(names, sources, strict=True)
        for point in points
    ]
    folders = [line.folder for line in lines]
    if same := next((line for line in lines if folders.count(line.folder) > 1), None):
        raise ConfigError(
            f"two lines are called {same.name!r}: name each recipe and each value once, and give "
            "recipes in different folders different file names"
        )
    return tuple(lines)


def parse_grid(text: str) -> list[tuple[str, Any]]:
    """Read `a.b=1,2` as [("a.b", 1), ("a.b", 2)]; `[1, 2]` and `"x,y"` are one YAML value each.

    Raises:
        ConfigError: a text of another form.
    """
    key, equals, rest = text.partition("=")
    if not equals or not key.strip() or not rest.strip():
        raise ConfigError(f"--grid needs KEY=VALUE,VALUE such as optim.lr=1e-3,1e-4, got {text!r}")
    return [(key.strip(), value) for value in parse_values(rest, option="--grid", text=text)]


def parse_values(rest: str, *, option: str, text: str) -> list[Any]:
    """Read values with commas, each as YAML, and `1e-3` as a number too.

    Raises:
        ConfigError: invalid YAML, or no value between two commas.
    """
    try:
        values = yaml.safe_load(f"[{rest}]")
    except yaml.YAMLError as error:
        raise ConfigError(f"{option} {text!r}: the values are not valid YAML") from error
    if not isinstance(values, list) or not values or "" in rest.replace(" ", "").split(","):
        raise ConfigError(f"{option} {text!r}: expected values with commas, such as 1,2,3")
    return [_number(value) for value in values]


def as_overrides(values: Mapping[str, Any]) -> list[str]:
    """Return settings as `--set` texts, in which null is a value like any other."""
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def folder_name(text: str) -> str:
    """Return a plain folder name: signs with a meaning to a shell or file system become `_`."""
    return re.sub(r"[^\w.=+-]+", "_", text).strip("_.") or "_"


def _configs(
    recipe: str | None,
    point: GridPoint,
    *,
    tasks: Sequence[str],
    overrides: Sequence[str],
    values: Mapping[str, Any],
) -> tuple[TrainConfig, ...]:
    configs = []
    wanted: Sequence[str | None] = tasks or [None]
    for task in wanted:
        config = load_config(
            TrainConfig,
            recipe=recipe,
            section="train",
            overrides=[*overrides, *as_overrides(dict(point))],
            values={**values, "task": task},
        )
        configs.append(config.model_copy(update={"name": folder_name("+".join(config.tasks))}))
    return tuple(configs)


def _line_name(name: str, point: GridPoint) -> str:
    return " ".join([name, *(f"{key}={_short(value)}" for key, value in point)])


def _name_of(recipe: str) -> str:
    recipe_path(recipe)  # refuses what is not there
    return Path(recipe).stem if Path(recipe).suffix in {".yaml", ".yml"} else recipe


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: Any) -> Any:
    """Return 1e-3 as a number, which YAML reads as a string."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value.strip()):
        return float(value)
    return value
