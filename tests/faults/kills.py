"""`detect` and `train` as real processes, killed with SIGKILL at random moments, and run again.

    python tests/faults/kills.py --kills 50              a table of what became of each kill

Whenever a process was killed, what it leaves must open and verify; when the command has ended at
last, everything must be byte for byte what an undisturbed run leaves.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from click.testing import CliRunner
from forked import Command

from cropfirst.cache import Cache
from cropfirst.cache.verify import HARMLESS, check_cache
from cropfirst.cli import main as cropfirst
from cropfirst.stage2_classify.drawn.contest import draw_contest
from cropfirst.stage2_classify.runs.verify import check_runs

DETECT = (
    "--device", "cpu", "--set", "crop.image_size=32", "--set", "workers=1", "--set",
    "commit_photos=1", "--set", "batch_megapixels=0.05",
)  # fmt: skip
"""One photo per batch, each kept: many moments to be killed at."""
TRAIN = (
    "--task", "mask,gender,age", "--no-pretrained", "--backbone", "test_vit", "--folds", "2",
    "--epochs", "3", "--device", "cpu", "--set", "optim.lr=1e-3",
)  # fmt: skip


@dataclass
class Result:
    """The results of the kills of one command."""

    command: str
    kills: int = 0
    restarts: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    """Progress of the command when it was killed -> number of kills."""
    faults: list[str] = field(default_factory=list)


def make_data(root: Path) -> Path:
    """A small data set in the contest's layout: 56 portraits."""
    draw_contest(root / "data", n_train_people=6, n_eval_people=2, seed=3, size=(192, 256))
    return root / "data"


def start(*arguments: str | Path) -> Command:
    """Start a command as a process group of its own."""
    return Command([str(argument) for argument in arguments])


def invoke(*arguments: str | Path) -> tuple[int, str]:
    """Run a command to its end in this process; returns its exit code and what it said."""
    result = CliRunner().invoke(cropfirst, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def finish(*arguments: str | Path) -> None:
    """Run a command, which must succeed, to its end in this process."""
    code, said = invoke(*arguments)
    assert code == 0, said


def kill_detect(data: Path, folder: Path, rng: random.Random, *, kills: int) -> Result:
    """Kill `detect` again and again; compare its cache with that of an undisturbed run."""
    finish("detect", data, "--work", folder / "whole", *DETECT)
    result, number = Result("detect"), 0
    while result.kills < kills:
        work = folder / f"detect-{number}"
        number += 1
        command = ("detect", data, "--work", work, *DETECT)
        for _ in range(min(rng.randint(1, 4), kills - result.kills)):
            said = _killed(command, lambda work=work: _written(work / "cache"), rng, result)
            result.faults += [
                f"{work.name}: {text}" for text in _verify_cache(work / "cache", said)
            ]
        finish(*command)
        result.restarts += 1
        result.faults += [
            f"{work.name}: {text}"
            for text in compare_caches(work / "cache", folder / "whole/cache")
        ]
    return result


def kill_train(data: Path, folder: Path, rng: random.Random, *, kills: int) -> Result:
    """Kill `train` again and again; compare its run with that of an undisturbed one."""
    cache = folder / "whole/cache"
    if not cache.is_dir():
        finish("detect", data, "--work", folder / "whole", *DETECT)
    common = ("train", data, "--cache", cache, *TRAIN)
    finish(*common, "--runs", folder / "runs-whole")
    result, number = Result("train"), 0
    while result.kills < kills:
        runs = folder / f"runs-{number}"
        number += 1
        for _ in range(min(rng.randint(1, 4), kills - result.kills)):
            said = _killed((*common, "--runs", runs), lambda runs=runs: _trained(runs), rng, result)
            bad = [finding for finding in check_runs(runs) if not finding.harmless]
            result.faults += [f"{runs.name}: {finding.message} ({said})" for finding in bad]
        finish(*common, "--runs", runs)
        result.restarts += 1
        result.faults += [
            f"{runs.name}: {text}" for text in compare_runs(runs, folder / "runs-whole")
        ]
    return result


def _killed(
    command: Sequence[str | Path], phase: object, rng: random.Random, result: Result
) -> str:
    """Kill a command at a random moment after it has begun to write; returns how far it was."""
    assert callable(phase)
    before = phase()
    with start(*command) as process:
        if rng.random() < 0.8:  # the rest dies in its imports, or wherever it is
            while process.poll() is None and phase() == before:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.7))
        else:
            time.sleep(rng.uniform(0, 4))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=250)
    where = phase()
    died = process.returncode == -signal.SIGKILL
    result.kills += 1
    result.phases["had ended already" if not died else str(where)] += 1
    if not died and process.returncode != 0:
        result.faults.append(f"{command[0]} ended with {process.returncode}")
    return str(where)


