"""The check that a bundle answers as it should: its golden photos, or faces of any other source.

Knows answers; knows nothing of networks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cropfirst.core.errors import BundleError
from cropfirst.core.faces.boxes import iou
from cropfirst.core.text import count_of
from cropfirst.door.bundle import Bundle
from cropfirst.door.faces import Face, TaskAnswer
from cropfirst.door.files import read_files, read_photo
from cropfirst.door.manifest import GOLDEN

MIN_IOU = 0.99
"""Least overlap of two boxes of one face."""
MAX_DIFFERENCE = 1e-3
"""Largest difference of two probabilities."""


@dataclass(frozen=True)
class Comparison:
    """The differences between a bundle's answers and those that were wanted."""

    photos: int
    faces: int
    worst_iou: float
    """Least overlap of a face's two boxes."""
    worst_probability: float
    """Largest difference of a probability."""
    problems: tuple[str, ...]
    """The differences that are not allowed, one line each; () = the bundle is equal."""

    def __str__(self) -> str:
        if self.problems:
            return f"answers otherwise than at its export: {'; '.join(self.problems[:5])}"
        return (
            f"answers as at its export: {count_of(self.faces, 'face')} of "
            f"{count_of(self.photos, 'golden photo')}, boxes overlap by {self.worst_iou:.4f} or "
            f"more, probabilities differ by {self.worst_probability:.1g} at most"
        )


def check_golden(bundle: Bundle, folder: Path) -> Comparison:
    """Compare the answers to a bundle's golden photos with those that were written at its export.

    The networks' files are not read again: `Bundle.open` has checked those that run.

    Raises:
        BundleError: a golden file is missing or was changed, or the answers cannot be read.
    """
    answers = read_files(folder, bundle.manifest, [GOLDEN])[GOLDEN]
    try:
        wanted = {str(name): [_face_from(each) for each in faces]
                  for name, faces in json.loads(answers)["photos"].items()}  # fmt: skip
        raw = read_files(folder, bundle.manifest, wanted)
        photos = {name: read_photo(content) for name, content in raw.items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise BundleError(f"{GOLDEN} cannot be read ({error!r}): copy the bundle again") from error
    found = {name: bundle.predict(photo) for name, photo in photos.items()}
    return compare(found, wanted)


def golden_answers(answers: Mapping[str, Sequence[Face]]) -> bytes:
    """Return the content of golden/answers.json: file of each photo -> its faces."""
    photos = {name: [_face_to(face) for face in faces] for name, faces in answers.items()}
    return (json.dumps({"photos": photos}, indent=1) + "\n").encode()


def compare(
    found: Mapping[str, Sequence[Face]], wanted: Mapping[str, Sequence[Face]]
) -> Comparison:
    """Compare the faces of photos: their number, order, boxes, statuses, probabilities, classes.

    Args:
        found, wanted: name of the photo -> its faces.
    """
    problems: list[str] = []
    overlaps, differences = [1.0], [0.0]
    for name, theirs in wanted.items():
        mine = found[name]
        if len(mine) != len(theirs):
            problems.append(f"{name}: {count_of(len(mine), 'face')}, wanted {len(theirs)}")
            continue
        for number, (one, other) in enumerate(zip(mine, theirs, strict=True), start=1):
            overlap = float(iou(np.array(one.box), np.array(other.box))[0, 0])
            overlaps.append(overlap)
            difference = _difference(one, other)
            differences.append(difference)
            problems += [
                f"{name}, face {number}: {text}"
                for text in _problems(one, other, overlap, difference)
            ]
    return Comparison(
        photos=len(wanted),
        faces=sum(map(len, wanted.values())),
        worst_iou=min(overlaps),
        worst_probability=max(differences),
        problems=tuple(problems),
    )


def _difference(one: Face, other: Face) -> float:
    pairs = [
        abs(one.answers[task].probabilities[name] - prob)
        for task, answer in other.answers.items()
        if task in one.answers
        for name, prob in answer.probabilities.items()
    ]
    return max(pairs, default=0.0)


def _problems(one: Face, other: Face, overlap: float, difference: float) -> Iterator[str]:
    if not overlap >= MIN_IOU:
        yield f"the boxes overlap by {overlap:.4f}, wanted {MIN_IOU} or more"
    if (one.status, one.unknown) != (other.status, other.unknown):
        said, wanted = (f"{each.status}, unknown: {each.unknown}" for each in (one, other))
        yield f"{said}; wanted {wanted}"
    if set(one.answers) != set(other.answers):
        yield f"tasks {sorted(one.answers)}, wanted {sorted(other.answers)}"
        return
    if not difference <= MAX_DIFFERENCE:
        yield f"a probability differs by {difference:.2g}, wanted {MAX_DIFFERENCE:g} or less"
    for task, answer in other.answers.items():
        if one.answers[task].prediction != answer.prediction:
            yield f"{task} {one.answers[task].prediction}, wanted {answer.prediction}"
        elif one.answers[task].possible != answer.possible:
            possible = [" or ".join(each.answers[task].possible) for each in (one, other)]
            yield f"{task} possible {possible[0]}, wanted {possible[1]}"


def _face_to(face: Face) -> dict[str, Any]:
    return {
        "box": [round(each, 3) for each in face.box],
        "landmarks": np.round(face.landmarks.astype(np.float64), 3).tolist(),
        "score": round(face.score, 6),
        "status": face.status,
        "unknown": face.unknown,
        "answers": {
            task: {
                "probabilities": {
                    name: round(prob, 7) for name, prob in answer.probabilities.items()
                },
                "possible": list(answer.possible),
                "prediction": answer.prediction,
            }
            for task, answer in face.answers.items()
        },
    }


def _face_from(data: Mapping[str, Any]) -> Face:
    x1, y1, x2, y2 = (float(each) for each in data["box"])
    return Face(
        box=(x1, y1, x2, y2),
        landmarks=np.asarray(data["landmarks"], np.float32).reshape(5, 2),
        score=float(data["score"]),
        status=data["status"],
        unknown=data["unknown"],
        answers={
            str(task): TaskAnswer(
                {str(name): float(prob) for name, prob in answer["probabilities"].items()},
                tuple(map(str, answer["possible"])),
                str(answer["prediction"]),
            )
            for task, answer in data["answers"].items()
        },
    )
