"""Compare detector weights on photos with marked faces, with and without masks.

    python benchmarks/masked_faces.py DATA --weights masked [--weights FILE ...] [--folds FILE]

DATA holds a boxes.csv (file, xmin, ymin, xmax, ymax, label) beside its photos. Printed for the
reference and each of the weights: recall by mask state and false positives per photo, with 95 %
intervals over photos and paired differences from the reference.

--folds FILE names the photos that each weights file was not trained on (the folds.json of
`harden`): {"fold0/weights.safetensors": ["images/a.jpg", ...], ...}, files relative to FILE. Each
photo is then scored by that file; photos of folds that are not trained yet are left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console

from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.harden.recall.report import recall_table, write_recall_json
from cropfirst.stage1_detect.harden.recall.scores import LOW_THRESHOLD, score_detectors
from cropfirst.stage1_detect.harden.recall.sheet import write_recall_sheet
from cropfirst.stage1_detect.harden.training.box_table import clip, read_boxes
from cropfirst.stage1_detect.mtcnn.detector import MTCNN
from cropfirst.stage1_detect.photos.read import ReadError, read_photo
from cropfirst.stage1_detect.pipeline.detect_batches import single_threaded_kernels

CROSS_VALIDATED = "cross-validated"
DetectorOf = Callable[[str], MTCNN]
"""Returns the detector for the photo of a key."""


def read_folds(file: Path) -> dict[str, list[str]]:
    """Return weights file -> photos that it was not trained on.

    Raises:
        click.ClickException: a photo is listed under two weights files.
    """
    listed: dict[str, list[str]] = json.loads(file.read_text("utf-8"))
    counts = Counter(key for keys in listed.values() for key in keys)
    twice = sorted(key for key, count in counts.items() if count > 1)
    if twice:
        raise click.ClickException(
            f"{file}: wanted every photo under one weights file, got {len(twice)} under more, "
            f"e.g. {twice[0]}"
        )
    return {str(file.parent / name): keys for name, keys in listed.items()}


def make_detectors(
    weights: Sequence[str], folds: Mapping[str, Sequence[str]], min_face_size: int
) -> dict[str, DetectorOf]:
    """Load the reference, each of the weights, and those of the folds as one detector."""

    def load(name: str) -> MTCNN:
        return MTCNN(DetectorConfig(weights=name, min_face_size=min_face_size), threads=1)

    loaded = {name: load(name) for name in ("reference", *weights)}
    detectors: dict[str, DetectorOf] = {
        name: lambda key, detector=detector: detector for name, detector in loaded.items()
    }
    if folds:
        by_key = {}
        for file, keys in folds.items():
            by_key |= dict.fromkeys(keys, load(file))
        detectors[CROSS_VALIDATED] = by_key.__getitem__
    return detectors


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--weights", multiple=True, metavar="NAME|FILE", help="May be repeated.")
@click.option(
    "--folds", "folds_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON: weights file -> photos that it was not trained on.",
)  # fmt: skip
@click.option("--limit", default=1_000_000, help="Most photos, evenly spread.")
@click.option("--min-face-size", default=40, show_default=True)
@click.option("--sheet", type=click.Path(path_type=Path), help="PNG of faces won and lost.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(
    data: Path, weights: tuple[str, ...], folds_file: Path | None, limit: int, min_face_size: int,
    sheet: Path | None, out: Path | None,
) -> None:  # fmt: skip
    """Compare weights on the photos of DATA, whose boxes.csv marks the faces."""
    console = Console(width=120)
    try:
        boxes = read_boxes(data / "boxes.csv")
        folds = {} if folds_file is None else read_folds(folds_file)
        in_folds = {key for keys in folds.values() for key in keys}
        keys = [key for key in boxes if not folds or key in in_folds]
        if not keys:
            raise click.ClickException(f"no photo of {data} is listed in {folds_file}")
        if len(keys) < len(boxes):
            console.print(f"{len(boxes) - len(keys)} photos are not in {folds_file}: left out")
        keys = keys[:: max(1, len(keys) // limit)][:limit]
        photos = {key: read_photo(data / key).image for key in keys}
        known = [clip(boxes[key], *photo.shape[:2], name=key) for key, photo in photos.items()]
        detectors = make_detectors(weights, folds, min_face_size)
    except (DetectError, ReadError) as error:
        raise click.ClickException(str(error)) from error
    found = {}
    with single_threaded_kernels():
        for name, detector_of in detectors.items():
            found[name] = []
            for key, photo in photos.items():
                detector = detector_of(key)
                low = (*detector.config.thresholds[:2], LOW_THRESHOLD)
                found[name] += detector.detect_batch([photo], thresholds=low)
    scores = score_detectors(found, known)
    console.print(f"{len(keys)} photos, min_face_size {min_face_size}", highlight=False)
    console.print(recall_table(scores))
    if out is not None:
        write_recall_json(out, scores, photos=len(keys), facts={"data": data.name})
    if sheet is not None:
        last = list(found)[-1]
        write_recall_sheet(sheet, found["reference"], found[last], known, keys, photos.__getitem__)


if __name__ == "__main__":
    main()
