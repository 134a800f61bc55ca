"""tune: a search that is killed goes on, and ends with a recipe that train reads."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from forked import Command

from cropfirst.configs import ConfigError, load_config
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.sweep.tune_space import DEFAULT_SPACE, Dimension, parse_space

Ok = Callable[..., str]
Run = Callable[..., Any]
SPACE = ("--space", "optim.lr=log:1e-5,1e-2", "--space", "data.batch_size=4,8")


def command(data: Path, work: Path, *, trials: int, epochs: int = 2) -> tuple[str | Path, ...]:
    return (
        "tune", data, "--work", work, "--task", "gender", "--device", "cpu", "--folds", "2",
        "--epochs", str(epochs), "--trials", str(trials), "--set", "model.backbone=test_vit",
        "--set", "model.pretrained=false", "--set", "optim.warmup_epochs=0", *SPACE,
    )  # fmt: skip


def states(study: Path) -> list[str]:
    """Of all trials, read without Optuna."""
    if not study.is_file():
        return []
    with sqlite3.connect(study) as base:
        try:
            found = base.execute("select state from trials order by number").fetchall()
        except sqlite3.OperationalError:  # not made yet
            return []
    base.close()
    return [state for (state,) in found]


@pytest.mark.slow
def test_a_killed_search_goes_on_and_its_recipe_trains(
    copied: Any, start: Callable[..., Command], ok: Ok, run: Run
) -> None:
    out = copied.work / "tune/tune"
    killed = start(*command(copied.data, copied.work, trials=3, epochs=6))
    try:
        deadline = time.monotonic() + 250
        # The second trial has an epoch on disk, to be taken up.
        while not list(out.glob("trials/0001/gender/fold*/state/state.json")):
            assert killed.poll() is None, killed.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        killed.kill()
        killed.communicate()
    assert states(out / "study.db") == ["COMPLETE", "RUNNING"]
    history = pl.read_csv(out / "trials/0001/gender/fold0/history.csv")

    text = ok(*command(copied.data, copied.work, trials=3, epochs=6))
    assert "1 of 3 trials have ended already" in text
    assert states(out / "study.db") == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    again = pl.read_csv(out / "trials/0001/gender/fold0/history.csv")
    assert again.head(history.height).equals(history), "its epochs were done a second time"
    assert not (out / "trials/0002").exists(), "the killed trial was not taken up in its folder"
    kept = sorted(path.parent.parent.parent.name for path in out.glob("trials/*/*/fold0/best_f1"))
    assert len(kept) == 1, "only the best trial's weights are kept"

    best = load_config(TrainConfig, recipe=str(out / "best.yaml"), section="train")
    assert (best.task, best.model.backbone, best.optim.epochs) == ("gender", "test_vit", 6)
    assert 1e-5 <= best.optim.lr <= 1e-2 and best.data.batch_size in (4, 8)
    head = (out / "best.yaml").read_text().splitlines()
    figure = next(line for line in head if line.startswith("# seen:")).split()[4].rstrip(",")
    text = ok("train", copied.data, "--work", copied.work, "--config", out / "best.yaml",
              "--device", "cpu", "--name", "tuned")  # fmt: skip
    assert figure in text, f"the recipe does not come to {figure}:\n{text}"

    said = run(*command(copied.data, copied.work, trials=4, epochs=3))
    assert "was created with other settings (optim)" in said.error


@pytest.mark.slow
def test_trials_that_fail_are_counted_and_all_failing_ends_it(copied: Any, run: Run) -> None:
    said = run(*command(copied.data, copied.work, trials=9), "--set", "optim.clip_grad=0",
               "--space", "optim.weight_decay=float:1e29,1e30",
               "--set", "model.backbone=test_resnet", "--name", "bad")  # fmt: skip
    assert "5 trials in a row failed" in said.error and "NaN" in said.error
    assert states(copied.work / "tune/bad/study.db").count("FAIL") == 5


def test_an_impossible_space_is_refused_before_any_work(copied: Any, run: Run) -> None:
    call = command(copied.data, copied.work, trials=1)
    for space, said in (
        ("optim.lrr=log:1e-4,1e-2", "did you mean 'optim.lr'"),
        ("model.drop_rate=float:0,2", "model.drop_rate"),
        ("task=mask,age", "the same for all trials"),
        ("optim.lr=log:1e-4,1e-2", "--space optim.lr is given twice"),
    ):
        assert said in run(*call, "--space", space).error
    assert not (copied.work / "tune").exists()


def test_the_default_space_fits_the_settings() -> None:
    space = parse_space(())
    assert len(space) == len(DEFAULT_SPACE)
    for each in space:
        for value in each.bounds():
            load_config(TrainConfig, values={"task": "mask", each.key: value})


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("optim.lr=log:1e-4,1e-2", Dimension("optim.lr", "log", (1e-4, 1e-2))),
        ("a.b=float:0,0.5", Dimension("a.b", "float", (0.0, 0.5))),
        ("n=int:2,8,2", Dimension("n", "int", (2, 8, 2))),
        ("data.batch_size=16,32", Dimension("data.batch_size", "choice", (16, 32))),
        ("x=none,'a:b',null", Dimension("x", "choice", ("none", "a:b", None))),
    ],
)
def test_ranges_and_choices_are_read(text: str, dimension: Dimension) -> None:
    assert parse_space([text]) == (dimension,)
    assert dimension.distribution() is not None


@pytest.mark.parametrize(
    "text", ["lr", "lr=", "lr=log:0,1", "lr=log:1", "n=int:1.5,2", "x=float:2,1", "n=int:1,9,0",
             "k={a: 1},{a: 2}"],
)  # fmt: skip
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--space"):
        parse_space([text])
