"""The answers for faces, from the detector's faces and the classifiers' probabilities.

The export makes the run's own answers by the same functions. Knows arrays and the manifest; knows
nothing of networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cropfirst.core.faces.quality import sharpness, turn
from cropfirst.core.faces.select import select_face
from cropfirst.core.probabilities import decide
from cropfirst.door.detector import Found
from cropfirst.door.faces import Face, TaskAnswer, Unknown
from cropfirst.door.manifest import Limits, Manifest, TaskEntry
from cropfirst.door.sets import names_of, possible_classes


def answer_faces(
    faces: Sequence[Face],
    crops: Sequence[np.ndarray],
    probs: Mapping[str, np.ndarray],
    manifest: Manifest,
) -> list[Face]:
    """Return faces with the answers that follow from their crops' probabilities.

    Args:
        crops: one per face, (S, S, 3) uint8 RGB.
        probs: task -> (N, C) probabilities after the vote and temperature.
    """
    chosen = {name: decide(probs[name], task.offsets) for name, task in manifest.tasks.items()}
    answered = []
    for row, (face, crop) in enumerate(zip(faces, crops, strict=True)):
        answers = {
            name: _answer_of(task, probs[name][row], int(chosen[name][row]))
            for name, task in manifest.tasks.items()
        }
        face = replace(face, sharpness=sharpness(crop), answers=answers)
        answered.append(replace(face, unknown=_unknown(face, manifest.limits)))
    return answered


def order_faces(found: Found, select: str, *, height: int, width: int) -> list[Face]:
    """Return the faces of a photo without answers: the main one first, then by falling score.

    Args:
        select: method that chooses the main face, see `core.faces.select`.
        height, width: size of the photo in pixels.
    """
    rows = zip(found.faces.boxes, found.faces.landmarks, found.faces.probs, strict=True)
    faces = [
        Face(
            box=(float(x1), float(y1), float(x2), float(y2)),
            landmarks=points.astype(np.float32),
            score=float(score),
            status=found.status,
            turn=turn(points),
        )
        for (x1, y1, x2, y2), points, score in rows
    ]
    main = select_face(found.faces, select, height=height, width=width) or 0
    return [*faces[main : main + 1], *faces[:main], *faces[main + 1 :]]


def _unknown(face: Face, limits: Limits) -> Unknown | None:
    if face.size < limits.smallest_face:
        return "too small"
    if face.sharpness < limits.sharpness:
        return "blurred"
    return "turned" if face.turn > limits.turn else None


def _answer_of(task: TaskEntry, probs: np.ndarray, chosen: int) -> TaskAnswer:
    possible: tuple[str, ...] = (task.classes[chosen],)
    if task.limits is not None:
        possible = names_of(possible_classes(probs[None], task.limits)[0], task.classes)
    return TaskAnswer(
        probabilities=dict(zip(task.classes, probs.tolist(), strict=True)),
        possible=possible,
        prediction=task.classes[chosen],
    )
