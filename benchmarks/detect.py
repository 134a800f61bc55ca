"""Speed, parity, recall and memory of detectors, side by side in one run.

    python benchmarks/detect.py PHOTOS... [--min-face-size 20] [--limit 200] [--rounds 3]
                                          [--threads 1 --threads 2] [--yunet FILE]

PHOTOS are folders or files; without any, portraits are drawn. Every detector decodes the same files
with the same decoder, uses the same torch with the same threads and settings, and is timed in turn
(A B A B ...), so that a machine whose speed drifts does not favour one. facenet-pytorch gets all
threads for each photo; cropfirst gives each core photos of its own. If there is a boxes.csv (file,
xmin, ymin, xmax, ymax) in a folder above PHOTOS, recall is measured too: at each detector's usual
threshold, and (if it has a column `label`) by mask state at equal numbers of false positives. The
pupils of a labels.csv serve for main faces. Prints tables and writes JSON. Quote the ratios; rates
hold for this machine at this time only.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from detect_peers import (
    BATCH,
    Run,
    YuNet,
    decode,
    facenet,
    haar,
    ours,
    tensorflow_mtcnn,
    yunet_run,
)
from detect_steps import step_times
from equal_false import Find, as_dicts, low, score, table_of
from found_faces import main_faces, read_boxes, recall, same_largest
from photo_files import list_files
from rich.console import Console
from rich.table import Table
from torchvision.io import ImageReadMode, decode_jpeg

from cropfirst.compat import facenet_pytorch as drop_in
from cropfirst.core.prefetch import available_cores, in_slices
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections
from cropfirst.stage1_detect.mtcnn.engines.numba.available import numba_problem
from cropfirst.stage1_detect.mtcnn.parity import compare_faces


class PeakMemory:
    """The peak of resident memory above that of the start, sampled while a block runs."""

    def __enter__(self) -> PeakMemory:
        self.start = self.peak = _resident()
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()
        return self

    def _sample(self) -> None:
        while not self._done.wait(0.01):
            self.peak = max(self.peak, _resident())

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._watch.join()

    @property
    def megabytes(self) -> float:
        return (self.peak - self.start) / 1e6


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def decode_rates(files: Sequence[Path], device: str, threads: int) -> dict[str, float]:
    """Return the photos per second of decoding JPEG files, as stage 1 does and with torchvision."""
    data = [torch.frombuffer(bytearray(f.read_bytes()), dtype=torch.uint8) for f in files]
    on_cpu = partial(decode_jpeg, mode=ImageReadMode.RGB)
    ways: dict[str, Callable[[], object]] = {
        f"OpenCV, {threads} threads": lambda: _in_threads(decode, files, threads),
        f"torchvision, {threads} threads": lambda: _in_threads(on_cpu, data, threads),
    }
    if device != "cpu":
        ways["torchvision, on the GPU"] = lambda: (
            [
                decode_jpeg(list(some), mode=ImageReadMode.RGB, device=device)
                for some in in_slices(data, 64)
            ]
            and torch.cuda.synchronize()
        )
    rates = {}
    for name, way in ways.items():
        way()
        started = time.perf_counter()
        way()
        rates[name] = len(files) / (time.perf_counter() - started)
    return rates


def _in_threads(work: Callable[[Any], Any], items: Sequence[Any], threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, items):
            pass


def measure(runs: dict[str, Run], files: list[Path], rounds: int) -> dict[str, dict[str, Any]]:
    """Time each run in turn after a warm-up, and keep the faces of the last round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    faces: dict[str, list[Detections]] = {}
    memory: dict[str, float] = {}
    gpu_memory: dict[str, float] = {}
    for name, run in runs.items():
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        with PeakMemory() as peak:
            run(files[: 4 * BATCH])
        memory[name] = peak.megabytes
        if torch.cuda.is_available():
            gpu_memory[name] = torch.cuda.max_memory_allocated() / 1e6
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            faces[name] = run(files)
            seconds[name].append(time.perf_counter() - started)
    return {
        name: {
            "seconds": seconds[name],
            "faces": faces[name],
            "memory_mb": memory[name],
            "gpu_memory_mb": gpu_memory.get(name),
        }
        for name in runs
    }


def engines_on(device: str) -> list[str]:
    """Return the names of the engines that can run there."""
    return ["torch", "numba"] if device == "cpu" and numba_problem() is None else ["torch"]


