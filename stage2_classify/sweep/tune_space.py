"""The search space of tune: settings and their ranges, read from `--space` texts. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cropfirst.configs import ConfigError
from cropfirst.stage2_classify.sweep.plan import parse_values

DEFAULT_SPACE = (
    "optim.lr=log:3e-5,3e-3",
    "optim.weight_decay=log:1e-3,0.3",
    "model.drop_rate=float:0,0.5",
)
"""Space without --space: settings that help most runs and cost no time."""
RANGE_KINDS = ("log", "float", "int")


@dataclass(frozen=True)
class Dimension:
    """One setting and its possible values."""

    key: str
    """Dotted name of the setting, as for --set."""
    kind: str
    """Kind of the range: log, float, int or choice."""
    values: tuple[Any, ...]
    """Lowest and highest value, for int also the step; or the choices."""

    def distribution(self) -> Any:
        """Return the Optuna distribution."""
        from optuna import distributions

        if self.kind == "choice":
            return distributions.CategoricalDistribution(self.values)
        if self.kind == "int":
            step = self.values[2] if len(self.values) > 2 else 1
            return distributions.IntDistribution(self.values[0], self.values[1], step=step)
        low, high = self.values
        return distributions.FloatDistribution(low, high, log=self.kind == "log")

    def bounds(self) -> tuple[Any, ...]:
        """Return the values that must be valid so that all values between them are."""
        return self.values if self.kind == "choice" else self.values[:2]


def parse_space(texts: Sequence[str]) -> tuple[Dimension, ...]:
    """Read `--space` texts, or the default ones without any.

    Raises:
        ConfigError: a text of another form, an empty range, or a setting given twice.
    """
    space = tuple(_parse(text) for text in texts or DEFAULT_SPACE)
    keys = [each.key for each in space]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise ConfigError(f"--space {twice} is given twice")
    return space


def distributions(space: Sequence[Dimension]) -> Mapping[str, Any]:
    """Return setting -> Optuna distribution."""
    return {each.key: each.distribution() for each in space}


def _parse(text: str) -> Dimension:
    key, equals, rest = text.partition("=")
    kind, colon, numbers = rest.partition(":")
    if not equals or not key.strip() or not rest.strip():
        raise ConfigError(
            "--space needs KEY=log:LOW,HIGH, KEY=float:LOW,HIGH, KEY=int:LOW,HIGH[,STEP] or "
            f"KEY=VALUE,VALUE, got {text!r}"
        )
    if colon and re.fullmatch(r"\w+", kind) and kind.strip() in RANGE_KINDS:
        return Dimension(key.strip(), kind, _range(kind, numbers, text))
    values = parse_values(rest, option="--space", text=text)
    if wrong := [value for value in values if isinstance(value, (dict, list))]:
        raise ConfigError(f"--space {text!r}: choices are plain values, got {wrong[0]!r}")
    return Dimension(key.strip(), "choice", tuple(values))


def _range(kind: str, numbers: str, text: str) -> tuple[Any, ...]:
    number = int if kind == "int" else float
    try:
        values = tuple(number(part) for part in numbers.split(","))
    except ValueError as error:
        raise ConfigError(f"--space {text!r}: expected numbers after {kind}:") from error
    if len(values) != 2 and not (kind == "int" and len(values) == 3):
        raise ConfigError(f"--space {text!r}: expected LOW,HIGH after {kind}:")
    if not values[0] < values[1] or (kind == "log" and values[0] <= 0) or values[2:] == (0,):
        more = ", with LOW above 0" if kind == "log" else ""
        raise ConfigError(f"--space {text!r}: expected LOW below HIGH{more}")
    return values
