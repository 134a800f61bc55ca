"""Box for box the reference's faces, on real photographs and at the edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import facenet_pytorch
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cropfirst.core.faces.boxes import iou
from cropfirst.core.faces.pyramid import pyramid_scales
from cropfirst.core.faces.select import select_face
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.mtcnn import boxes as boxes_module
from cropfirst.stage1_detect.mtcnn import cascade
from cropfirst.stage1_detect.mtcnn import detector as mtcnn
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections
from cropfirst.stage1_detect.mtcnn.engines import torch as torch_engine
from cropfirst.stage1_detect.mtcnn.parity import compare_faces
from cropfirst.stage1_detect.mtcnn.pyramid.integral import IntegralImages
from cropfirst.stage1_detect.mtcnn.pyramid.levels import MAX_PHOTOS

ENGINES = ["torch", "numba"]


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "count", "min_face_size"),
    [("faces_in_the_wild", 50, 20), ("portraits", 20, 40), ("contest/eval", 30, 40)],
)
def test_faces_equal_the_references(
    shared_data: Path, folder: str, count: int, min_face_size: int
) -> None:
    photos = _photos(shared_data / folder / "images", count)
    wanted = _reference(photos, min_face_size)
    for engine in ENGINES:
        config = DetectorConfig(weights="reference", min_face_size=min_face_size)
        detector = MTCNN(config, engine=engine)
        # Batches of mixed sizes on purpose: the reference sees one photo at a time.
        batches = [photos[first : first + 13] for first in range(0, len(photos), 13)]
        result = compare_faces([f for batch in batches for f in detector.detect(batch)], wanted)
        assert result.faces >= count / 2, result
        # A handful differ: candidates whose scores tie to the last bit change places in an NMS.
        assert result.matched >= 0.995 and result.extra <= 0.005, (engine, result)
        assert result.box_px <= 0.5 and result.prob <= 1e-3, (engine, result)
        assert result.landmark_px <= 0.5, (engine, result)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_drawn_face_is_found_where_the_reference_finds_it(
    face_photo: np.ndarray, engine: str
) -> None:
    theirs = _reference([face_photo], 40)
    assert len(theirs[0]) == 1
    detector = MTCNN(DetectorConfig(weights="reference"), engine=engine)
    result = compare_faces(detector.detect([face_photo]), theirs)
    assert result.matched == 1 and result.extra == 0, result
    assert result.box_px < 0.01 and result.prob < 1e-4 and result.landmark_px < 0.01, result


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


@pytest.mark.parametrize("engine", ENGINES)
def test_a_candidate_outside_its_photo_does_not_shift_the_others(
    engine: Any, tmp_path: Path
) -> None:
    """facenet-pytorch leaves the pixels of such a candidate out but keeps its row."""
    photo = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    theirs = facenet_pytorch.MTCNN(min_face_size=12, thresholds=[0.1, 0, 0], keep_all=True)
    # P-Net's offsets move every window to the right by two of its widths: some leave the photo.
    theirs.pnet.conv4_2.bias.data[[0, 2]] += 2
    with pytest.raises(IndexError, match="shape of the mask"):
        theirs.detect(photo)
    save_file(
        {
            f"{name}.{key}": value
            for name in ("pnet", "rnet", "onet")
            for key, value in getattr(theirs, name).state_dict().items()
        },
        tmp_path / "moved.safetensors",
    )
    config = DetectorConfig(
        weights=str(tmp_path / "moved.safetensors"), min_face_size=12, thresholds=(0.1, 0, 0)
    )
    detector = MTCNN(config, engine=engine, threads=1)
    ((candidates, _),) = detector.candidates([photo], net="rnet")
    inside = candidates[(candidates[:, :2] < (90, 40)).all(axis=1)]
    assert 0 < len(inside) < len(candidates)
    ((squares, scores),) = detector.candidates([photo], net="onet")
    # Each of R-Net's squares and scores is that of a candidate run alone.
    inputs = torch.tensor(detector.network_inputs(photo, inside, 24)).permute(0, 3, 1, 2)
    offsets, probs = theirs.rnet(inputs)
    boxes = boxes_module.apply_offsets(torch.tensor(inside), offsets.detach(), inclusive=True)
    wanted = torch.cat([boxes_module.make_square(boxes), probs[:, 1:].detach()], dim=1).numpy()
    found = np.concatenate([squares, scores[:, None]], axis=1)
    assert len(found) > 10
    assert np.abs(found[:, None] - wanted[None]).max(axis=2).min(axis=1).max() < 0.01
    assert len(detector.detect([photo])[0]) > 0


def test_a_photo_beyond_a_canvas_gives_the_references_faces(face_photo: np.ndarray) -> None:
    """Levels of 1,400 pixels are cut into bands and columns; faces lie across the cuts."""
    large = np.tile(cv2.resize(face_photo, (350, 400)), (5, 6, 1))
    config = DetectorConfig(weights="reference", min_face_size=20)
    result = compare_faces(MTCNN(config).detect([large]), _reference([large], 20))
    assert result.faces >= 30 and result.matched >= 0.995 and result.extra <= 0.005, result


def test_coarse_to_fine_finds_the_same_largest_face(face_photo: np.ndarray) -> None:
    small = np.full_like(face_photo, 90)
    side = face_photo.shape[0] // 4, face_photo.shape[1] // 4
    small[: side[0], : side[1]] = cv2.resize(face_photo, side[::-1], interpolation=cv2.INTER_AREA)
    photos = [face_photo, small, np.full_like(face_photo, 90), face_photo[:, ::-1]]
    for min_face_size in (12, 20, 40):
        everything = MTCNN(DetectorConfig(min_face_size=min_face_size)).detect(photos)
        config = DetectorConfig(min_face_size=min_face_size, search="largest")
        for faces, wanted in zip(MTCNN(config).detect(photos), everything, strict=True):
            assert bool(len(faces)) == bool(len(wanted))
            if len(wanted):
                pair = (each.boxes[select_face(each, "largest", height=1, width=1)]
                        for each in (faces, wanted))  # fmt: skip
                assert iou(*(box[None] for box in pair))[0, 0] >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "count", "min_face_size"),
    [("faces_in_the_wild", 100, 20), ("portraits", 60, 40), ("contest/eval", 60, 40)],
)
def test_coarse_to_fine_chooses_the_same_face_on_real_photos(
    shared_data: Path, folder: str, count: int, min_face_size: int
) -> None:
    photos = _photos(shared_data / folder / "images", count)
    everything, largest = (
        MTCNN(DetectorConfig(min_face_size=min_face_size, search=search)).detect(photos)
        for search in ("all", "largest")
    )
    same = [
        len(faces) > 0
        and iou(*(each.boxes[select_face(each, "largest", height=1, width=1)][None]
                  for each in (faces, wanted)))[0, 0] >= 0.9
        for faces, wanted in zip(largest, everything, strict=True)
        if len(wanted)
    ]  # fmt: skip
    assert len(same) >= 0.8 * count
    assert np.mean(same) >= 0.995


def test_threads_give_what_one_thread_gives(face_photo: np.ndarray) -> None:
    photos = [np.roll(face_photo, 7 * shift, axis=1) for shift in range(9)]
    several, one = MTCNN(threads=3).detect(photos), MTCNN(threads=1).detect(photos)
    result = compare_faces(several, one)
    assert result.faces == 9 and result.matched == 1 and result.box_px < 1e-3, result


def test_scales_start_at_the_smallest_face_and_end_at_the_photo() -> None:
    scales = pyramid_scales(512, 384, min_face_size=40, factor=0.709)
    assert scales[0] == 12 / 40
    assert 384 * scales[-1] >= 12 > 384 * scales[-1] * 0.709


@pytest.mark.parametrize("search", ["all", "largest"])
def test_the_gpus_way_on_cpu_tensors_gives_the_cpus_faces(
    face_photo: np.ndarray, search: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Integral images, a GPU's groups and passes, and NMS of all groups in one kernel."""
    photos = [face_photo, face_photo[:, ::-1], face_photo[30:, 20:], np.zeros_like(face_photo)]
    config = DetectorConfig(min_face_size=20, search=search)
    wanted = MTCNN(config).detect(photos)
    monkeypatch.setattr(torch_engine, "_GROUP_PIXELS", {"cpu": torch_engine._GROUP_PIXELS["cuda"]})
    passes = {"cpu": torch_engine.CANVASES_PER_PASS["cuda"]}
    monkeypatch.setattr(torch_engine, "CANVASES_PER_PASS", passes)
    candidates = {"cpu": cascade.CANDIDATE_PIXELS["cuda"]}
    monkeypatch.setattr(cascade, "CANDIDATE_PIXELS", candidates)
    monkeypatch.setattr(boxes_module, "_nms_compiled", boxes_module._nms_torchvision)
    detector = MTCNN(config, engine="torch", threads=1)
    monkeypatch.setattr(mtcnn, "load_photos", IntegralImages.from_photos)
    result = compare_faces(detector.detect(photos), wanted)
    assert result.faces >= 3 and result.matched == 1 and result.extra == 0, result


