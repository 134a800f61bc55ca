"""Heads cut out by GrabCut: the head stays, the room goes, and failures are said and counted."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from cropfirst.cache import Cache
from cropfirst.cache.verify import check_cache
from cropfirst.core.faces.crop import make_crop
from cropfirst.core.faces.segment import head_mask
from cropfirst.stage1_detect.config import CropConfig, DetectConfig
from cropfirst.stage1_detect.photos.read import PhotoRef
from cropfirst.stage1_detect.pipeline.contact_sheet import unsegmented_sheet
from cropfirst.stage1_detect.pipeline.summary import DetectSummary
from cropfirst.stage1_detect.run import detect

BOX = np.array([140, 120, 240, 250], np.float32)


def _head_on(room: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A head larger than its face box, in a room; and where it is."""
    head = np.zeros(room.shape[:2], np.uint8)
    cv2.ellipse(head, (190, 175), (62, 90), 0, 0, 360, 1, -1)
    noise = np.random.default_rng(0).normal(0, 6, room.shape)
    photo = np.where(head[..., None] > 0, (205, 160, 130), room) + noise
    return np.clip(photo, 0, 255).astype(np.uint8), head.astype(bool)


def _room(colour: tuple[int, int, int] = (40, 90, 60)) -> np.ndarray:
    return np.full((384, 384, 3), colour, np.uint8)


def test_the_segment_is_the_head_and_not_its_box() -> None:
    photo, head = _head_on(_room())
    mask = head_mask(photo, BOX, None)
    assert mask.fault == "" and mask.alpha.shape == head.shape
    found = mask.alpha > 127
    overlap = (found & head).sum() / (found | head).sum()
    assert overlap > 0.93, f"IoU with the true head {overlap:.3f}"


def test_guessed_points_in_the_middle_of_the_face_change_no_segment() -> None:
    """Under a mask the mouth's points are guesses; what is surely face covers them anyway."""
    photo, _ = _head_on(_room())
    middle = (BOX[:2] + BOX[2:]) / 2
    points = middle + np.array([[-18, -18], [18, -18], [0, 0], [-14, 24], [14, 24]], np.float32)
    guessed = points + np.array([[0, 0], [0, 0], [4, -6], [5, -9], [-6, 8]], np.float32)
    masks = [head_mask(photo, BOX, each) for each in (points, guessed, None)]
    assert masks[0].fault == ""
    for mask in masks[1:]:
        np.testing.assert_array_equal(masks[0].alpha, mask.alpha)


def test_equal_photos_give_equal_segments_on_any_thread() -> None:
    photo, _ = _head_on(_room())
    first = head_mask(photo, BOX, None).alpha
    cv2.setRNGSeed(7)
    again: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: again.append(head_mask(photo, BOX, None).alpha))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(first, again[0])


def test_a_segment_crop_keeps_the_head_beyond_the_ellipse_and_blanks_the_room() -> None:
    photo, _ = _head_on(_room())
    crops = {
        name: make_crop(photo, BOX, None, CropConfig(background=name, margin=0.6, image_size=96))[0]
        for name in ("segment", "ellipse")
    }
    kept = {name: (crop != 127).any(-1).mean() for name, crop in crops.items()}
    assert kept["segment"] > kept["ellipse"] * 1.3
    assert (crops["segment"][:, :6] == 127).all() and (crops["segment"][:, -6:] == 127).all()


@pytest.mark.parametrize(
    ("photo", "box", "why"),
    [
        (np.full((200, 200, 3), 90, np.uint8), (30, 30, 170, 170), "segment"),
        (np.full((200, 200, 3), 90, np.uint8), (60, 60, 140, 140), "the segment is"),
        (np.full((200, 200, 3), 90, np.uint8), (300, 300, 340, 340), "not on the photo"),
        (np.full((60, 60, 3), 90, np.uint8), (-200, -200, 260, 260), "no room"),
    ],
    ids=["flat-large", "flat", "outside", "all-face"],
)
def test_where_there_is_no_segment_the_ellipse_is_used_and_said(
    photo: np.ndarray, box: tuple[int, ...], why: str
) -> None:
    where = np.array(box, np.float32)
    crop, window = make_crop(photo, where, None, CropConfig(background="segment", image_size=48))
    ellipse, _ = make_crop(photo, where, None, CropConfig(background="ellipse", image_size=48))
    assert why in window.fault
    np.testing.assert_array_equal(crop, ellipse)


def _detect(root: Path, cache: Path) -> DetectSummary:
    photos = [PhotoRef(path.name, path, group="p") for path in sorted(root.iterdir())]
    config = DetectConfig(crop=CropConfig(background="segment", image_size=48), workers=1)
    return detect(photos, Cache.open(cache, data_root=root, create=True), config)


def test_detect_counts_and_shows_what_could_not_be_segmented(
    face_photo: np.ndarray, tmp_path: Path
) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    cv2.imwrite(str(root / "face.png"), face_photo[..., ::-1])
    # Nothing but wall where the sibling's face was.
    cv2.imwrite(str(root / "wall.png"), np.full_like(face_photo, 180))
    summary = _detect(root, tmp_path / "cache")
    rows = {row["key"]: row for row in summary.crops.manifest.read().to_dicts()}
    assert summary.unsegmented == 1 and rows["face.png"]["error_type"] is None
    assert rows["wall.png"]["error_type"] == "NoSegment" and rows["wall.png"]["crop_hash"]
    sheet = tmp_path / "sheet.png"
    assert unsegmented_sheet(summary.crops, sheet, photo_path=lambda key: root / key)
    assert cv2.imread(str(sheet)) is not None
    again = _detect(root, tmp_path / "cache")
    assert again.crops_written == 0 and not again.changed and again.unsegmented == 1
    assert not any(check.is_harmed for check in check_cache(tmp_path / "cache"))
