"""Killed runs are resumed, and end like runs that were never killed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from tiny_runs import assert_same, configure, results, run, stop_after

from cropfirst.stage2_classify.runs.checkpoint import load_checkpoint
from cropfirst.stage2_classify.train import checkpoint_saver, train_fold
from cropfirst.stage2_classify.train.epochs import train_one_epoch

RANDOM = configure(model__backbone="test_convnext", model__drop_path_rate=0.2)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    torch.set_num_threads(1)
    return results(run(tmp_path_factory.mktemp("undisturbed"), RANDOM).run_dir)


@pytest.mark.parametrize("stop_at", ["fold 0 epoch 1/", "fold 0 epoch 2/", "fold 1 epoch 3/"])
def test_an_interrupted_run_ends_like_an_undisturbed_one(
    tmp_path: Path, undisturbed: dict[str, Any], stop_at: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, RANDOM, console=stop_after(stop_at))
    resumed = run(tmp_path, RANDOM)
    assert_same(results(resumed.run_dir), undisturbed)
    assert not (resumed.run_dir / "fold0" / "state").exists()


def test_a_kill_between_the_writes_of_an_epoch_is_healed(
    tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    fold = tmp_path / "runs" / RANDOM.run_name / "fold0"
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, RANDOM, console=stop_after("fold 0 epoch 1/"))
    shutil.copytree(fold / "state", tmp_path / "first")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, RANDOM, console=stop_after("fold 0 epoch 2/"))
    # Everything of the second epoch was written but its state, and `last` only by half.
    shutil.rmtree(fold / "state")
    shutil.copytree(tmp_path / "first", fold / "state")
    (fold / "last" / "model.safetensors").write_bytes(b"half")
    assert_same(results(run(tmp_path, RANDOM).run_dir), undisturbed)


def kill_at_write(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """End the process at a write of a fold's training, counted from 0."""
    left = [number]

    def killing(write: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return write(*args, **kwargs)

        return call

    for module, name in (
        (train_fold, "save_state"),
        (checkpoint_saver, "save_checkpoint"),
        (checkpoint_saver, "write_parquet"),
    ):
        monkeypatch.setattr(module, name, killing(getattr(module, name)))


WRITES = (0, 2, 5, 6, 8)
"""Some of the first two epochs, of up to 6 each: the state, 4 checkpoints and the predictions."""


@pytest.mark.parametrize("number", WRITES)
def test_a_kill_between_any_two_writes_is_healed(
    tmp_path: Path, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_at_write(patch, number)
        run(tmp_path, RANDOM)
    assert_same(results(run(tmp_path, RANDOM).run_dir), undisturbed)


@pytest.mark.parametrize("number", WRITES)
def test_a_kill_leaves_one_truth_where_epochs_do_not_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As on a GPU: what is trained after the kill is another network, and here a weaker one."""
    config = configure(folds__fold=0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_at_write(patch, number)
        run(tmp_path, config)

    def spoil(state: Any, *args: Any, **kwargs: Any) -> Any:
        result = train_one_epoch(state, *args, **kwargs)
        with torch.no_grad():
            for head in state.model.heads:
                head.out.weight.normal_(std=3.0)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(train_fold, "train_one_epoch", spoil)
        fold = run(tmp_path, config).run_dir / "fold0"
    done = json.loads((fold / "metrics.json").read_text())
    for name, key in (("f1", "macro_f1"), ("accuracy", "accuracy"), ("loss", "val_loss")):
        _, meta = load_checkpoint(fold / f"best_{name}", "cpu")
        truth = {"epoch": meta["epoch"], "value": meta["metrics"][key]}
        assert done["best"][name] == truth
    history = pl.read_csv(fold / "history.csv")
    assert done["macro_f1"] == history["val_f1"].max()
    assert done["tasks"]["mask"]["macro_f1"] == done["macro_f1"]  # of oof.parquet
