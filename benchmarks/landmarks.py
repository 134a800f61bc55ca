"""Measure how far landmarks and boxes move under pasted masks.

    python benchmarks/landmarks.py PHOTOS... [--weights NAME|FILE ...] [--limit 60] [--seed 0]

PHOTOS are folders or files with bare faces; without any, portraits are drawn. The truth is the
largest face that the reference weights find with certainty in the bare photo with a grey border. A
mask is pasted on it, the same one for all weights, and each of the weights detects the face with
the mask worn, with the mask below the nose, and without a mask. Printed are the distance of each
point in per cent of the true box's width, and the IoU with the true box, on which the `ellipse`
crop depends.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from photo_files import SUFFIXES, list_files
from rich.console import Console
from rich.table import Table

from cropfirst.core.faces.boxes import iou
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.harden.paste.head_model import WearStyle
from cropfirst.stage1_detect.harden.paste.masks import choose_template, paste_mask
from cropfirst.stage1_detect.harden.paste.templates import Template, drawn_templates
from cropfirst.stage1_detect.harden.training.teacher import detect_with_border
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections
from cropfirst.stage1_detect.photos.read import ReadError, read_photo
from cropfirst.stage1_detect.pipeline.detect_batches import single_threaded_kernels

POINTS = ("left eye", "right eye", "nose", "mouth left", "mouth right")
STYLES: dict[str, WearStyle | None] = {"worn": "worn", "nose bare": "nose_bare", "bare": None}
"""Name of a row -> how the mask is worn; None means no mask."""
MIN_SCORE, MIN_IOU = 0.95, 0.4
"""Lowest score of a true face; lowest overlap of the same face."""


@dataclass(frozen=True)
class BareFace:
    """A photo with the true box and landmarks of one bare face."""

    photo: np.ndarray
    """(H, W, 3) uint8 RGB."""
    box: np.ndarray
    """(4,) xyxy."""
    landmarks: np.ndarray
    """(5, 2)."""


@dataclass(frozen=True)
class Displacement:
    """Difference of a detected face from the true one."""

    distances: np.ndarray
    """(5,) distances in per cent of the true box's width."""
    overlap: float
    """IoU with the true box."""


def find_bare_face(photo: np.ndarray, detector: MTCNN) -> BareFace | None:
    """Return the largest face with a high score."""
    faces = detect_with_border(photo, detector)
    rows = np.flatnonzero(faces.probs >= MIN_SCORE)
    if not len(rows):
        return None
    best = rows[np.prod(faces.boxes[rows, 2:] - faces.boxes[rows, :2], axis=1).argmax()]
    return BareFace(photo, faces.boxes[best], faces.landmarks[best])


def paste_each_style(
    face: BareFace, templates: list[Template], seed: Sequence[int]
) -> dict[str, np.ndarray]:
    """Return the photo in each style with one mask; empty if none can be pasted."""
    photos = {}
    for name, style in STYLES.items():
        photo: np.ndarray | None = face.photo
        if style is not None:
            rng = np.random.default_rng(seed)
            template = choose_template(templates, face.landmarks, rng)
            photo = paste_mask(
                face.photo, face.landmarks, template, style=style, rng=rng, box=face.box
            )
        if photo is None:
            return {}
        photos[name] = photo
    return photos


def compare(face: BareFace, found: Detections) -> Displacement | None:
    """Compare the nearest detected face with the true one; None if none is near enough."""
    overlap = iou(face.box[None], found.boxes)[0]
    if not len(overlap) or overlap.max() < MIN_IOU:
        return None
    best = int(overlap.argmax())
    distances = np.linalg.norm(found.landmarks[best] - face.landmarks, axis=1)
    return Displacement(distances / (face.box[2] - face.box[0]) * 100, float(overlap[best]))


def summarise(compared: Sequence[Displacement | None]) -> dict[str, Any]:
    """Return the median and the 95th percentile (of IoU the 5th) of the faces that were found."""
    found = [each for each in compared if each is not None]
    row: dict[str, Any] = {"faces": len(compared), "found": len(found)}
    if found:
        distances = np.stack([each.distances for each in found])
        overlap = np.array([each.overlap for each in found])
        row["points"] = {
            name: np.quantile(column, (0.5, 0.95)).tolist()
            for name, column in zip(POINTS, distances.T, strict=True)
        }
        row["iou"] = np.quantile(overlap, (0.5, 0.05)).tolist()
        row["iou_90"] = float((overlap >= 0.9).mean())
    return row


def measure(
    files: Sequence[Path], weights: Sequence[str], seed: int, min_face_size: int
) -> tuple[dict[str, dict[str, Any]], int]:
    """Return the figures by weights and style, and the number of photos without a true face."""

    def make(name: str) -> MTCNN:
        return MTCNN(DetectorConfig(weights=name, min_face_size=min_face_size), threads=1)

    templates = drawn_templates(seed)
    reference, detectors = make("reference"), {name: make(name) for name in weights}
    compared: dict[tuple[str, str], list[Displacement | None]] = defaultdict(list)
    without = 0
    for index, file in enumerate(files):
        try:
            face = find_bare_face(read_photo(file).image, reference)
        except ReadError:
            face = None
        photos = {} if face is None else paste_each_style(face, templates, (seed, index))
        without += not photos
        for style, photo in photos.items():
            for name, detector in detectors.items():
                assert face is not None
                compared[name, style].append(compare(face, detector.detect_batch([photo])[0]))
    return {
        name: {style: summarise(compared[name, style]) for style in STYLES} for name in weights
    }, without


def show(results: dict[str, dict[str, Any]]) -> Table:
    """Make a table of one row per weights and style."""
    table = Table(
        "weights", "mask", "found", *POINTS, "box IoU", "IoU >= 0.9",
        title="per cent of the face's width, median / 95th percentile; IoU median / 5th percentile",
    )  # fmt: skip
    for name, styles in results.items():
        for style, row in styles.items():
            cells = [f"{row['found']} of {row['faces']}"]
            if row["found"]:
                cells += [f"{two[0]:.1f} / {two[1]:.1f}" for two in row["points"].values()]
                cells += [f"{row['iou'][0]:.3f} / {row['iou'][1]:.3f}", f"{row['iou_90']:.1%}"]
            table.add_row(Path(name).name, style, *cells)
    return table


@click.command()
@click.argument("photos", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--weights", multiple=True, help="Name or file, repeatable [default: reference].")
@click.option("--limit", default=60, show_default=True, help="Most photos, evenly spread.")
@click.option("--min-face-size", default=40, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Seed of the drawn masks.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(
    photos: tuple[Path, ...], weights: tuple[str, ...], limit: int, min_face_size: int, seed: int,
    out: Path | None,
) -> None:  # fmt: skip
    """Measure how far landmarks and boxes move under pasted masks, for some weights."""
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as folder, single_threaded_kernels():
        files = list_files(photos, limit, Path(folder), suffixes=SUFFIXES)
        results, without = measure(files, weights or ("reference",), seed, min_face_size)
    console.print(
        f"{len(files)} photos, {without} of them without a certain face to paste a mask on",
        highlight=False,
    )
    console.print(show(results))
    if out is not None:
        out.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
