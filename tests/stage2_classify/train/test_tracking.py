"""History as CSV and TensorBoard events, also over a resume."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest

from cropfirst.core.errors import TrainError
from cropfirst.core.stopping import Terminated
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.train import tracking
from cropfirst.stage2_classify.train.tracking import (
    CsvTracker,
    TensorBoardTracker,
    TrackedFold,
    Trackers,
    check_trackers,
    open_trackers,
)


def test_the_csv_is_whole_after_every_epoch(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    with Trackers(CsvTracker(path)) as trackers:
        trackers.log(1, {"loss": 0.5, "f1": 0.1})
        assert pl.read_csv(path).rows() == [(1, 0.5, 0.1)]
        trackers.log(2, {"loss": 0.25, "f1": 0.2})
    assert pl.read_csv(path).columns == ["epoch", "loss", "f1"]
    assert pl.read_csv(path)["loss"].to_list() == [0.5, 0.25]


def test_a_resumed_csv_drops_the_epoch_that_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    first = CsvTracker(path)
    for epoch in (1, 2, 3):
        first.log(epoch, {"loss": float(epoch)})
    again = CsvTracker(path, rows=[{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 2.0}])
    again.log(3, {"loss": 30.0})
    assert pl.read_csv(path).rows() == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_tensorboard_reads_back_what_was_logged(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, value in ((1, 1.0), (2, 20.0)):
        csv_file = CsvTracker(tmp_path / "history.csv")
        with Trackers(csv_file, TensorBoardTracker(tmp_path, purge_step=first)) as trackers:
            for epoch in range(first, 4):
                trackers.log(epoch, {"val_f1": value + epoch})
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("val_f1")] == [(1, 2.0), (2, 22.0), (3, 23.0)]


@pytest.mark.parametrize("seconds", [0.1, 0.15, 0.2])
def test_a_signal_leaves_whole_epochs_and_a_writer_that_closes(
    seconds: float, tmp_path: Path
) -> None:
    """Its queue's lock would else be taken for ever in one of a hundred stops."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    names = [f"score_{number}" for number in range(40)]

    def come(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, come)
    tracker = TensorBoardTracker(tmp_path)
    told = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    told.start()
    try:
        with pytest.raises(Terminated):
            for epoch in range(100_000):
                tracker.log(epoch, dict.fromkeys(names, 0.5))
    finally:
        told.join()
        signal.signal(signal.SIGTERM, before)
    tracker.close()
    events = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0}).Reload()
    assert len({len(events.Scalars(name)) for name in names}) == 1


class Dying:
    """A tracker whose server goes away."""

    def __init__(self, *, at: int) -> None:
        self.at, self.steps, self.closed = at, list[int](), False

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        self.steps.append(step)
        if step >= self.at:
            raise ConnectionError("nobody there")

    def close(self, *, failed: bool = False) -> None:
        self.closed = True
        if self.at < 0:
            raise ConnectionError("still nobody")


def test_a_tracker_that_dies_gets_nothing_more_and_the_others_go_on(tmp_path: Path) -> None:
    dying, alive, said = Dying(at=2), Dying(at=99), list[str]()
    path = tmp_path / "history.csv"
    with Trackers(CsvTracker(path), dying, alive, warn=said.append) as trackers:
        for epoch in range(1, 5):
            trackers.log(epoch, {"loss": 1.0})
    assert (dying.steps, alive.steps) == ([1, 2], [1, 2, 3, 4])
    assert pl.read_csv(path)["epoch"].to_list() == [1, 2, 3, 4]
    (warning,) = said
    assert "Dying failed at epoch 2" in warning and "nobody there" in warning, warning
    assert alive.closed


def test_a_tracker_that_cannot_be_closed_is_told_of(tmp_path: Path) -> None:
    said = list[str]()
    with Trackers(CsvTracker(tmp_path / "history.csv"), Dying(at=-1), warn=said.append):
        pass
    (warning,) = said
    assert "could not be closed" in warning and "still nobody" in warning


def test_the_csvs_own_errors_are_the_runs(tmp_path: Path) -> None:
    with (
        pytest.raises(Exception, match="gone"),
        Trackers(CsvTracker(tmp_path / "gone" / "history.csv")) as trackers,
    ):
        trackers.log(1, {"loss": 1.0})


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tracking.PACKAGES, "trackio", "a_package_that_is_not_there")
    check_trackers(("csv", "tensorboard"))
    with pytest.raises(TrainError, match=r"pip install 'cropfirst\[trackio\]'"):
        check_trackers(("csv", "trackio"))


@pytest.mark.parametrize("value", ["wandbb", "csv,,wandb", ""])
def test_an_unknown_tracker_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="--tracker expects"):
        TrainConfig(task="mask", trackers=value)


def test_names_are_taken_once_and_in_order() -> None:
    config = TrainConfig(task="mask", trackers="csv, tensorboard,csv")
    assert config.tracker_names == ("csv", "tensorboard")


def test_csv_alone_writes_no_tensorboard(tmp_path: Path) -> None:
    about = TrackedFold("run", 0, tmp_path, "project", {}, 1)
    for names in (("csv",), ("tensorboard",)):
        with open_trackers(
            names, about, rows=(), tensorboard=tmp_path / "tensorboard", warn=print
        ) as trackers:
            trackers.log(1, {"loss": 0.5})
        assert pl.read_csv(tmp_path / "history.csv")["loss"].to_list() == [0.5]
        assert (tmp_path / "tensorboard").is_dir() == ("tensorboard" in names)


def test_ids_are_kept_beside_each_other(tmp_path: Path) -> None:
    about = TrackedFold("run", 3, tmp_path, "project", {}, 1)
    assert about.recall("wandb") is None
    about.remember("wandb", "abc")
    about.remember("mlflow", "def")
    assert (about.recall("wandb"), about.recall("mlflow")) == ("abc", "def")
    (tmp_path / "trackers.json").write_text("{torn")
    assert about.recall("wandb") is None
