"""How far off the five landmarks are under a mask, and how far the face's box moves.

    python benchmarks/landmarks.py PHOTOS... [--weights NAME|FILE ...] [--limit 60] [--seed 0]

PHOTOS are folders or files with bare faces; without any, portraits are drawn. The reference weights
look at each bare photo in a grey frame; their largest sure face is taken for the truth. Then a mask
is pasted on it, the same one for all weights, and each looks at the photo: worn, worn below the
nose, and bare. Told are the distance of each point in per cent of the true box's width, and the IoU
of the box with the true one: the `ellipse` crop hangs on that box alone.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import cv2
import numpy as np
from photo_files import SUFFIXES, list_files
from rich.console import Console
from rich.table import Table

from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.harden.paste.paste import choose, wear
from cropfirst.stage1_detect.harden.paste.templates import Template, drawn_templates, read_templates
from cropfirst.stage1_detect.mtcnn.boxes import iou
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections
from cropfirst.stage1_detect.photos.read import ReadError, read_photo
from cropfirst.stage1_detect.pipeline.detect_batches import single_threaded_kernels

POINTS = ("left eye", "right eye", "nose", "mouth left", "mouth right")
STATES: dict[str, Literal["worn", "nose_bare"] | None] = {
    "worn": "worn",
    "nose bare": "nose_bare",
    "bare": None,
}
FRAME, SURE, SAME = 0.25, 0.95, 0.4
"""Width of the frame as a share of the longer side; the truth's least score; IoU of one face."""


@dataclass(frozen=True)
class Face:
    """A bare face that is known."""

    photo: np.ndarray
    box: np.ndarray
    """(4,) xyxy."""
    landmarks: np.ndarray
    """(5, 2)."""


@dataclass(frozen=True)
class Seen:
    """What some weights made of one face."""

    errors: np.ndarray
    """(5,) distances in per cent of the true box's width."""
    overlap: float
    """IoU with the true box."""


def bare_face(photo: np.ndarray, detector: MTCNN) -> Face | None:
    """The largest face that the reference is sure of."""
    wide = round(FRAME * max(photo.shape[:2]))
    framed = cv2.copyMakeBorder(
        photo, wide, wide, wide, wide, cv2.BORDER_CONSTANT, value=(127, 127, 127)
    )
    faces = detector.detect_batch([framed])[0]
    sure = np.flatnonzero(faces.probs >= SURE)
    if not len(sure):
        return None
    best = sure[np.prod(faces.boxes[sure, 2:] - faces.boxes[sure, :2], axis=1).argmax()]
    return Face(photo, faces.boxes[best] - wide, faces.landmarks[best] - wide)


def masked(face: Face, templates: list[Template], seed: Sequence[int]) -> dict[str, np.ndarray]:
    """The photo in each state, with one mask; empty where none can be put on."""
    views = {}
    for state, how in STATES.items():
        rng = np.random.default_rng(seed)
        view = face.photo if how is None else wear(
            face.photo, face.landmarks, choose(templates, face.landmarks, rng), how=how, rng=rng,
            box=face.box,
        )  # fmt: skip
        if view is None:
            return {}
        views[state] = view
    return views


def compare(face: Face, found: Detections) -> Seen | None:
    """The nearest of the faces that were found, where one is near enough."""
    overlap = iou(face.box[None], found.boxes)[0]
    if not len(overlap) or overlap.max() < SAME:
        return None
    best = int(overlap.argmax())
    away = np.linalg.norm(found.landmarks[best] - face.landmarks, axis=1)
    return Seen(away / (face.box[2] - face.box[0]) * 100, float(overlap[best]))


def summarise(seen: Sequence[Seen | None]) -> dict[str, Any]:
    found = [each for each in seen if each is not None]
    row: dict[str, Any] = {"faces": len(seen), "found": len(found)}
    if found:
        errors = np.stack([each.errors for each in found])
        overlap = np.array([each.overlap for each in found])
        row["points"] = {
            name: [float(q) for q in np.quantile(column, (0.5, 0.95))]
            for name, column in zip(POINTS, errors.T, strict=True)
        }
        row["iou"] = [float(q) for q in np.quantile(overlap, (0.5, 0.05))]
        row["iou_90"] = float((overlap >= 0.9).mean())
    return row


def measure(
    files: Sequence[Path], weights: Sequence[str], templates: list[Template], seed: int, size: int
) -> tuple[dict[str, dict[str, Any]], int]:
    """Figures by weights and state, and the number of photos without a sure face."""

    def make(name: str) -> MTCNN:
        return MTCNN(DetectorConfig(weights=name, min_face_size=size), threads=1)

    reference, detectors = make("reference"), {name: make(name) for name in weights}
    seen: dict[tuple[str, str], list[Seen | None]] = defaultdict(list)
    without = 0
    for index, file in enumerate(files):
        try:
            face = bare_face(read_photo(file).image, reference)
        except ReadError:
            face = None
        views = {} if face is None else masked(face, templates, (seed, index))
        without += not views
        for state, view in views.items():
            for name, detector in detectors.items():
                assert face is not None
                seen[name, state].append(compare(face, detector.detect_batch([view])[0]))
    return {
        name: {state: summarise(seen[name, state]) for state in STATES} for name in weights
    }, without


def show(results: dict[str, dict[str, Any]]) -> Table:
    table = Table(
        "weights", "state", "found", *POINTS, "box IoU", "IoU >= 0.9",
        title="per cent of the face's width, median / 95th percentile; IoU median / 5th percentile",
    )  # fmt: skip
    for name, states in results.items():
        for state, row in states.items():
            cells = [f"{row['found']} of {row['faces']}"]
            if row["found"]:
                cells += [f"{two[0]:.1f} / {two[1]:.1f}" for two in row["points"].values()]
                cells += [f"{row['iou'][0]:.3f} / {row['iou'][1]:.3f}", f"{row['iou_90']:.1%}"]
            table.add_row(Path(name).name, state, *cells)
    return table


@click.command()
@click.argument("photos", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--weights", multiple=True, help="Name or file, repeatable [default: reference].")
@click.option("--templates", type=click.Path(path_type=Path), help="Masks [default: drawn ones].")
@click.option("--limit", default=60, show_default=True, help="Photos at most, spread evenly.")
@click.option("--min-face-size", default=40, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the masks.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(
    photos: tuple[Path, ...], weights: tuple[str, ...], templates: Path | None, limit: int,
    min_face_size: int, seed: int, out: Path | None,
) -> None:  # fmt: skip
    """How far off landmarks are under masks, for some weights."""
    lot = drawn_templates(seed) if templates is None else read_templates(templates)
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as folder, single_threaded_kernels():
        files = list_files(photos, limit, Path(folder), suffixes=SUFFIXES)
        results, without = measure(files, weights or ("reference",), lot, seed, min_face_size)
    console.print(
        f"{len(files)} photos, {without} of them without a sure face to put a mask on",
        highlight=False,
    )
    console.print(show(results))
    if out is not None:
        out.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
