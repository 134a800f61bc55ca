"""manifest.json: everything that happens to a pixel in a bundle, typed and checked.

Knows JSON and numbers; opens no file but its own, and no network.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from cropfirst.core.errors import BundleError
from cropfirst.door.entry import Entry
from cropfirst.door.sets import SetTable

FORMAT, FORMAT_VERSION = "cropfirst-bundle", 2
MANIFEST = "manifest.json"
DETECTOR_FILES = ("pnet.onnx", "rnet.onnx", "onet.onnx")
LOCALISER_FILE = "localiser.onnx"
GOLDEN = "golden/answers.json"
MAX_SIDE = 2048
"""Largest side of a crop in pixels."""
MAX_FILE = 2**31 - 1
"""Largest file of a bundle in bytes: that of an ONNX file."""
BACKGROUNDS = ("ellipse", "segment", "box")
"""Backgrounds that a bundle can have: those whose crop follows the face."""
SELECTIONS = ("largest_over_threshold", "largest", "probability", "center_weighted_size")


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class RetryStep:
    """A further search in a photo without a face; see stage 1's config."""

    name: str
    thresholds: tuple[float, float, float]
    flip: bool
    contrast: bool
    scale: float


@dataclass(frozen=True)
class DetectorEntry:
    """The detector's settings; their names are those of stage 1's config."""

    weights: str
    min_face_size: int
    factor: float
    thresholds: tuple[float, float, float]
    search: str
    select: str
    rnet_overlap: float
    """IoU from which on a better candidate of R-Net removes another one."""
    localiser: bool
    """Whether localiser.onnx places the box of each face again, on the mean of its boxes."""
    retry: tuple[RetryStep, ...]


@dataclass(frozen=True)
class CropEntry:
    """The crop's settings; their names are those of stage 1's config."""

    background: str
    image_size: int
    margin: float
    ellipse_width: float
    ellipse_height: float
    align: bool
    fill: int

    @property
    def uses_box(self) -> bool:
        """Whether the crop depends on the box of the face: it always does in a bundle."""
        return True


@dataclass(frozen=True)
class ClassifierEntry:
    """One classifier."""

    file: str
    image_size: int
    """Side of its input in pixels; crops of another size are resized to it."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Per channel, RGB, for pixels in [0, 1]."""
    tasks: Mapping[str, float]
    """Task -> weight of its probabilities in the vote."""


@dataclass(frozen=True)
class TaskEntry:
    """One task."""

    classes: tuple[str, ...]
    temperature: float = 1.0
    """Temperature of the mean probabilities."""
    offsets: tuple[float, ...] = ()
    """Added to the log-probabilities before the most likely class is taken; () = none."""
    sets: Mapping[str, Any] | None = None
    """Table of conformal limits as `door.sets` has it, and its `alpha` and `source`; None without
    a calibration."""

    @cached_property
    def limits(self) -> np.ndarray | None:
        """(C,) least probability with which each class is possible; None without a calibration."""
        if self.sets is None:
            return None
        return SetTable.from_dict(self.sets).at(self.sets["alpha"])


