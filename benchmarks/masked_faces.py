"""Other weights beside the reference's on faces with and without masks, and ways to use both.

    python benchmarks/masked_faces.py DATA --weights masked=FILE.safetensors [--report FOLDER]

DATA holds a boxes.csv (file, xmin, ymin, xmax, ymax, label) beside its photos. For the reference,
each of the weights, and both together: recall by mask state and false positives a photo, with 95 %
intervals over photos and paired differences from the reference; recall with no more false positives
than the reference's; and the median time a photo, decoding excluded, all in turn in one run.

Both together means: the faces of two whole cascades; or both R- and O-Nets on the proposals of the
weights' own P-Net (scores joined by their larger or their mean, where a face that one of them does
not see has 0 from it); or the weights only where the reference finds nothing in the photo.

--folds FILE says which photos each weights file was not trained on, as JSON: {"fold0.safetensors":
["images/a.jpg", ...], ...}, files relative to FILE. Each photo is then scored by that file; photos
that are under none, since their fold is not trained yet, are left out for all.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from cropfirst.core.errors import DetectError
from cropfirst.core.prefetch import in_slices
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.harden.recall.compare import Scored, figures, score_detectors
from cropfirst.stage1_detect.harden.recall.report import recall_table, write_recall_report
from cropfirst.stage1_detect.harden.training.box_table import clip, read_boxes
from cropfirst.stage1_detect.mtcnn.boxes import iou, nms_min
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, PHOTOS_PER_TURN, Detections
from cropfirst.stage1_detect.photos.read import ReadError, read_photo
from cropfirst.stage1_detect.pipeline.detect_batches import one_thread_a_kernel

LOW = 0.01
"""O-Net threshold that the curves start from; those of P- and R-Net are the config's."""
USE = 0.7
MEAN = 0.5
"""O-Net threshold of use for the mean of two scores."""
SAME = 0.5
"""IoU from which on two cascades' boxes are one face."""
Join = Callable[[np.ndarray, np.ndarray], np.ndarray]
Find = Callable[[Sequence[str], Sequence[np.ndarray], float], list[Detections]]
"""Keys and photos of a batch, O-Net threshold -> faces."""
DetectorOf = Callable[[str], MTCNN]


@dataclass(frozen=True)
class Side:
    """One way to find faces."""

    find: Find
    threshold: float = USE


def thresholds(detector: MTCNN, least: float) -> tuple[float, float, float]:
    return (*detector.config.thresholds[:2], least)


def one_cascade(detector_of: DetectorOf) -> Find:
    """Each photo by its own detector, in batches by detector."""

    def find(keys: Sequence[str], photos: Sequence[np.ndarray], least: float) -> list[Detections]:
        groups: dict[int, list[int]] = defaultdict(list)
        for place, key in enumerate(keys):
            groups[id(detector_of(key))].append(place)
        found: dict[int, Detections] = {}
        for places in groups.values():
            detector = detector_of(keys[places[0]])
            faces = detector.detect_here(
                [photos[i] for i in places], thresholds=thresholds(detector, least)
            )
            found.update(zip(places, faces, strict=True))
        return [found[i] for i in range(len(keys))]

    return find


def two_cascades(reference: Find, other: Find, join: Join) -> Find:
    def find(keys: Sequence[str], photos: Sequence[np.ndarray], least: float) -> list[Detections]:
        pairs = zip(reference(keys, photos, LOW), other(keys, photos, LOW), strict=True)
        return [joined(mine, theirs, join, least) for mine, theirs in pairs]

    return find


def same_proposals(reference: MTCNN, detector_of: DetectorOf, join: Join) -> Find:
    """Both R- and O-Nets on what the other weights' P-Net proposes; MTCNN's own steps."""

    @torch.inference_mode()
    def one(photos: Sequence[np.ndarray], other: MTCNN, least: float) -> list[Detections]:
        images = other._take(photos)
        levels = [
            level
            for index, shape in enumerate(images.shapes)
            for level in other._levels(index, *shape)
        ]
        limits = thresholds(other, LOW)
        proposals = other._propose(images, levels, limits[0])
        mine = reference._finish(images, proposals, limits)
        theirs = other._finish(images, proposals, limits)
        return [joined(*pair, join, least) for pair in zip(mine, theirs, strict=True)]

    def find(keys: Sequence[str], photos: Sequence[np.ndarray], least: float) -> list[Detections]:
        others = [detector_of(key) for key in keys]
        if all(other is others[0] for other in others):
            return one(photos, others[0], least)
        return [one([photo], other, least)[0] for photo, other in zip(photos, others, strict=True)]

    return find


