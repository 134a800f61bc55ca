"""The demo's own data set: drawn people in the contest's folder layout.

Every training person has five photos with a mask, one with a mask worn wrongly and one without,
in a room that goes with gender and age for nine people in ten; in eval the rooms are random. That
shortcut is there on purpose: a model that reads the room instead of the face looks good until
eval. The true codes of eval are in eval/answers.csv, which nothing but an evaluation should read.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import joblib
import numpy as np

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.drawn.portrait import (
    GENDERS,
    N_ROOMS,
    SHOTS,
    SIZE,
    Person,
    Shot,
    draw_portrait,
    random_person,
)

AGE_BANDS = ((18, 29), (30, 59), (60, 60))
ROOM_MATCH = 0.9
_PLAN = "drawn.json"
_FORMAT = 1
_ANSWER = ("ImageID", "ans")


@dataclass(frozen=True)
class DrawnSummary:
    """The data set that is under `root` now."""

    root: Path
    n_train_people: int
    n_train: int
    """Photos in train/images."""
    n_eval_people: int
    n_eval: int
    """Photos in eval/images, one row each in info.csv and answers.csv."""
    answers: Path
    """CSV of ImageID and the true 18-class code."""
    reused: bool
    """True where the same set was already complete and nothing was drawn."""


@dataclass(frozen=True)
class _Job:
    """Everything that a worker needs to draw one person's photos."""

    seed: int
    index: int
    name: str
    gender: str
    age: int
    split: str
    size: tuple[int, int]


@dataclass(frozen=True)
class _Drawn:
    """A photo that was written: its POSIX path below the root, and the truth about it."""

    file: str
    split: str
    face_box: tuple[float, float, float, float]
    room: int
    code: int


def draw_contest(
    root: Path,
    *,
    n_train_people: int = 54,
    n_eval_people: int = 27,
    seed: int = 0,
    size: tuple[int, int] = SIZE,
    n_jobs: int = 1,
    progress: Callable[[int], None] | None = None,
) -> DrawnSummary:
    """Draw a data set of (people x 7) photos; the same arguments give the same bytes.

    Args:
        root: A new or empty folder, or one that holds this very set, complete or cut short.
        n_train_people: At least 1; from 6 on every gender and age band occurs.
        n_eval_people: As n_train_people.
        seed: Decides everything drawn.
        size: (width, height) of the photos in pixels, at least (128, 160).
        n_jobs: Processes, as in joblib; the result does not depend on it.
        progress: Called with the number of photos whenever a person is finished.

    Raises:
        DataError: Counts or size out of range, or `root` holds something else.
    """
    _check(n_train_people, n_eval_people, size)
    plan = {
        "format": _FORMAT,
        "n_train_people": n_train_people,
        "n_eval_people": n_eval_people,
        "seed": seed,
        "size": list(size),
    }
    summary = DrawnSummary(
        root=root,
        n_train_people=n_train_people,
        n_train=n_train_people * len(SHOTS),
        n_eval_people=n_eval_people,
        n_eval=n_eval_people * len(SHOTS),
        answers=root / "eval" / "answers.csv",
        reused=_claim(root, plan),
    )
    if summary.reused:
        return summary
    jobs = _jobs("train", n_train_people, seed, size) + _jobs("eval", n_eval_people, seed, size)
    photos: list[_Drawn] = []
    for done in _run(jobs, root, n_jobs):
        photos += done
        if progress is not None:
            progress(len(SHOTS))
    _write_tables(root, photos, seed)
    _write(root / _PLAN, json.dumps({**plan, "complete": True}, indent=2).encode())
    return summary


def code_of(kind: str, gender: str, age: int) -> int:
    """Return the contest's code: mask * 6 + gender * 3 + age band, 0-17."""
    mask = {"incorrect_mask": 1, "normal": 2}.get(kind, 0)
    band = next(i for i, (_, last) in enumerate(AGE_BANDS) if age <= last or i == 2)
    return mask * 6 + GENDERS.index(gender) * 3 + band


def _check(n_train: int, n_eval: int, size: tuple[int, int]) -> None:
    if n_train < 1 or n_eval < 1:
        raise DataError(
            f"a drawn set needs at least 1 person per split; got {n_train} and {n_eval}."
        )
    if size[0] < 128 or size[1] < 1.2 * size[0]:
        raise DataError(
            f"a drawn photo must be upright and at least 128 wide, such as 384 x 512; "
            f"got {size[0]} x {size[1]}."
        )