@pytest.mark.requires_cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: the CUDA path is not tested")
def test_faces_on_the_gpu_equal_those_on_the_cpu(face_photo: np.ndarray) -> None:
    photos = [face_photo, face_photo[:, ::-1], face_photo[30:, 20:], np.zeros_like(face_photo)]
    wanted = MTCNN().detect(photos)
    result = compare_faces(MTCNN(device="cuda").detect(photos), wanted)
    assert result.faces >= 3 and result.matched == 1 and result.extra == 0, result
    half = compare_faces(MTCNN(device="cuda", half=True).detect(photos), wanted, min_iou=0.95)
    assert half.matched == 1 and half.extra == 0, half


def test_more_photos_than_places_can_tell_apart() -> None:
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, (26, 30, 3), dtype=np.uint8) for _ in range(MAX_PHOTOS + 3)]
    mtcnn = MTCNN(DetectorConfig(min_face_size=12, thresholds=(0.1, 0.0, 0.0)), threads=1)
    together = mtcnn.detect_batch(photos)
    assert len(together) == len(photos) and sum(map(len, together)) > 50
    for index in (0, MAX_PHOTOS - 1, MAX_PHOTOS, MAX_PHOTOS + 2):
        alone = mtcnn.detect_batch([photos[index]])[0]
        np.testing.assert_allclose(together[index].boxes, alone.boxes, atol=1e-3)
