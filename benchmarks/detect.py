"""Speed and parity of the detector, side by side with facenet-pytorch's MTCNN in one run.

    python benchmarks/detect.py PHOTOS... [--min-face-size 20] [--limit 200] [--rounds 3]

PHOTOS are folders or files; without any, portraits are drawn. Both sides decode the same files with
the same decoder, run the same torch with the same threads and settings, and are timed in turn
(A B A B ...), so that a machine whose speed drifts does not favour one. Prints a table and writes
JSON. Ratios are what to quote; single rates are this machine's at this minute.
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
import numpy as np
import torch
from facenet_pytorch import MTCNN as Reference  # noqa: N811
from rich.console import Console
from rich.table import Table

from cropfirst.stage1_detect.ahead import run_ahead
from cropfirst.stage1_detect.boxes import iou
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.images import read_photo
from cropfirst.stage1_detect.mtcnn import MTCNN, Detections

Run = Callable[[Sequence[Path]], list[Detections]]
BATCH = 16


def decode(path: Path) -> np.ndarray:
    return read_photo(path).image


def ours(config: DetectorConfig, device: str) -> Run:
    detector = MTCNN(config, device=device)

    def run(files: Sequence[Path]) -> list[Detections]:
        found: list[Detections] = []
        batch: list[np.ndarray] = []
        for _, photo in run_ahead(files, decode, workers=0, size_of=lambda photo: photo.nbytes):
            batch.append(photo)
            if len(batch) == BATCH:
                found += detector.detect(batch)
                batch = []
        return found + detector.detect(batch)

    return run


def reference(config: DetectorConfig, device: str, *, batched: bool) -> Run:
    detector = Reference(
        keep_all=True,
        min_face_size=config.min_face_size,
        thresholds=list(config.thresholds),
        factor=config.factor,
        device=device,
    )

    def one(files: Sequence[Path]) -> list[Detections]:
        return [_faces(*detector.detect(decode(path), landmarks=True)) for path in files]

    def many(files: Sequence[Path]) -> list[Detections]:
        """Its batches must be of one size: neighbours of equal shape go together."""
        found: list[Detections] = []
        group: list[np.ndarray] = []
        for photo in [decode(path) for path in files] + [None]:
            if group and (photo is None or photo.shape != group[0].shape or len(group) == BATCH):
                boxes, probs, landmarks = detector.detect(np.stack(group), landmarks=True)
                found += [_faces(*each) for each in zip(boxes, probs, landmarks, strict=True)]
                group = []
            if photo is not None:
                group.append(photo)
        return found

    return many if batched else one


def _faces(boxes: Any, probs: Any, landmarks: Any) -> Detections:
    if boxes is None:
        boxes, probs, landmarks = np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2))
    return Detections(*(np.asarray(part, dtype=np.float32) for part in (boxes, probs, landmarks)))


def parity(found: list[Detections], wanted: list[Detections]) -> dict[str, float]:
    """Share of the reference's faces matched at IoU >= 0.99, and the largest differences."""
    faces = matched = extra = 0
    worst = {"box_px": 0.0, "prob": 0.0, "landmark_px": 0.0}
    for mine, theirs in zip(found, wanted, strict=True):
        overlap = iou(theirs.boxes, mine.boxes)
        faces += len(theirs)
        extra += int((overlap < 0.99).all(axis=0).sum())
        for index in np.flatnonzero((overlap >= 0.99).any(axis=1)):
            best = overlap[index].argmax()
            matched += 1
            pairs = (
                ("box_px", mine.boxes[best], theirs.boxes[index]),
                ("prob", mine.probs[best], theirs.probs[index]),
                ("landmark_px", mine.landmarks[best], theirs.landmarks[index]),
            )
            for name, left, right in pairs:
                worst[name] = max(worst[name], float(np.abs(left - right).max()))
    share = matched / faces if faces else 1.0
    return {"faces": faces, "matched": share, "extra": extra / max(faces, 1), **worst}


def list_files(photos: Sequence[Path], limit: int, folder: Path) -> list[Path]:
    if not photos:
        from cropfirst.stage2_classify.drawn.contest import draw_contest

        draw_contest(folder / "drawn", n_train_people=12, n_eval_people=1)
        photos = [folder / "drawn" / "train"]
    files = [
        file
        for path in photos
        for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
        if file.suffix.lower() in {".jpg", ".jpeg", ".png"} and file.name[0] != "."
    ]
    step = max(1, len(files) // limit)
    return files[::step][:limit]


def measure(runs: dict[str, Run], files: list[Path], rounds: int) -> dict[str, dict[str, Any]]:
    """Each run once to warm up, then in turn; keeps the faces of the last round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    faces: dict[str, list[Detections]] = {}
    for run in runs.values():
        run(files[:BATCH])
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            faces[name] = run(files)
            seconds[name].append(time.perf_counter() - started)
    return {name: {"seconds": seconds[name], "faces": faces[name]} for name in runs}


@click.command()
@click.argument("photos", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--min-face-size", "sizes", type=int, multiple=True, default=(20, 40), show_default=True
)
@click.option("--limit", default=200, show_default=True, help="Photos at most, spread evenly.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--threads", default=0, help="Threads of torch [default: torch's own].")
@click.option("--device", default="cpu", show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(
    photos: tuple[Path, ...], sizes: tuple[int, ...], limit: int, rounds: int, threads: int,
    device: str, out: Path | None,
) -> None:  # fmt: skip
    """Compare cropfirst's MTCNN with facenet-pytorch's on PHOTOS."""
    if threads:
        torch.set_num_threads(threads)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    where = f"{device} ({name}), torch {torch.__version__}, {torch.get_num_threads()} threads"
    console = Console()
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        files = list_files(photos, limit, Path(folder))
        console.print(f"{len(files)} photos, {where}", highlight=False)
        for size in sizes:
            config = DetectorConfig(min_face_size=size)
            runs = {
                "facenet-pytorch, one by one": reference(config, device, batched=False),
                "facenet-pytorch, batched": reference(config, device, batched=True),
                "cropfirst": ours(config, device),
            }
            results.append(report(measure(runs, files, rounds), size, len(files), console))
    if out is not None:
        out.write_text(json.dumps({"device": where, "photos": len(files), "results": results}))
        console.print(f"figures: {out}", highlight=False)


def report(
    measured: dict[str, dict[str, Any]], size: int, count: int, console: Console
) -> dict[str, Any]:
    """Print one table; the ratio is to the better of the reference's two ways."""
    medians = {name: statistics.median(each["seconds"]) for name, each in measured.items()}
    best = min(value for name, value in medians.items() if name != "cropfirst")
    wanted = measured["facenet-pytorch, one by one"]["faces"]
    compared = parity(measured["cropfirst"]["faces"], wanted)
    table = Table("detector", "photos/s", "ms a photo", "ratio to the best peer")
    for name, value in medians.items():
        row = (f"{count / value:.1f}", f"{value / count * 1e3:.1f}", f"{best / value:.2f}")
        table.add_row(name, *row)
    console.print(f"min_face_size {size}", highlight=False)
    console.print(table)
    console.print(
        f"parity: {compared['faces']:.0f} faces of the reference, {compared['matched']:.2%} "
        f"matched at IoU >= 0.99, {compared['extra']:.2%} extra; largest difference "
        f"{compared['box_px']:.1e} px in a box, {compared['prob']:.1e} in prob, "
        f"{compared['landmark_px']:.1e} px in a landmark",
        highlight=False,
        soft_wrap=True,
    )
    return {"min_face_size": size, "seconds": medians, "parity": compared}


if __name__ == "__main__":
    main()
