"""Which lines a sweep has, and what is refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from cropfirst.configs import ConfigError
from cropfirst.stage2_classify.sweep.plan import folder_name, parse_grid, plan_lines


def recipe(folder: Path, name: str, text: str) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return str(path)


def test_recipes_times_grid_times_tasks(tmp_path: Path) -> None:
    one = recipe(tmp_path, "one", "train: {optim: {epochs: 3}}")
    two = recipe(tmp_path, "two", "train: {optim: {epochs: 5}}")
    lines = plan_lines(
        [one, two],
        ["optim.lr=1e-3,2e-3", "data.batch_size=8,16"],
        tasks=["mask", "gender,age"],
        overrides=["seed=4"],
        values={"device": "cpu"},
    )
    assert len(lines) == 8
    assert lines[1].name == "one optim.lr=0.001 data.batch_size=16"
    assert lines[1].folder == "one_optim.lr=0.001_data.batch_size=16"
    config = lines[6].configs[1]
    assert (config.optim.epochs, config.optim.lr, config.data.batch_size) == (5, 2e-3, 8)
    assert (config.task, config.name, config.seed, config.device) == (
        "gender,age", "gender+age", 4, "cpu",
    )  # fmt: skip


def test_no_recipe_is_the_defaults_and_the_recipes_own_task_is_kept(tmp_path: Path) -> None:
    (line,) = plan_lines([], [], tasks=["mask"])
    assert line.name == "defaults"
    (own,) = plan_lines([recipe(tmp_path, "own", "train: {task: age}")], [])
    assert [config.task for config in own.configs] == ["age"]


def test_the_grid_beats_set_and_null_is_a_value(tmp_path: Path) -> None:
    path = recipe(tmp_path, "r", "train: {task: mask, model: {drop_path_rate: 0.3}}")
    lines = plan_lines(
        [path], ["model.drop_path_rate=null,0.1"], overrides=["model.drop_path_rate=0.9"]
    )
    assert [line.configs[0].model.drop_path_rate for line in lines] == [None, 0.1]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a.b=1,2", [1, 2]),
        ("lr=1e-3, 2.5E-4,-1e+2", [1e-3, 2.5e-4, -100.0]),
        ("task='mask,gender',age", ["mask,gender", "age"]),
        ("x=true,null,word", [True, None, "word"]),
        ("k={a: 1},{a: 2}", [{"a": 1}, {"a": 2}]),
    ],
)
def test_values_are_yaml_and_numbers_are_numbers(text: str, values: list[object]) -> None:
    found = parse_grid(text)
    assert [value for _, value in found] == values
    assert [type(value) for _, value in found] == [type(value) for value in values]


@pytest.mark.parametrize("text", ["a.b", "=1", "a=", "a=1,,2", "a=[1", "a=1,"])
def test_a_grid_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--grid"):
        parse_grid(text)


@pytest.mark.parametrize(
    ("recipes", "grid", "said"),
    [
        (["r", "r"], [], "two lines are called 'r'"),
        (["r"], ["seed=1,1"], "two lines are called"),
        (["r"], ["seed=1", "seed=2"], "--grid seed is given twice"),
        (["r"], ["optim.lrr=1"], "did you mean 'optim.lr'"),
        (["r"], ["optim.lr=-1"], "optim.lr"),
        (["nosuch"], [], "no recipe 'nosuch'"),
    ],
)
def test_what_train_would_refuse_is_refused_at_once(
    recipes: list[str], grid: list[str], said: str, tmp_path: Path
) -> None:
    file = recipe(tmp_path, "r", "train: {task: mask}")
    with pytest.raises(ConfigError, match=said.replace("[", r"\[")):
        plan_lines([file if name == "r" else name for name in recipes], grid)


def test_folders_are_plain() -> None:
    assert folder_name("r task=mask,gender x={a: 1}") == "r_task=mask_gender_x=_a_1"
    assert folder_name("../..") == "_"
