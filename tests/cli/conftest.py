"""The real command line on small drawn data sets; one is drawn, detected and trained a session."""

from __future__ import annotations

import csv
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import cv2
import numpy as np
import polars as pl
import psutil
import pytest
import torch
from click.testing import CliRunner
from forked import Command

from cropfirst.cache import Cache, CropSet
from cropfirst.cli import main
from cropfirst.stage2_classify.drawn.portrait import SHOTS, Shot, draw_portrait, random_person
from cropfirst.stage2_classify.runs.parquet import read_parquet, write_parquet

SIZE = (144, 192)
PEOPLE = [("male", 22), ("female", 25), ("male", 40), ("female", 45), ("male", 60), ("female", 60)]


@dataclass(frozen=True)
class Said:
    """The answer of a command."""

    code: int
    text: str
    """Standard output and error together."""

    @property
    def error(self) -> str:
        """The error's line(s), without "Error: ", where the command failed as it should."""
        assert self.code != 0, f"wanted a failure, got exit code 0:\n{self.text}"
        assert "Traceback" not in self.text, self.text
        _, found, message = f"\n{self.text}".rpartition("\nError: ")
        assert found, f"no error was named:\n{self.text}"
        return message.strip()

    @property
    def flat(self) -> str:
        """The text with all white space made single."""
        return " ".join(self.text.split())


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small models are quickest, and runs alike, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _invoke(*arguments: str | Path) -> Said:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    # Errors that users meet end in SystemExit; any other exception is a bug.
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.exit_code, result.output)


@pytest.fixture(scope="session")
def run() -> Callable[..., Said]:
    """Runs a command in this process, whatever comes of it."""
    return _invoke


@pytest.fixture(scope="session")
def ok() -> Callable[..., str]:
    """Runs a command that must succeed; returns what it said."""

    def call(*arguments: str | Path) -> str:
        said = _invoke(*arguments)
        assert said.code == 0, said.text
        return said.text

    return call


@pytest.fixture(scope="session")
def start() -> Callable[..., Command]:
    """Starts a command as a process group of its own, as a terminal does."""
    return lambda *arguments: Command([str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def ending() -> Callable[[Any, float], str]:
    """Return a process's output until its end; if it hangs, the test fails with all stacks."""

    def call(process: Any, seconds: float) -> str:
        try:
            return process.communicate(timeout=seconds)[0]
        except TimeoutExpired:
            for each in psutil.Process(process.pid).children(recursive=True):
                each.send_signal(signal.SIGABRT)
            time.sleep(1)
            process.send_signal(signal.SIGABRT)
            try:
                said = process.communicate(timeout=5)[0]
            except TimeoutExpired as late:
                said = (late.output or b"").decode()
            pytest.fail(f"not at its end after {seconds:.0f} s. It said, and was at:\n{said}")

    return call


def draw(kind: str, *, person: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """One of seven photos of one of the six people, (H, W, 3) uint8 RGB."""
    gender, age = PEOPLE[person % 6]
    who = random_person(np.random.default_rng(person), name=f"{person}", gender=gender, age=age)
    rng = np.random.default_rng([person, SHOTS.index(kind)])
    return draw_portrait(who, Shot(kind, person % 6), rng, size).image


@pytest.fixture(scope="session")
def portrait() -> Callable[..., np.ndarray]:
    """Draws `portrait(kind, person=N)`."""
    return draw


def save(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) RGB by the ending of the path's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])


def write_rows(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture(scope="session")
def table() -> Callable[[Path, Sequence[Sequence[object]]], None]:
    """Writes a CSV."""
    return write_rows


EVAL = {"k.jpg": "mask1", "b.png": "normal", "x.jpg": "incorrect_mask", "a.jpg": "mask3"}
"""Eval photos in the order of info.csv, which is no order at all."""


@pytest.fixture(scope="session")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6 people x 7 photos to train on, 4 of a seventh and eighth to predict. Not to be changed."""
    root = tmp_path_factory.mktemp("contest") / "drawn"
    for index, (gender, age) in enumerate(PEOPLE):
        for kind in SHOTS:
            name = f"{index + 1:06d}_{gender}_Drawn_{age}/{kind}.{'png' if index == 2 else 'jpg'}"
            save(root / "train/images" / name, draw(kind, person=index))
    for number, (name, kind) in enumerate(EVAL.items()):
        save(root / "eval/images" / name, draw(kind, person=6 + number % 2))
    write_rows(root / "eval/info.csv", [("ImageID", "ans"), *((name, 0) for name in EVAL)])
    return root


@dataclass(frozen=True)
class Work:
    """A data set with crops and runs."""

    data: Path
    work: Path

    @property
    def cache(self) -> Path:
        return self.work / "cache"

    @property
    def runs(self) -> Path:
        return self.work / "runs"

    def crops(self, prefix: str | None = None) -> CropSet:
        return Cache.open(self.cache).find(prefix)

    def statuses(self) -> dict[str, str]:
        """Key -> status, of the only crop set."""
        return dict(self.crops().manifest.read().select("key", "status").iter_rows())


DETECT = ("--set", "crop.image_size=32", "--set", "workers=1", "--device", "cpu")
TRAIN = (
    "--no-pretrained", "--backbone", "test_vit", "--folds", "2", "--epochs", "1", "--device", "cpu",
)  # fmt: skip


@pytest.fixture(scope="session")
def detect_flags() -> tuple[str, ...]:
    return DETECT


@pytest.fixture(scope="session")
def train_flags() -> tuple[str, ...]:
    return TRAIN


@pytest.fixture(scope="session")
def trained(
    contest: Path, tmp_path_factory: pytest.TempPathFactory, ok: Callable[..., str]
) -> Work:
    """The contest set with crops of 32 px and one run of all three tasks. Not to be changed."""
    done = Work(contest, tmp_path_factory.mktemp("trained") / "work")
    ok("detect", contest, "--work", done.work, *DETECT)
    ok("train", contest, "--work", done.work, "--task", "mask,gender,age", *TRAIN)
    return done


@pytest.fixture
def copied(trained: Work, tmp_path: Path) -> Work:
    """A copy of `trained`'s crops and runs, to be changed, for the same photos."""
    shutil.copytree(trained.work, tmp_path / "work")
    return Work(trained.data, tmp_path / "work")


def write_oof(run: Path, task: str, preds: Sequence[int] | np.ndarray, *, surely: float) -> None:
    """Let a run predict these classes of a task out of fold, in the order of its table.

    Args:
        surely: how much more probable than the others each predicted class is.
    """
    table = read_parquet(run / "oof.parquet")
    count = len(table[f"{task}_probs"][0])
    probs = np.full((len(preds), count), (1 - surely) / count, np.float32)
    probs[np.arange(len(preds)), preds] += surely
    rows = pl.Series(f"{task}_probs", probs.tolist(), dtype=pl.List(pl.Float32))
    write_parquet(run / "oof.parquet", table.with_columns(rows))


@pytest.fixture(scope="session")
def predict_oof() -> Callable[..., None]:
    """Replaces the out-of-fold predictions of a run for a task."""
    return write_oof


@pytest.fixture
def no_cuda() -> None:
    """For tests of what happens without a GPU."""
    if torch.cuda.is_available():
        pytest.skip("this machine HAS a GPU: what is said without one was not tested")
