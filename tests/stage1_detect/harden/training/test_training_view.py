"""Lessons: what is put on a face, what is said of it afterwards, and where its points go."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cropfirst.configs import load_config
from cropfirst.core.errors import CropfirstError
from cropfirst.stage1_detect.harden.config import HardenConfig, PasteConfig
from cropfirst.stage1_detect.harden.paste.scene import Scene
from cropfirst.stage1_detect.harden.paste.templates import drawn_templates
from cropfirst.stage1_detect.harden.training.targets import Taught
from cropfirst.stage1_detect.harden.training.training_view import (
    Lesson,
    Wardrobe,
    make_lesson,
    scaled,
)
from cropfirst.stage1_detect.mtcnn.detector import MTCNN

WARDROBE = Wardrobe([], drawn_templates(0))
NOTHING = PasteConfig(worn=0, incorrect=0, occluded=0, stray=0, without=0)


@pytest.fixture(scope="module")
def taught(face_photo: np.ndarray) -> Taught:
    """The one face of the drawn portrait, as the teacher has it."""
    faces = MTCNN(threads=1).detect_batch([face_photo])[0]
    assert len(faces) == 1 and faces.probs[0] > 0.99
    nothing = np.zeros((0, 4), np.float32)
    return Taught(faces.boxes, faces.landmarks, ("normal",), nothing, complete=False)


def lessons(
    photo: np.ndarray, taught: Taught, config: PasteConfig, *, count: int = 12
) -> list[Lesson]:
    return [
        make_lesson(photo, taught, WARDROBE, config, np.random.default_rng(seed))
        for seed in range(count)
    ]


def only(**shares: float) -> PasteConfig:
    return NOTHING.model_copy(update=shares)


def test_the_box_and_the_points_stay_on_the_face(face_photo: np.ndarray, taught: Taught) -> None:
    """A detector finds the changed photo's bare face where the lesson says that it is."""
    detector = MTCNN(threads=1)
    near = 0
    for lesson in lessons(face_photo, taught, NOTHING):
        faces = detector.detect_batch([lesson.image])[0]
        width = float(lesson.boxes[0, 2] - lesson.boxes[0, 0])
        if len(faces):
            away = np.linalg.norm(faces.landmarks[0] - lesson.landmarks[0], axis=1) / width
            near += bool(away.max() < 0.12)
        inside = (lesson.landmarks[0] > lesson.boxes[0, :2]) & (
            lesson.landmarks[0] < lesson.boxes[0, 2:]
        )
        assert inside.mean() > 0.8
        # Left and right are as seen, also in a mirror.
        assert lesson.landmarks[0, 0, 0] < lesson.landmarks[0, 1, 0]
    assert near >= 9, f"only {near} of 12 faces lie where the lesson says"


@pytest.mark.parametrize("kind", ["worn", "incorrect", "occluded"])
def test_what_is_pasted_is_hidden_and_no_word_of_the_teachers(
    kind: str, face_photo: np.ndarray, taught: Taught
) -> None:
    for lesson in lessons(face_photo, taught, only(**{kind: 1.0}), count=6):
        assert lesson.pasted.all() and lesson.hidden.all() and len(lesson.boxes) == 1
    for lesson in lessons(face_photo, taught, NOTHING, count=6):
        assert not lesson.pasted.any() and not lesson.hidden.any()


@pytest.mark.parametrize("state", ["wear", "incorrect"])
def test_a_face_masked_by_nature_is_hidden_and_gets_no_second_mask(
    state: str, face_photo: np.ndarray, taught: Taught
) -> None:
    real = Taught(taught.boxes, taught.landmarks, (state,), taught.doubtful, complete=True)
    for lesson in lessons(face_photo, real, only(worn=1.0), count=4):
        assert lesson.hidden.all() and not lesson.pasted.any() and lesson.complete


