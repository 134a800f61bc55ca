"""From the faces of a bundle to what the tracks take in. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cropfirst.core.errors import DoorError
from cropfirst.door.bundle import Bundle
from cropfirst.door.faces import Face
from cropfirst.door.tracks import Sighting, Tracks, TrackSettings

DEFAULT_TASK = "mask"


def choose_task(bundle: Bundle, task: str | None = None) -> str:
    """Return the task that is tracked: the given one, else `mask`, else the bundle's first.

    Raises:
        DoorError: the bundle does not have the given task.
    """
    tasks = list(bundle.tasks)
    if task is not None and task not in tasks:
        raise DoorError(f"wanted one of the bundle's tasks ({', '.join(tasks)}), got {task!r}")
    return task or (DEFAULT_TASK if DEFAULT_TASK in tasks else tasks[0])


def start_tracks(
    bundle: Bundle, task: str, *, alarm_classes: Sequence[str] | None = None
) -> Tracks:
    """Return tracks with the bundle's limits for one task.

    Raises:
        DoorError: the task does not have one of `alarm_classes`.
    """
    classes = bundle.tasks[task]
    unknown = [name for name in alarm_classes or () if name not in classes]
    if unknown:
        raise DoorError(f"wanted classes of {task} ({', '.join(classes)}), got {unknown[0]!r}")
    limits = bundle.manifest.limits
    settings = TrackSettings(
        smallest_face=limits.smallest_face or TrackSettings.smallest_face,
        smallest_sharpness=limits.sharpness,
        alarm_classes=TrackSettings.alarm_classes if alarm_classes is None else
        tuple(alarm_classes),
    )  # fmt: skip
    return Tracks(classes, settings)


def sighting_of(face: Face, task: str) -> Sighting:
    """Return a face as the tracks take it in; without probabilities if it was not classified."""
    answer = face.answers.get(task)
    return Sighting(
        box=face.box,
        size=face.size,
        sharpness=0.0 if math.isnan(face.sharpness) else face.sharpness,
        probabilities=None if answer is None else dict(answer.probabilities),
        possible=() if answer is None else answer.possible,
        unknown=face.unknown,
    )
