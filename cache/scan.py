"""Read every crop of a shard, or every cut-out, in a child process.

LMDB maps its file into memory and trusts the pages, so a damaged file can kill the process that
reads it: then only the child dies, and the scan reports it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cropfirst.cache.cut_outs import cut_out_fault
from cropfirst.cache.encoding import shape_of, value_hash
from cropfirst.cache.environment import environment
from cropfirst.core.errors import CropfirstError

_CHILD = "import sys; from cropfirst.cache.scan import print_records; print_records(*sys.argv[1:])"


@dataclass(frozen=True)
class Record:
    """Hash and shape of one stored crop or cut-out."""

    crop_hash: str
    """Hash of the stored bytes."""
    shape: tuple[int, int] | None
    """Height and width of a crop; (0, 0) of a cut-out; None if the bytes are neither."""
    fault: str = ""
    """The reason why the bytes are not what they should be; "" if they are."""


@dataclass(frozen=True)
class ShardScan:
    """All records of a shard by their 16-byte key, or why the shard cannot be read."""

    folder: Path
    records: dict[bytes, Record]
    fault: str | None


def scan_shard(folder: Path) -> ShardScan:
    """Read and hash every crop of a shard."""
    return _scan(folder, "crops")


def scan_cut_outs(folder: Path) -> ShardScan:
    """Read and hash every stored cut-out; its shape is (0, 0)."""
    return _scan(folder, "cut-outs")


def _scan(folder: Path, kind: str) -> ShardScan:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(folder), kind],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    records = {}
    for line in done.stdout.splitlines():
        words = line.split(" ", 4)
        if len(words) == 5:  # the last line of a child that died may be incomplete
            key, crop_hash, height, width, fault = words
            shape = None if fault else (int(height), int(width))
            records[bytes.fromhex(key)] = Record(crop_hash, shape, fault)
    return ShardScan(folder, records, _fault(done))


def print_records(folder: str, kind: str) -> None:
    """Print a line per record, `key hash height width fault`; runs in the child."""
    describe = _describe if kind == "crops" else _describe_cut_out
    try:
        shard = environment(Path(folder))
        for key in shard.list_keys():
            line = shard.get(key, describe)
            sys.stdout.write(f"{key.hex()} {line}\n")
    except CropfirstError as error:
        sys.exit(str(error))


def _describe(value: memoryview) -> str:
    try:
        height, width = shape_of(value)
    except ValueError as error:
        return f"{value_hash(value)} 0 0 {error}"
    return f"{value_hash(value)} {height} {width} "


def _describe_cut_out(value: memoryview) -> str:
    return f"{value_hash(value)} 0 0 {cut_out_fault(value)}"


def _fault(done: subprocess.CompletedProcess[str]) -> str | None:
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"reading it kills the process ({signal.Signals(-done.returncode).name})"
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"reading it fails (exit code {done.returncode})"