def _written(cache: Path) -> str:
    """Describe how far a detect is."""
    if not (cache / "cache.json").exists():
        return "before the cache was made"
    if not list(cache.glob("crops/*/shard-000/data.mdb")):
        return "making the cache"
    if list(cache.glob("crops/*/manifest.parquet")):
        return "rows merged"
    parts = len(list(cache.glob("detections/*/parts/*.parquet")))
    return "no batch written" if not parts else f"{min(parts // 4 * 4, 16)} batches or more written"


def _trained(runs: Path) -> str:
    """Describe how far a training is."""
    if not list(runs.glob("*/run.json")):
        return "before the run was made"
    if list(runs.glob("*/metrics.json")):
        return "folds merged"
    done = len(list(runs.glob("*/fold*/metrics.json")))
    epochs = [
        json.loads(path.read_text())["epoch"] for path in runs.glob("*/fold*/state/state.json")
    ]
    return f"fold {done}, epoch {max(epochs, default=0)} kept"


def _verify_cache(cache: Path, said: str) -> list[str]:
    if not (cache / "cache.json").exists():
        return []
    Cache.open(cache)
    found = [finding for check in check_cache(cache) for finding in check.findings]
    return [f"{each.message} ({said})" for each in found if each.kind not in HARMLESS]


def compare_caches(one: Path, other: Path) -> list[str]:
    """List the differences between two caches in keys, rows or pixels."""
    ours, theirs = Cache.open(one).find(), Cache.open(other).find()
    faults = []
    if ours.manifest.path.read_bytes() != theirs.manifest.path.read_bytes():
        faults.append("the crops' rows differ")
    files = [next(cache.glob("detections/*/manifest.parquet")) for cache in (one, other)]
    if files[0].read_bytes() != files[1].read_bytes():
        faults.append("the detections' rows differ")
    readers = ours.reader(), theirs.reader()
    keys = theirs.manifest.read().drop_nulls("crop_hash")["key"]
    if any(readers[0][key].tobytes() != readers[1][key].tobytes() for key in keys):
        faults.append("pixels differ")
    if len(readers[0]) != len(readers[1]) or list(one.rglob("*.tmp")):
        faults.append("something is left over")
    return faults


EXACT = ("*/fold*/*/model.safetensors", "*/fold*/*/meta.json", "*/folds.parquet", "*/oof.parquet",
         "*/fold*/oof.parquet", "*/metrics.json", "*/fold*/metrics.json", "*/config.yaml",
         "*/schema.json", "*/run.json")  # fmt: skip


def compare_runs(one: Path, other: Path) -> list[str]:
    """List the differences between two runs; only the speed in history.csv may differ."""
    names = [
        sorted(path.relative_to(runs) for each in EXACT for path in runs.glob(each))
        for runs in (one, other)
    ]
    faults = ["the files differ"] if names[0] != names[1] else []
    for name in names[1]:
        if (one / name).is_file() and _content(one / name) != _content(other / name):
            faults.append(f"{name} differs")
    for path in other.glob("*/fold*/history.csv"):
        tables = [
            pl.read_csv(p).drop("crops_per_s", "seconds")
            for p in (one / path.relative_to(other), path)
        ]
        if not tables[0].equals(tables[1]):
            faults.append(f"{path.relative_to(other)} differs")
    if list(one.rglob("*.tmp")) or list(one.rglob("state")):
        faults.append("something is left over")
    return faults


def _content(path: Path) -> object:
    if path.suffix != ".json":
        return path.read_bytes()
    data = json.loads(path.read_text())
    data.pop("git_commit", None)  # of the source, which may be committed meanwhile
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="kills of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("detect", "train"))
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before a command imports torch
    faults = 0
    with tempfile.TemporaryDirectory(prefix="cropfirst-kills-") as temporary:
        folder = Path(temporary)
        data = make_data(folder)
        for kill in (kill_detect, kill_train):
            if asked.only and not kill.__name__.endswith(asked.only):
                continue
            result = kill(data, folder, random.Random(asked.seed), kills=asked.kills)
            faults += len(result.faults)
            print(f"{result.command}: {result.kills} kills, {result.restarts} runs to the end")
            for phase, count in sorted(result.phases.items()):
                print(f"{count:6d}  {phase}")
            for fault in result.faults:
                print(f"FAULT {fault}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
