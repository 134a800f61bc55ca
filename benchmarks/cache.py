"""Compare the crop cache with folders of PNG or JPEG files and with a memory map.

    python benchmarks/cache.py [--count 2000] [--image-size 224] [--rounds 3] [--folder DIR]

Each store writes the same crops (drawn portraits) under the same keys and reads them one at a time
in the same random order; the stores are timed in turn. The file system's cache is warm for all of
them, so that the work is compared and not the disk. The memory map has no keys, no hashes and no
protection against interruptions: it shows the least that reading can cost. Prints a table and
writes JSON.
"""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from cropfirst.cache.store import CropReader, CropWriter

COMMIT_EVERY = 256


class Lmdb:
    """The store of the crop cache."""

    def write(self, folder: Path, crops: np.ndarray, keys: Sequence[str]) -> None:
        with CropWriter(folder) as writer:
            for number, (key, crop) in enumerate(zip(keys, crops, strict=True), 1):
                writer.put(key, crop)
                if number % COMMIT_EVERY == 0:
                    writer.commit()

    def reader(self, folder: Path, keys: Sequence[str]) -> Callable[[int], np.ndarray]:
        reader = CropReader(folder)
        return lambda index: reader[keys[index]]


class Files:
    """One file per crop."""

    def __init__(self, suffix: str) -> None:
        self.suffix = suffix

    def write(self, folder: Path, crops: np.ndarray, keys: Sequence[str]) -> None:
        folder.mkdir()
        for key, crop in zip(keys, crops, strict=True):
            cv2.imwrite(str(folder / f"{key}{self.suffix}"), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))

    def reader(self, folder: Path, keys: Sequence[str]) -> Callable[[int], np.ndarray]:
        return lambda index: np.asarray(
            cv2.imread(str(folder / f"{keys[index]}{self.suffix}"), cv2.IMREAD_COLOR_RGB)
        )


class MemoryMap:
    """One array on disk, with a row for each key."""

    def write(self, folder: Path, crops: np.ndarray, keys: Sequence[str]) -> None:
        folder.mkdir()
        array = np.lib.format.open_memmap(
            folder / "crops.npy", mode="w+", dtype=np.uint8, shape=crops.shape
        )
        for index in range(len(keys)):
            array[index] = crops[index]
        array.flush()

    def reader(self, folder: Path, keys: Sequence[str]) -> Callable[[int], np.ndarray]:
        array = np.load(folder / "crops.npy", mmap_mode="r", allow_pickle=False)
        return lambda index: np.array(array[index])


STORES: dict[str, Any] = {
    "crop cache (LMDB, raw)": Lmdb(),
    "folder of PNG": Files(".png"),
    "folder of JPEG": Files(".jpg"),
    "memory map": MemoryMap(),
}


def draw_crops(count: int, size: int) -> np.ndarray:
    """Return (N, S, S, 3) uint8 drawn portraits, each a little shifted, with other light."""
    from cropfirst.stage2_classify.drawn.contest import draw_contest

    with tempfile.TemporaryDirectory() as folder:
        draw_contest(Path(folder) / "drawn", n_train_people=6, n_eval_people=1)
        files = sorted(Path(folder).rglob("*.jpg"))
        faces = [cv2.resize(cv2.imread(str(f), cv2.IMREAD_COLOR_RGB), (size, size)) for f in files]
    rng = np.random.default_rng(0)
    crops = np.empty((count, size, size, 3), dtype=np.uint8)
    for index in range(count):
        face = np.roll(faces[index % len(faces)], rng.integers(-20, 20, 2), axis=(0, 1))
        crops[index] = np.clip(face * rng.uniform(0.8, 1.2), 0, 255)
    return crops


def measure(crops: np.ndarray, folder: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """Return the rates of each store in crops per second, medians of the rounds, and its size."""
    keys = [f"person{index // 7:05d}-{index % 7}" for index in range(len(crops))]
    order = np.random.default_rng(1).permutation(len(crops)).tolist()
    rates: dict[str, dict[str, list[float]]] = {name: {"write": [], "read": []} for name in STORES}
    sizes: dict[str, float] = {}
    for number in range(rounds):
        for name, store in STORES.items():
            place = folder / f"{number}-{list(STORES).index(name)}"
            started = time.perf_counter()
            store.write(place, crops, keys)
            rates[name]["write"].append(len(crops) / (time.perf_counter() - started))
            read = store.reader(place, keys)
            for index in order:  # once to warm up
                read(index)
            started = time.perf_counter()
            for index in order:
                read(index)
            rates[name]["read"].append(len(crops) / (time.perf_counter() - started))
            held = sum(file.stat().st_blocks * 512 for file in place.rglob("*") if file.is_file())
            sizes[name] = held / len(crops) / 1e3
    return {
        name: {
            "write": statistics.median(each["write"]),
            "read": statistics.median(each["read"]),
            "kB": sizes[name],
        }
        for name, each in rates.items()
    }


@click.command()
@click.option("--count", default=2000, show_default=True, help="Number of crops.")
@click.option("--image-size", default=224, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to write [default: temp].")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(count: int, image_size: int, rounds: int, folder: Path | None, out: Path | None) -> None:
    """Compare the crop cache with other ways to store crops."""
    console = Console()
    crops = draw_crops(count, image_size)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        results = measure(crops, Path(place), rounds)
    best = results["crop cache (LMDB, raw)"]
    console.print(f"{count} crops of {image_size} px, {platform.machine()}, one thread")
    table = Table("store", "written/s", "read/s", "cache reads, times as fast", "kB per crop")
    for name, row in results.items():
        table.add_row(
            name, f"{row['write']:.0f}", f"{row['read']:.0f}", f"{best['read'] / row['read']:.1f}",
            f"{row['kB']:.0f}",
        )  # fmt: skip
    console.print(table)
    if out is not None:
        out.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
