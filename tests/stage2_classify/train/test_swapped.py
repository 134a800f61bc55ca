"""Runs that are scored, chosen and trained in swapped rooms."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console
from sklearn.metrics import f1_score

from cropfirst.cache import Cache, CropSet
from cropfirst.cache.swapped import swapped_draw
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.datasets.sample import PhotoSet, Sample
from cropfirst.stage2_classify.labels.schema import LabelSchema, load_schema
from cropfirst.stage2_classify.predict.predictor import Member
from cropfirst.stage2_classify.progress import TrainProgress
from cropfirst.stage2_classify.runs.results import RunSummary
from cropfirst.stage2_classify.runs.verify import check_runs, repair_runs
from cropfirst.stage2_classify.train import train_fold
from cropfirst.stage2_classify.train.train import train

SIZE, PEOPLE, SHOTS = 32, 16, 3
GENDERS = ("male", "female")
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def crop_of(person: int, shot: int, *, room: int, face: int) -> np.ndarray:
    """A crop whose centre of `face` pixels tells the gender a little, and whose border the room."""
    rng = np.random.default_rng([person, shot])
    crop = rng.integers(0, 60, (SIZE, SIZE, 3)).astype(np.uint8)
    crop[..., room] += rng.integers(20, 90, dtype=np.uint8)
    inside = slice(SIZE // 2 - face // 2, SIZE // 2 + face // 2)
    crop[inside, inside, 1 + person % 2] += rng.integers(40, 150, dtype=np.uint8)
    return crop


class Killed(BaseException):
    """Stands for a signal that ends the process."""


class Data:
    """Photos of people in rooms that tell their gender, and swapped crops of them."""

    def __init__(self, root: Path, *, face: int = 8) -> None:
        self.root, self.face = root, face
        self.crops = Cache.open(root / "cache", create=True).crop_set("ellipse-32", {"s": SIZE})
        samples = [
            Sample(f"{p:02d}/{n}.jpg", root / "x", "train", f"{p:02d}", {"gender": GENDERS[p % 2]})
            for p in range(PEOPLE)
            for n in range(SHOTS)
        ]
        self.photos = PhotoSet(root, "csv", tuple(samples))
        self.write(self.crops, room_of=lambda p: p % 2)

    def write(
        self, crops: CropSet, *, room_of: Callable[[int], int], change: Change | None = None
    ) -> None:
        """Write all crops of a set; `change` edits a row; an error in it leaves the crop out."""
        rows = []
        with crops.writer() as writer:
            for sample in self.photos.samples:
                person, shot = int(sample.key[:2]), int(sample.key[3])
                row: dict[str, Any] = {
                    "key": sample.key, "split": "train", "group": sample.group,
                    "status": "detected", "content_hash": sample.key, "box": [1, 2, 3, 4],
                }  # fmt: skip
                if change is not None:
                    change(row)
                if "error" not in row:
                    crop = crop_of(person, shot, room=room_of(person), face=self.face)
                    row["crop_hash"] = writer.put(sample.key, crop)
                rows.append(row)
        crops.manifest.append(rows)

    def swap(self, *, draws: int = 1, seed: int = 0, change: Change | None = None) -> None:
        """Write draws of swapped crops: half of the people of each gender in the other's room."""
        for n in range(draws):
            draw = swapped_draw(self.crops, n, {"seed": seed})
            self.write(draw, room_of=lambda p, n=n: (p // 2 + n) % 2, change=change)

    def train(self, runs: str = "runs", **changes: Any) -> RunSummary:
        """Train gender on the crops."""
        self.console = Console(file=io.StringIO(), width=1000)
        return train(
            self.photos, schema(), self.crops, configure(**changes),
            runs_dir=self.root / runs, console=self.console,
        )  # fmt: skip

    @property
    def printed(self) -> str:
        assert isinstance(self.console.file, io.StringIO)
        return self.console.file.getvalue()


def schema() -> LabelSchema:
    return load_schema("contest")


def configure(**changes: Any) -> TrainConfig:
    """Settings that train in a second."""
    sections: dict[str, Mapping[str, Any]] = {
        "model": {"backbone": "test_resnet", "pretrained": False},
        "data": {"batch_size": 8, "augment": "none", "swap_rooms": changes.pop("swap_rooms", 0.0)},
        "optim": {"epochs": changes.pop("epochs", 6), "lr": 5e-3, "warmup_epochs": 0.5},
        "folds": {"n_folds": 2},
    }
    return TrainConfig.model_validate({"task": "gender", "device": "cpu", **sections, **changes})


def predict_best(run: Path, crops: CropSet, fold: int, keys: list[str]) -> np.ndarray:
    """(N, 2) probabilities by the best checkpoint of a fold."""
    reader = crops.reader()
    member = Member.load(run / f"fold{fold}" / "best_f1", device="cpu")
    return member.predict_crops([np.array(reader[key]) for key in keys])["gender"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Data, RunSummary]:
    """A run on crops that show the rooms, scored in swapped rooms."""
    data = Data(tmp_path_factory.mktemp("rooms"), face=10)
    data.swap()
    return data, data.train()


def test_a_model_that_reads_the_room_fails_in_swapped_rooms(
    trained: tuple[Data, RunSummary],
) -> None:
    data, summary = trained
    score = summary.swapped["gender"]
    assert summary.scores["gender"].macro_f1 > 0.95
    assert score.macro_f1 < 0.75 and score.low < score.macro_f1 < score.high
    assert score.oof_macro_f1 == pytest.approx(summary.scores["gender"].macro_f1)
    assert score.falls and score.gap > 0.2 and score.n_people == PEOPLE
    assert "swapped-rooms F1" in data.printed and "the model reads the background" in data.printed
    stored = json.loads((summary.run_dir / "metrics.json").read_text())["tasks"]["gender"]
    assert stored["swapped"]["macro_f1"] == score.macro_f1
    assert stored["macro_f1"] == summary.scores["gender"].macro_f1


def test_swapped_predictions_are_of_the_best_checkpoint_on_the_swapped_crops(
    trained: tuple[Data, RunSummary],
) -> None:
    data, summary = trained
    draw = swapped_draw(data.crops, 0, {"seed": 0})
    table = pl.read_parquet(summary.run_dir / "swapped.parquet")
    own = pl.read_parquet(summary.run_dir / "oof.parquet")
    assert table.columns == own.columns and table["key"].to_list() == own["key"].to_list()
    for fold in (0, 1):
        part = table.filter(pl.col("fold") == fold)
        want = predict_best(summary.run_dir, draw, fold, part["key"].to_list())
        np.testing.assert_allclose(np.stack(part["gender_probs"].to_list()), want, atol=1e-5)
    preds = np.stack(table["gender_probs"].to_list()).argmax(1)
    want_f1 = f1_score(table["gender_target"], preds, average="macro")
    assert summary.swapped["gender"].macro_f1 == pytest.approx(want_f1)


def test_the_best_epoch_is_that_of_the_swapped_score(trained: tuple[Data, RunSummary]) -> None:
    data, summary = trained
    assert summary.choose_by == "swapped" and "chosen by swapped-rooms F1" in data.printed
    chosen = []
    for fold in summary.folds:
        history = pl.read_csv(summary.run_dir / f"fold{fold.fold}" / "history.csv")
        best = history["swapped_f1"].arg_max()
        assert best is not None and fold.epoch == history["epoch"][best]
        meta = json.loads((summary.run_dir / f"fold{fold.fold}/best_f1/meta.json").read_text())
        assert meta["epoch"] == fold.epoch
        assert meta["metrics"]["swapped"]["macro_f1"] == pytest.approx(history["swapped_f1"][best])
        chosen.append(history["val_f1"].arg_max() != best)
    by_oof = data.train(runs="by_oof", choose_by="oof")
    assert by_oof.choose_by == "oof" and "chosen by out-of-fold F1" in data.printed
    for fold in by_oof.folds:
        history = pl.read_csv(by_oof.run_dir / f"fold{fold.fold}" / "history.csv")
        assert fold.epoch == history["epoch"][history["val_f1"].arg_max()]
    assert any(chosen), "the two scores choose the same epochs here, which shows nothing"


def test_training_in_swapped_rooms_teaches_the_face(tmp_path: Path) -> None:
    data = Data(tmp_path, face=16)
    data.swap()
    plain = data.train()
    assert plain.swapped["gender"].falls
    with pytest.raises(TrainError, match=r"detect DATA --swap-rooms --set swap\.draws=4"):
        data.train(runs="swapped", swap_rooms=1.0)
    data.swap(draws=2)
    summary = data.train(runs="swapped", swap_rooms=1.0)
    assert summary.swapped["gender"].macro_f1 > plain.swapped["gender"].macro_f1 + 0.2
    assert not summary.swapped["gender"].falls
    again = data.train(runs="swapped", swap_rooms=1.0)
    assert again.trained_folds == () and again.swapped == summary.swapped


def test_a_run_is_scored_when_its_swapped_crops_are_made_later(tmp_path: Path) -> None:
    data = Data(tmp_path)
    before = data.train(epochs=2)
    assert not before.swapped and before.choose_by == "oof"
    assert "not checked against other rooms: run cropfirst detect DATA --swap-rooms" in data.printed
    weights = (before.run_dir / "fold0/best_f1/model.safetensors").read_bytes()
    with pytest.raises(TrainError, match=r"choose_by=swapped, but the run is not checked"):
        data.train(runs="other", choose_by="swapped")
    data.swap()
    after = data.train(epochs=2)
    assert after.trained_folds == () and after.choose_by == "oof"
    assert after.scores == before.scores and after.swapped["gender"].n_photos == PEOPLE * SHOTS
    assert (before.run_dir / "fold0/best_f1/model.safetensors").read_bytes() == weights
    table = pl.read_parquet(after.run_dir / "fold1/swapped.parquet")
    draw = swapped_draw(data.crops, 0, {"seed": 0})
    want = predict_best(after.run_dir, draw, 1, table["key"].to_list())
    np.testing.assert_allclose(np.stack(table["gender_probs"].to_list()), want, atol=1e-5)


def test_damaged_swapped_predictions_are_found_and_made_again(tmp_path: Path) -> None:
    data = Data(tmp_path)
    data.swap()
    summary = data.train(epochs=1)
    table = summary.run_dir / "fold1/swapped.parquet"
    whole = table.read_bytes()
    assert check_runs(tmp_path / "runs") == []
    table.write_bytes(whole[:-9] + b"x" + whole[-8:])
    findings = check_runs(tmp_path / "runs")
    assert [finding.removes for finding in findings] == [table]
    repair_runs(findings)
    again = data.train(epochs=1)
    assert again.trained_folds == () and again.swapped == summary.swapped
    assert table.read_bytes() == whole


def leave_out(*, keep: Callable[[str], bool]) -> Change:
    """A change that leaves the photos out that `keep` refuses."""

    def change(row: dict[str, Any]) -> None:
        if not keep(row["key"]):
            row |= {"error_type": "NoCutOut", "error": "no head was cut out"}

    return change


@pytest.mark.parametrize(
    ("keep", "why"),
    [
        (lambda key: int(key[:2]) < 6, "only 18 of 48 photos have a swapped crop; 30: no head"),
        (lambda key: int(key[:2]) % 2 == 0 or int(key[:2]) < 0, "no photo of gender female"),
    ],
)
def test_too_few_swapped_crops_give_no_score(
    tmp_path: Path, keep: Callable[[str], bool], why: str
) -> None:
    data = Data(tmp_path)
    data.swap(change=leave_out(keep=keep))
    summary = data.train(epochs=1)
    assert not summary.swapped and summary.choose_by == "oof"
    assert f"not checked against other rooms: {why}" in data.printed


def test_unfinished_swapped_crops_are_not_scored(tmp_path: Path) -> None:
    data = Data(tmp_path)

    def outdate(row: dict[str, Any]) -> None:
        if row["key"] == "03/1.jpg":
            row["content_hash"] = "of an earlier photo"

    data.swap(change=outdate)
    summary = data.train(epochs=1)
    assert not summary.swapped
    assert "1 swapped crops are missing or outdated: run cropfirst detect" in data.printed


def test_photos_without_a_swapped_crop_are_scored_in_their_own_room_alone(tmp_path: Path) -> None:
    data = Data(tmp_path)
    data.swap(change=leave_out(keep=lambda key: key[3] != "2"))
    summary = data.train(epochs=2)
    assert summary.swapped["gender"].n_photos == PEOPLE * (SHOTS - 1)
    assert summary.scores["gender"].n_photos == PEOPLE * SHOTS
    keys = pl.read_parquet(summary.run_dir / "swapped.parquet")["key"].to_list()
    assert len(keys) == 32 and not any(key[3] == "2" for key in keys)


def test_a_killed_run_keeps_its_swapped_predictions(
    tmp_path: Path, trained: tuple[Data, RunSummary], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after each state is written, before the checkpoints are."""
    data = Data(tmp_path, face=10)
    data.swap()
    real = train_fold.save_state

    def save_and_die(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(train_fold, "save_state", save_and_die)
    for _ in range(12):
        with pytest.raises(Killed):
            data.train()
    summary = data.train()
    assert summary.swapped == trained[1].swapped and summary.scores == trained[1].scores


def test_a_fold_that_was_begun_with_other_swapped_crops_does_not_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Data(tmp_path)
    data.swap()
    real = train_fold.save_state

    def save_and_die(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train_fold, "save_state", save_and_die)
        data.train()

    def brighten(row: dict[str, Any]) -> None:
        row["recipe"] = "another"

    draw = swapped_draw(data.crops, 0, {"seed": 0})
    data.write(draw, room_of=lambda p: p % 2, change=brighten)
    with pytest.raises(TrainError, match="fold 0 was begun with other swapped crops"):
        data.train()


def test_the_bar_counts_the_swapped_crops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[float, float | None]] = []

    def note(self: TrainProgress, *_: Any) -> None:
        (bar,) = self._progress.tasks
        done.append((bar.completed, bar.total))

    monkeypatch.setattr(TrainProgress, "__exit__", note)
    data = Data(tmp_path)
    data.swap(change=leave_out(keep=lambda key: key[3] != "2"))
    data.train(epochs=2)
    crops = PEOPLE * SHOTS + PEOPLE * (SHOTS - 1) // 2
    assert done == [(2 * 2 * crops, 2 * 2 * crops)]
