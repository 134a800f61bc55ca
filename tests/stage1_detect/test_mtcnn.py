"""Box for box the reference's faces, on real photographs and at the edges."""

from __future__ import annotations

from pathlib import Path

import cv2
import facenet_pytorch
import numpy as np
import pytest
import torch

from cropfirst.stage1_detect.boxes import iou
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.mtcnn import MTCNN, Detections, pyramid_scales


def _photos(folder: Path, count: int) -> list[np.ndarray]:
    files = sorted(folder.glob("*.jpg"))
    step = max(1, len(files) // count)
    return [cv2.cvtColor(cv2.imread(str(f)), cv2.COLOR_BGR2RGB) for f in files[::step][:count]]


def _reference(photos: list[np.ndarray], min_face_size: int) -> list[Detections]:
    detector = facenet_pytorch.MTCNN(keep_all=True, min_face_size=min_face_size, device="cpu")
    faces = []
    for photo in photos:
        boxes, probs, landmarks = detector.detect(photo, landmarks=True)
        if boxes is None:
            boxes, probs, landmarks = np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2))
        faces.append(
            Detections(*(np.asarray(part, dtype=np.float32) for part in (boxes, probs, landmarks)))
        )
    return faces


def _compare(ours: list[Detections], theirs: list[Detections]) -> dict[str, float]:
    wanted = matched = extra = 0
    box = prob = landmark = 0.0
    for mine, reference in zip(ours, theirs, strict=True):
        overlap = iou(reference.boxes, mine.boxes)
        wanted += len(reference)
        extra += int((overlap < 0.99).all(axis=0).sum())
        for index in range(len(reference)):
            best = overlap[index].argmax() if len(mine) else -1
            if best < 0 or overlap[index, best] < 0.99:
                continue
            matched += 1
            box = max(box, np.abs(mine.boxes[best] - reference.boxes[index]).max())
            prob = max(prob, abs(mine.probs[best] - reference.probs[index]))
            landmark = max(
                landmark, np.abs(mine.landmarks[best] - reference.landmarks[index]).max()
            )
    return {
        "faces": wanted,
        "matched": matched / max(wanted, 1),
        "extra": extra / max(wanted, 1),
        "box": box,
        "prob": prob,
        "landmark": landmark,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "count", "min_face_size"),
    [("faces_in_the_wild", 120, 20), ("portraits", 40, 40), ("contest/eval", 60, 40)],
)
def test_faces_equal_the_references(
    shared_data: Path, folder: str, count: int, min_face_size: int
) -> None:
    photos = _photos(shared_data / folder / "images", count)
    detector = MTCNN(DetectorConfig(min_face_size=min_face_size))
    # Batches of mixed sizes on purpose: the reference sees one photo at a time.
    ours = [face for i in range(0, len(photos), 13) for face in detector.detect(photos[i : i + 13])]
    result = _compare(ours, _reference(photos, min_face_size))
    assert result["faces"] >= count / 2, result
    # A handful differ: candidates whose scores tie to the last bit change places in an NMS.
    assert result["matched"] >= 0.995, result
    assert result["extra"] <= 0.005, result
    assert result["box"] <= 0.5 and result["prob"] <= 1e-3 and result["landmark"] <= 0.5, result


def test_a_drawn_face_is_found_where_the_reference_finds_it(face_photo: np.ndarray) -> None:
    theirs = _reference([face_photo], 40)
    assert len(theirs[0]) == 1
    result = _compare(MTCNN().detect([face_photo]), theirs)
    assert result["matched"] == 1 and result["extra"] == 0, result
    assert result["box"] < 0.01 and result["prob"] < 1e-4 and result["landmark"] < 0.01, result


def test_a_batch_of_mixed_sizes_gives_what_each_photo_gives_alone(face_photo: np.ndarray) -> None:
    photos = [
        face_photo,
        np.zeros((40, 50, 3), dtype=np.uint8),
        face_photo[:, ::-1],
        face_photo[20:, 10:],
        face_photo,
    ]
    detector = MTCNN()
    together = detector.detect(photos)
    for photo, faces in zip(photos, together, strict=True):
        alone = detector.detect([photo])[0]
        np.testing.assert_allclose(faces.boxes, alone.boxes, atol=1e-3)
        np.testing.assert_allclose(faces.probs, alone.probs, atol=1e-5)
        np.testing.assert_allclose(faces.landmarks, alone.landmarks, atol=1e-3)
    assert len(together[0]) == 1 and len(together[1]) == 0


@pytest.mark.parametrize("size", [(1, 1), (11, 11), (12, 12), (13, 4000), (4000, 13), (39, 41)])
def test_photos_at_the_edges_give_zero_rows(size: tuple[int, int]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for min_face_size in (12, 20, 40):
        faces = MTCNN(DetectorConfig(min_face_size=min_face_size)).detect([photo])[0]
        assert faces.boxes.shape == (len(faces), 4)
        assert faces.probs.shape == (len(faces),)
        assert faces.landmarks.shape == (len(faces), 5, 2)


def test_no_photos_give_no_results() -> None:
    assert MTCNN().detect([]) == []


@pytest.mark.parametrize(
    "photo",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_photos_are_refused(photo: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"photo 0 must be \(H, W, 3\) uint8"):
        MTCNN().detect([photo])


def test_a_candidate_outside_its_photo_does_not_shift_the_others() -> None:
    """The reference leaves such a candidate's pixels out but keeps its row."""
    strip = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    detector = MTCNN(DetectorConfig(min_face_size=12, thresholds=(0.0, 0.0, 0.0)))
    alone = detector.detect([strip])[0]
    assert len(alone) > 0
    behind = detector.detect([np.zeros_like(strip), strip])[1]
    np.testing.assert_allclose(behind.boxes, alone.boxes, atol=1e-2)
    np.testing.assert_allclose(behind.probs, alone.probs, atol=1e-4)


def test_scales_start_at_the_smallest_face_and_end_at_the_photo() -> None:
    scales = pyramid_scales(512, 384, min_face_size=40, factor=0.709)
    assert scales[0] == 12 / 40
    assert 384 * scales[-1] >= 12 > 384 * scales[-1] * 0.709


@pytest.mark.requires_cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: the CUDA path is not tested")
def test_faces_on_the_gpu_equal_those_on_the_cpu(face_photo: np.ndarray) -> None:
    photos = [face_photo, face_photo[:, ::-1], face_photo[30:, 20:], np.zeros_like(face_photo)]
    result = _compare(MTCNN(device="cuda").detect(photos), MTCNN().detect(photos))
    assert result["faces"] >= 3 and result["matched"] == 1 and result["extra"] == 0, result