@dataclass(frozen=True)
class Limits:
    """Beyond these a face is unknown, as nothing like it was learned from."""

    smallest_face: float
    """Shorter side of the box in photo pixels."""
    sharpness: float
    """Least sharpness of a crop, see `core.faces.quality`."""
    turn: float
    """Largest turn of a face, see `core.faces.quality`."""


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json."""

    files: Mapping[str, FileEntry]
    detector: DetectorEntry
    crop: CropEntry
    classifiers: tuple[ClassifierEntry, ...]
    tasks: Mapping[str, TaskEntry]
    limits: Limits
    made_by: Mapping[str, Any] = field(default_factory=dict)
    """Versions and time, for people to read."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Runs, networks and scores, for people to read."""

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the files that are networks."""
        more = (LOCALISER_FILE,) if self.detector.localiser else ()
        return (*DETECTOR_FILES, *more, *(each.file for each in self.classifiers))

    def to_json(self) -> str:
        """Return the text of manifest.json."""
        data = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        return json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, raw: bytes) -> Manifest:
        """Read and check the text of manifest.json.

        Raises:
            BundleError: it is no manifest of this version, or a value is missing or not allowed.
        """
        try:
            data = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{MANIFEST} is not JSON ({error}): copy the bundle again") from error
        top = Entry(data, MANIFEST)
        if top.value("format") != FORMAT:
            raise BundleError(f"{MANIFEST} is not of a bundle: wanted format {FORMAT!r}")
        if (version := top.value("format_version")) != FORMAT_VERSION:
            raise BundleError(
                f"{MANIFEST} has format version {version!r}, this cropfirst reads "
                f"{FORMAT_VERSION}: use the cropfirst that wrote it, or export again"
            )
        found = cls(
            files={name: _file(name, entry) for name, entry in top.entries("files").items()},
            detector=_detector(top.entry("detector")),
            crop=_crop(top.entry("crop")),
            classifiers=tuple(_classifier(each) for each in top.list_of("classifiers")),
            tasks={name: _task(entry) for name, entry in top.entries("tasks").items()},
            limits=_limits(top.entry("limits")),
            made_by=top.mapping("made_by"),
            about=top.mapping("about"),
        )
        _check_whole(found)
        return found


def file_entry(content: bytes) -> FileEntry:
    """Return the entry of a file with this content."""
    return FileEntry(hashlib.sha256(content).hexdigest(), len(content))


def _check_whole(manifest: Manifest) -> None:
    """Check what several entries must agree on."""
    names = [*manifest.networks, GOLDEN]
    missing = [name for name in names if name not in manifest.files]
    if missing:
        raise BundleError(f"{MANIFEST} lists no file {missing[0]}: export again")
    if len(set(manifest.networks)) < len(manifest.networks):
        raise BundleError(f"{MANIFEST} names a network twice: export again")
    if not manifest.tasks or not manifest.classifiers:
        raise BundleError(f"{MANIFEST} has no task or no classifier: export again")
    for name, task in manifest.tasks.items():
        if not any(each.tasks.get(name, 0) > 0 for each in manifest.classifiers):
            raise BundleError(f"{MANIFEST}: no classifier votes on the task {name!r}")
        if task.offsets and len(task.offsets) != len(task.classes):
            raise BundleError(
                f"{MANIFEST}: the task {name!r} has {len(task.classes)} classes and "
                f"{len(task.offsets)} offsets"
            )
    for each in manifest.classifiers:
        unknown = sorted(set(each.tasks) - set(manifest.tasks))
        if unknown:
            raise BundleError(f"{MANIFEST}: {each.file} votes on {unknown[0]!r}, which is no task")


def _file(name: str, entry: Entry) -> FileEntry:
    path = PurePosixPath(name)
    plain = all(part not in ("", ".", "..") for part in name.split("/"))
    if not plain or path.is_absolute() or "\\" in name or ":" in name or name == MANIFEST:
        raise BundleError(
            f"{MANIFEST} names the file {name!r}, which is not one inside of the bundle: do not "
            "use this bundle"
        )
    return FileEntry(entry.text("sha256"), entry.integer("bytes", 0, MAX_FILE))


def _detector(entry: Entry) -> DetectorEntry:
    return DetectorEntry(
        weights=entry.text("weights"),
        min_face_size=entry.integer("min_face_size", 12, 10_000),
        factor=entry.number("factor", 0.1, 0.999),
        thresholds=_three(entry, "thresholds", 0, 1),
        search=entry.one_of("search", ("all", "largest")),
        select=entry.one_of("select", SELECTIONS),
        rnet_overlap=entry.number("rnet_overlap", 0, 1),
        localiser=entry.flag("localiser"),
        retry=tuple(
            RetryStep(
                name=each.text("name"),
                thresholds=_three(each, "thresholds", 0, 1),
                flip=each.flag("flip"),
                contrast=each.flag("contrast"),
                scale=each.number("scale", 0.01, 4),
            )
            for each in entry.list_of("retry", most=20)
        ),
    )


def _crop(entry: Entry) -> CropEntry:
    return CropEntry(
        background=entry.one_of("background", BACKGROUNDS),
        image_size=entry.integer("image_size", 16, MAX_SIDE),
        margin=entry.number("margin", 0, 3),
        ellipse_width=entry.number("ellipse_width", 0.01, 2),
        ellipse_height=entry.number("ellipse_height", 0.01, 2),
        align=entry.flag("align"),
        fill=entry.integer("fill", 0, 255),
    )


def _classifier(entry: Entry) -> ClassifierEntry:
    weights = entry.entry("tasks")
    return ClassifierEntry(
        file=entry.text("file"),
        image_size=entry.integer("image_size", 16, MAX_SIDE),
        mean=_three(entry, "mean", -10, 10),
        std=_three(entry, "std", 1e-4, 10),
        tasks={name: weights.number(name, 0, 1e6) for name in weights.names},
    )


def _task(entry: Entry) -> TaskEntry:
    found = TaskEntry(
        classes=entry.texts("classes"),
        temperature=entry.number("temperature", 1e-3, 1e3),
        offsets=entry.numbers("offsets", -100, 100),
        sets=None if entry.value("sets") is None else entry.mapping("sets"),
    )
    if found.sets is not None:
        sets = entry.entry("sets")
        sets.number("alpha", 0, 1)
        sets.text("source")
        classes = sets.entry("classes").names
        try:
            limits = found.limits
        except ValueError as error:
            raise BundleError(f"{MANIFEST}: the sets cannot be used: {error}") from error
        if tuple(classes) != found.classes or limits is None:
            raise BundleError(f"{MANIFEST}: the sets are of {classes}, wanted {found.classes}")
    return found


def _limits(entry: Entry) -> Limits:
    return Limits(
        smallest_face=entry.number("smallest_face", 0, 1e6),
        sharpness=entry.number("sharpness", 0, 1e6),
        turn=entry.number("turn", 0, math.inf),
    )


def _three(entry: Entry, name: str, low: float, high: float) -> tuple[float, float, float]:
    first, second, third = entry.numbers(name, low, high, count=3)
    return first, second, third
