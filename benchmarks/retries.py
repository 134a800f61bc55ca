"""Measure what detection thresholds and retries gain on masked faces, and what they cost.

    python benchmarks/retries.py ../shared/data/faces_in_the_wild [--limit 853]

DATA holds a boxes.csv (file, label, xmin, ymin, xmax, ymax). Printed for each setting: the share of
the boxes of each label that a face overlaps with an IoU of at least 0.4, the faces per photo that
overlap no box (of any size), the share of photos whose main face (the largest box) is found, and
the time as a multiple of the first setting's, measured in the same run.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from cropfirst.core.faces.boxes import iou
from cropfirst.core.prefetch import in_slices
from cropfirst.stage1_detect.config import DetectConfig, DetectorConfig, RetryStep
from cropfirst.stage1_detect.harden.training.box_table import read_boxes
from cropfirst.stage1_detect.harden.training.known_faces import KnownFaces
from cropfirst.stage1_detect.mtcnn.detector import PHOTOS_PER_BATCH
from cropfirst.stage1_detect.mtcnn.retry import RetryingDetector, RetryResult
from cropfirst.stage1_detect.photos.read import read_photo
from cropfirst.stage1_detect.pipeline.detect_batches import single_threaded_kernels

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
    ("relaxed", "flipped"),
    ("relaxed", "flipped", "contrast"),
    ("relaxed", "upscaled"),
    ("relaxed", "flipped", "contrast", "upscaled"),
    ("relaxed", "upscaled", "flipped", "contrast", "looser"),
)
MIN_IOU = 0.4
MIN_HEIGHT = 40.0
"""Height in pixels from which on a box counts."""


def settings(min_face_size: int) -> dict[str, DetectConfig]:
    """Return the settings to compare by their names."""
    plain = DetectorConfig(min_face_size=min_face_size)
    relaxed = plain.model_copy(update={"thresholds": RELAXED})
    made = {
        " + ".join(("default", *chain)): DetectConfig(
            detector=plain, retry=tuple(STEPS[name] for name in chain)
        )
        for chain in CHAINS
    }
    made["thresholds (0.5, 0.6, 0.5)"] = DetectConfig(detector=relaxed, retry=())
    return made


def score(found: Sequence[RetryResult], known: Sequence[KnownFaces]) -> dict[str, Any]:
    """Count the known faces that were found, and the faces that are none."""
    hits: dict[str, list[bool]] = defaultdict(list)
    wrong, main = 0, []
    for each, faces in zip(found, known, strict=True):
        overlaps = iou(faces.boxes, each.faces.boxes) >= MIN_IOU
        is_found = overlaps.any(axis=1)
        wrong += int((~overlaps.any(axis=0)).sum())
        heights = faces.boxes[:, 3] - faces.boxes[:, 1]
        for state, height, hit in zip(faces.states, heights, is_found, strict=True):
            if height >= MIN_HEIGHT:
                hits[state or "unknown"].append(bool(hit))
        largest = int(heights.argmax())
        if heights[largest] >= MIN_HEIGHT:
            main.append(bool(is_found[largest]))
    return {
        "recall": {state: float(np.mean(each)) for state, each in sorted(hits.items())},
        "faces": {state: len(each) for state, each in sorted(hits.items())},
        "false_per_photo": wrong / len(found),
        "main_found": float(np.mean(main)) if main else None,
        "photos_with_main": len(main),
    }


def measure(
    photos: Sequence[np.ndarray], known: Sequence[KnownFaces], min_face_size: int
) -> dict[str, dict[str, Any]]:
    """Return the scores and the time per photo of each setting."""
    results = {}
    turns = list(in_slices(photos, PHOTOS_PER_BATCH))
    for name, config in settings(min_face_size).items():
        finder = RetryingDetector(config, threads=1)
        finder.detect(turns[0])
        started = time.perf_counter()
        found = [each for turn in turns for each in finder.detect(turn)]
        seconds = time.perf_counter() - started
        results[name] = score(found, known) | {"ms_per_photo": seconds / len(photos) * 1e3}
    return results


def show(results: dict[str, dict[str, Any]]) -> Table:
    """Make a table of one row per setting."""
    first = next(iter(results.values()))
    table = Table(
        "setting", *first["recall"], "false per photo", "main face found", "photos/s", "time"
    )
    for name, row in results.items():
        shares = [f"{value:.3f}" for value in row["recall"].values()]
        main = "-" if row["main_found"] is None else f"{row['main_found']:.3f}"
        table.add_row(
            name, *shares, f"{row['false_per_photo']:.2f}", main,
            f"{1e3 / row['ms_per_photo']:.0f}",
            f"{row['ms_per_photo'] / first['ms_per_photo']:.2f}x",
        )  # fmt: skip
    return table


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--limit", default=1_000_000, help="Most photos, evenly spread.")
@click.option("--min-face-size", default=40, show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(data: Path, limit: int, min_face_size: int, out: Path | None) -> None:
    """Compare thresholds and retry chains on DATA."""
    boxes = read_boxes(data / "boxes.csv")
    keys = sorted(boxes)
    keys = keys[:: max(1, len(keys) // limit)][:limit]
    photos = [read_photo(data / key).image for key in keys]
    with single_threaded_kernels():
        results = measure(photos, [boxes[key] for key in keys], min_face_size)
    first = next(iter(results.values()))
    counts = ", ".join(f"{count} {state}" for state, count in first["faces"].items())
    console = Console(width=120)
    console.print(
        f"{len(keys)} photos, min_face_size {min_face_size}; boxes of {MIN_HEIGHT:g} px and more: "
        f"{counts}; {first['photos_with_main']} photos whose largest is one",
        highlight=False,
    )
    console.print(show(results))
    if out is not None:
        out.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
