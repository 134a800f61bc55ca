"""kill -9 at any moment: at most the open batch is lost, and the next run repairs the rest."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cropfirst.cache import CROP_SCHEMA, Cache, CropSet, Manifest

N_KEYS, BATCH = 40, 8

# A stage in small: batches of crops, then their rows, going on from what is there already.
STAGE = f"""
import os, signal, sys, time
from pathlib import Path
import numpy as np
from cropfirst.cache import Cache

die_at, pause = sys.argv[2], float(sys.argv[3])

def passing(place):
    if place == die_at:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(pause)

keys = [f"person {{index // 7}}/é{{index}}.jpg" for index in range({N_KEYS})]
cache = Cache.open(Path(sys.argv[1]), create=True)
crops = cache.crop_set("box-16-test", {{"margin": 0.2}})
with cache.lock(), crops.writer() as writer:
    done = set(crops.manifest.read()["key"])
    for start in range(0, {N_KEYS}, {BATCH}):
        rows = []
        for index in range(start, start + {BATCH}):
            if keys[index] in done:
                continue
            crop = np.full((16, 16, 3), index, np.uint8)
            row = {{"key": keys[index], "status": "detected", "prob": index / 64}}
            rows.append({{**row, "crop_hash": writer.put(keys[index], crop), "box": [index] * 4}})
            passing(f"put {{index}}")
        writer.commit()
        passing(f"committed {{start}}")
        crops.manifest.append(rows)
        passing(f"appended {{start}}")
        print(start + {BATCH}, flush=True)
    crops.manifest.compact(keep=keys)
    passing("compacted")
print("done", flush=True)
"""


def stage(folder: Path, die_at: str = "", pause: float = 0.0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", STAGE, str(folder), die_at, str(pause)],
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(folder: Path) -> None:
    with stage(folder) as process:
        out, _ = process.communicate(timeout=250)
    assert process.returncode == 0
    assert out.split()[-1] == "done"


def crop_set(folder: Path) -> CropSet:
    return Cache.open(folder).find("box")


def check_whole(folder: Path, undisturbed: bytes) -> None:
    crops = crop_set(folder)
    assert crops.manifest.path.read_bytes() == undisturbed
    assert list(crops.manifest.parts.iterdir()) == []
    assert crops.verify() == []
    reader = crops.reader()
    assert len(reader) == N_KEYS
    for index, key in enumerate(sorted(crops.manifest.read()["key"], key=lambda k: int(k[10:-4]))):
        np.testing.assert_array_equal(reader[key], np.full((16, 16, 3), index, np.uint8))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("undisturbed") / "cache"
    finish(folder)
    return crop_set(folder).manifest.path.read_bytes()


@pytest.mark.parametrize(
    ("die_at", "n_rows"),
    [
        ("put 0", 0),
        ("put 20", 16),
        ("committed 16", 16),
        ("appended 16", 24),
        ("compacted", N_KEYS),
    ],
)
def test_killed_there_and_run_again(
    tmp_path: Path, undisturbed: bytes, die_at: str, n_rows: int
) -> None:
    folder = tmp_path / "cache"
    with stage(folder, die_at) as process:
        process.communicate(timeout=250)
    assert process.returncode == -9
    crops = crop_set(folder)
    assert crops.manifest.read().height == n_rows
    assert crops.verify() == []
    finish(folder)
    check_whole(folder, undisturbed)


@pytest.mark.parametrize("seed", range(2))
def test_killed_again_and_again_at_any_moment(
    tmp_path: Path, undisturbed: bytes, seed: int
) -> None:
    rng = random.Random(seed)
    folder = tmp_path / "cache"
    for _ in range(2):
        with stage(folder, pause=0.005) as process:
            acknowledged = int(process.stdout.readline())
            time.sleep(rng.uniform(0, 0.15))
            process.kill()
            lines = process.communicate(timeout=250)[0].split()
        assert process.returncode in (-9, 0)
        acknowledged = max([acknowledged, *(int(line) for line in lines if line != "done")])
        assert crop_set(folder).manifest.read().height >= acknowledged
        assert crop_set(folder).verify() == []
    finish(folder)
    check_whole(folder, undisturbed)


# Python tells of a file operation before it does it: there the process kills itself.
WRITING = """
import os, signal, sys
from pathlib import Path
from cropfirst.cache import CROP_SCHEMA, Manifest

what, operation, countdown = sys.argv[2], sys.argv[3], int(sys.argv[4])
manifest = Manifest(Path(sys.argv[1]), CROP_SCHEMA)
for n_faces in range(5):
    manifest.append([{"key": "same", "n_faces": n_faces}, {"key": f"{n_faces}"}])

def hook(event, args):
    global countdown
    if event == operation:
        countdown -= 1
        if countdown == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
if what == "compact":
    manifest.compact()
else:
    manifest.append([{"key": "same", "n_faces": 9}, {"key": "late"}])
"""


@pytest.mark.parametrize(
    ("what", "operation", "count"),
    [("append", "os.rename", 1), ("compact", "os.rename", 1)]
    + [("compact", "os.remove", count) for count in (1, 2, 4, 5)],
)
def test_killed_amid_writing_rows(tmp_path: Path, what: str, operation: str, count: int) -> None:
    command = [sys.executable, "-c", WRITING, str(tmp_path), what, operation, str(count)]
    assert subprocess.run(command, timeout=250).returncode == -9
    manifest = Manifest(tmp_path, CROP_SCHEMA)
    wanted = [*((f"{n_faces}", None) for n_faces in range(5)), ("same", 4)]
    assert manifest.read().select("key", "n_faces").rows() == wanted
    assert manifest.compact().select("key", "n_faces").rows() == wanted
    assert list(manifest.parts.iterdir()) == []
