"""train by several processes, really started by accelerate launch: on the CPU, over gloo."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest
from forked import Command
from safetensors.numpy import load_file

if find_spec("accelerate") is None:
    pytest.skip("accelerate is NOT installed: several processes not tried", allow_module_level=True)

Ok = Callable[..., str]
TRAIN = (
    "--task", "gender,mask", "--no-pretrained", "--backbone", "test_vit", "--folds", "2",
    "--epochs", "8", "--device", "cpu", "--tracker", "csv", "--set", "optim.optimizer=sgd", "--set",
    "optim.lr=0.02", "--set", "data.batch_size=5", "--set", "loss.terms={ce: 1, f1: 0.5}", "--set",
    "loss.class_weights=inverse", "--set", "optim.accumulate=2", "--set", "optim.freeze_epochs=1",
)  # fmt: skip
"""Nothing in it depends on who looks at which crop: no dropout, no batch norm, no mixing. Parts of
2 and 3 crops; a loss that no mean of the parts' losses gives."""
SECONDS = 150
"""Within which all must end when one has."""


@pytest.fixture(scope="module")
def cache(
    contest: Path, tmp_path_factory: pytest.TempPathFactory, ok: Ok, detect_flags: tuple[str, ...]
) -> Path:
    """Crops of the contest set."""
    work = tmp_path_factory.mktemp("crops")
    ok("detect", contest, "--work", work, *detect_flags)
    return work / "cache"


@contextmanager
def launched(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """`accelerate launch` of two processes; whatever becomes of the test, they are gone after."""
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
        "--main_process_port", "0", "-m", "cropfirst.cli",
    ]  # fmt: skip
    process = subprocess.Popen(
        [*command, *map(str, arguments)], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"},
    )  # fmt: skip
    started: set[Any] = set()
    try:
        process.started = started  # type: ignore[attr-defined]
        yield process
    finally:
        for each in [*started, *offspring(process)]:
            if each.is_running():
                each.kill()
        process.kill()
        process.communicate(timeout=SECONDS)


def offspring(process: subprocess.Popen[str]) -> list[Any]:
    """The processes that train, and theirs."""
    try:
        return psutil.Process(process.pid).children(recursive=True)  # type: ignore[no-any-return]
    except psutil.NoSuchProcess:
        return []


def command(data: Path, cache: Path, runs: Path) -> tuple[str | Path, ...]:
    return ("train", data, "--cache", cache, "--runs", runs, "--name", "r", *TRAIN)