def build_runs(
    config: DetectorConfig, device: str, threads: int, yunet: str | None
) -> dict[str, Run]:
    largest = config.model_copy(update={"search": "largest"})
    joined = config.model_copy(update={"weights": "joined"})
    runs = {
        "facenet-pytorch, one by one": facenet(config, device, batched=False),
        "facenet-pytorch, batched": facenet(config, device, batched=True),
    }
    for batched, how in ((False, "one by one"), (True, "batched")):
        peer = facenet(config, device, batched=batched, peer=drop_in.MTCNN)
        runs[f"drop-in, {how}"] = peer
    for engine in engines_on(device):
        runs[f"cropfirst, {engine}"] = ours(config, device, threads, engine=engine)
    if device != "cpu":
        runs["cropfirst, torch, half"] = ours(config, device, threads, half=True)
    runs["cropfirst, joined"] = ours(joined, device, threads)
    runs["cropfirst, search=largest"] = ours(largest, device, threads)
    both = joined.model_copy(update={"search": "largest"})
    runs["cropfirst, joined, search=largest"] = ours(both, device, threads)
    if yunet is not None:
        runs["YuNet, one by one"] = yunet_run(yunet, threads, photo_per_thread=False)
        if threads > 1:
            runs["YuNet, a photo per thread"] = yunet_run(yunet, threads, photo_per_thread=True)
    runs["OpenCV Haar"] = haar(config)
    if importlib.util.find_spec("mtcnn") and importlib.util.find_spec("tensorflow"):
        runs["mtcnn (TensorFlow)"] = tensorflow_mtcnn(config)
    return runs


