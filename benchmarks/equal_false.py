"""Recall of detectors by mask state, each at the score that gives equally many false positives.

For benchmarks/detect.py and benchmarks/recall.py. Every detector is run with a low threshold; then
the lowest score is taken at which it makes no more false positives than asked for. Faces whose
shorter side is below 0.6 of `min_face_size` are left out for every detector: some have no such
setting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.table import Table

from cropfirst.stage1_detect.harden.recall.recall import MIN_SIZE, match_faces
from cropfirst.stage1_detect.harden.recall.scores import LOW_THRESHOLD
from cropfirst.stage1_detect.harden.training.box_table import clip, read_boxes
from cropfirst.stage1_detect.harden.training.known_faces import MASK_STATES, KnownFaces
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections
from cropfirst.stage1_detect.photos.read import read_photo
from cropfirst.stage1_detect.pipeline.detect_batches import single_threaded_kernels

Find = Callable[[np.ndarray], Detections]
"""Finds the faces of one photo, with a low threshold."""
FindByPhoto = Mapping[str, Find]
"""Photo's key -> the detector for that photo."""


@dataclass(frozen=True)
class Scored:
    """A detector at one number of false positives."""

    threshold: float
    """Lowest score of a face that counts."""
    false_per_photo: float
    found: dict[str, tuple[int, int]]
    """Numbers of found and of all faces of `MIN_SIZE` pixels and more, by mask state."""
    main: dict[str, tuple[int, int]]
    """The same of each photo's largest face."""
    ms: float
    """Milliseconds of processor time per photo, decoding excluded."""


def low(detector: MTCNN) -> Find:
    """Return a detector of ours with a low threshold of O-Net."""
    thresholds = (*detector.config.thresholds[:2], LOW_THRESHOLD)
    return lambda photo: detector.detect_batch([photo], thresholds=thresholds)[0]


def score(
    data: Path,
    detectors: Mapping[str, Find | FindByPhoto],
    *,
    false_per_photo: float,
    min_iou: float,
    min_face_size: int,
    limit: int,
) -> dict[str, Scored]:
    """Run detectors in turn and on one thread on the photos of a boxes.csv, and score them.

    Args:
        data: folder with boxes.csv and the photos.
        detectors: name -> a detector, or those of some photos; the other photos are left out.
        min_iou: overlap from which on a face matches a known one.
        limit: number of photos at most, evenly spread.
    """
    boxes = read_boxes(data / "boxes.csv")
    asked = [set(each) for each in detectors.values() if isinstance(each, Mapping)]
    keys = [key for key in boxes if all(key in each for each in asked)]
    if not keys:
        raise click.ClickException(f"the folds name no photo of {data}")
    keys = keys[:: max(1, len(keys) // limit)][:limit]
    names = list(detectors)
    found: dict[str, list[Detections]] = {name: [] for name in names}
    seconds = dict.fromkeys(names, 0.0)
    known: list[KnownFaces] = []
    for number, key in enumerate(keys):
        photo = read_photo(data / key).image
        known.append(clip(boxes[key], *photo.shape[:2], name=key))
        finds = {
            name: each[key] if isinstance(each, Mapping) else each
            for name, each in detectors.items()
        }
        if not number:
            for find in finds.values():
                find(photo)
        # Each is first on every so many photos, which it then brings into the processor's cache.
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            with single_threaded_kernels():
                started = time.process_time()
                faces = finds[name](photo)
                seconds[name] += time.process_time() - started
            found[name].append(_large_enough(faces, min_face_size))
    return {
        name: _at_false(found[name], known, false_per_photo, min_iou, seconds[name])
        for name in names
    }


def _large_enough(faces: Detections, min_face_size: int) -> Detections:
    kept = (faces.boxes[:, 2:] - faces.boxes[:, :2]).min(axis=1, initial=np.inf)
    kept = kept >= 0.6 * min_face_size
    return Detections(faces.boxes[kept], faces.probs[kept], faces.landmarks[kept])


def _at_false(
    found: Sequence[Detections],
    known: Sequence[KnownFaces],
    false_per_photo: float,
    min_iou: float,
    seconds: float,
) -> Scored:
    matches = [match_faces(*pair, min_iou=min_iou) for pair in zip(found, known, strict=True)]
    false = np.concatenate(
        [faces.probs[each.is_false] for faces, each in zip(found, matches, strict=True)]
    )
    most = int(false_per_photo * len(known))
    # Just above the first false positive that would be one too many.
    limit = np.sort(false)[::-1][most] if len(false) > most else 0.0
    hits: dict[str, list[int]] = {state: [0, 0] for state in (*MASK_STATES, "")}
    main: dict[str, list[int]] = {state: [0, 0] for state in (*MASK_STATES, "")}
    for faces, each, truth in zip(found, matches, known, strict=True):
        passed = set(each.face[(each.face >= 0) & (faces.probs > limit)].tolist())
        sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
        largest = int(sides.prod(axis=1).argmax())
        for index in np.flatnonzero(each.counts):
            for table in (hits, main) if index == largest else (hits,):
                table[truth.states[index]][0] += int(index) in passed
                table[truth.states[index]][1] += 1
    return Scored(
        threshold=float(limit),
        false_per_photo=float((false > limit).sum() / len(known)),
        found={state: (a, b) for state, (a, b) in hits.items() if b},
        main={state: (a, b) for state, (a, b) in main.items() if b},
        ms=seconds / len(known) * 1e3,
    )


TITLES = {"normal": "bare", "wear": "worn", "incorrect": "wrongly worn", "": "unknown"}


def table_of(scored: Mapping[str, Scored]) -> Table:
    """Make a table of recall by mask state, of all faces and of main faces."""
    first = next(iter(scored.values()))
    states = [state for state in TITLES if state in first.found]
    table = Table("detector", "ms", "times", "score >", "false a photo")
    for title, kind in (("", "found"), ("main ", "main")):
        for state in states:
            of = getattr(first, kind).get(state, (0, 0))[1]
            table.add_column(f"{title}{TITLES[state]} ({of})")
    for name, each in scored.items():
        shares = [
            f"{hit / of:.3f}" if of else "-"
            for kind in (each.found, each.main)
            for hit, of in (kind.get(state, (0, 0)) for state in states)
        ]
        table.add_row(
            name, f"{each.ms:.2f}", f"{each.ms / max(first.ms, 1e-9):.2f}",
            f"{each.threshold:.3f}", f"{each.false_per_photo:.2f}", *shares,
        )  # fmt: skip
    return table


def as_dicts(scored: Mapping[str, Scored]) -> dict[str, Any]:
    """Return all figures as JSON takes them."""
    return {name: asdict(each) | {"min_size": MIN_SIZE} for name, each in scored.items()}
