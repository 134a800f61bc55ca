"""Measure how the memory and the time of `detect` grow with the number of photos.

    python benchmarks/many_photos.py [PHOTOS...] [--counts 100,1000,10000,30000]

PHOTOS are folders or files; without any, portraits are drawn. They are copied once and hard-linked
until the count is reached, so that each name is a photo of its own. For each count, `detect` runs
twice on a new cache, in a process of its own. Printed are the photos per second of the first run,
its peak memory without and with the pages of mapped files (which the system can take back), and the
seconds of the second run, which finds that no photo has changed. Reads /proc, so it needs Linux.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from photo_files import SUFFIXES, list_files
from rich.console import Console
from rich.table import Table

SAMPLE_SECONDS = 0.05
CLI = Path(__file__).resolve().parent.parent / "cli.py"


@dataclass(frozen=True)
class Run:
    """One process, from its start to its end."""

    seconds: float
    own_mb: float
    """Peak memory that no file backs, in MB."""
    all_mb: float
    """Peak memory, in MB."""


def link_photos(files: Sequence[Path], count: int, folder: Path) -> Path:
    """Return a folder with `count` links to photos, 1,000 per subfolder."""
    for index in range(count):
        place = folder / f"{index // 1000:04d}"
        place.mkdir(parents=True, exist_ok=True)
        file = files[index % len(files)]
        os.link(file, place / f"{index}{file.suffix}")
    return folder


def run_watched(command: Sequence[str]) -> Run:
    """Run a command and record its peak memory.

    Raises:
        click.ClickException: the command failed; the message is its output.
    """
    started, own, total = time.perf_counter(), 0, 0
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                break
            kb = dict(re.findall(r"(VmRSS|RssAnon):\s+(\d+)", status))
            own = max(own, int(kb.get("RssAnon", 0)))
            total = max(total, int(kb.get("VmRSS", 0)))
            time.sleep(SAMPLE_SECONDS)
        if process.wait():
            output.seek(0)
            raise click.ClickException(output.read().decode(errors="replace"))
    return Run(time.perf_counter() - started, own / 1e3, total / 1e3)


def results_table(runs: dict[int, tuple[Run, Run]]) -> Table:
    """Return one row per count."""
    table = Table("photos", "photos/s", "own MB", "times", "with files MB", "again, s")
    least = next(iter(runs.values()))[0].own_mb
    for count, (first, again) in runs.items():
        table.add_row(
            f"{count:,}", f"{count / first.seconds:.0f}", f"{first.own_mb:.0f}",
            f"{first.own_mb / least:.2f}", f"{first.all_mb:.0f}", f"{again.seconds:.1f}",
        )  # fmt: skip
    return table


def _counts(_context: object, _option: object, text: str) -> tuple[int, ...]:
    try:
        counts = tuple(sorted({int(each) for each in text.split(",")}))
    except ValueError:
        counts = ()
    if not counts or counts[0] < 1:
        raise click.BadParameter(f"wanted numbers of photos, separated by commas, got {text!r}")
    return counts


@click.command()
@click.argument("photos", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--counts", default="100,1000,10000,30000", show_default=True, callback=_counts)
@click.option(
    "--different", default=300, show_default=True, help="Largest number of different photos."
)
@click.option("--min-face-size", default=40, show_default=True)
@click.option(
    "--tmp",
    type=click.Path(exists=True, path_type=Path),
    help="Folder for the copies and the crops.",
)
@click.option("--json", "out", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(
    photos: tuple[Path, ...], counts: tuple[int, ...], different: int, min_face_size: int,
    tmp: Path | None, out: Path | None,
) -> None:  # fmt: skip
    """Measure memory and time of `detect` by the number of photos."""
    console = Console(width=110)
    runs: dict[int, tuple[Run, Run]] = {}
    with tempfile.TemporaryDirectory(dir=tmp) as name:
        folder = Path(name)
        (folder / "source").mkdir()
        found = list_files(photos, different, folder, suffixes=SUFFIXES)
        files = [
            Path(shutil.copyfile(file, folder / "source" / f"{index}{file.suffix}"))
            for index, file in enumerate(found)
        ]
        if not files:
            raise click.UsageError("PHOTOS hold no photo: give others")
        for count in counts:
            data, work = (
                link_photos(files, count, folder / f"photos{count}"),
                folder / f"work{count}",
            )
            command = [
                sys.executable, str(CLI), "detect", str(data), "--work", str(work),
                "--layout", "photos", "--set", f"detector.min_face_size={min_face_size}",
            ]  # fmt: skip
            runs[count] = run_watched(command), run_watched(command)
            shutil.rmtree(work)
            shutil.rmtree(data)
    console.print(f"{len(files)} different photos, {os.cpu_count()} cores", highlight=False)
    console.print(results_table(runs))
    if out is not None:
        text = {count: [asdict(run) for run in pair] for count, pair in runs.items()}
        out.write_text(json.dumps(text, indent=2))


if __name__ == "__main__":
    main()
