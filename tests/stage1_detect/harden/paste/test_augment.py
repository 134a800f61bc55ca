"""Photos that are mirrored, tilted and shaken before masks are pasted, with their landmarks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cropfirst.stage1_detect.harden.paste.augment import (
    AnnotatedPhoto,
    add_border,
    augment,
    mirror,
    rotate,
)

FACE = np.array([[88, 90], [136, 90], [112, 120], [94, 144], [130, 144]], dtype=np.float32)
"""A frontal face in a 224-pixel photo."""
BOX = np.array([60, 40, 164, 178], dtype=np.float32)


def make_noise() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 200, (224, 224, 3), dtype=np.uint8)


def photo_with_marks() -> AnnotatedPhoto:
    """Make a photo whose five landmarks have five different grey levels."""
    photo = np.zeros((224, 224, 3), np.uint8)
    for point, tone in zip(FACE, (50, 90, 130, 170, 210), strict=True):
        cv2.circle(photo, (int(point[0]), int(point[1])), 6, (tone, tone, tone), -1)
    return AnnotatedPhoto(photo, BOX[None], FACE[None])


def tone_at(annotated: AnnotatedPhoto, number: int) -> int:
    x, y = np.floor(annotated.landmarks[0, number]).astype(int)
    return int(np.median(annotated.image[y - 1 : y + 2, x - 1 : x + 2]))


def test_a_mirror_swaps_left_and_right_landmarks() -> None:
    annotated = mirror(photo_with_marks())
    assert [tone_at(annotated, number) for number in range(5)] == [90, 50, 130, 210, 170]
    assert annotated.landmarks[0, 0, 0] < annotated.landmarks[0, 1, 0]
    assert annotated.boxes.tolist() == [[60, 40, 164, 178]]
    back = mirror(annotated)
    assert np.array_equal(back.image, photo_with_marks().image)
    assert np.allclose(back.landmarks, FACE)


@pytest.mark.parametrize(("degrees", "scale"), [(0, 0.7), (20, 1.0), (-25, 1.2)])
def test_a_tilt_takes_landmarks_and_box_along(degrees: float, scale: float) -> None:
    rng = np.random.default_rng(0)
    annotated = rotate(photo_with_marks(), degrees=degrees, scale=scale, rng=rng)
    tones = [tone_at(annotated, number) for number in range(5)]
    assert np.allclose(tones, [50, 90, 130, 170, 210], atol=3)
    size = annotated.boxes[0, 2:] - annotated.boxes[0, :2]
    assert np.allclose(size, (BOX[2:] - BOX[:2]) * scale, atol=0.01)
    middle = (annotated.boxes[0, :2] + annotated.boxes[0, 2:]) / 2
    # The box's middle on the face, seen from the eyes, turns with the face.
    eyes = annotated.landmarks[0, 1] - annotated.landmarks[0, 0]
    assert np.isclose(np.degrees(np.arctan2(eyes[1], eyes[0])), degrees, atol=0.1)
    gap = np.linalg.norm(middle - annotated.landmarks[0, 2])
    assert np.isclose(gap, scale * np.linalg.norm((BOX[:2] + BOX[2:]) / 2 - FACE[2]), atol=0.01)


def test_a_shaken_photo_keeps_its_size_and_its_faces_in_order() -> None:
    photo = make_noise()
    boxes = np.stack([BOX, BOX * np.float32(0.5)])
    landmarks = np.stack([FACE, FACE * np.float32(0.5)])
    for seed in range(12):
        annotated = augment(
            AnnotatedPhoto(photo, boxes, landmarks), rng=np.random.default_rng(seed)
        )
        assert annotated.image.shape == photo.shape and annotated.image.dtype == np.uint8
        assert annotated.boxes.shape == (2, 4) and annotated.landmarks.shape == (2, 5, 2)
        assert annotated.boxes.dtype == annotated.landmarks.dtype == np.float32
        inside = (annotated.landmarks > annotated.boxes[:, None, :2] - 12) & (
            annotated.landmarks < annotated.boxes[:, None, 2:] + 12
        )
        assert inside.all()
        assert np.prod(annotated.boxes[0, 2:] - annotated.boxes[0, :2]) > np.prod(
            annotated.boxes[1, 2:] - annotated.boxes[1, :2]
        )
    nothing = AnnotatedPhoto(photo, np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32))
    empty = augment(nothing, rng=np.random.default_rng(0))
    assert empty.boxes.shape == (0, 4) and empty.landmarks.shape == (0, 5, 2)


def test_a_border_is_grey_and_leaves_the_photo_as_it_is() -> None:
    photo = make_noise()
    wide = add_border(photo, 56)
    assert wide.shape == (336, 336, 3)
    assert np.array_equal(wide[56:-56, 56:-56], photo)
    assert (wide[:56] == 127).all() and (wide[:, -56:] == 127).all()
