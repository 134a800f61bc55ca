"""Other processes: forked and spawned readers, growth under a reader, full disks."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cropfirst.cache import CropReader, CropWriter

Image = npt.NDArray[np.uint8]


def flat(value: int, size: int = 16) -> Image:
    return np.full((size, size, 3), value, np.uint8)


def run(code: str, *args: object) -> list[str]:
    """Run a script in a fresh process, where forking is nobody else's business."""
    out = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, timeout=250
    )
    assert out.returncode == 0, out.stderr
    return out.stdout.split()


FORKED = """
import os, sys
from pathlib import Path
import numpy as np
from cropfirst.cache import CropReader, CropWriter

folder = Path(sys.argv[1])
flat = lambda value: np.full((64, 64, 3), value, np.uint8)
writer = CropWriter(folder)
for index in range(50):
    writer.put(f"{index}", flat(index))
writer.commit()
reader = CropReader(folder)
assert (reader["7"] == 7).all()
writer.put("open", flat(200))
children = []
for child in range(4):
    pid = os.fork()
    if pid == 0:
        good = all((reader[f"{index}"] == index).all() for _ in range(20) for index in range(50))
        os._exit(0 if good else 1)
    children.append(pid)
for index in range(50, 150):
    writer.put(f"{index}", flat(index))
    writer.commit()
    assert (reader[f"{index}"] == index).all()
codes = [os.waitpid(pid, 0)[1] for pid in children]
assert codes == [0] * 4, codes
assert (reader["open"] == 200).all() and len(reader) == 151
writer.close()
print("ok")
"""


def test_forked_workers_read_through_an_open_reader_while_the_parent_writes(tmp_path: Path) -> None:
    assert run(FORKED, tmp_path) == ["ok"]


FORKED_AMID_THREADS = """
import os, sys, threading
from pathlib import Path
import numpy as np
from cropfirst.cache import CropReader, CropWriter

folder = Path(sys.argv[1])
flat = lambda value: np.full((128, 128, 3), value, np.uint8)
with CropWriter(folder) as writer:
    for index in range(20):
        writer.put(f"{index}", flat(index))
reader = CropReader(folder)
done = threading.Event()

def read():
    while not done.is_set():
        for index in range(20):
            assert (reader[f"{index}"] == index).all()

def write():
    with CropWriter(folder) as writer:
        while not done.is_set():
            writer.put("more", flat(33))
            writer.commit()

threads = [threading.Thread(target=read) for _ in range(2)] + [threading.Thread(target=write)]
[thread.start() for thread in threads]
for _ in range(30):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if (reader["3"] == 3).all() else 1)
    assert os.waitpid(pid, 0)[1] == 0
done.set()
[thread.join() for thread in threads]
print("ok")
"""


def test_forking_amid_reads_and_writes_of_other_threads(tmp_path: Path) -> None:
    assert run(FORKED_AMID_THREADS, tmp_path) == ["ok"]


def test_a_spawned_worker_reads(tmp_path: Path) -> None:
    with CropWriter(tmp_path) as writer:
        writer.put("a", flat(5))
    reader = CropReader(tmp_path)
    assert (reader["a"] == 5).all()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(reader.__getitem__, ("a",)), flat(5))


WATCHING = """
import sys
from pathlib import Path
from cropfirst.cache import CropReader

reader = CropReader(Path(sys.argv[1]))
assert (reader["first"] == 1).all()
print("ready", flush=True)
sys.stdin.readline()
assert (reader["first"] == 1).all() and (reader["last"] == 2).all()
print(len(reader))
"""


def test_another_process_reads_on_when_the_map_outgrows_its_own(tmp_path: Path) -> None:
    writer = CropWriter(tmp_path)
    writer.put("first", flat(1))
    writer.commit()
    with subprocess.Popen(
        [sys.executable, "-c", WATCHING, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as watcher:
        assert watcher.stdout.readline() == "ready\n"
        for index in range(10):
            writer.put(f"{index}", flat(3, 1600))  # 73 MiB, past the 64 MiB the watcher has mapped
        writer.put("last", flat(2))
        writer.commit()
        out, _ = watcher.communicate("go\n", timeout=250)
    assert out == "12\n" and watcher.returncode == 0
    writer.close()


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from cropfirst.cache import CROP_SCHEMA, CropReader, CropWriter, Manifest
from cropfirst.core.errors import CacheError

folder = Path(sys.argv[1])
flat = lambda value: np.full((512, 512, 3), value, np.uint8)
manifest = Manifest(folder, CROP_SCHEMA)
writer = CropWriter(folder)
writer.put("before", flat(1))
writer.commit()
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
writer.put("after", flat(2))
try:
    writer.commit()
except CacheError as error:
    print("crops" if "shard-000" in str(error) else error)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
try:
    manifest.append([{"key": "after"}])
except CacheError as error:
    print("rows" if "00000000.parquet" in str(error) else error)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
assert list(manifest.parts.iterdir()) == [] and len(CropReader(folder)) == 1
writer.commit()
manifest.append([{"key": "after"}])
assert (CropReader(folder)["after"] == 2).all() and (CropReader(folder)["before"] == 1).all()
assert manifest.read().height == 1
print("repaired")
"""


def test_a_full_disk_is_an_error_that_can_be_mended(tmp_path: Path) -> None:
    # A limit on file size stands in for the full disk: the same call fails, with another errno.
    assert run(FULL_DISK, tmp_path) == ["crops", "rows", "repaired"]
