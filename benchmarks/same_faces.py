"""Whether other weights find the reference's face in the reference's place, and how steady the
reference's own place is.

    python benchmarks/same_faces.py PHOTOS... [--weights masked ...] [--limit 340]

PHOTOS are folders or files; without any, portraits are drawn. In each photo the largest face that
the reference weights find is looked for again: by the other weights, and by the reference itself in
a photo that nobody would tell from the first (two pixels cut off, saved as JPEG once more, 5 %
darker). Told are the share found, the share whose box has an IoU of 0.9 or more, with a bootstrap
interval over the photos, and the milliseconds of the look itself, decoding left out, medians of
three turns of each, one after the other.
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
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.mtcnn.boxes import iou
from cropfirst.stage1_detect.mtcnn.detector import MTCNN
from cropfirst.stage1_detect.mtcnn.select import select_face
from cropfirst.stage1_detect.photos.read import read_photo
from cropfirst.stage1_detect.pipeline.detect_batches import single_threaded_kernels

CUT, QUALITY, DARKER = 2, 80, 0.95
SAME, CLOSE = 0.5, 0.9
ROUNDS = 3


@dataclass(frozen=True)
class Row:
    """What became of the reference's faces."""

    same: float
    """Share that was found again, IoU >= 0.5."""
    close: tuple[float, float, float]
    """Share with an IoU >= 0.9, and its 95 % interval."""
    mean: float
    """IoU; 0 where the face is lost."""
    ms: float | None
    """A photo; None where the photo was changed."""


def saved_again(photo: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB through JPEG."""
    _, packed = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return np.ascontiguousarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1])


CHANGES: Mapping[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    f"{CUT} pixels cut off": (lambda photo: np.ascontiguousarray(photo[CUT:, CUT:]), CUT),
    f"as JPEG of quality {QUALITY}": (saved_again, 0),
    "5 % darker": (lambda photo: (photo * DARKER).astype(np.uint8), 0),
}
"""The changed photo, and what its boxes are off by."""


def largest(photo: np.ndarray, detector: MTCNN) -> np.ndarray | None:
    """(4,) xyxy of the largest face."""
    faces = detector.detect_batch([photo])[0]
    index = select_face(faces, "largest", height=photo.shape[0], width=photo.shape[1])
    return None if index is None else faces.boxes[index]


def overlap(wanted: np.ndarray, found: np.ndarray | None) -> float:
    """IoU; 0 where nothing is found."""
    return 0.0 if found is None else float(iou(wanted[None], found[None])[0, 0])


def summarise(overlaps: Sequence[float], ms: float | None) -> Row:
    values = np.array(overlaps)

    def share(draws: Ints) -> np.ndarray:
        return ((draws @ (values >= CLOSE)) / draws.sum(axis=1))[None]

    close = bootstrap_intervals(share, len(values))[0]
    bounds = (close.value, close.low, close.high)
    return Row(float((values >= SAME).mean()), bounds, float(values.mean()), ms)


def measure(files: Sequence[Path], weights: Sequence[str], min_face_size: int) -> dict[str, Row]:
    names = ["reference", *(name for name in weights if name != "reference")]
    config = DetectorConfig(min_face_size=min_face_size)
    detectors = {
        name: MTCNN(config.model_copy(update={"weights": name}), threads=1) for name in names
    }
    photos = [read_photo(file).image for file in files]
    times: dict[str, list[float]] = {name: [] for name in names}
    boxes = {  # this also compiles the nets for all shapes
        name: [largest(photo, detector) for photo in photos] for name, detector in detectors.items()
    }
    for _ in range(ROUNDS):
        for name, detector in detectors.items():
            started = time.perf_counter()
            for photo in photos:
                detector.detect_batch([photo])
            times[name].append((time.perf_counter() - started) * 1e3 / len(photos))
    ms = {name: statistics.median(each) for name, each in times.items()}
    wanted = {i: box for i, box in enumerate(boxes["reference"]) if box is not None}
    if not wanted:
        raise click.UsageError("the reference finds no face in these photos: give others")
    rows = {
        name: summarise([overlap(box, boxes[name][i]) for i, box in wanted.items()], ms[name])
        for name in names
    }
    for what, (change, off) in CHANGES.items():
        again = {i: largest(change(photos[i]), detectors["reference"]) for i in wanted}
        overlaps = [overlap(box - off, again[i]) for i, box in wanted.items()]
        rows[f"reference, {what}"] = summarise(overlaps, None)
    return rows


def show(rows: Mapping[str, Row]) -> Table:
    table = Table("", "same face", "IoU >= 0.9", "mean IoU", "ms a photo", "times")
    least = rows["reference"].ms
    for name, row in rows.items():
        low, high = row.close[1:]
        cells = [f"{row.same:.1%}", f"{row.close[0]:.1%} ({low:.1%} to {high:.1%})"]
        cells.append(f"{row.mean:.3f}")
        if row.ms is not None and least is not None:
            cells += [f"{row.ms:.2f}", f"{row.ms / least:.2f}"]
        table.add_row(Path(name).name, *cells)
    return table


@click.command()
@click.argument("photos", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--weights", multiple=True, help="Name or file, repeatable [default: masked].")
@click.option("--limit", default=340, show_default=True, help="Photos at most, spread evenly.")
@click.option("--min-face-size", default=40, show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(
    photos: tuple[Path, ...], weights: tuple[str, ...], limit: int, min_face_size: int,
    out: Path | None,
) -> None:  # fmt: skip
    """The reference's largest face of each photo, looked for again."""
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as folder, single_threaded_kernels():
        files = list_files(photos, limit, Path(folder), suffixes=SUFFIXES)
        rows = measure(files, weights or ("masked",), min_face_size)
    console.print(f"{len(files)} photos, one thread on the CPU", highlight=False)
    console.print(show(rows))
    if out is not None:
        out.write_text(json.dumps({name: asdict(row) for name, row in rows.items()}, indent=2))


if __name__ == "__main__":
    main()
