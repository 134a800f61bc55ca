"""Layout `contest`: the mask contest's folders, where the labels are in the names.

    train/images/{id}_{gender}_{race}_{age}/{mask1..5,incorrect_mask,normal}.{jpg,jpeg,png}
    train/train.csv      optional: id, gender, race, age, path; read where a folder does not parse
    eval/images/*        without labels
    eval/info.csv        ImageID, ans: the rows and the order of the submission

Ids like `001498-1` occur, extensions are mixed, hidden `._*` files lie about.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cropfirst.core.errors import DataError
from cropfirst.core.text import normal_form
from cropfirst.stage2_classify.datasets.file_finder import FileFinder
from cropfirst.stage2_classify.datasets.listing import as_key, inside, list_photos, subfolders
from cropfirst.stage2_classify.datasets.sample import Fact, PhotoSet, Problem, Sample
from cropfirst.stage2_classify.datasets.tables import as_fact, read_csv

WANTS = (
    "train/images/{id}_{gender}_{race}_{age}/{mask1..5,incorrect_mask,normal}.jpg and/or "
    "eval/images/* with eval/info.csv"
)
TRAIN, EVAL = "train/images", "eval/images"
SHOTS = {**{f"mask{n}": "wear" for n in range(1, 6)}, "incorrect_mask": "incorrect"}
SHOTS["normal"] = "normal"
"""File name without extension -> the fact `mask`."""
_PERSON = re.compile(r"([^_]+)_(male|female)_(.+)_(\d{1,3})", re.IGNORECASE)


@dataclass(frozen=True)
class FolderLabels:
    """The person of a folder and their labels."""

    group: str | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)


def fits(root: Path) -> bool:
    """Return whether the contest's folders are there.

    Raises:
        DataError: it is a folder inside such a data set.
    """
    if subfolders(root / TRAIN) or ((root / EVAL).is_dir() and (root / "eval/info.csv").is_file()):
        return True
    for folder, top in ((root, root.parent.parent), (root / "images", root.parent)):
        if sum(parse_folder(name) is not None for name in subfolders(folder)) >= 2:
            raise DataError(
                f"{root} is the inside of a data set in the contest's layout: give its top folder, "
                f"{top} (or --layout folders, if its folders are classes)"
            )
    return False


def open_layout(root: Path) -> PhotoSet:
    """Open every photo below train/images and eval/images, and every row of info.csv.

    Raises:
        DataError: a table that is not what it should be.
    """
    problems: list[Problem] = []
    not_taken: Counter[str] = Counter()
    samples = _train(root, problems, not_taken) if (root / TRAIN).is_dir() else []
    evals = _eval(root, problems, not_taken) if (root / EVAL).is_dir() else {}
    submission = None
    if (root / "eval/info.csv").is_file():
        submission = _submission(root)
        for _, key in submission:
            if key not in evals:
                evals[key] = Sample(key, root / key, "eval")
                problems.append(Problem(key, "is in eval/info.csv and not among the photos"))
    return PhotoSet(
        root,
        "contest",
        (*samples, *evals.values()),
        tuple(problems),
        submission=submission,
        not_taken=not_taken,
    )


def parse_folder(name: str) -> FolderLabels | None:
    """Return the labels in `{id}_{gender}_{race}_{age}`; None where the name does not parse."""
    found = _PERSON.fullmatch(normal_form(name))
    if found is None:
        return None
    identity, gender, race, age = found.groups()
    return FolderLabels(identity, {"gender": gender.lower(), "race": race, "age": int(age)})


def _train(root: Path, problems: list[Problem], not_taken: Counter[str]) -> list[Sample]:
    listing = list_photos(root, TRAIN)
    problems += listing.problems
    not_taken.update(listing.not_taken)
    table = _read_train_csv(root, problems)
    people: dict[str, FolderLabels] = {}
    samples = []
    for key, path in listing.photos:
        folder, _, name = key.removeprefix(f"{TRAIN}/").rpartition("/")
        if folder not in people:
            people[folder] = _person(folder, table, problems)
        labels = dict(people[folder].facts)
        shot = SHOTS.get(name.rpartition(".")[0].lower())
        if shot is None:
            problems.append(Problem(key, f"is none of the shots {', '.join(SHOTS)}; mask unknown"))
        else:
            labels["mask"] = shot
        samples.append(Sample(key, Path(path), "train", people[folder].group, labels))
    return samples


def _person(
    folder: str, table: Mapping[str, FolderLabels], problems: list[Problem]
) -> FolderLabels:
    where = f"{TRAIN}/{folder}".rstrip("/")
    parsed, listed = parse_folder(folder), table.get(normal_form(folder))
    if parsed is None:
        taken = "its labels are those of train.csv" if listed else "its gender and age are unknown"
        text = f"is not called {{id}}_{{gender}}_{{race}}_{{age}}; {taken}"
        problems.append(Problem(where, f"{text}, its photos count as one person's"))
        # A folder is one person's, whatever it is called: their photos must not end in two folds.
        return FolderLabels(folder or None, listed.facts if listed else {})
    for name, value in listed.facts.items() if listed else ():
        if parsed.facts.get(name) != value and name != "race":
            text = f"train.csv says {name} {value}, the folder's name {parsed.facts.get(name)}"
            problems.append(
                Problem(where, f"{text}; the name counts (correct it by --corrections)")
            )
    return parsed


def _read_train_csv(root: Path, problems: list[Problem]) -> dict[str, FolderLabels]:
    path = root / "train/train.csv"
    if not path.is_file():
        return {}
    people: dict[str, FolderLabels] = {}
    table = read_csv(path, required=["path"])
    problems += table.problems()
    for row in table.rows:
        facts = {name: row.get(name) for name in ("gender", "race", "age")}
        known = {name: as_fact(text) for name, text in facts.items() if text is not None}
        if isinstance(known.get("gender"), str):
            known["gender"] = str(known["gender"]).lower()
        people[normal_form(row["path"] or "")] = FolderLabels(row.get("id"), known)
    return people


def _eval(root: Path, problems: list[Problem], not_taken: Counter[str]) -> dict[str, Sample]:
    listing = list_photos(root, EVAL)
    problems += listing.problems
    not_taken.update(listing.not_taken)
    return {key: Sample(key, Path(path), "eval") for key, path in listing.photos}


def _submission(root: Path) -> tuple[tuple[str, str], ...]:
    table = root / "eval/info.csv"
    rows: dict[str, str] = {}
    finder = FileFinder(root)
    for index, row in enumerate(read_csv(table, required=["ImageID"]).rows, start=1):
        where, image_id = f"{table}, row {index}", row["ImageID"]
        if image_id is None:
            raise DataError(f"{where}: ImageID is empty")
        key = inside(root, f"{EVAL}/{image_id}", where=where)
        key = as_key(finder.find(key) or key)
        if not key.startswith(f"{EVAL}/"):
            raise DataError(f"{where}: {image_id!r} leaves {root / EVAL}")
        if key in rows:
            raise DataError(f"{where}: {image_id!r} is there twice; one answer a photo is wanted")
        rows[key] = image_id
    return tuple((image_id, key) for key, image_id in rows.items())
