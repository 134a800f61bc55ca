"""Measure a GPU in under eight minutes: parity, detection, training, memory.

    benchmarks/gpu.sh                                  the tests, then every step of this file
    python benchmarks/gpu.py STEP... --photos DIR --out DIR [--device cuda] [--dry-run]

STEP is draw (portraits into the folder of --photos), parity, detect, train or compile. Each but the
first writes OUT/STEP.json when it is done, and all that are there as tables to OUT/summary.md.
--dry-run takes tiny sizes, for a CPU. Rates hold for this machine; the ratios are to
facenet-pytorch and to a plain loop with timm's parts, in the same process and in turn.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from detect_peers import decode, facenet
from gpu_summary import write_summary
from photo_files import list_files

from cropfirst.cache import Cache
from cropfirst.stage1_detect.config import DetectConfig, DetectorConfig
from cropfirst.stage1_detect.mtcnn import detector as detector_module
from cropfirst.stage1_detect.mtcnn.detector import MTCNN
from cropfirst.stage1_detect.mtcnn.parity import compare_faces
from cropfirst.stage1_detect.photos.read import PhotoRef
from cropfirst.stage1_detect.pipeline import batch_writer, detect_batches, photo_reads
from cropfirst.stage1_detect.run import detect as run_detect


@dataclass(frozen=True)
class Sizes:
    """The amount of work of each step."""

    people: int = 40
    """Number of people to draw, seven photos each."""
    copies: int = 20_000
    """Number of files to detect."""
    peer_photos: int = 128
    """Number of photos through facenet-pytorch, and for parity."""
    models: tuple[str, ...] = ("convnext_tiny", "swin_tiny_patch4_window7_224")
    image_size: int = 224
    batch: int = 128
    """Crops in a step."""
    steps: int = 20
    """Steps in a round."""
    rounds: int = 3
    loader_seconds: float = 8.0
    """Seconds of training at least, in which the wait for the loader is measured."""


DRY = Sizes(
    people=1, copies=12, peer_photos=3, models=("test_convnext",), image_size=32, batch=2, steps=1,
    rounds=1, loader_seconds=0.1,
)  # fmt: skip


def draw(folder: Path, sizes: Sizes) -> None:
    """Draw portraits, where there are no photos."""
    from cropfirst.stage2_classify.drawn.contest import draw_contest

    draw_contest(folder, n_train_people=sizes.people, n_eval_people=1)


def parity(files: list[Path], device: str, sizes: Sizes) -> dict[str, Any]:
    """Compare the device's faces with the CPU engine's, in full and in half precision."""
    photos = [decode(file) for file in files[: sizes.peer_photos]]
    found: dict[str, Any] = {}
    for weights in ("reference", "joined"):
        config = DetectorConfig(weights=weights, min_face_size=20)
        wanted = MTCNN(config).detect(photos)
        for half in (False, True) if device != "cpu" else (False,):
            faces = MTCNN(config, device=device, half=half).detect_batch(photos)
            same = compare_faces(faces, wanted, min_iou=0.95 if half else 0.99)
            found[f"{weights}, {'half' if half else 'fp32'}"] = vars(same)
    return found


STEPS: dict[str, tuple[Any, str]] = {
    "decode": (photo_reads.PhotoReads, "read_ahead"),
    "transfer": (detector_module, "load_photos"),
    "cascade": (MTCNN, "detect_batch"),
    "cut": (detect_batches, "make_crop"),
    "write": (batch_writer.BatchWriter, "put_crop"),
    "commit": (batch_writer.BatchWriter, "add_batch"),
}
"""The function that does each part of stage 1: its owner and its name."""


@contextmanager
def timed_steps() -> Iterator[dict[str, float]]:
    """Yield the seconds of each part of stage 1, summed over all threads, while a block runs."""
    spent: dict[str, float] = defaultdict(float)
    lock = threading.Lock()

    def wrapped(title: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                # A GPU's calls return before their work is done.
                if title in {"transfer", "cascade"} and torch.cuda.is_available():
                    torch.cuda.synchronize()
                with lock:
                    spent[title] += time.perf_counter() - started

        return call

    before = {title: getattr(*place) for title, place in STEPS.items()}
    for title, place in STEPS.items():
        setattr(*place, wrapped(title, before[title]))
    try:
        yield spent
    finally:
        for title, place in STEPS.items():
            setattr(*place, before[title])
        spent["cascade"] -= spent["transfer"]  # which is a part of it


def detect(files: list[Path], device: str, sizes: Sizes) -> dict[str, Any]:
    """Time stage 1 from JPEG files to cached crops, and facenet-pytorch on the same device."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        copies = _copies(files, Path(folder), sizes.copies)
        for half in (False, True) if device != "cpu" else (False,):
            config = DetectConfig(half=half, detector=DetectorConfig(weights="reference"))
            warm = Cache.open(Path(folder) / f"warm-{half}", create=True)
            run_detect(copies[: 4 * len(files)], warm, config, device=device)
            cache = Cache.open(Path(folder) / f"cache-{half}", create=True)
            _reset_peak()
            started = time.perf_counter()
            with timed_steps() as spent:
                summary = run_detect(copies, cache, config, device=device)
            seconds = time.perf_counter() - started
            found["half" if half else "fp32"] = {
                "photos": len(copies),
                "statuses": summary.statuses,
                "photos_per_s": len(copies) / seconds,
                "ms_per_photo": {name: value / len(copies) * 1e3 for name, value in spent.items()},
                "gpu_memory_mb": _peak(),
            }
    config = DetectorConfig(weights="reference", min_face_size=40)
    some = files[: sizes.peer_photos]
    for name, batched in (("one by one", False), ("batched", True)):
        peer = facenet(config, device, batched=batched)
        peer(some[:16])
        _reset_peak()
        started = time.perf_counter()
        peer(some)
        found[f"facenet-pytorch, {name}"] = {
            "photos_per_s": len(some) / (time.perf_counter() - started),
            "gpu_memory_mb": _peak(),
        }
    return found


