"""The chain behind `status`: own face, sibling, prior; and the choice among several faces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cropfirst.core.faces.select import select_face
from cropfirst.stage1_detect.config import CropConfig
from cropfirst.stage1_detect.mtcnn.detector import Detections
from cropfirst.stage1_detect.photos.read import PhotoRef
from cropfirst.stage1_detect.pipeline.resolve import NO_FACE_ANYWHERE, FaceResolver


def _row(
    found: str, *boxes: tuple[float, ...], size: tuple[int, int] = (400, 500)
) -> dict[str, Any]:
    return {
        "found": found,
        "width": size[0],
        "height": size[1],
        "boxes": [value for box in boxes for value in box],
        "probs": [0.99] * len(boxes),
        "landmarks": [0.0] * 10 * len(boxes),
    }


def _ref(key: str, group: str | None = None, split: str = "train") -> PhotoRef:
    return PhotoRef(key, Path(key), split, group)


def _resolve(rows: dict[str, dict[str, Any]], refs: list[PhotoRef], **crop: Any) -> FaceResolver:
    return FaceResolver(refs, rows, config=CropConfig(**crop))


FACE = (100.0, 120.0, 200.0, 260.0)


def test_a_missed_face_is_borrowed_from_the_same_person() -> None:
    rows = {
        "a/1": _row("detected", FACE),
        "a/2": _row("missed", size=(800, 1000)),
        "b/1": _row("detected", (300, 300, 360, 380)),
    }
    resolver = _resolve(rows, [_ref("a/1", "a"), _ref("a/2", "a"), _ref("b/1", "b")])
    face = resolver.face(_ref("a/2", "a"))
    assert face.status == "sibling" and face.prob is None and face.landmarks is None
    # The photo is twice as large, and so is the box.
    np.testing.assert_allclose(face.box, np.array(FACE) * 2)


def test_without_a_sibling_the_typical_place_is_taken() -> None:
    refs = [_ref(f"{i}", f"{i}") for i in range(3)] + [_ref("x", "x"), _ref("y", None, "eval")]
    rows = {f"{i}": _row("detected", FACE) for i in range(3)}
    rows |= {"x": _row("missed"), "y": _row("missed")}
    resolver = _resolve(rows, refs)
    for ref in refs[3:]:
        face = resolver.face(ref)
        assert face.status == "prior"
        np.testing.assert_allclose(face.box, FACE, rtol=1e-5)


def test_the_typical_place_is_that_of_the_training_photos() -> None:
    refs = [_ref("t", "t"), _ref("m", "m"), *(_ref(f"e{i}", None, "eval") for i in range(5))]
    rows = {"t": _row("detected", FACE), "m": _row("missed")}
    rows |= {f"e{i}": _row("detected", (0, 0, 50, 50)) for i in range(5)}
    np.testing.assert_allclose(_resolve(rows, refs).face(refs[1]).box, FACE, rtol=1e-5)


def test_no_face_anywhere_still_gives_every_photo_a_box() -> None:
    face = _resolve({"a": _row("missed")}, [_ref("a")]).face(_ref("a"))
    assert face.status == "prior"
    np.testing.assert_allclose(face.box, NO_FACE_ANYWHERE * [400, 500, 400, 500], rtol=1e-5)


def test_an_unreadable_photo_has_no_box_even_with_siblings() -> None:
    rows = {"a/1": _row("detected", FACE), "a/2": _row("unreadable", size=(0, 0))}
    face = _resolve(rows, [_ref("a/1", "a"), _ref("a/2", "a")]).face(_ref("a/2", "a"))
    assert face.status == "unreadable" and face.box is None


@pytest.mark.parametrize(
    ("box", "agreement", "status"),
    [
        ((104.0, 125.0, 205.0, 262.0), 0.4, "retried"),  # where the siblings' faces are
        ((10.0, 10.0, 60.0, 60.0), 0.4, "sibling"),  # a curtain
        ((10.0, 10.0, 60.0, 60.0), 0.0, "retried"),  # every retry is accepted
    ],
)
def test_a_retried_face_must_agree_with_its_siblings(
    box: tuple[float, ...], agreement: float, status: str
) -> None:
    refs = [_ref(f"a/{i}", "a") for i in range(4)]
    rows = {ref.key: _row("detected", FACE) for ref in refs[:3]} | {"a/3": _row("retried", box)}
    assert _resolve(rows, refs, min_agreement=agreement).face(refs[3]).status == status


def test_where_faces_are_all_over_the_place_retries_are_accepted() -> None:
    corners = [(0, 0, 60, 60), (300, 0, 360, 60), (0, 400, 60, 460), (300, 400, 360, 460)]
    refs = [_ref(f"{i}") for i in range(5)]
    rows = {f"{i}": _row("detected", box) for i, box in enumerate(corners)}
    rows["4"] = _row("retried", (150, 200, 200, 260))
    assert _resolve(rows, refs).face(refs[4]).status == "retried"


def _faces(*rows: tuple[float, float, float, float, float]) -> Detections:
    table = np.array(rows, dtype=np.float32).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4], np.zeros((len(table), 5, 2), np.float32))


@pytest.mark.parametrize(
    ("method", "index"),
    [
        ("largest", 0),
        ("probability", 2),
        ("largest_over_threshold", 1),
        ("center_weighted_size", 2),
    ],
)
def test_each_selection_method_takes_its_face(method: str, index: int) -> None:
    faces = _faces(
        (0, 0, 100, 100, 0.80),  # largest, unsure, in a corner
        (300, 300, 380, 380, 0.95),  # large and sure, in the other corner
        (170, 170, 230, 230, 0.99),  # small, surest, in the middle
    )
    assert select_face(faces, method, height=400, width=400) == index


def test_no_face_is_none_and_an_unknown_method_is_refused() -> None:
    assert select_face(_faces(), "largest", height=10, width=10) is None
    with pytest.raises(ValueError, match="largest_over_threshold"):
        select_face(_faces((0, 0, 1, 1, 1)), "biggest", height=10, width=10)
