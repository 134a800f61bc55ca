"""`detect` and `train` on disks that fill up, or may not be written to.

    python tests/faults/full_disk.py                     a table of disk sizes and what was said

Runs itself again in a mount namespace of its own (`unshare -rm`), where it may mount little disks
in memory; they are gone when it ends. Each failure must be one error; with more room the cache must
verify, and the same command must end as on a disk that was never full.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from kills import DETECT, TRAIN, compare_caches, compare_runs, invoke, make_data

DETECT_KB = (20, 60, 76, 84, 92, 100, 120, 160, 240, 320, 400, 480, 560, 700, 1_000, 1_400)
TRAIN_KB = (40, 100, 300, 600, 1_200, 2_000, 2_600, 3_200, 4_400, 5_600)


def can_mount() -> bool:
    """Whether little disks can be made here."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def try_sizes(folder: Path, *, detect_kb: list[int], train_kb: list[int]) -> list[dict[str, Any]]:
    """The results of each size, from a process in a namespace of its own."""
    sizes = json.dumps([detect_kb, train_kb])
    command = ["unshare", "-rm", sys.executable, __file__, "--inside", str(folder), sizes]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-2000:]}"
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return [json.loads(line) for line in lines]


def _mount(*options: str) -> None:
    subprocess.run(["mount", *options], check=True)


def _inside(folder: Path, detect_kb: list[int], train_kb: list[int]) -> None:
    data, whole = make_data(folder), folder / "whole"
    assert invoke("detect", data, "--work", whole, *DETECT)[0] == 0
    train = ("train", data, "--cache", whole / "cache", *TRAIN)
    assert invoke(*train, "--runs", whole / "runs")[0] == 0
    disk = folder / "disk"
    disk.mkdir()
    for size in detect_kb:
        command = ("detect", data, "--work", disk / "work", *DETECT)
        verify = ("verify", data, "--work", disk / "work")
        said = _fill(disk, size, command, verify)
        said["faults"] += said["faults"] or compare_caches(disk / "work/cache", whole / "cache")
        _report("detect", size, said, disk)
    for size in train_kb:
        verify = ("verify", data, "--cache", whole / "cache", "--runs", disk / "runs")
        said = _fill(disk, size, (*train, "--runs", disk / "runs"), verify)
        said["faults"] += said["faults"] or compare_runs(disk / "runs", whole / "runs")
        _report("train", size, said, disk)
    _read_only(data, whole, disk)


def _fill(
    disk: Path, size: int, command: tuple[Any, ...], verify: tuple[Any, ...]
) -> dict[str, Any]:
    """Run a command on a disk of `size` kB, then on a large one."""
    _mount("-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(disk))
    code, text = invoke(*command)
    errors = [line for line in text.splitlines() if line.startswith("Error: ")]
    faults = []
    if (code, len(errors)) not in {(0, 0), (1, 1)} or "Traceback" in text:
        faults.append(f"exit code {code}: {text[-500:]}")
    _mount("-o", "remount,size=200m", str(disk))
    if (disk / "work/cache/cache.json").exists() or (disk / "runs").exists():
        checked, said = invoke(*verify)
        if checked != 0:
            faults.append(f"did not verify: {said[-800:]}")
    again, said = invoke(*command)
    if again != 0:
        faults.append(f"did not go on: {said[-500:]}")
    return {"error": errors[0] if errors else "(there was room)", "faults": faults}


def _read_only(data: Path, whole: Path, disk: Path) -> None:
    """A cache that may be read and not written: reading commands work, writing ones say so."""
    _mount("-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk))
    shutil.copytree(whole / "cache", disk / "cache")
    _mount("-o", "remount,ro", str(disk))
    share = ("--cache", disk / "cache")
    faults = []
    code, error = invoke("detect", data, *share, "--work", whole.parent / "ro", *DETECT)
    if code != 1 or "Read-only file system" not in error:
        faults.append(f"detect: exit code {code}: {error[-500:]}")
    for command in (
        ("verify", data, *share, "--runs", whole / "runs"),
        ("predict", data, *share, "--runs", whole / "runs", "--out", whole.parent / "answers"),
    ):
        code, text = invoke(*command)
        if code != 0:
            faults.append(f"{command[0]}: exit code {code}: {text[-500:]}")
    _report("read-only", 0, {"error": error.strip().splitlines()[-1], "faults": faults}, disk)


def _report(command: str, size: int, said: dict[str, Any], disk: Path) -> None:
    print(json.dumps({"command": command, "kb": size, **said}), flush=True)
    subprocess.run(["umount", "-l", str(disk)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--kb", type=int, nargs="*", help="sizes to try instead")
    asked = parser.parse_args()
    if asked.inside:
        _inside(Path(asked.inside[0]), *json.loads(asked.inside[1]))
        return
    if not can_mount():
        sys.exit("this machine lets nobody mount in a namespace of his own (unshare -rm)")
    detect_kb, train_kb = (asked.kb or sizes for sizes in (DETECT_KB, TRAIN_KB))
    with tempfile.TemporaryDirectory(prefix="cropfirst-disk-") as folder:
        found = try_sizes(Path(folder), detect_kb=list(detect_kb), train_kb=list(train_kb))
    for each in found:
        print(f"{each['command']:>9} {each['kb']:6d} kB  {each['error'].replace(folder, '')[:150]}")
        for fault in each["faults"]:
            print(f"FAULT {fault}")
    sys.exit(any(each["faults"] for each in found))


if __name__ == "__main__":
    main()
