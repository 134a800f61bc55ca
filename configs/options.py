"""Click options made from the fields of a config, so that each setting is declared once.

`setting(TrainConfig, "optim.epochs", "--epochs")` takes type, help, range and default from the
field. A command receives the settings that were given as one argument, `values`, in the form that
`load_config` takes. Knows click and pydantic; knows nothing of what any setting means.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
_NULL = re.compile(r"[;,:]?\s*\bnull = ([^;.]+)")
"""The part of a docstring that says what None means."""
_SENTENCE_END = re.compile(r"(?<=\.)(?<!e\.g\.)\s+(?=[A-Z`])")
_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def setting(
    model: type[BaseModel],
    key: str,
    *flags: str,
    help: str | None = None,
    default: str | None = None,
    metavar: str | None = None,
) -> Callable[[CommandT], CommandT]:
    """Return the decorator of an option that sets one field of a config.

    The value is only parsed here: the config checks its range, whether it comes from the option, a
    recipe or `--set`. An option that is not given sets nothing.

    Args:
        model: config that the command loads.
        key: dotted name of the field, as `--set` takes it.
        flags: spellings such as `--epochs`, or `--all-data/--no-all-data` for a bool.
        help: replaces the first sentence of the field's docstring, for a command in which the field
            means something more special.
        default: replaces the field's default in the help text.
        metavar: name of the value in the help text; by default it follows from the type.

    Raises:
        KeyError: `model` has no such field.
    """
    field = find_field(model, key)
    kind, name = _value_type(field)
    switch: dict[str, Any] = {} if kind is None else {"type": kind, "metavar": metavar or name}

    def collect(context: click.Context, _: click.Parameter, value: Any) -> None:
        values = context.params.setdefault("values", {})
        if value is not None:
            values[key] = value

    return click.option(
        *flags, **switch, default=None, expose_value=False, callback=collect,
        help=_help(field, flags[0], sentence=help, default=default),
    )  # fmt: skip


def find_field(model: type[BaseModel], key: str) -> FieldInfo:
    """Return the field that a dotted key names.

    Raises:
        KeyError: there is none.
    """
    *groups, leaf = key.split(".")
    for name in groups:
        inside = model.model_fields[name].annotation
        if not (isinstance(inside, type) and issubclass(inside, BaseModel)):
            raise KeyError(f"{name!r} of {key!r} is not a group of settings")
        model = inside
    return model.model_fields[leaf]


def _value_type(field: FieldInfo) -> tuple[Any, str]:
    """Return how click parses a value, None for a switch, and how its help names it."""
    kind = _without_none(field.annotation)
    if get_origin(kind) is Literal:
        return click.STRING, f"[{'|'.join(map(str, get_args(kind)))}]"
    if kind is bool:
        return None, ""
    return {int: (click.INT, "N"), float: (click.FLOAT, "X")}.get(kind, (click.STRING, "TEXT"))


def _without_none(annotation: Any) -> Any:
    """Return `X` of `X | None`, any other annotation as it is."""
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [each for each in get_args(annotation) if each is not type(None)]
        return kinds[0] if len(kinds) == 1 else annotation
    return annotation


def _help(field: FieldInfo, flag: str, *, sentence: str | None, default: str | None) -> str:
    """Return the first sentence of the docstring, then default and range as click writes them."""
    text = " ".join((field.description or "").split())
    extras = [f"default: {default}"] if default else _default(field, flag, text)
    if limits := _range(field):
        extras.append(limits)
    first = sentence or _NULL.sub("", _SENTENCE_END.split(text)[0]).replace("`", "")
    return f"{first}  [{'; '.join(extras)}]" if extras else first


def _default(field: FieldInfo, flag: str, text: str) -> list[str]:
    value = field.default
    if value is PydanticUndefined or value == "":
        return []
    if value is None:
        meaning = _NULL.search(text)
        return [f"default: {meaning[1].replace('`', '')}"] if meaning else []
    if isinstance(value, bool):
        on, _, off = flag.partition("/")
        return [f"default: {(on if value else off).lstrip('-')}"]
    return [f"default: {value}"]


def _range(field: FieldInfo) -> str:
    """Return the limits of a number, e.g. `x>=1`; none for other fields."""
    limits = []
    for bound in field.metadata:
        limits += [f"x{sign}{getattr(bound, name)}" for name, sign in _BOUNDS.items()
                   if hasattr(bound, name)]  # fmt: skip
    return ", ".join(limits)


def path_option(
    *flags: str, help: str, metavar: str = "DIR", **more: Any
) -> Callable[[CommandT], CommandT]:
    """Return the decorator of an option that takes a path, which need not exist."""
    return click.option(*flags, type=click.Path(path_type=Path), metavar=metavar, help=help, **more)


set_option = click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True,
    help="Override any setting, e.g. crop.margin=0.3 for detect or optim.lr=1e-4 for train "
    "(repeatable).",
)  # fmt: skip


def config_options(command: CommandT) -> CommandT:
    """Add `--config` and `--set`; the command receives `recipe` and `overrides`."""
    recipe = click.option(
        "--config",
        "recipe",
        metavar="NAME|FILE",
        help="Recipe: a YAML file, or the name of one that ships with cropfirst.",
    )
    return recipe(set_option(command))