def where_nothing(reference: Find, other: Find) -> Find:
    """The other weights only on photos in which the reference finds nothing."""

    def find(keys: Sequence[str], photos: Sequence[np.ndarray], least: float) -> list[Detections]:
        found = reference(keys, photos, least)
        bare = [i for i, faces in enumerate(found) if not (faces.probs > USE).any()]
        again = other([keys[i] for i in bare], [photos[i] for i in bare], least) if bare else []
        for place, faces in zip(bare, again, strict=True):
            found[place] = faces
        return found

    return find


def joined(mine: Detections, theirs: Detections, join: Join, least: float) -> Detections:
    """Faces of two detectors as one list: scores joined, then the cascade's last NMS."""
    same = iou(mine.boxes, theirs.boxes) >= SAME
    scores = np.concatenate(
        [
            join(mine.probs, np.where(same, theirs.probs[None], 0).max(axis=1, initial=0)),
            join(theirs.probs, np.where(same, mine.probs[:, None], 0).max(axis=0, initial=0)),
        ]
    )
    boxes = np.concatenate([mine.boxes, theirs.boxes])
    landmarks = np.concatenate([mine.landmarks, theirs.landmarks])
    kept = nms_min(boxes, scores, np.zeros(len(boxes), np.int64), 0.7)
    kept = kept[scores[kept] > least]
    return Detections(boxes[kept], scores[kept].astype(np.float32), landmarks[kept])


def mean(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one + other) / 2


def build_sides(reference: MTCNN, others: Mapping[str, DetectorOf]) -> dict[str, Side]:
    plain = one_cascade(lambda key: reference)
    sides = {"reference": Side(plain)}
    for name, detector_of in others.items():
        alone = one_cascade(detector_of)
        sides[name] = Side(alone)
        for how, join, use in (("max", np.maximum, USE), ("mean", mean, MEAN)):
            sides[f"{name}: two cascades, {how}"] = Side(two_cascades(plain, alone, join), use)
            on_same = same_proposals(reference, detector_of, join)
            sides[f"{name}: same proposals, {how}"] = Side(on_same, use)
        sides[f"{name}: where nothing was found"] = Side(where_nothing(plain, alone))
    return sides


def find_all(
    side: Side, keys: Sequence[str], photos: Sequence[np.ndarray], least: float, size: int
) -> list[Detections]:
    batches = zip(in_slices(keys, size), in_slices(photos, size), strict=True)
    return [faces for batch in batches for faces in side.find(*batch, least)]


