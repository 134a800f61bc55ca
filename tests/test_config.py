"""configs/load.py: the order of settings, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import Field

from cropfirst.configs import (
    Config,
    ConfigError,
    load_config,
    load_yaml,
    recipe_names,
    recipe_path,
    save_config,
)
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage2_classify.config import TrainConfig


class Inner(Config):
    """A group of settings."""

    margin: float = Field(0.1, ge=0)
    """Any fraction."""
    sides: tuple[int, ...] = (1, 2)
    """Whole numbers."""


class Outer(Config):
    """Settings of two levels."""

    name: str = "default"
    """Any text."""
    crop: Inner = Inner()
    """A group."""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("detect:\n  name: recipe\n  crop: {margin: 0.2}\ntrain: {epochs: 3}\n")
    return path


def test_defaults_stand_where_nothing_is_set() -> None:
    assert load_config(Outer) == Outer()


def test_a_recipe_goes_before_defaults(recipe: Path) -> None:
    config = load_config(Outer, recipe=str(recipe), section="detect")
    assert (config.name, config.crop.margin, config.crop.sides) == ("recipe", 0.2, (1, 2))


def test_a_flag_goes_before_the_recipe_and_an_absent_flag_does_not(recipe: Path) -> None:
    values = {"crop.margin": 0.3, "name": None}
    config = load_config(Outer, recipe=str(recipe), section="detect", values=values)
    assert (config.name, config.crop.margin) == ("recipe", 0.3)


def test_set_goes_before_flags_and_the_last_one_wins(recipe: Path) -> None:
    config = load_config(
        Outer,
        recipe=str(recipe),
        section="detect",
        values={"crop.margin": 0.3, "name": "flag"},
        overrides=["crop.margin=0.4", "crop.margin=0.5"],
    )
    assert (config.name, config.crop.margin) == ("flag", 0.5)


def test_a_section_that_a_recipe_has_not_sets_nothing(recipe: Path) -> None:
    assert load_config(Outer, recipe=str(recipe), section="predict") == Outer()


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("crop.margin=3", "margin", 3.0),
        ("crop.sides=[4, 5]", "sides", (4, 5)),
        (" crop.margin =1e-2", "margin", 0.01),
        ("crop.margin=.25", "margin", 0.25),
    ],
)
def test_set_values_are_yaml(text: str, key: str, value: object) -> None:
    assert getattr(load_config(Outer, overrides=[text]).crop, key) == value


def test_set_keeps_all_that_follows_the_first_equals_sign() -> None:
    assert load_config(Outer, overrides=["name=a=b"]).name == "a=b"


@pytest.mark.parametrize("text", ["crop.margin", "=3", "  =3", ""])
def test_set_without_key_or_value_says_what_it_wants(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--set expects KEY=VALUE"):
        load_config(Outer, overrides=[text])


def test_set_with_broken_yaml_names_the_text() -> None:
    with pytest.raises(ConfigError, match=r"'name=\[1' ?: the value is not valid YAML"):
        load_config(Outer, overrides=["name=[1"])


def test_set_below_a_plain_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="'name' is a value, not a group"):
        load_config(Outer, values={"name": "x"}, overrides=["name.first=y"])


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("crop.margni", "crop.margin"),
        ("margin", "crop.margin"),
        ("nmae", "name"),
        ("corp.margin", "crop"),
    ],
)
def test_an_unknown_key_names_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown setting .*did you mean '{nearest}"):
        load_config(Outer, overrides=[f"{key}=1"])


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Outer, overrides=["crop.margin=-1", "crop.sides=[a]", "nmae=x"])
    for part in ("'crop.margin'", "got -1", "'crop.sides.0'", "got 'a'", "unknown setting 'nmae'"):
        assert part in str(caught.value)


@pytest.mark.parametrize("text", ["crop.margin=wide", "crop.margin=null", "crop=3", "name=[1, 2]"])
def test_a_value_of_the_wrong_kind_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"'{text.partition('=')[0]}"):
        load_config(Outer, overrides=[text])


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text\n", "3\n"])
def test_yaml_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"list\.yaml must hold a mapping of settings"):
        load_config(Outer, recipe=str(path))


def test_a_section_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flat.yaml"
    path.write_text("detect: [1]\n")
    with pytest.raises(ConfigError, match="'detect' must hold a mapping"):
        load_config(Outer, recipe=str(path), section="detect")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crop: {margin: 0.3}\n", "'crop' is at the top level.*under 'detect:'"),
        ("detekt: {name: x}\n", "unknown section 'detekt'; did you mean 'detect'"),
    ],
)
def test_settings_outside_of_their_section_are_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "flat.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(Outer, recipe=str(path), section="detect")


def test_a_setting_that_is_wanted_and_absent_is_named() -> None:
    with pytest.raises(ConfigError, match="'task' is not set"):
        load_config(TrainConfig)


def test_an_empty_recipe_sets_nothing(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")
    assert load_config(Outer, recipe=str(path), section="detect") == Outer()


@pytest.mark.parametrize("how", ["recipe", "set"])
def test_yaml_that_would_run_python_is_refused(tmp_path: Path, how: str) -> None:
    marker = tmp_path / "ran"
    text = (
        f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{marker}]]"
    )
    path = tmp_path / "evil.yaml"
    path.write_text(f"name: {text}\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        if how == "recipe":
            load_config(Outer, recipe=str(path))
        else:
            load_config(Outer, overrides=[f"name={text}"])
    assert not marker.exists()


def test_yaml_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: Müller\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_yaml(path)


def test_an_unknown_recipe_lists_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match="no recipe 'nosuch'") as caught:
        recipe_path("nosuch")
    for name in recipe_names():
        assert name in str(caught.value)


def test_configs_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Outer().name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "config",
    [
        DetectConfig(),
        load_config(DetectConfig, overrides=["retry=[]", "crop.background=box", "workers=3"]),
        load_config(TrainConfig, overrides=["task=mask,gender", "name=Läufe", "folds.fold=2"]),
        load_config(TrainConfig, overrides=["task=age", "model.kwargs={dims: [8, 16]}"]),
    ],
    ids=["detect", "detect-set", "train", "train-kwargs"],
)
def test_a_saved_config_loads_to_the_same(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "deep" / "config.yaml"
    save_config(config, path)
    assert load_config(type(config), recipe=str(path)) == config
    save_config(config, path)
    assert [item.name for item in path.parent.iterdir()] == ["config.yaml"]


def test_a_saved_config_names_every_setting(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    save_config(Outer(), path)
    assert yaml.safe_load(path.read_text("utf-8")) == {
        "name": "default",
        "crop": {"margin": 0.1, "sides": [1, 2]},
    }


def test_every_setting_says_what_it_is() -> None:
    silent = [name for model in (DetectConfig, TrainConfig) for name in _undescribed(model)]
    assert not silent, f"settings without a docstring: {silent}"


def _undescribed(model: type[Config]) -> list[str]:
    names = []
    for name, field in model.model_fields.items():
        if not field.description:
            names.append(f"{model.__name__}.{name}")
        if isinstance(field.annotation, type) and issubclass(field.annotation, Config):
            names += _undescribed(field.annotation)
    return names
