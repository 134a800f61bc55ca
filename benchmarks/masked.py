"""What thresholds and retries buy on masked faces, and what they cost.

    python benchmarks/masked.py ../shared/data/faces_in_the_wild [--limit 853] [--min-face-size 40]

DATA holds a boxes.csv (file, label, xmin, ymin, xmax, ymax). For each setting: the share of boxes
of each label that a face overlaps by IoU 0.4 or more, faces on no box (of any size) a photo, the
share of photos whose main face (the largest box) is found, and the time as a multiple of the first
setting's, measured in the same run.
"""

from __future__ import annotations

import csv
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from cropfirst.core.prefetch import in_slices
from cropfirst.stage1_detect.config import DetectConfig, DetectorConfig, RetryStep
from cropfirst.stage1_detect.mtcnn.boxes import iou
from cropfirst.stage1_detect.mtcnn.detector import PHOTOS_PER_TURN
from cropfirst.stage1_detect.mtcnn.retry import FaceFinder, Found
from cropfirst.stage1_detect.photos.read import read_photo
from cropfirst.stage1_detect.pipeline.detect_batches import one_thread_a_kernel

RELAXED = (0.5, 0.6, 0.5)
STEPS = {
    "relaxed": RetryStep(name="relaxed"),
    "flipped": RetryStep(name="flipped", flip=True),
    "contrast": RetryStep(name="contrast", contrast=True),
    "upscaled": RetryStep(name="upscaled", scale=2.0),
    "looser": RetryStep(name="looser", thresholds=(0.4, 0.5, 0.3)),
}
CHAINS: tuple[tuple[str, ...], ...] = (
    (),
    ("relaxed",),
    ("upscaled",),
    ("relaxed", "flipped"),
    ("relaxed", "flipped", "contrast"),
    ("relaxed", "upscaled"),
    ("relaxed", "flipped", "contrast", "upscaled"),
    ("relaxed", "upscaled", "flipped", "contrast", "looser"),
)


@dataclass(frozen=True)
class Truth:
    """The boxes of one photo."""

    boxes: np.ndarray
    """(N, 4) float32 xyxy."""
    labels: tuple[str, ...]

    @property
    def sides(self) -> np.ndarray:
        """(N,) heights in pixels."""
        return np.asarray(self.boxes[:, 3] - self.boxes[:, 1])


def read_truth(root: Path) -> dict[Path, Truth]:
    rows: dict[Path, list[tuple[list[float], str]]] = defaultdict(list)
    with open(root / "boxes.csv", newline="") as file:
        for row in csv.DictReader(file):
            box = [float(row[name]) for name in ("xmin", "ymin", "xmax", "ymax")]
            rows[root / row["file"]].append((box, row["label"]))
    return {
        path: Truth(
            np.array([box for box, _ in found], dtype=np.float32),
            tuple(label for _, label in found),
        )
        for path, found in sorted(rows.items())
    }


def settings(min_face_size: int) -> dict[str, DetectConfig]:
    """Name of a setting -> its config."""
    plain = DetectorConfig(min_face_size=min_face_size)
    relaxed = plain.model_copy(update={"thresholds": RELAXED})
    made = {
        " + ".join(("default", *chain)): DetectConfig(
            detector=plain, retry=tuple(STEPS[name] for name in chain)
        )
        for chain in CHAINS
    }
    made["thresholds (0.5, 0.6, 0.5)"] = DetectConfig(detector=relaxed, retry=())
    made["the default of detect"] = DetectConfig(detector=plain)
    return made


def score(found: Sequence[Found], truths: Sequence[Truth], least: float) -> dict[str, Any]:
    hits: dict[str, list[bool]] = defaultdict(list)
    wrong, main = 0, []
    for each, truth in zip(found, truths, strict=True):
        overlap = iou(truth.boxes, each.faces.boxes)
        on_face = (overlap >= 0.4).any(axis=1) if len(each.faces) else np.zeros(len(overlap), bool)
        wrong += int((overlap < 0.4).all(axis=0).sum()) if len(each.faces) else 0
        for label, side, hit in zip(truth.labels, truth.sides, on_face, strict=True):
            if side >= least:
                hits[label].append(bool(hit))
        largest = int(truth.sides.argmax())
        if truth.sides[largest] >= least:
            main.append(bool(on_face[largest]))
    return {
        "recall": {label: float(np.mean(each)) for label, each in sorted(hits.items())},
        "faces": {label: len(each) for label, each in sorted(hits.items())},
        "false_per_photo": wrong / len(found),
        "main_found": float(np.mean(main)),
        "photos_with_main": len(main),
    }


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--limit", default=1_000_000, help="Photos at most, spread evenly.")
@click.option("--min-face-size", default=40, show_default=True)
@click.option("--least", default=40.0, show_default=True, help="Height of boxes that count.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(data: Path, limit: int, min_face_size: int, least: float, out: Path | None) -> None:
    """Compare thresholds and retry chains on DATA."""
    truth = read_truth(data)
    files = list(truth)[:: max(1, len(truth) // limit)][:limit]
    photos = [read_photo(file).image for file in files]
    console = Console()
    results: dict[str, Any] = {}
    with one_thread_a_kernel():
        for name, config in settings(min_face_size).items():
            finder = FaceFinder(config, threads=1)
            turns = list(in_slices(photos, PHOTOS_PER_TURN))
            finder.find(turns[0])
            started = time.perf_counter()
            found = [each for turn in turns for each in finder.find(turn)]
            seconds = time.perf_counter() - started
            results[name] = score(found, [truth[file] for file in files], least)
            results[name]["ms_per_photo"] = seconds / len(files) * 1e3
    first = next(iter(results.values()))
    table = Table(
        "setting", *first["recall"], "false a photo", "main face found", "photos/s", "time"
    )
    for name, row in results.items():
        shares = [f"{value:.3f}" for value in row["recall"].values()]
        time_ratio = row["ms_per_photo"] / first["ms_per_photo"]
        table.add_row(
            name, *shares, f"{row['false_per_photo']:.2f}", f"{row['main_found']:.3f}",
            f"{1e3 / row['ms_per_photo']:.0f}", f"{time_ratio:.2f}x",
        )  # fmt: skip
    counts = ", ".join(f"{count} {label}" for label, count in first["faces"].items())
    console.print(
        f"{len(files)} photos, min_face_size {min_face_size}; boxes of {least:g} px and more: "
        f"{counts}; {first['photos_with_main']} photos whose largest is one",
        highlight=False,
    )
    console.print(table)
    if out is not None:
        out.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
