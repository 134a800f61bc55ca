"""Tests of training targets, conventions of boxes, and held-out samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.harden.training.known_faces import KnownFaces
from cropfirst.stage1_detect.harden.training.samples import HardenSample, collect_samples, hold_out
from cropfirst.stage1_detect.harden.training.targets import (
    estimate_convention,
    targets_from_boxes,
    targets_from_teacher,
)
from cropfirst.stage1_detect.mtcnn.detector import Detections
from cropfirst.stage1_detect.photos.read import PhotoRef

CONVENTION = np.array([0.06, 0.11, -0.04, -0.02], np.float32)
"""Difference of a teacher's boxes from people's, as fractions of these."""


def people(count: int = 30, *, seed: int = 0, state: str = "normal") -> list[KnownFaces]:
    """Make photos of two faces each, far apart."""
    rng = np.random.default_rng(seed)
    photos = []
    for _ in range(count):
        corner = rng.uniform(0, 100, (2, 2)) + np.array([[0, 0], [400, 300]])
        boxes = np.concatenate([corner, corner + rng.uniform(40, 120, (2, 2))], axis=1)
        photos.append(KnownFaces(boxes.astype(np.float32), (state, state)))
    return photos


def teachers(known: KnownFaces, *, sure: float = 0.99, noise: float = 0.0) -> Detections:
    """Return the same faces in the teacher's convention, in reverse order."""
    rng = np.random.default_rng(len(known))
    size = np.tile(known.boxes[:, 2:] - known.boxes[:, :2], 2)
    boxes = known.boxes + (CONVENTION + rng.normal(0, noise, known.boxes.shape)) * size
    boxes = boxes[::-1].astype(np.float32)
    return Detections(
        boxes,
        np.full(len(boxes), sure, np.float32),
        np.repeat(boxes[:, None, :2], 5, axis=1) + np.float32(7),
    )


def test_the_convention_of_boxes_is_learnt_from_faces_that_both_know() -> None:
    known = people()
    learnt = estimate_convention(known, [teachers(each) for each in known], sure=0.95)
    np.testing.assert_allclose(learnt, CONVENTION, atol=1e-5)


def test_a_few_wrong_boxes_and_unsure_faces_do_not_sway_the_convention() -> None:
    known = people(60)
    found = [teachers(each, noise=0.02) for each in known]
    rng = np.random.default_rng(0)
    for index in range(0, 60, 6):  # a tenth and more are off by a fifth
        shift = 0.2 * (found[index].boxes[:, 2:] - found[index].boxes[:, :2])
        boxes = found[index].boxes + np.tile(shift, 2).astype(np.float32)
        found[index] = Detections(boxes, found[index].probs, found[index].landmarks)
    for index in range(1, 60, 2):  # half are not sure, and quite wrong
        faces = found[index]
        boxes = faces.boxes + rng.uniform(8, 14, faces.boxes.shape).astype(np.float32)
        found[index] = Detections(boxes, faces.probs - np.float32(0.2), faces.landmarks)
    learnt = estimate_convention(known, found, sure=0.95)
    np.testing.assert_allclose(learnt, CONVENTION, atol=0.02)


def test_too_few_faces_tell_no_convention() -> None:
    known = people(9)
    assert estimate_convention(known, [teachers(each) for each in known], sure=0.95) is None
    none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2)))
    assert estimate_convention(people(40), [none] * 40, sure=0.95) is None
    assert estimate_convention([], [], sure=0.95) is None


def test_boxes_come_to_the_teachers_convention_and_its_word_counts_on_bare_faces() -> None:
    boxes = np.array([[10, 10, 60, 70], [100, 10, 150, 70], [200, 10, 250, 70]], np.float32)
    known = KnownFaces(boxes, ("wear", "normal", "incorrect"))
    found = teachers(known, noise=0.01)
    targets = targets_from_boxes(known, found, convention=CONVENTION, sure=0.95)
    size = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    np.testing.assert_allclose(
        targets.boxes[[0, 2]], (boxes + CONVENTION * size)[[0, 2]], rtol=1e-6
    )
    np.testing.assert_array_equal(targets.boxes[1], found.boxes[1])
    np.testing.assert_array_equal(targets.landmarks[1], found.landmarks[1])
    assert np.isnan(targets.landmarks[[0, 2]]).all(), "landmarks under a mask are guesses"
    assert targets.states == known.states and targets.complete and not len(targets.doubtful)


def test_an_unsure_teacher_or_one_of_another_face_adds_nothing_to_a_box() -> None:
    known = KnownFaces(np.array([[10, 10, 60, 70]], np.float32), ("normal",))
    for found in (teachers(known, sure=0.8), teachers(people(1)[0])):
        targets = targets_from_boxes(known, found, convention=None, sure=0.95)
        np.testing.assert_array_equal(targets.boxes, known.boxes)
        assert np.isnan(targets.landmarks).all()


