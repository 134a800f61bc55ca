"""Measure whether other weights find the reference's face with the same box, and how fast.

    python benchmarks/same_faces.py PHOTOS... [--weights masked ...] [--border] [--limit 340]

PHOTOS are folders or files; without any, portraits are drawn. The largest face that the reference
weights find in each photo is searched again: by the other weights, and by the reference itself in a
photo that looks the same (two pixels cut off, saved as JPEG again, 5 % darker). Printed are the
share that was found, the share whose box has an IoU of at least 0.9, with a bootstrap interval over
photos, and the median time of a detection, decoding excluded. With --border the truth is the
reference's box in a photo with a grey border, which shows where a face ends that reaches past the
photo's edge.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import cv2
import numpy as np
from photo_files import SUFFIXES, list_files
from rich.console import Console
from rich.table import Table

from cropfirst.core.bootstrap import Ints, bootstrap_intervals
from cropfirst.core.faces.boxes import iou
from cropfirst.core.faces.select import select_face
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.harden.training.teacher import detect_with_border
from cropfirst.stage1_detect.mtcnn.detector import MTCNN
from cropfirst.stage1_detect.photos.read import read_photo
from cropfirst.stage1_detect.pipeline.detect_batches import single_threaded_kernels

CUT, QUALITY, DARKER = 2, 80, 0.95
SAME_FACE, SAME_BOX = 0.5, 0.9
"""Lowest IoU of the same face and of the same box."""
ROUNDS = 3
"""Number of timed rounds over all photos."""


@dataclass(frozen=True)
class Agreement:
    """Agreement with the boxes of the reference on the unchanged photos."""

    same: float
    """Share of the faces that were found, IoU >= 0.5."""
    close: tuple[float, float, float]
    """Share with an IoU >= 0.9, and its 95 % interval."""
    mean: float
    """Mean IoU; 0 for a face that was not found."""
    ms: float | None
    """Milliseconds per photo; None if the photo was changed."""


def save_again(photo: np.ndarray) -> np.ndarray:
    """Encode and decode (H, W, 3) uint8 RGB as JPEG."""
    _, packed = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return np.ascontiguousarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1])


CHANGES: Mapping[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    f"{CUT} pixels cut off": (lambda photo: np.ascontiguousarray(photo[CUT:, CUT:]), CUT),
    f"as JPEG of quality {QUALITY}": (save_again, 0),
    "5 % darker": (lambda photo: (photo * DARKER).astype(np.uint8), 0),
}
"""Change of a photo, and the pixels by which its boxes move to the upper left."""


def find_largest(photo: np.ndarray, detector: MTCNN, *, border: bool = False) -> np.ndarray | None:
    """Return the (4,) xyxy box of the largest face."""
    faces = detect_with_border(photo, detector) if border else detector.detect_batch([photo])[0]
    index = select_face(faces, "largest", height=photo.shape[0], width=photo.shape[1])
    return None if index is None else faces.boxes[index]


def box_iou(wanted: np.ndarray, found: np.ndarray | None) -> float:
    """Return the IoU of two boxes; 0 if nothing was found."""
    return 0.0 if found is None else float(iou(wanted[None], found[None])[0, 0])


def summarise(overlaps: Sequence[float], ms: float | None) -> Agreement:
    """Return the shares over photos with an interval."""
    values = np.array(overlaps)
    close = values >= SAME_BOX

    def share(weights: Ints) -> np.ndarray:
        return (weights @ close / weights.sum(axis=1))[None]

    interval = bootstrap_intervals(share, len(close))[0]
    return Agreement(
        float((values >= SAME_FACE).mean()),
        (interval.value, interval.low, interval.high),
        float(values.mean()),
        ms,
    )


def measure(
    files: Sequence[Path], weights: Sequence[str], min_face_size: int, *, border: bool = False
) -> dict[str, Agreement]:
    """Return the agreement of each of the weights, and of the reference on changed photos."""
    names = ["reference", *(name for name in weights if name != "reference")]
    config = DetectorConfig(min_face_size=min_face_size)
    detectors = {
        name: MTCNN(config.model_copy(update={"weights": name}), threads=1) for name in names
    }
    photos = [read_photo(file).image for file in files]
    boxes = {  # this also compiles the nets for all shapes
        name: [find_largest(photo, detector) for photo in photos]
        for name, detector in detectors.items()
    }
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name, detector in detectors.items():
            started = time.perf_counter()
            for photo in photos:
                detector.detect_batch([photo])
            times[name].append((time.perf_counter() - started) * 1e3 / len(photos))
    truth = boxes["reference"]
    if border:
        truth = [find_largest(photo, detectors["reference"], border=True) for photo in photos]
    wanted = {i: box for i, box in enumerate(truth) if box is not None}
    if not wanted:
        raise click.UsageError("the reference finds no face in these photos: give others")
    rows = {
        name: summarise(
            [box_iou(box, boxes[name][i]) for i, box in wanted.items()],
            statistics.median(times[name]),
        )
        for name in names
    }
    for what, (change, shift) in CHANGES.items():
        again = {i: find_largest(change(photos[i]), detectors["reference"]) for i in wanted}
        overlaps = [box_iou(box - shift, again[i]) for i, box in wanted.items()]
        rows[f"reference, {what}"] = summarise(overlaps, None)
    return rows


def show(rows: Mapping[str, Agreement]) -> Table:
    """Make a table of one row per weights or change."""
    table = Table("", "same face", "IoU >= 0.9", "mean IoU", "ms per photo", "times")
    reference = rows["reference"].ms
    for name, row in rows.items():
        low, high = row.close[1:]
        cells = [f"{row.same:.1%}", f"{row.close[0]:.1%} ({low:.1%} to {high:.1%})"]
        cells.append(f"{row.mean:.3f}")
        if row.ms is not None and reference is not None:
            cells += [f"{row.ms:.2f}", f"{row.ms / reference:.2f}"]
        table.add_row(Path(name).name, *cells)
    return table


@click.command()
@click.argument("photos", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--weights", multiple=True, help="Name or file, repeatable [default: masked].")
@click.option("--border", is_flag=True, help="Take the reference's box in a bordered photo.")
@click.option("--limit", default=340, show_default=True, help="Most photos, evenly spread.")
@click.option("--min-face-size", default=40, show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(
    photos: tuple[Path, ...], weights: tuple[str, ...], border: bool, limit: int,
    min_face_size: int, out: Path | None,
) -> None:  # fmt: skip
    """Search the reference's largest face of each photo again."""
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as folder, single_threaded_kernels():
        files = list_files(photos, limit, Path(folder), suffixes=SUFFIXES)
        rows = measure(files, weights or ("masked",), min_face_size, border=border)
    console.print(f"{len(files)} photos, one thread on the CPU", highlight=False)
    console.print(show(rows))
    if out is not None:
        out.write_text(json.dumps({name: asdict(row) for name, row in rows.items()}, indent=2))


if __name__ == "__main__":
    main()