def _copies(files: list[Path], folder: Path, count: int) -> list[PhotoRef]:
    """Return files linked to the photos, as many as asked for."""
    (folder / "photos").mkdir()
    refs = []
    for number in range(count):
        path = folder / "photos" / f"{number:05d}.jpg"
        path.symlink_to(files[number % len(files)].resolve())
        refs.append(PhotoRef(f"photos/{path.name}", path))
    return refs


def train(files: list[Path], device: str, sizes: Sizes, *, compiled: bool) -> dict[str, Any]:
    """Time training steps beside a plain loop with timm's parts, and the wait for the loader."""
    import train as training

    from cropfirst.core.device import resolve_amp, resolve_device
    from cropfirst.stage2_classify.config import OptimConfig
    from cropfirst.stage2_classify.model.models import build_classifier

    place = resolve_device(device)
    amp = resolve_amp("bf16" if place.type == "cuda" else "off", place)
    found: dict[str, Any] = {}
    for name in sizes.models:
        model = build_classifier(name, {"task": training.CLASSES}, image_size=sizes.image_size)
        model = model.to(place)
        model.set_channels_last(True)
        batches = training.step_batches(
            model, place, batch=sizes.batch, size=sizes.image_size, steps=sizes.steps
        )
        optim = OptimConfig(compile=compiled)
        runs = {
            "timm": training.peer_step(
                name, batches, optim, amp, sizes.image_size, compiled=compiled
            ),
            "cropfirst": training.own_step(model, batches, optim, amp),
        }
        figures: dict[str, Any] = {"batch": sizes.batch, "precision": str(amp or torch.float32)}
        for who, run in runs.items():
            _reset_peak()
            run()
            figures[f"{who}_gpu_memory_mb"] = _peak()
        seconds = training.measure(runs, sizes.rounds)
        figures |= {f"{who}_crops_per_s": sizes.batch / each for who, each in seconds.items()}
        if not compiled:
            with tempfile.TemporaryDirectory() as folder:
                crops, keys = training.cut_crops(files, Path(folder), sizes.image_size)
                share, where = training.loader_share(
                    model, crops, keys, place, amp, batch=min(sizes.batch, len(keys)),
                    seconds=sizes.loader_seconds,
                )  # fmt: skip
            figures |= {"waiting_for_loader": share, "crops_in": where}
        found[name] = figures
    return found


RUNS: dict[str, Callable[[list[Path], str, Sizes], dict[str, Any]]] = {
    "parity": parity,
    "detect": detect,
    "train": partial(train, compiled=False),
    "compile": partial(train, compiled=True),
}
"""Step -> the function that measures it."""


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak() -> float | None:
    return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else None


@click.command()
@click.argument("steps", nargs=-1, type=click.Choice(["draw", *RUNS]))
@click.option("--photos", type=click.Path(path_type=Path), required=True, help="Folder of JPEGs.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--device", default="cuda", show_default=True)
@click.option("--dry-run", is_flag=True, help="Tiny sizes, and nothing is compiled.")
def main(steps: tuple[str, ...], photos: Path, out: Path, device: str, dry_run: bool) -> None:
    """Run steps, and write the figures of each to OUT/STEP.json."""
    sizes = DRY if dry_run else Sizes()
    if dry_run:
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
    out.mkdir(parents=True, exist_ok=True)
    for step in steps:
        started = time.perf_counter()
        if step == "draw":
            draw(photos, sizes)
            continue
        files = list_files((photos,), 300, photos, suffixes={".jpg", ".jpeg"})
        figures = RUNS[step](files, device, sizes)
        figures |= {"seconds": time.perf_counter() - started, "device": _describe(device)}
        (out / f"{step}.json").write_text(json.dumps(figures, indent=1))
        write_summary(out)
        print(f"{step}: {figures['seconds']:.0f} s")


def _describe(device: str) -> str:
    chip = torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"
    return f"{chip}, torch {torch.__version__}, {os.cpu_count()} CPU cores"


if __name__ == "__main__":
    main()