@click.command()
@click.argument("photos", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--min-face-size", "sizes", type=int, multiple=True, default=(20, 40), show_default=True
)
@click.option("--limit", default=200, show_default=True, help="Photos at most, spread evenly.")
@click.option("--rounds", default=3, show_default=True)
@click.option(
    "--threads", "thread_counts", type=int, multiple=True,
    help="Threads of each detector; may be repeated [default: one per core].",
)  # fmt: skip
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--yunet", type=click.Path(exists=True, dir_okay=False), help="Also this file of YuNet (ONNX)."
)
@click.option("--min-iou", default=0.4, show_default=True, help="Overlap at equal false positives.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(
    photos: tuple[Path, ...], sizes: tuple[int, ...], limit: int, rounds: int,
    thread_counts: tuple[int, ...], device: str, yunet: str | None, min_iou: float,
    out: Path | None,
) -> None:  # fmt: skip
    """Compare cropfirst's MTCNN with facenet-pytorch's and others on PHOTOS."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    where = f"{device} ({name}), torch {torch.__version__}"
    console = Console()
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        files = list_files(photos, limit, Path(folder), suffixes={".jpg", ".jpeg", ".png"})
        if not importlib.util.find_spec("tensorflow"):
            console.print(
                "mtcnn (TensorFlow) is not installed: pip install 'cropfirst[bench]'", markup=False
            )
        for threads in thread_counts or (available_cores(),):
            torch.set_num_threads(threads)
            cv2.setNumThreads(threads)
            told = f"{len(files)} photos, {where}, {threads} threads"
            console.print(told, highlight=False)
            for size in sizes:
                config = DetectorConfig(weights="reference", min_face_size=size)
                runs = build_runs(config, device, threads, yunet)
                results.append(speed(config, runs, files, rounds, device, threads, console))
        equal = {
            f"{data.name}, min_face_size {size}": at_equal_false(
                data, size, device, yunet, min_iou, limit, console
            )
            for data in photos if (data / "boxes.csv").is_file() for size in sizes
        }  # fmt: skip
    if out is not None:
        found = {"device": where, "photos": len(files), "results": results, "equal_false": equal}
        out.write_text(json.dumps(found))
        console.print(f"figures: {out}", highlight=False)


def speed(
    config: DetectorConfig,
    runs: dict[str, Run],
    files: list[Path],
    rounds: int,
    device: str,
    threads: int,
    console: Console,
) -> dict[str, Any]:
    """Time all detectors and the steps of ours, print both, and return the figures."""
    jpegs = [file for file in files if file.suffix.lower() in {".jpg", ".jpeg"}]
    rates = decode_rates(jpegs, device, threads) if jpegs else {}
    told = ", ".join(f"{way} {rate:.0f}" for way, rate in rates.items())
    console.print(f"decoding alone, photos/s: {told}\n", highlight=False, soft_wrap=True)
    figures = report(
        measure(runs, files, rounds), config.min_face_size, len(files), read_boxes(files), console
    )
    figures |= {"threads": threads, "decode": rates, "split": {}}
    for engine in engines_on(device):
        steps = figures["split"][engine] = step_times(config, device, engine, files)
        told = ", ".join(f"{step} {ms:.2f}" for step, ms in steps.items())
        console.print(f"ms a photo, one thread, {engine}: {told}", highlight=False, soft_wrap=True)
    console.print()
    return figures


def at_equal_false(
    data: Path,
    min_face_size: int,
    device: str,
    yunet: str | None,
    min_iou: float,
    limit: int,
    console: Console,
) -> dict[str, Any]:
    """Print recall by mask state at 0.50 false positives per photo, and return the figures."""
    detectors: dict[str, Find] = {
        weights: low(
            MTCNN(
                DetectorConfig(weights=weights, min_face_size=min_face_size),
                device=device, threads=1,
            )
        )
        for weights in ("reference", "masked", "joined")
    }  # fmt: skip
    if yunet is not None:
        detectors["YuNet"] = YuNet(yunet)
    scored = score(
        data, detectors, false_per_photo=0.5, min_iou=min_iou, min_face_size=min_face_size,
        limit=limit,
    )  # fmt: skip
    console.print(f"{data.name}, min_face_size {min_face_size}, IoU >= {min_iou}", highlight=False)
    console.print(table_of(scored))
    return as_dicts(scored)


def report(
    measured: dict[str, dict[str, Any]],
    size: int,
    count: int,
    boxes: list[np.ndarray] | None,
    console: Console,
) -> dict[str, Any]:
    """Print a table and return its figures; ratios are to the faster way of facenet-pytorch."""
    medians = {name: statistics.median(each["seconds"]) for name, each in measured.items()}
    best = min(value for name, value in medians.items() if name.startswith("facenet"))
    wanted = measured["facenet-pytorch, one by one"]["faces"]
    table = Table(
        "detector",
        "photos/s",
        "ratio",
        "faces",
        "recall",
        "main face",
        "same largest",
        "peak MB",
        "GPU MB",
    )
    rows = {}
    for name, each in measured.items():
        found = each["faces"]
        rows[name] = {
            "seconds": each["seconds"],
            "photos_per_s": count / medians[name],
            "ratio": best / medians[name],
            "faces": sum(map(len, found)),
            "recall": None if boxes is None else recall(found, boxes),
            "main_face": None if boxes is None else main_faces(found, boxes),
            "same_largest": same_largest(found, wanted),
            "memory_mb": each["memory_mb"],
            "gpu_memory_mb": each["gpu_memory_mb"],
        }
        row = rows[name]
        known = (
            "-" if row[each] is None else f"{row[each]:.3f}" for each in ("recall", "main_face")
        )
        table.add_row(
            name, f"{row['photos_per_s']:.1f}", f"{row['ratio']:.2f}", str(row["faces"]), *known,
            f"{row['same_largest']:.3f}", f"{row['memory_mb']:.0f}",
            "-" if row["gpu_memory_mb"] is None else f"{row['gpu_memory_mb']:.0f}",
        )  # fmt: skip
    console.print(f"min_face_size {size}", highlight=False)
    console.print(table)
    for name, each in measured.items():
        if name.startswith("cropfirst") and not {"largest", "joined"} & set(re.split(r"\W+", name)):
            min_iou = 0.95 if "half" in name else 0.99
            compared = compare_faces(each["faces"], wanted, min_iou=min_iou)
            rows[name]["parity"] = vars(compared)
            console.print(
                f"{name}: {compared.matched:.2%} of the reference's {compared.faces} faces matched "
                f"at IoU >= {min_iou}, {compared.extra:.2%} extra; largest difference "
                f"{compared.box_px:.1e} px in a box, {compared.prob:.1e} in prob, "
                f"{compared.landmark_px:.1e} px in a landmark",
                highlight=False,
                soft_wrap=True,
            )
    return {"min_face_size": size, "detectors": rows}


if __name__ == "__main__":
    main()
