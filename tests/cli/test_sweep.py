"""sweep, end to end: the table, what goes on after a kill, and what fails alone."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
from forked import Command

from cropfirst.configs import load_config
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.sweep.jobs import Job, Source, run_jobs

Ok = Callable[..., str]
Run = Callable[..., Any]
RECIPE = """# tiny
train:
  task: gender
  model: {{backbone: {backbone}, pretrained: false}}
  data: {{batch_size: 8, workers: 0, augment: none}}
  optim: {{epochs: {epochs}, lr: {lr}, warmup_epochs: 0, clip_grad: {clip}}}
  folds: {{n_folds: 2}}
"""


def write_recipe(
    path: Path, *, backbone: str = "test_vit", epochs: int = 1, lr: float = 1e-3, clip: float = 1.0
) -> Path:
    path.write_text(RECIPE.format(backbone=backbone, epochs=epochs, lr=lr, clip=clip))
    return path


def stamps(folder: Path) -> dict[str, int]:
    """When each fold's results were written."""
    found = sorted(folder.glob("*/*/fold*/metrics.json"))
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in found}


class Cells(HTMLParser):
    """The rows of the page's first table, as text; and every address on the page."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


@pytest.mark.slow
def test_a_sweep_ends_with_one_table_and_trains_nothing_twice(
    copied: Any, ok: Ok, run: Run, tmp_path: Path
) -> None:
    vit = write_recipe(tmp_path / "vit.yaml")
    nan = write_recipe(tmp_path / "nan.yaml", backbone="test_resnet", lr=1e12, clip=0)
    out = copied.work / "sweeps/first"
    command = ("sweep", copied.data, vit, nan, "--work", copied.work, "--name", "first",
               "--device", "cpu", "--tracker", "csv", "--jobs", "2")  # fmt: skip
    said = run(*command, "--grid", "seed=0,1")
    assert "4 jobs failed, see above" in said.error
    assert said.text.count("the loss became NaN or infinite") == 4, said.text

    table = pl.read_parquet(out / "sweep.parquet")
    assert set(table["line"]) == {"vit seed=0", "vit seed=1", "nan seed=0", "nan seed=1"}
    scored = table.filter(pl.col("macro_f1").is_not_null())
    assert set(scored["line"]) == {"vit seed=0", "vit seed=1"}
    assert scored["folds_finished"].to_list() == [2, 2]
    base, other = scored.sort("line").to_dicts()
    assert base["is_baseline"] and base["diff"] is None
    assert other["diff"] == pytest.approx(other["macro_f1"] - base["macro_f1"])
    assert other["diff_low"] <= other["diff"] <= other["diff_high"]
    run_metrics = json.loads((out / "vit_seed=1/gender/metrics.json").read_text())
    assert other["macro_f1"] == pytest.approx(run_metrics["tasks"]["gender"]["macro_f1"])
    folds = [fold["scores"]["gender"]["macro_f1"] for fold in run_metrics["folds"]]
    assert other["macro_f1_mean"] == pytest.approx(sum(folds) / 2)
    assert other["macro_f1_sd"] == pytest.approx(abs(folds[0] - folds[1]) / 2**0.5)
    assert (other["epochs"], other["image_size"]) == (1, 32)
    assert other["n_params"] > 1000 and other["seconds"] > 0
    assert not (out / "vit_seed=1/gender/tensorboard").exists()

    page = Cells()
    page.feed((out / "sweep.html").read_text())
    assert [row[0] for row in page.rows[1:3]] == scored["line"].to_list()
    assert any("NaN" in row for row in [(out / "sweep.html").read_text()])
    assert page.addresses == [], "the page needs other files"

    # Again, with one line more and without those that fail: only that one is trained.
    before = stamps(out)
    text = ok(*(each for each in command if each != nan), "--grid", "seed=0,1,2")
    assert "3 lines, 6 jobs (one per fold), 4 finished already" in text
    after = stamps(out)
    assert {name: after[name] for name in before} == before
    assert len(after) == 6

    # predict finds the runs of train, not those of a sweep; named, a line's models vote.
    def voters(*options: str | Path) -> set[int]:
        # Of one task alone there is no code to submit, and predict says so; the votes are there.
        run("predict", copied.data, "--work", copied.work, *options)
        return set(pl.read_parquet(copied.work / "predict/predictions.parquet")["members"])

    assert voters() == {2}
    assert voters("--runs", out / "vit_seed=2") == {2}
    assert voters("--runs", out / "vit_seed=2", "--runs", out / "vit_seed=1") == {4}


def test_lines_on_other_folds_are_refused(copied: Any, run: Run, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "vit.yaml")
    command = ("sweep", copied.data, recipe, "--work", copied.work, "--device", "cpu")
    said = run(*command, "--grid", "folds.seed=0,1")
    assert "compared on the same folds" in said.error
    said = run(*command, "--baseline", "nobody")
    assert "--baseline takes first, best or a line: 'vit'" in said.error
    said = run(*command, "--task", "gendr")
    assert "line 'vit'" in said.error and "did you mean 'gender'" in said.error
    assert not list((copied.work / "sweeps").rglob("history.csv"))


@pytest.mark.slow
def test_a_sweep_that_is_stopped_and_killed_goes_on_and_leaves_nobody_at_work(
    copied: Any, start: Callable[..., Command], ok: Ok, tmp_path: Path
) -> None:
    slow = write_recipe(tmp_path / "slow.yaml", epochs=12)
    out = copied.work / "sweeps/sweep"
    command = ("sweep", copied.data, slow, "--work", copied.work, "--device", "cpu",
               "--tracker", "csv", "--grid", "seed=0,1,2")  # fmt: skip
    for sign in (signal.SIGINT, signal.SIGKILL):
        before = stamps(out)
        process = start(*command, "--jobs", "2")
        try:
            wait_for(lambda old=before: len(stamps(out)) > len(old), process)
            workers = loky_workers(process.pid)
            assert workers
            send = os.killpg if sign is signal.SIGINT else os.kill  # Ctrl-C reaches all
            send(process.pid, sign)
            said = process.communicate(timeout=250)[0]
        finally:
            process.kill()
            process.communicate()
        if sign is signal.SIGINT:
            assert process.returncode == 130, said
            assert "What was finished is kept: run the same command to go on." in said
            assert "Traceback" not in said and "Warning" not in said, said
        done = stamps(out)
        assert len(done) < 6, "it had finished before it was stopped"
        assert {name: done[name] for name in before} == before
        assert not psutil.wait_procs(workers, timeout=60)[1], "they work on"
    text = ok(*command, "--jobs", "1")
    after = stamps(out)
    assert len(after) == 6 and f"6 jobs (one per fold), {len(done)} finished already" in text
    assert {name: after[name] for name in done} == done


def wait_for(when: Callable[[], bool], process: Command) -> None:
    deadline = time.monotonic() + 200
    while not when():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it did not come to the point in time"
        time.sleep(0.02)


def loky_workers(pid: int) -> list[psutil.Process]:
    children = psutil.Process(pid).children()
    return [child for child in children if "loky" in " ".join(child.cmdline())]


def lock_owner(path: Path) -> int | None:
    """The process that holds a fold, by what it wrote into its lock."""
    found = re.match(r"process (\d+) ", path.read_text()) if path.exists() else None
    return None if found is None else int(found[1])


@pytest.mark.slow
def test_a_job_whose_process_dies_fails_alone(copied: Any, tmp_path: Path) -> None:
    source = Source(copied.data, None, None, None, copied.cache, copied.crops().name)

    def job(number: int, *, epochs: int) -> Job:
        recipe = str(write_recipe(tmp_path / f"r{number}.yaml", epochs=epochs))
        config = load_config(
            TrainConfig, recipe=recipe, section="train",
            values={"name": f"run{number}", "folds.fold": 0, "device": "cpu", "trackers": "csv"},
        )  # fmt: skip
        return Job(f"line{number}", source, config, tmp_path / "runs", number, os.getpid())

    doomed, other = job(0, epochs=10_000), job(1, epochs=3)
    with killing(doomed.folder / "lock") as killed:
        run_jobs([doomed, other], backend="loky", n_jobs=2)
    assert len(killed) >= 2, "once in the crowd, once alone"
    assert other.finished and other.reason() is None
    assert not doomed.finished
    assert "its process died without an error" in (doomed.reason() or "")


class killing:  # noqa: N801 (reads as a word of the test)
    """Kills whoever holds a lock, for as long as the block runs."""

    def __init__(self, path: Path) -> None:
        self.path, self.killed = path, list[int]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> list[int]:
        self._thread.start()
        return self.killed

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            pid = lock_owner(self.path)
            if pid is not None and pid != os.getpid() and pid not in self.killed:
                os.kill(pid, signal.SIGKILL)
                self.killed.append(pid)
