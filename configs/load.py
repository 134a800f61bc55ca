"""Load, check and save configs.

Order: the model's defaults <- the recipe's section <- `--set a.b=c` overrides. An unknown key is an
error that names the nearest valid one.
"""

from __future__ import annotations

import difflib
import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cropfirst.core.errors import ConfigError


class Config(BaseModel):
    """Base of every config: frozen, and an undeclared key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


ConfigT = TypeVar("ConfigT", bound=Config)
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200


def recipe_names() -> list[str]:
    """Return the names of the recipes that ship with cropfirst, e.g. `["convnext", "fast"]`."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.yaml"))


def recipe_path(name: str) -> Path:
    """Return the file that `--config` names: a YAML file, or a recipe that ships with cropfirst.

    Raises:
        ConfigError: there is neither.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        return path
    shipped = Path(__file__).parent / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    raise ConfigError(
        f"no recipe {name!r}: wanted a .yaml file or one of {', '.join(recipe_names()) or '(none)'}"
    )


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping with the safe loader.

    Raises:
        ConfigError: the file is not UTF-8 YAML or contains no mapping.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    # ValueError and RecursionError: impossible dates, endless nesting.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML: {_yaml_fault(error)}") from error
    _check_size(data, str(path))
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, it holds {type(data).__name__}")
    return data


def load_config(
    model: type[ConfigT],
    *,
    recipe: str | None = None,
    section: str | None = None,
    overrides: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
) -> ConfigT:
    """Build a config from its defaults, a recipe, dedicated flags and `--set` overrides.

    Args:
        recipe: a YAML file or the name of a shipped recipe.
        section: the recipe's top-level key that holds this config (`detect`, `train`).
        overrides: `a.b=c` strings; values are YAML (`3`, `true`, `[1, 2]`, `null`).
        values: dotted key -> value from dedicated flags; None values are dropped, so that
            defaults live in the model alone. They come after the recipe, before `overrides`.

    Raises:
        ConfigError: an unknown key (the nearest valid one is named) or a value of the wrong kind.
    """
    data: dict[str, Any] = {}
    if recipe is not None:
        path = recipe_path(recipe)
        data = load_yaml(path)
        if section is not None:
            _check_sections(model, data, section, path)
            data = data.get(section) or {}
            if not isinstance(data, dict):
                raise ConfigError(f"{path}: '{section}' must hold a mapping of settings")
    for key, value in (values or {}).items():
        if value is not None:
            _assign(data, key, value)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"--set expects KEY=VALUE such as --set crop.margin=0.3, got {text!r}"
            )
        try:
            parsed = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"--set {text!r}: the value is not valid YAML: {_yaml_fault(error)}"
            ) from error
        _check_size(parsed, f"--set {key}")
        _assign(data, key.strip(), parsed)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(model, error), _unknown_settings(error)) from error


def save_config(config: Config | Mapping[str, Any], path: Path) -> None:
    """Write a resolved config as YAML, replacing the file in one step."""
    data = config.model_dump(mode="json") if isinstance(config, Config) else dict(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several processes may start one run at the same time, each with its own temporary file.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), "utf-8")
    os.replace(temporary, path)


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one level: dotted key -> value."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _check_sections(
    model: type[BaseModel], data: Mapping[str, Any], section: str, path: Path
) -> None:
    """Refuse settings outside their section, which would be ignored silently."""
    for key in map(str, data):
        if key in model.model_fields and key != section:
            raise ConfigError(
                f"{path}: {key!r} is at the top level, and is a setting of {section}: put it "
                f"under '{section}:'"
            )
        if section not in data and difflib.get_close_matches(key, [section], cutoff=0.75):
            raise ConfigError(f"{path}: unknown section {key!r}; did you mean {section!r}?")


def _assign(data: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, leaf = dotted.split(".")
    for parent in parents:
        child = data.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{dotted!r}: {parent!r} is a value, not a group of settings")
        data = child
    data[leaf] = value


def setting_names(model: type[BaseModel]) -> list[str]:
    """Return all dotted settings of a config, its sections included."""
    return list(_valid_keys(model))


def _valid_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _valid_keys(field.annotation, f"{prefix}{name}.")


def _check_size(data: Any, where: str, *, most: int = 100_000) -> None:
    """Refuse YAML whose aliases expand to more values than any config has, or to themselves."""
    sizes: dict[int, int] = {}

    def size(value: Any) -> int:
        if not isinstance(value, dict | list):
            return 1
        if id(value) not in sizes:
            sizes[id(value)] = most  # until it is known: a value within itself has no end
            inside = value.values() if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(map(size, inside))
        return sizes[id(value)]

    if size(data) > most:
        raise ConfigError(
            f"{where} unfolds to more than {most} values: write it out without aliases"
        )


def _yaml_fault(error: Exception) -> str:
    """Return the fault and its place in the file, as one line."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error)
    problem = getattr(error, "problem", None) or "cannot be read"
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})"


def _unknown_settings(error: ValidationError) -> list[str]:
    """Return the settings that a config does not have, with the section that they were given in."""
    settings: list[str] = []
    for problem in error.errors():
        if problem["type"] == "extra_forbidden":
            key = ".".join(map(str, problem["loc"]))
            inside = problem["input"]
            is_section = isinstance(inside, dict) and inside
            settings += flatten(inside, f"{key}.") if is_section else [key]
    return settings


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            continue
        if problem["type"] == "missing":
            lines.append(
                f"{key!r} is not set: give --{key}, --set {key}=..., or a recipe that sets it"
            )
        else:
            where = f"{key!r}: " if key else ""
            message = problem["msg"].removeprefix("Value error, ")
            # For a group of settings, the message itself says which value is wrong.
            told = ", got " in message or isinstance(problem["input"], dict)
            got = "" if told else f", got {_SHORT.repr(problem['input'])}"
            lines.append(f"{where}{message}{got}")
    valid = setting_names(model)
    for key in _unknown_settings(error):
        lines.append(f"unknown setting {key!r}; {_nearest(key, valid)}")
    return "invalid config: " + "; ".join(lines)


def _nearest(key: str, valid: Sequence[str]) -> str:
    """Return a hint: the setting most like `key`, or if there is none the settings of its group.

    For an unknown group, these are the groups.
    """
    leaves = {name.rpartition(".")[2]: name for name in reversed(valid)}
    by_leaf = difflib.get_close_matches(key.rpartition(".")[2], leaves, n=1, cutoff=0.75)
    near = [leaves[leaf] for leaf in by_leaf]
    near = near or difflib.get_close_matches(key, valid, n=1, cutoff=0.8)
    if near:
        return f"did you mean {near[0]!r}?"
    group = key.rpartition(".")[0]
    inside = [name for name in valid if name.rpartition(".")[0] == group]
    groups = sorted({name.partition(".")[0] for name in valid if "." in name}) if group else []
    return f"valid are {', '.join(inside or groups or valid)}"