def test_faces_without_landmarks_or_too_small_stay_bare(
    face_photo: np.ndarray, taught: Taught
) -> None:
    blind = Taught(
        taught.boxes, np.full_like(taught.landmarks, np.nan), ("normal",), taught.doubtful, False
    )
    small = cv2.resize(face_photo, None, fx=0.1, fy=0.1, interpolation=cv2.INTER_AREA)
    tiny = Taught(taught.boxes * 0.1, taught.landmarks * 0.1, ("normal",), taught.doubtful, False)
    assert (tiny.boxes[0, 2:] - tiny.boxes[0, :2]).min() < 24
    for photo, known in ((face_photo, blind), (small, tiny)):
        for lesson in lessons(photo, known, only(worn=1.0), count=4):
            assert not lesson.pasted.any()


def test_a_painted_out_face_is_no_face_and_the_photo_itself_stays(
    face_photo: np.ndarray, taught: Taught
) -> None:
    before = face_photo.copy()
    detector = MTCNN(threads=1)
    found = 0
    for lesson in lessons(face_photo, taught, only(without=1.0), count=6):
        assert len(lesson.boxes) == len(lesson.landmarks) == len(lesson.hidden) == 0
        found += len(detector.detect_batch([lesson.image])[0])
    assert found <= 1, "the face is gone"
    np.testing.assert_array_equal(face_photo, before)


def test_doubtful_places_move_with_the_photo(face_photo: np.ndarray, taught: Taught) -> None:
    twice = Taught(taught.boxes, taught.landmarks, ("normal",), taught.boxes, complete=False)
    for lesson in lessons(face_photo, twice, NOTHING, count=6):
        np.testing.assert_array_equal(lesson.doubtful, lesson.boxes)


def test_equal_seeds_give_equal_lessons(face_photo: np.ndarray, taught: Taught) -> None:
    config = PasteConfig()
    for ours, theirs in zip(
        lessons(face_photo, taught, config), lessons(face_photo, taught, config), strict=True
    ):
        for name, value in vars(ours).items():
            np.testing.assert_array_equal(value, getattr(theirs, name))
    assert len({lesson.image.shape for lesson in lessons(face_photo, taught, config)}) > 6


def test_a_photo_scaled_keeps_its_faces_in_their_places() -> None:
    photo = np.zeros((100, 200, 3), np.uint8)
    photo[20:60, 40:90] = 255
    scene = Scene(
        photo, np.array([[40, 20, 90, 60]], np.float32), np.full((1, 5, 2), 50, np.float32)
    )
    for seed in range(8):
        seen = scaled(scene, rng=np.random.default_rng(seed))
        rows, columns = np.nonzero(seen.photo[..., 0] > 127)
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(seen.boxes[0], edges, atol=1)
        height, width = seen.photo.shape[:2]
        np.testing.assert_allclose(seen.landmarks[0, 0], [width / 4, height / 2], rtol=1e-5)


def test_given_and_drawn_masks_are_picked_in_their_shares() -> None:
    given = drawn_templates(1)[:2]
    both = Wardrobe(given, WARDROBE.drawn)
    rng = np.random.default_rng(0)
    names = {template.name for template in given}
    picks = [len(both.pick(rng, drawn=0.25)) == len(names) for _ in range(400)]
    assert 0.68 < np.mean(picks) < 0.82
    assert len(WARDROBE.pick(rng, drawn=0.0)) == len(WARDROBE.drawn), "there are none but drawn"


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("paste.worn=1.5", "paste.worn"),
        ("pnet.rounds=0", "pnet.rounds"),
        ("fold=10", "fold must be below folds (10), got 10"),
        ("sure=2", "sure"),
        ("pnet.vews=3", "pnet.views"),
    ],
)
def test_settings_out_of_range_are_told(setting: str, told: str) -> None:
    with pytest.raises((CropfirstError, ValueError)) as caught:
        load_config(HardenConfig, recipe=None, section="harden", overrides=[setting], values={})
    assert told in str(caught.value)
