"""W&B, MLflow and trackio as they are, each against what it itself wrote.

Each is an extra; without it its tests are skipped, saying so. All of them:
pip install -e ".[wandb,mlflow,trackio]"
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.train.tracked_fold import TrackedFold
from cropfirst.stage2_classify.train.tracking import open_trackers

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def needs(package: str) -> None:
    if find_spec(package) is None:
        pytest.skip(f"NOT TESTED: --tracker {package}; pip install -e '.[{package}]' to test it")


def tracked(folder: Path, *, first_epoch: int = 1) -> TrackedFold:
    config = {"task": "mask", "optim": {"lr": 0.5}, "model": {"kwargs": {}}}
    fold = folder / "runs" / "mask-net" / "fold1"
    fold.mkdir(parents=True, exist_ok=True)
    return TrackedFold("mask-net", 1, fold, "proj", config, first_epoch)


def track(name: str, about: TrackedFold, epochs: range, *, said: list[str]) -> None:
    rows = [{"epoch": epoch, "val_f1": 0.0} for epoch in range(1, about.first_epoch)]
    tensorboard = about.folder / "tensorboard"
    with open_trackers(
        (name,), about, rows=rows, tensorboard=tensorboard, warn=said.append
    ) as trackers:
        for epoch in epochs:
            trackers.log(epoch, {"val_f1": epoch / 10})


def leveldb_log(data: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log, which W&B's offline files are behind seven bytes of their own:
    blocks of 32 KiB; a record is checksum, length, kind (1 whole, 2 first, 3 middle, 4 last)."""
    place, whole = 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        if place + 7 + length > len(data):
            return  # not written to its end yet
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""


def wandb_records(folder: Path) -> list[Any]:
    """Return the records that an offline run has on disk."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    records = []
    for data in leveldb_log(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        records.append(record)
    return records


def kinds_of(records: list[Any]) -> list[str]:
    return [record.WhichOneof("record_type") for record in records]


def test_wandb_writes_an_offline_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    said: list[str] = []
    about = tracked(tmp_path)
    track("wandb", about, range(1, 4), said=said)
    assert said == []
    # wandb's own process may still be writing when finish() is through.
    deadline = time.monotonic() + 60
    while "exit" not in kinds_of(records := wandb_records(about.folder)):
        assert time.monotonic() < deadline, kinds_of(records)
        time.sleep(0.2)
    (run,) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert (run.project, run.run_group, run.display_name) == ("proj", "mask-net", "mask-net-fold1")
    assert run.run_id == about.recall("wandb")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["optim.lr"] == 0.5 and config["task"] == "mask"
    steps = [r.history for r in records if r.WhichOneof("record_type") == "history"]
    found = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in step.item}
        for step in steps
    ]
    assert [row["val_f1"] for row in found] == [0.1, 0.2, 0.3]
    assert [row["epoch"] for row in found] == [1, 2, 3]


def test_wandb_without_a_login_says_what_to_do(tmp_path: Path) -> None:
    needs("wandb")
    # W&B reads its environment once a process.
    code = f"""
from pathlib import Path
from cropfirst.core.errors import TrainError
from tests_of import track, tracked
try:
    track("wandb", tracked(Path({str(tmp_path)!r})), range(1, 2), said=[])
except TrainError as error:
    print("SAID", error)
"""
    home = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_API_KEY": ""}
    done = run_apart(code, tmp_path, {**home, "WANDB_BASE_URL": "http://127.0.0.1:9"})
    assert "--tracker wandb does not start" in done, done
    assert "run `wandb login`, or set WANDB_MODE=offline, or leave wandb out" in done, done


def run_apart(code: str, folder: Path, environment: dict[str, str]) -> str:
    """Run code that may import this file as `tests_of`, in a process of its own."""
    (folder / "tests_of.py").symlink_to(Path(__file__).resolve())
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "PYTHONPATH": str(folder), **environment},
        capture_output=True, text=True, check=False, timeout=100, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_mlflow_keeps_a_run_in_sqlite_and_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    said: list[str] = []
    track("mlflow", tracked(tmp_path), range(1, 3), said=said)
    track("mlflow", tracked(tmp_path, first_epoch=3), range(3, 5), said=said)
    assert said == []
    with closing(sqlite3.connect(tmp_path / "runs/mlflow.db")) as base:
        metrics = base.execute("select step, value from metrics order by step").fetchall()
        runs = base.execute("select name, status from runs").fetchall()
        params = dict(base.execute("select key, value from params").fetchall())
        experiments = {name for (name,) in base.execute("select name from experiments")}
    assert metrics == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert runs == [("mask-net-fold1", "FINISHED")]
    assert params["optim.lr"] == "0.5" and "proj" in experiments


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A real server on a free port of this machine, over SQLite."""
    needs("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}", "--workers", "1",
        "--default-artifact-root", str(tmp_path / "artifacts"),
    ]  # fmt: skip
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "server.log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """The server and its workers."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_training_outlives_its_mlflow_server(
    mlflow_server: tuple[str, subprocess.Popen[bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri, process = mlflow_server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    about, said = tracked(tmp_path), list[str]()
    with open_trackers(
        ("mlflow",), about, rows=(), tensorboard=tmp_path / "tb", warn=said.append
    ) as trackers:
        trackers.log(1, {"val_f1": 0.1})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mlflow.tracking import MlflowClient

            run = str(about.recall("mlflow"))
            history = MlflowClient(uri).get_metric_history(run, "val_f1")
        assert [(metric.step, metric.value) for metric in history] == [(1, 0.1)]
        stop(process)
        for epoch in (2, 3):
            trackers.log(epoch, {"val_f1": epoch / 10})
    (warning,) = said
    assert "Mlflow failed at epoch 2" in warning, warning
    assert pl.read_csv(about.folder / "history.csv")["epoch"].to_list() == [1, 2, 3]


def test_mlflow_without_its_server_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrainError, match=r"start the server that MLFLOW_TRACKING_URI names"):
        track("mlflow", tracked(tmp_path), range(1, 2), said=[])


def test_trackio_keeps_a_run_and_goes_on_with_it(tmp_path: Path) -> None:
    needs("trackio")
    # trackio reads its folder when it is imported: a process of its own.
    code = f"""
from pathlib import Path
from tests_of import track, tracked
said = []
track("trackio", tracked(Path({str(tmp_path)!r})), range(1, 3), said=said)
track("trackio", tracked(Path({str(tmp_path)!r}), first_epoch=3), range(3, 4), said=said)
assert said == [], said
"""
    environment = {"TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    run_apart(code, tmp_path, environment)
    (path,) = (tmp_path / "trackio").glob("proj*.db")
    with closing(sqlite3.connect(path)) as base:
        rows = base.execute("select run_name, step, metrics from metrics order by step").fetchall()
    assert len({name for name, _, _ in rows}) == 1 and rows[0][0].startswith("mask-net-fold1")
    assert [(step, json.loads(text)["val_f1"]) for _, step, text in rows] == [
        (1, 0.1), (2, 0.2), (3, 0.3),
    ]  # fmt: skip