@pytest.fixture(scope="module")
def together(
    contest: Path, cache: Path, ending: Callable[[Any, float], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:  # fmt: skip
    """The run of two processes that were left alone."""
    runs = tmp_path_factory.mktemp("together")
    with launched(*command(contest, cache, runs)) as process:
        said = ending(process, 200)
    assert process.returncode == 0, said
    assert "in each of 2 processes" in said
    assert said.count("fold 1 epoch 8/8") == 1, "one of the two speaks"
    return runs / "r"


def tables(run: Path) -> dict[str, Any]:
    """All that a run has learned and found, by file."""
    out: dict[str, Any] = {}
    for path in sorted(run.rglob("model.safetensors")):
        weights = load_file(path)
        out[str(path.relative_to(run))] = np.concatenate([w.ravel() for w in weights.values()])
    for path in sorted(run.rglob("oof.parquet")):
        table = pl.read_parquet(path)
        probs = [np.stack(table[f"{task}_probs"].to_list()).ravel() for task in ("gender", "mask")]
        out[str(path.relative_to(run))] = np.concatenate(probs)
    for path in sorted(run.rglob("history.csv")):
        table = pl.read_csv(path).drop("crops_per_s", "seconds")
        out[str(path.relative_to(run))] = table.to_numpy().ravel()
    return out


@pytest.mark.slow
def test_two_processes_learn_what_one_does(
    contest: Path, cache: Path, together: Path, ok: Ok, tmp_path: Path
) -> None:
    ok(*command(contest, cache, tmp_path))
    alone = tmp_path / "r"
    got, want = tables(together), tables(alone)
    assert list(got) == list(want)
    for name, numbers in want.items():
        assert np.abs(got[name] - numbers).max() < 1e-5, name
    assert np.abs(want["fold0/last/model.safetensors"]).max() > 0.1
    one, two = (pl.read_parquet(run / "oof.parquet") for run in (alone, together))
    assert two["key"].to_list() == one["key"].to_list() and two.height == 42
    assert json.loads((together / "metrics.json").read_text()) == json.loads(
        (alone / "metrics.json").read_text()
    )
    files = [sorted(p.relative_to(run) for p in run.rglob("*")) for run in (alone, together)]
    assert files[0] == files[1]
    meta = [json.loads((run / "fold0/last/meta.json").read_text()) for run in (alone, together)]
    assert "processes" not in meta[0] and meta[1]["processes"] == 2


def wait_for_epochs(process: subprocess.Popen[str] | Command, run: Path, n: int) -> None:
    """Until so many epochs of all folds are in their histories."""
    deadline = time.monotonic() + SECONDS
    while sum(len(p.read_text().splitlines()) - 1 for p in run.glob("fold*/history.csv")) < n:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it did not come to the point in time"
        time.sleep(0.005)
    if isinstance(process, subprocess.Popen):
        process.started.update(offspring(process))  # type: ignore[attr-defined]


def all_end(process: subprocess.Popen[str]) -> str:
    """Return the output until the launcher and all that it had started had ended."""
    said = process.communicate(timeout=SECONDS)[0]
    _, alive = psutil.wait_procs(process.started, timeout=SECONDS)  # type: ignore[attr-defined]
    assert not alive, f"they work on: {alive}"
    return said


def rank_settings() -> list[dict[str, str]]:
    """Environment variables of two processes, as any launcher sets them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    where = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [{**where, "RANK": rank, "LOCAL_RANK": rank} for rank in "01"]


def ranks(*arguments: str | Path) -> list[Command]:
    """Start two processes without a launcher, whose imports take longer."""
    words = [str(argument) for argument in arguments]
    return [Command(words, settings) for settings in rank_settings()]


def run_ranks(*arguments: str | Path) -> tuple[list[int], str]:
    """Run two processes to their end; codes, and what was said."""
    started = ranks(*arguments)
    try:
        said = "".join(rank.communicate(timeout=SECONDS)[0] for rank in started)
    finally:
        for rank in started:
            rank.kill()
    return [rank.wait() for rank in started], said


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_stopped_and_killed_in_every_way_it_goes_on_to_the_same_bits(
    contest: Path, cache: Path, together: Path, tmp_path: Path, ok: Ok
) -> None:
    train = command(contest, cache, tmp_path / "runs")
    run = tmp_path / "runs/r"

    with launched(*train) as process:  # Ctrl-C
        wait_for_epochs(process, run, 2)
        process.send_signal(signal.SIGINT)
        said = all_end(process)
    assert said.count("Stopped. What was finished is kept: run the same command to go on.") == 1

    # A process dies. Without the launcher, which would end the other one before it can say so.
    first, second = ranks(*train)
    try:
        wait_for_epochs(first, run, 6)
        second.kill()
        said = first.communicate(timeout=SECONDS)[0]
    finally:
        first.kill()
        second.kill()
    assert first.returncode != 0
    assert "Error: another of the 2 processes has ended" in said

    # The launcher dies, and takes all with it, loaders' workers too.
    with launched(*train, "--set", "data.workers=1") as process:
        wait_for_epochs(process, run, 9)
        process.kill()
        all_end(process)

    assert "goes on after epoch" in ok(*train), "what two have begun, one can end"
    got, want = tables(run), tables(together)
    assert list(got) == list(want)
    for name, numbers in want.items():
        assert np.abs(got[name] - numbers).max() < 1e-5, name


@pytest.mark.slow
def test_the_levers_work(contest: Path, cache: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    levers = (
        "--backbone", "test_resnet", "--epochs", "3", "--preload", "none", "--all-data", "--set",
        "model.drop_rate=0.2", "--set", "data.sampler=oversample", "--set", "data.mix.kind=mixup",
        "--set", "data.mix.rare=age", "--set", "data.mix.prob=1", "--set", "data.workers=1",
        "--set", "optim.ema=0.9", "--set", "optim.early_stop=1", "--set", "optim.amp=bf16",
        "--set", "head.batch_norm=true", "--set", "data.erase=0.5", "--set",
        "head.tasks={age: {kind: regression}}",
    )  # fmt: skip
    common = (*command(contest, cache, runs), "--task", "age,gender")
    codes, said = run_ranks(*common, *levers)
    assert codes == [0, 0], said
    assert said.count("fold 0: batch norm counts the 2 crops of each process apart") == 1
    oof = pl.read_parquet(runs / "r/oof.parquet")
    assert oof.height == oof["key"].n_unique() == 42
    assert set(oof["age_probs"].list.len()) == {3}
    assert json.loads((runs / "r/all/metrics.json").read_text())["epochs"] >= 1
    assert not list(runs.rglob("state"))


@pytest.mark.slow
def test_what_cannot_be_shared_is_one_error(contest: Path, cache: Path, tmp_path: Path) -> None:
    batch = ("--set", "data.batch_size=3", "--set", "optim.accumulate=1")
    codes, said = run_ranks(*command(contest, cache, tmp_path / "runs"), *batch)
    assert codes == [1, 1], said
    assert said.count("Error: a batch of 3 crops is too small for 2 processes") == 1
    assert not (tmp_path / "runs").exists()


def test_commands_that_cannot_share_are_refused(
    contest: Path, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    said = run("detect", contest, "--work", tmp_path / "work")
    assert said.code == 2 and "only train can share the work" in said.flat
    monkeypatch.setenv("RANK", "1")
    assert run("detect", contest, "--work", tmp_path / "work").text == "", "one speaks"
    assert not (tmp_path / "work").exists()


def test_a_launcher_that_starts_one_process_of_several_is_found_out(
    contest: Path, cache: Path, run: Callable[..., Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # as accelerate launch --cpu does
    monkeypatch.setenv("MASTER_PORT", "29500")
    said = run(*command(contest, cache, tmp_path))
    assert said.code == 2 and "put --multi_gpu in place of --cpu" in said.flat


PROGRAM = """
import sys
from datetime import timedelta
import torch
from cropfirst.core.errors import CropfirstError, TrainError
from cropfirst.stage2_classify.data.sampling import part_of
from cropfirst.stage2_classify.train.distributed import join_processes

def tried(work):
    try:
        work()
    except CropfirstError as error:
        return f"{type(error).__name__}: {error}"

def refuse(processes):
    with processes.share_errors():
        if processes.rank == 1:
            raise TrainError("no crops here")

said = []
try:
    with join_processes() as processes:
        said.append(processes.all_gather({"é": processes.rank}))
        said.append(processes.broadcast([processes.rank]))
        said.append(tried(lambda: refuse(processes)))
        said.append(tried(lambda: processes.check_same({"photos": "abc"[processes.rank]})))
        for n in (1, 2, 5):
            own = part_of(n, processes.share)
            rows = torch.tensor([[float(row)] for row in own or [-1]], requires_grad=True)
            whole = processes.gather_rows(rows, n)
            said.append(whole.flatten().tolist())
            if n == 5:
                (whole * torch.arange(1.0, 6.0)[:, None]).sum().backward()
                said.append(rows.grad.flatten().tolist())
        if processes.rank == 1:
            if sys.argv[1] == "stuck":
                sys.stdin.read()  # until the other one has ended
            sys.exit(0)
        if sys.argv[1] == "stuck":
            torch.distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=2))
        processes.all_gather(0)
