"""Faces found before and after a hardening, on held-out photos."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from cropfirst.core.console import say
from cropfirst.core.prefetch import prefetch
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.harden.config import PasteConfig
from cropfirst.stage1_detect.harden.paste.cover import TemplateSet
from cropfirst.stage1_detect.harden.recall.report import recall_table, write_recall_json
from cropfirst.stage1_detect.harden.recall.scores import LOW_THRESHOLD, score_detectors
from cropfirst.stage1_detect.harden.recall.sheet import write_recall_sheet
from cropfirst.stage1_detect.harden.training.known_faces import KnownFaces
from cropfirst.stage1_detect.harden.training.trainer import TargetedSamples
from cropfirst.stage1_detect.harden.training.training_view import paste_masks
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections
from cropfirst.stage1_detect.photos.read import read_photo
from cropfirst.stage1_detect.pipeline.detect_batches import single_threaded_kernels
from cropfirst.stage1_detect.pipeline.progress import Progress

_THIRDS = PasteConfig(worn=1 / 3, incorrect=1 / 3, occluded=0.0, stray=0.0, without=0.0)


@dataclass(frozen=True)
class _EvaluationSet:
    """Held-out photos with their known faces."""

    title: str
    file: str
    """Stem of the files to write."""
    keys: list[str]
    known: list[KnownFaces]
    read: Callable[[str], np.ndarray]
    """Reads the photo of a key."""


def evaluate_weights(
    held_out: TargetedSamples,
    before: str,
    after: str,
    template_set: TemplateSet,
    folder: Path,
    *,
    facts: Mapping[str, str],
    seed: int,
    workers: int,
    console: Console | None,
) -> list[Path]:
    """Compare two detectors' weights on photos that neither learnt from.

    Photos with boxes are measured against these; on bare faces of the other photos masks are
    pasted. Each of the two sets gives a JSON file, a sheet and a table on the console.

    Returns:
        The files written.
    """
    written = []
    for photos in (_with_boxes(held_out), _with_pasted_masks(held_out, template_set, seed)):
        if not photos.keys:
            continue
        found = {
            name: _detect(photos, name, weights, workers, console)
            for name, weights in (("before", before), ("after", after))
        }
        scores = score_detectors(found, photos.known)
        report, sheet = folder / f"{photos.file}.json", folder / f"{photos.file}.png"
        write_recall_json(report, scores, photos=len(photos.keys), facts=facts)
        written.append(report)
        if write_recall_sheet(
            sheet, found["before"], found["after"], photos.known, photos.keys, photos.read
        ):
            written.append(sheet)
        if console is not None:
            say(console, f"{photos.title}, {len(photos.keys)} photos held out:")
            console.print(recall_table(scores))
    return written


def _with_boxes(held_out: TargetedSamples) -> _EvaluationSet:
    samples = {each.key: each for each, targets in held_out if targets.complete}
    return _EvaluationSet(
        "Faces found, by mask state",
        "recall",
        list(samples),
        [each.known for each in samples.values() if each.known is not None],
        lambda key: read_photo(samples[key].path).image,
    )


def _with_pasted_masks(
    held_out: TargetedSamples, template_set: TemplateSet, seed: int
) -> _EvaluationSet:
    """Mask a third of the bare faces, mask a third wrongly and leave a third bare."""
    samples = {each.key: (each, targets) for each, targets in held_out if not targets.complete}

    def paste(key: str) -> tuple[np.ndarray, KnownFaces]:
        sample, targets = samples[key]
        # A key always gets the same mask, whatever else is held out.
        place = hashlib.blake2b(key.encode(), digest_size=8).digest()
        rng = np.random.default_rng([seed, *place])
        return paste_masks(read_photo(sample.path).image, targets, template_set, _THIRDS, rng)

    return _EvaluationSet(
        "Faces found, by the mask that was pasted on them",
        "recall-pasted",
        list(samples),
        [paste(key)[1] for key in samples],
        lambda key: paste(key)[0],
    )


def _detect(
    photos: _EvaluationSet, name: str, weights: str, workers: int, console: Console | None
) -> list[Detections]:
    config = DetectorConfig(weights=weights)
    detector = MTCNN(config, threads=workers)
    thresholds = (*config.thresholds[:2], LOW_THRESHOLD)

    def detect(key: str) -> Detections:
        return detector.detect_batch([photos.read(key)], thresholds=thresholds)[0]

    found = []
    with single_threaded_kernels(), Progress(console, name, total=len(photos.keys)) as progress:
        for _, faces in prefetch(photos.keys, detect, workers=workers, size_of=lambda _: 0):
            found.append(faces)
            progress.advance(1)
    return found