def _claim(root: Path, plan: dict[str, object]) -> bool:
    """Mark the folder as this set's; return whether the set is already complete.

    Raises:
        DataError: the folder has something else in it.
    """
    path = root / _PLAN
    if path.is_file():
        found = _read_plan(path)
        complete = found.pop("complete", False)
        if found != plan:
            raise DataError(
                f"{root} holds a drawn set made with other settings ({path.name}: {found}); "
                f"delete the folder or draw into another."
            )
        return bool(complete)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root} must be a new or empty folder, but it holds something already.")
    root.mkdir(parents=True, exist_ok=True)
    _write(path, json.dumps({**plan, "complete": False}, indent=2).encode())
    return False


def _read_plan(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DataError(f"{path} should be the settings of a drawn set, but cannot be read.")
    return found


def _jobs(split: str, n_people: int, seed: int, size: tuple[int, int]) -> list[_Job]:
    """Return the people of a split: six kinds of gender and age band, in a random order."""
    rng = np.random.default_rng([seed, split == "eval", 1])
    kinds = [(gender, band) for band in AGE_BANDS for gender in GENDERS]
    jobs = []
    for index, place in enumerate(rng.permutation(n_people)):
        gender, (first, last) = kinds[place % len(kinds)]
        age = int(rng.integers(first, last + 1))
        name = f"{index + 1:06d}"
        jobs.append(_Job(seed, index, name, gender, age, split, size))
    return jobs


def _run(jobs: Sequence[_Job], root: Path, n_jobs: int) -> Iterable[list[_Drawn]]:
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    return parallel(joblib.delayed(_draw_person)(job, root) for job in jobs)


def _draw_person(job: _Job, root: Path) -> list[_Drawn]:
    """Draw and write one person's seven photos."""
    stream = [job.seed, job.split == "eval", 2, job.index]
    rng = np.random.default_rng(stream)
    person = random_person(rng, name=job.name, gender=job.gender, age=job.age)
    own_room = code_of("mask1", job.gender, job.age)
    if rng.random() >= ROOM_MATCH:
        own_room = (own_room + int(rng.integers(1, N_ROOMS))) % N_ROOMS
    done = []
    for number, kind in enumerate(SHOTS):
        rng = np.random.default_rng([*stream, number])
        room, ending = int(rng.integers(N_ROOMS)), _ending(rng)
        if job.split == "train":
            room, file = own_room, f"train/images/{_folder(person)}/{kind}.{ending}"
        else:
            file = f"eval/images/{_image_id([*stream, number])}.jpg"
        portrait = draw_portrait(person, Shot(kind, room), rng, job.size)
        _write_photo(root / file, portrait.image)
        code = code_of(kind, job.gender, job.age)
        done.append(_Drawn(file, job.split, portrait.face_box, room, code))
    return done


def _image_id(stream: Sequence[int]) -> str:
    """Return a name that does not tell the class, as the contest's names."""
    return hashlib.blake2b("-".join(map(str, stream)).encode(), digest_size=8).hexdigest()


def _folder(person: Person) -> str:
    """Return the contest's folder name; the part for the race says that people are drawn."""
    return f"{person.name}_{person.gender}_Drawn_{person.age}"


def _ending(rng: np.random.Generator) -> str:
    return str(rng.choice(["jpg", "jpeg", "png"], p=[0.7, 0.2, 0.1]))


def _write_photo(path: Path, image: np.ndarray) -> None:
    png = path.suffix == ".png"  # OpenCV warns about options of the other format
    options = [cv2.IMWRITE_PNG_COMPRESSION, 3] if png else [cv2.IMWRITE_JPEG_QUALITY, 90]
    _, data = cv2.imencode(path.suffix, image[..., ::-1], options)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, data.tobytes())


def _write_tables(root: Path, photos: Sequence[_Drawn], seed: int) -> None:
    """Write info.csv and answers.csv in one random order, boxes.csv and rooms.csv by file."""
    evaluation = [photo for photo in photos if photo.split == "eval"]
    order = np.random.default_rng([seed, 3]).permutation(len(evaluation))
    answers = [(Path(evaluation[i].file).name, evaluation[i].code) for i in order]
    _write_csv(root / "eval" / "info.csv", _ANSWER, [(name, 0) for name, _ in answers])
    _write_csv(root / "eval" / "answers.csv", _ANSWER, answers)
    sorted_photos = sorted(photos, key=lambda photo: photo.file)
    boxes = [(photo.file, *(f"{edge:.1f}" for edge in photo.face_box)) for photo in sorted_photos]
    _write_csv(root / "boxes.csv", ("file", "x0", "y0", "x1", "y1"), boxes)
    rooms = [(photo.file, photo.room) for photo in sorted_photos]
    _write_csv(root / "rooms.csv", ("file", "room"), rooms)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    _write(path, text.getvalue().encode())


def _write(path: Path, data: bytes) -> None:
    """Write a file completely or not at all, without waiting for the disk."""
    part = path.with_name(f".{path.name}.tmp")
    part.write_bytes(data)
    os.replace(part, path)