def test_without_boxes_sure_faces_are_bare_ones_and_the_others_are_doubtful() -> None:
    boxes = np.array([[10, 10, 60, 70], [100, 10, 150, 70], [200, 10, 250, 70]], np.float32)
    marks = np.arange(30, dtype=np.float32).reshape(3, 5, 2)
    found = Detections(boxes, np.array([0.99, 0.95, 0.8], np.float32), marks)
    targets = targets_from_teacher(found, sure=float(np.float32(0.95)))
    np.testing.assert_array_equal(targets.boxes, boxes[:2])
    np.testing.assert_array_equal(targets.landmarks, marks[:2])
    np.testing.assert_array_equal(targets.doubtful, boxes[2:])
    assert targets.states == ("normal", "normal")
    assert not targets.complete, "whom the teacher does not see may be there all the same"


def samples(count: int, *, first: int = 0) -> list[HardenSample]:
    """Three photos of each person."""
    return [
        HardenSample(
            f"set/{person}/{photo}.jpg", f"{person}/{photo}.jpg", Path("x"), f"set/{person}",
            None, "set",
        )
        for person in range(first, first + count)
        for photo in range(3)
    ]  # fmt: skip


def test_nobody_is_on_both_sides_and_all_folds_together_are_all_photos() -> None:
    everybody = samples(60)
    held_out: list[str] = []
    for fold in range(5):
        learn, held = hold_out(everybody, folds=5, fold=fold)
        assert not {each.group for each in learn} & {each.group for each in held}
        assert sorted(each.key for each in [*learn, *held]) == sorted(e.key for e in everybody)
        assert 0.05 < len(held) / len(everybody) < 0.4, "a fifth, about"
        held_out += [each.key for each in held]
    assert sorted(held_out) == sorted(each.key for each in everybody)


def test_who_is_held_out_stays_so_when_photos_come() -> None:
    _, before = hold_out(samples(40), folds=5, fold=1)
    more = [*samples(50, first=40), *reversed(samples(40))]
    _, after = hold_out(more, folds=5, fold=1)
    assert {each.key for each in after} >= {each.key for each in before}
    new = {each.key for each in after} - {each.key for each in before}
    assert not new & {each.key for each in samples(40)}


def test_what_is_nearly_the_same_picture_is_held_out_together() -> None:
    everybody = samples(60)
    rng = np.random.default_rng(0)
    looks = {each.key: int(rng.integers(1 << 62)) for each in everybody}
    twins = [("set/3/0.jpg", "set/41/2.jpg"), ("set/41/1.jpg", "set/17/0.jpg")]
    for bits, (one, other) in enumerate(twins):
        looks[other] = looks[one] ^ ((1 << 4 * (bits + 1)) - 1)  # 4 and 8 bits apart
    for fold in range(5):
        sides = hold_out(everybody, folds=5, fold=fold, image_hashes=looks)
        for side in sides:
            people = {each.group for each in side}
            assert len(people & {"set/3", "set/41", "set/17"}) in (0, 3)
        without = hold_out(everybody, folds=5, fold=fold)[1]
        others = {"set/3", "set/41", "set/17"}
        assert [e for e in sides[1] if e.group not in others] == [
            e for e in without if e.group not in others
        ]


def test_no_fold_holds_nobody_out() -> None:
    everybody = samples(4)
    assert hold_out(everybody, folds=10, fold=None) == (everybody, [])


def test_photos_are_told_apart_over_data_sets_and_people_kept_together(tmp_path: Path) -> None:
    refs = [PhotoRef("a/1.jpg", tmp_path / "a/1.jpg", "train", "ann"),
            PhotoRef("2.jpg", tmp_path / "2.jpg", "train", None)]  # fmt: skip
    face = KnownFaces(np.array([[1, 2, 3, 4]], np.float32), ("wear",))
    first, second = collect_samples(refs, tmp_path, {"2.jpg": face})
    name = tmp_path.name
    assert (first.key, first.group, first.known) == (f"{name}/a/1.jpg", f"{name}/ann", None)
    assert (second.key, second.group, second.known) == (f"{name}/2.jpg", f"{name}/2.jpg", face)


def test_boxes_of_other_photos_are_refused(tmp_path: Path) -> None:
    refs = [PhotoRef("1.jpg", tmp_path / "1.jpg", "train", None)]
    face = KnownFaces(np.array([[1, 2, 3, 4]], np.float32), ("wear",))
    with pytest.raises(DetectError, match=r"does not hold, such as 'b/9\.jpg' \(2 of 3\)"):
        collect_samples(refs, tmp_path, {"1.jpg": face, "c/3.jpg": face, "b/9.jpg": face})
