"""What a hardening is worth: faces found before and after, on photos that were not learnt from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from cropfirst.core.console import say
from cropfirst.core.prefetch import run_ahead
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.harden.config import PasteConfig
from cropfirst.stage1_detect.harden.recall.compare import score_detectors
from cropfirst.stage1_detect.harden.recall.report import recall_table, write_recall_report
from cropfirst.stage1_detect.harden.training.samples import Subject
from cropfirst.stage1_detect.harden.training.targets import Taught
from cropfirst.stage1_detect.harden.training.training_view import Wardrobe, put_on
from cropfirst.stage1_detect.harden.training.truth import KnownFaces
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections
from cropfirst.stage1_detect.photos.read import read_photo
from cropfirst.stage1_detect.pipeline.detect_batches import one_thread_a_kernel
from cropfirst.stage1_detect.pipeline.progress import Progress

_LOW = 0.01
"""O-Net score down to which faces are kept, for the curves."""
HeldOut = Sequence[tuple[Subject, Taught]]


@dataclass(frozen=True)
class _Exam:
    """Photos with their true faces."""

    title: str
    folder: str
    keys: list[str]
    truth: list[KnownFaces]
    photo: Callable[[str], np.ndarray]


def prove(
    held_out: HeldOut,
    weights: Mapping[str, str],
    wardrobe: Wardrobe,
    folder: Path,
    *,
    facts: Mapping[str, str],
    seed: int,
    workers: int,
    console: Console | None,
) -> list[Path]:
    """Measure detectors on photos that none of them learnt from, and write a report of each kind:
    people's boxes, and masks pasted on bare faces.

    Args:
        weights: by the detectors' names; the others are compared with the first.

    Returns:
        The reports' pages.
    """
    pages = []
    for exam in (_of_boxes(held_out), _of_pasted(held_out, wardrobe, seed)):
        if not exam.keys:
            continue
        found = {
            name: _detect(exam, name, each, workers, console) for name, each in weights.items()
        }
        pages.append(
            write_recall_report(
                folder / exam.folder, found, exam.truth, exam.keys,
                photos=exam.photo, facts=facts, title=exam.title,
            )
        )  # fmt: skip
        if console is not None:
            say(console, f"{exam.title}, {len(exam.keys)} photos held out:")
            console.print(recall_table(score_detectors(found, exam.truth)))
    return pages


def _of_boxes(held_out: HeldOut) -> _Exam:
    subjects = {each.key: each for each, taught in held_out if taught.complete}
    return _Exam(
        "Faces found, by mask state",
        "report",
        list(subjects),
        [each.known for each in subjects.values() if each.known is not None],
        lambda key: read_photo(subjects[key].path).image,
    )


def _of_pasted(held_out: HeldOut, wardrobe: Wardrobe, seed: int) -> _Exam:
    """A third each of the photos' faces worn, wrongly worn and bare."""
    lessons = {each.key: (each, taught) for each, taught in held_out if not taught.complete}

    def change(key: str) -> tuple[np.ndarray, KnownFaces]:
        subject, taught = lessons[key]
        # Of the key alone: the same mask whatever else is held out.
        place = hashlib.blake2b(key.encode(), digest_size=8).digest()
        rng = np.random.default_rng([seed, *place])
        image = read_photo(subject.path).image
        return put_on(image, taught, wardrobe, _THIRDS, rng)

    truth = [change(key)[1] for key in lessons]
    return _Exam(
        "Faces found, by the mask that was pasted on them",
        "report-pasted",
        list(lessons),
        truth,
        lambda key: change(key)[0],
    )


_THIRDS = PasteConfig(worn=1 / 3, incorrect=1 / 3, occluded=0.0, stray=0.0, without=0.0)


def _detect(
    exam: _Exam, name: str, weights: str, workers: int, console: Console | None
) -> list[Detections]:
    config = DetectorConfig(weights=weights)
    detector = MTCNN(config, threads=workers)
    thresholds = (*config.thresholds[:2], _LOW)

    def look(key: str) -> Detections:
        return detector.detect_here([exam.photo(key)], thresholds=thresholds)[0]

    found = []
    with one_thread_a_kernel(), Progress(console, name, total=len(exam.keys)) as progress:
        for _, faces in run_ahead(exam.keys, look, workers=workers, size_of=lambda _: 0):
            found.append(faces)
            progress.advance(1)
    return found
