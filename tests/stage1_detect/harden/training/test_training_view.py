"""Tests of training views: pasted masks, targets, and positions after augmentation."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cropfirst.configs import load_config
from cropfirst.core.errors import CropfirstError
from cropfirst.stage1_detect.harden.config import HardenConfig, PasteConfig
from cropfirst.stage1_detect.harden.paste.augment import AnnotatedPhoto
from cropfirst.stage1_detect.harden.paste.cover import TemplateSet
from cropfirst.stage1_detect.harden.paste.templates import drawn_templates
from cropfirst.stage1_detect.harden.training.targets import FaceTargets
from cropfirst.stage1_detect.harden.training.training_view import (
    TrainingView,
    make_training_view,
    rescale,
)
from cropfirst.stage1_detect.mtcnn.detector import MTCNN

TEMPLATE_SET = TemplateSet([], drawn_templates(0))
NOTHING = PasteConfig(worn=0, incorrect=0, occluded=0, stray=0, without=0)


@pytest.fixture(scope="module")
def targets(face_photo: np.ndarray) -> FaceTargets:
    """Return the teacher's one face in the drawn portrait."""
    faces = MTCNN(threads=1).detect_batch([face_photo])[0]
    assert len(faces) == 1 and faces.probs[0] > 0.99
    nothing = np.zeros((0, 4), np.float32)
    return FaceTargets(faces.boxes, faces.landmarks, ("normal",), nothing, complete=False)


def views(
    photo: np.ndarray, targets: FaceTargets, config: PasteConfig, *, count: int = 12
) -> list[TrainingView]:
    return [
        make_training_view(photo, targets, TEMPLATE_SET, config, np.random.default_rng(seed))
        for seed in range(count)
    ]


def only(**shares: float) -> PasteConfig:
    return NOTHING.model_copy(update=shares)


def test_the_box_and_the_points_stay_on_the_face(
    face_photo: np.ndarray, targets: FaceTargets
) -> None:
    """A detector finds the bare face of a view at the view's box."""
    detector = MTCNN(threads=1)
    near = 0
    for view in views(face_photo, targets, NOTHING):
        faces = detector.detect_batch([view.image])[0]
        width = float(view.boxes[0, 2] - view.boxes[0, 0])
        if len(faces):
            away = np.linalg.norm(faces.landmarks[0] - view.landmarks[0], axis=1) / width
            near += bool(away.max() < 0.12)
        inside = (view.landmarks[0] > view.boxes[0, :2]) & (view.landmarks[0] < view.boxes[0, 2:])
        assert inside.mean() > 0.8
        # Left and right are as seen, also in a mirror.
        assert view.landmarks[0, 0, 0] < view.landmarks[0, 1, 0]
    assert near >= 9, f"only {near} of 12 faces lie where the view says"


@pytest.mark.parametrize("kind", ["worn", "incorrect", "occluded"])
def test_pasted_faces_are_marked_as_hidden_and_pasted(
    kind: str, face_photo: np.ndarray, targets: FaceTargets
) -> None:
    for view in views(face_photo, targets, only(**{kind: 1.0}), count=6):
        assert view.pasted.all() and view.hidden.all() and len(view.boxes) == 1
    for view in views(face_photo, targets, NOTHING, count=6):
        assert not view.pasted.any() and not view.hidden.any()


@pytest.mark.parametrize("state", ["wear", "incorrect"])
def test_a_face_with_a_real_mask_is_hidden_and_gets_no_second_mask(
    state: str, face_photo: np.ndarray, targets: FaceTargets
) -> None:
    real = FaceTargets(targets.boxes, targets.landmarks, (state,), targets.doubtful, complete=True)
    for view in views(face_photo, real, only(worn=1.0), count=4):
        assert view.hidden.all() and not view.pasted.any() and view.complete


def test_faces_without_landmarks_or_too_small_stay_bare(
    face_photo: np.ndarray, targets: FaceTargets
) -> None:
    blind = FaceTargets(
        targets.boxes, np.full_like(targets.landmarks, np.nan), ("normal",), targets.doubtful, False
    )
    small = cv2.resize(face_photo, None, fx=0.1, fy=0.1, interpolation=cv2.INTER_AREA)
    tiny = FaceTargets(
        targets.boxes * 0.1, targets.landmarks * 0.1, ("normal",), targets.doubtful, False
    )
    assert (tiny.boxes[0, 2:] - tiny.boxes[0, :2]).min() < 24
    for photo, known in ((face_photo, blind), (small, tiny)):
        for view in views(photo, known, only(worn=1.0), count=4):
            assert not view.pasted.any()


def test_a_painted_out_face_is_no_face_and_the_photo_itself_stays(
    face_photo: np.ndarray, targets: FaceTargets
) -> None:
    before = face_photo.copy()
    detector = MTCNN(threads=1)
    found = 0
    for view in views(face_photo, targets, only(without=1.0), count=6):
        assert len(view.boxes) == len(view.landmarks) == len(view.hidden) == 0
        found += len(detector.detect_batch([view.image])[0])
    assert found <= 1, "the face is gone"
    np.testing.assert_array_equal(face_photo, before)


def test_doubtful_places_move_with_the_photo(face_photo: np.ndarray, targets: FaceTargets) -> None:
    twice = FaceTargets(
        targets.boxes, targets.landmarks, ("normal",), targets.boxes, complete=False
    )
    for view in views(face_photo, twice, NOTHING, count=6):
        np.testing.assert_array_equal(view.doubtful, view.boxes)


def test_equal_seeds_give_equal_views(face_photo: np.ndarray, targets: FaceTargets) -> None:
    config = PasteConfig()
    for ours, theirs in zip(
        views(face_photo, targets, config), views(face_photo, targets, config), strict=True
    ):
        for name, value in vars(ours).items():
            np.testing.assert_array_equal(value, getattr(theirs, name))
    assert len({view.image.shape for view in views(face_photo, targets, config)}) > 6


def test_a_photo_scaled_keeps_its_faces_in_their_places() -> None:
    photo = np.zeros((100, 200, 3), np.uint8)
    photo[20:60, 40:90] = 255
    annotated = AnnotatedPhoto(
        photo, np.array([[40, 20, 90, 60]], np.float32), np.full((1, 5, 2), 50, np.float32)
    )
    for seed in range(8):
        seen = rescale(annotated, rng=np.random.default_rng(seed))
        rows, columns = np.nonzero(seen.image[..., 0] > 127)
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(seen.boxes[0], edges, atol=1)
        height, width = seen.image.shape[:2]
        np.testing.assert_allclose(seen.landmarks[0, 0], [width / 4, height / 2], rtol=1e-5)


def test_given_and_drawn_masks_are_picked_in_their_shares() -> None:
    given = drawn_templates(1)[:2]
    both = TemplateSet(given, TEMPLATE_SET.drawn)
    rng = np.random.default_rng(0)
    names = {template.name for template in given}
    picks = [len(both.choose(rng, drawn=0.25)) == len(names) for _ in range(400)]
    assert 0.68 < np.mean(picks) < 0.82
    assert len(TEMPLATE_SET.choose(rng, drawn=0.0)) == len(TEMPLATE_SET.drawn), (
        "there are none but drawn"
    )


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