def time_sides(
    sides: Mapping[str, Side],
    keys: Sequence[str],
    photos: Sequence[np.ndarray],
    *,
    rounds: int,
    size: int,
) -> dict[str, list[float]]:
    """Seconds a photo of every side and round, in turn; one unmeasured batch before."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side.find(keys[:size], photos[:size], side.threshold)
    for _ in range(rounds):
        for name, side in sides.items():
            started = time.perf_counter()
            find_all(side, keys, photos, side.threshold, size)
            seconds[name].append((time.perf_counter() - started) / len(keys))
    return seconds


def read_folds(file: Path) -> dict[str, list[str]]:
    """Weights file, as a path -> photos that it was not trained on.

    Raises:
        click.ClickException: a photo is under two.
    """
    listed: dict[str, list[str]] = json.loads(file.read_text("utf-8"))
    held_out = {str(file.parent / name): keys for name, keys in listed.items()}
    keys = [key for out in held_out.values() for key in out]
    twice = sorted({key for key, count in Counter(keys).items() if count > 1})
    if twice:
        raise click.ClickException(
            f"{file}: wanted every photo under one weights file, got {len(twice)} under more, "
            f"e.g. {twice[0]}"
        )
    return held_out


def read_weights(
    weights: Sequence[str], held_out: Mapping[str, Sequence[str]], make: Callable[[str], MTCNN]
) -> tuple[dict[str, DetectorOf], dict[str, DetectorOf]]:
    """Detectors to measure, and those to time: one file stands for all folds there, so that a
    batch is not torn apart."""
    measured: dict[str, DetectorOf] = {}
    for text in weights:
        name, _, file = text.rpartition("=")
        detector = make(file)
        measured[name or Path(file).stem] = lambda key, detector=detector: detector
    timed = dict(measured)
    if held_out:
        nets = {file: make(file) for file in held_out}
        of = {key: nets[file] for file, out in held_out.items() for key in out}
        measured["cross-validated"] = of.__getitem__
        first = next(iter(nets.values()))
        timed["cross-validated"] = lambda key: first
    return measured, timed


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--weights", multiple=True, metavar="NAME=FILE", help="Weights to compare; may be repeated."
)
@click.option(
    "--folds", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON: weights file -> photos that it was not trained on.",
)  # fmt: skip
@click.option("--limit", default=1_000_000, help="Photos at most, spread evenly.")
@click.option("--min-face-size", default=40, show_default=True)
@click.option("--rounds", default=3, show_default=True, help="Of timing; 0 = none.")
@click.option("--timed", default=200, show_default=True, help="Photos that are timed.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--report", type=click.Path(path_type=Path), help="A page of each weights alone.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(
    data: Path, weights: tuple[str, ...], folds: Path | None, limit: int, min_face_size: int,
    rounds: int, timed: int, device: str, report: Path | None, out: Path | None,
) -> None:  # fmt: skip
    """Compare weights on the photos of DATA, whose boxes.csv says where faces are."""

    def make(file: str) -> MTCNN:
        config = DetectorConfig(weights=file, min_face_size=min_face_size)
        return MTCNN(config, device=device, threads=1)

    try:
        known = read_boxes(data / "boxes.csv")
        held_out = {} if folds is None else read_folds(folds)
        scored_by_a_fold = {key for out in held_out.values() for key in out}
        there = [key for key in known if folds is None or key in scored_by_a_fold]
        if not there:
            raise click.ClickException(f"none of the photos of {data} is under weights of {folds}")
        keys = there[:: max(1, len(there) // limit)][:limit]
        photos = [read_photo(data / key).image for key in keys]
        truth = [
            clip(known[key], *photo.shape[:2], name=key)
            for key, photo in zip(keys, photos, strict=True)
        ]
        measured, quick = read_weights(weights, held_out, make)
    except (DetectError, ReadError) as error:
        raise click.ClickException(str(error)) from error
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    where = f"{device} ({name}), torch {torch.__version__}, one thread"
    console = Console(width=120)
    if len(there) < len(known):
        left = len(known) - len(there)
        console.print(f"{left} photos are under no weights of {folds}: left out", highlight=False)
    console.print(f"{len(keys)} photos, min_face_size {min_face_size}, {where}", highlight=False)
    reference, size = make("reference"), PHOTOS_PER_TURN if device == "cpu" else 256
    sides = build_sides(reference, measured)
    use = {name: side.threshold for name, side in sides.items()}
    step = max(1, len(keys) // timed)
    with one_thread_a_kernel():
        found = {name: find_all(each, keys, photos, LOW, size) for name, each in sides.items()}
        seconds = time_sides(
            build_sides(reference, quick), keys[::step], photos[::step], rounds=rounds, size=size
        )
    scored = score_detectors(found, truth, thresholds=use)
    times = {name: statistics.median(each) * 1e3 for name, each in seconds.items() if each}
    console.print(recall_table(scored))
    console.print(cost_table(scored, times))
    if out is not None:
        figures_and_times: dict[str, Any] = {
            "device": where, "photos": len(keys), "detectors": figures(scored),
            "ms_a_photo": times, "seconds_a_photo": seconds,
        }  # fmt: skip
        out.write_text(json.dumps(figures_and_times, indent=2))
    if report is not None:
        picture = dict(zip(keys, photos, strict=True))
        facts = {"data": data.name, "device": where, "weights": ", ".join(weights),
                 "ms a photo": ", ".join(f"{k} {v:.2f}" for k, v in times.items())}  # fmt: skip
        alone = {name: found[name] for name in ("reference", *measured)}
        page = write_recall_report(
            report, alone, truth, keys, photos=picture.__getitem__, facts=facts
        )
        console.print(f"report: {page}", highlight=False, soft_wrap=True)


def cost_table(scored: Sequence[Scored], times: Mapping[str, float]) -> Table:
    """Recall at the reference's false positives, and time."""
    states = list(scored[0].counts)
    table = Table(title="with no more false positives than the reference; time")
    for head in ("detector", *(state or "unknown" for state in states), "ms a photo", "time"):
        table.add_column(head)
    for one in scored:
        time_told = ["", ""]
        if times:
            ratio = times[one.name] / times["reference"]
            time_told = [f"{times[one.name]:.2f}", f"{ratio:.2f}x"]
        shares = [f"{one.recall_at_false[state]:.3f}" for state in states]
        table.add_row(one.name, *shares, *time_told)
    return table


if __name__ == "__main__":
    main()
