"""History as CSV and TensorBoard events, also over a resume."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from cropfirst.stage2_classify.tracking import CsvTracker, TensorBoardTracker, Trackers


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
        with Trackers(TensorBoardTracker(tmp_path, purge_step=first)) as trackers:
            for epoch in range(first, 4):
                trackers.log(epoch, {"val_f1": value + epoch})
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("val_f1")] == [(1, 2.0), (2, 22.0), (3, 23.0)]
