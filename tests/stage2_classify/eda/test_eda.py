"""Counts, associations and near-duplicates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets.sample import Fact, PhotoSet, Sample
from cropfirst.stage2_classify.drawn.portrait import Shot, draw_portrait, random_person
from cropfirst.stage2_classify.eda.eda import cramers_v, explore, quantiles, read_rooms
from cropfirst.stage2_classify.eda.image_stats import find_near_duplicates, measure_photo
from cropfirst.stage2_classify.eda.run import run_eda
from cropfirst.stage2_classify.labels.schema import LabelSchema


@pytest.fixture(scope="module")
def portraits() -> dict[str, np.ndarray]:
    """Key -> pixels: two photos each of four people; the last is a brightened copy of the first."""
    images = {}
    for person in range(4):
        for room, kind in enumerate(("normal", "mask1")):
            who = random_person(np.random.default_rng(person), name="x", gender="female", age=30)
            rng = np.random.default_rng([person, room])
            shot = Shot(kind, (2 * person + room) % 6)
            images[f"p{person}/{kind}.jpg"] = draw_portrait(who, shot, rng, (96, 128)).image
    first = images["p0/normal.jpg"].astype(int) + 12
    images["p9/copy.jpg"] = first.clip(0, 255).astype(np.uint8)
    return images


@pytest.fixture
def photo_set(portraits: dict[str, np.ndarray], tmp_path: Path) -> PhotoSet:
    samples = []
    for key in portraits:
        person, name = key.split("/")
        labels = {"gender": "female" if person < "p2" else "male", "age": 20 + 5 * int(person[1])}
        labels["mask"] = "normal" if "mask" not in name else "wear"
        labels["race"] = person
        split = "eval" if person == "p9" else "train"
        samples.append(Sample(key, tmp_path / key, split, person, labels))
    return PhotoSet(tmp_path, "contest", tuple(samples))


def test_copies_are_found_across_people_and_splits(
    portraits: dict[str, np.ndarray], photo_set: PhotoSet, schema: LabelSchema
) -> None:
    stats = [measure_photo(key, image) for key, image in portraits.items()]
    (pair,) = find_near_duplicates(stats, photo_set.samples)
    assert (pair.first, pair.second) == ("p0/normal.jpg", "p9/copy.jpg") and pair.across_splits
    # Copies of one person in one split do not matter.
    same = [
        replace(s, group="p0", split="train") if s.group == "p9" else s for s in photo_set.samples
    ]
    assert find_near_duplicates(stats, same) == ()
    # Training photos of different persons may come into different folds.
    both = [replace(s, split="train") for s in photo_set.samples]
    found = explore(
        replace(photo_set, samples=tuple(both)), schema, read=lambda s: portraits[s.key]
    )
    assert any("1 of the pairs" in note and "folds may part them" in note for note in found.notes)
    apart = explore(photo_set, schema, read=lambda s: portraits[s.key])
    assert not any("folds may part them" in note for note in apart.notes)
    copy, original = (next(x for x in stats if x.key == k) for k in (pair.second, pair.first))
    assert copy.brightness == pytest.approx(original.brightness + 12, abs=2)


def test_every_photo_is_counted_and_a_broken_one_is_no_trouble(
    portraits: dict[str, np.ndarray], photo_set: PhotoSet, schema: LabelSchema
) -> None:
    def read(sample: Sample) -> np.ndarray | None:
        return None if sample.key == "p1/mask1.jpg" else portraits[sample.key]

    rooms = {key: key[:2] for key in portraits}
    found = explore(photo_set, schema, rooms=rooms, read=read)
    assert found.photos == {"train": 8, "eval": 1} and found.people == {"train": 4, "eval": 1}
    assert found.classes["mask"]["train"] == {"normal": 4, "wear": 4}
    assert found.joint["wear female <30"] == 2 and sum(found.joint.values()) == 9
    assert found.facts["race"] == {f"p{person}": 2 for person in range(4)}
    assert found.associations["gender and room"] == pytest.approx(1.0)
    assert found.associations["mask and room"] == pytest.approx(0.0)
    assert found.rooms["p0"] == {"normal female <30": 1, "wear female <30": 1}
    assert len(found.stats) == 8 and len(found.near_duplicates) == 1
    assert found.faces.height == 0 and any("cropfirst detect" in note for note in found.notes)
    assert found.to_dict()["ages"]["largest"] == 35


def test_association_by_hand() -> None:
    assert cramers_v([("a", "x"), ("a", "x"), ("b", "y"), ("b", "y")]) == pytest.approx(1.0)
    assert cramers_v([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]) == pytest.approx(0.0)
    assert cramers_v([("a", "x"), ("b", "x")]) is None
    assert quantiles([]) is None and quantiles([3.0])["median"] == 3.0


def test_rooms_are_read_and_refused(tmp_path: Path) -> None:
    table = tmp_path / "rooms.csv"
    table.write_text("file,room\na.jpg,2\nb.jpg,\n")
    assert read_rooms(table) == {"a.jpg": "2"}
    with pytest.raises(DataError, match="there is no file"):
        read_rooms(tmp_path / "none.csv")
    table.write_text("name,room\na.jpg,2\n")
    with pytest.raises(DataError, match="no column file"):
        read_rooms(table)
    table.write_text("file,place\na.jpg,2\n")
    with pytest.raises(DataError, match="room"):
        read_rooms(table)


def test_pictures_and_counts_are_written(
    portraits: dict[str, np.ndarray], photo_set: PhotoSet, schema: LabelSchema, tmp_path: Path
) -> None:
    run_eda(photo_set, schema, out_dir=tmp_path / "eda", read=lambda s: portraits[s.key])
    assert cv2.imread(str(tmp_path / "eda/classes.png")) is not None
    assert cv2.imread(str(tmp_path / "eda/faces.png")) is not None
    assert '"kind": "eda"' in (tmp_path / "eda/eda.json").read_text()


def test_labels_that_fit_no_class_are_listed_and_the_others_counted(
    tmp_path: Path, schema: LabelSchema
) -> None:
    ages: list[Fact] = ["(25, 32)", "None", "None", "(60, 100)", 24]
    samples = [
        Sample(f"{place}.jpg", tmp_path / f"{place}.jpg", labels={"age": age, "gender": "u"})
        for place, age in enumerate(ages)
    ]
    found = explore(PhotoSet(tmp_path, "csv", tuple(samples)), schema)
    assert found.classes["age"]["train"] == {"<30": 1, ">=60": 1, "unknown": 3}
    gender, age = (note for note in found.notes if "fit no class" in note)
    assert "5 photos" in gender and "gender=u (5)" in gender
    assert "3 photos" in age and "age=None (2), age=(25, 32) (1)" in age
    assert ',,age,"None",' in age, "the correction to copy"


def test_a_data_set_without_tasks_is_explored_all_the_same(
    portraits: dict[str, np.ndarray], photo_set: PhotoSet, tmp_path: Path
) -> None:
    found = run_eda(
        photo_set, LabelSchema("none", ()), out_dir=tmp_path / "eda", rooms=rooms_file(tmp_path),
        read=lambda s: portraits[s.key],
    )  # fmt: skip
    assert found.classes == {} and found.joint == {} and found.rooms == {}
    assert found.facts["gender"] == {"female": 4, "male": 4} and len(found.near_duplicates) == 1
    assert not (tmp_path / "eda/classes.png").exists() and (tmp_path / "eda/faces.png").exists()


def rooms_file(folder: Path) -> Path:
    (folder / "rooms.csv").write_text("file,room\np0/normal.jpg,1\np1/normal.jpg,2\n")
    return folder / "rooms.csv"