except CropfirstError as error:
    said.append(f"{type(error).__name__}: {error}")
finally:
    for line in said:
        print(line)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["left", "stuck"])
def test_processes_agree_and_notice_one_that_is_gone(tmp_path: Path, ending: str) -> None:
    words = [sys.executable, "-c", PROGRAM, ending]
    processes = [
        subprocess.Popen(
            words, env={**os.environ, **settings}, text=True, cwd=tmp_path,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for settings in rank_settings()
    ]  # fmt: skip
    try:
        first, second = (process.communicate(timeout=SECONDS) for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.wait(SECONDS)
    said = first[0].splitlines(), second[0].splitlines()
    host = os.uname().nodename
    assert said[0][:2] == said[1][:2] == ["[{'é': 0}, {'é': 1}]", "[0]"], first[1] + second[1]
    assert said[0][2] == f"TrainError: process 2 of 2 on {host}: no crops here"
    assert said[1][2] == said[1][3] == "PeerError: the first process says why"
    assert said[0][3].startswith("TrainError: process 2 of 2 has photos b, not a: all must see")
    assert said[0][4:7] == said[1][4:7] == ["[0.0]", "[0.0, 1.0]", "[0.0, 1.0, 2.0, 3.0, 4.0]"]
    assert (said[0][7], said[1][7]) == ("[1.0, 2.0]", "[3.0, 4.0, 5.0]"), "each its own slopes"
    what = "has ended" if ending == "left" else "was not heard of"
    assert said[0][8].startswith(f"PeerError: another of the 2 processes {what}")
