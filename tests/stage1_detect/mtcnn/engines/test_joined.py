"""The weights `joined`: what each of the two sets of networks decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from cropfirst.core.errors import DetectError
from cropfirst.core.faces.boxes import iou
from cropfirst.stage1_detect.config import DetectConfig, DetectorConfig
from cropfirst.stage1_detect.crop_sets import config_of_crops
from cropfirst.stage1_detect.harden.recall.recall import count_detections
from cropfirst.stage1_detect.harden.training.box_table import clip, read_boxes
from cropfirst.stage1_detect.harden.training.teacher import detect_with_border
from cropfirst.stage1_detect.mtcnn.candidates import Candidates
from cropfirst.stage1_detect.mtcnn.cascade import Cascade
from cropfirst.stage1_detect.mtcnn.detector import MTCNN
from cropfirst.stage1_detect.mtcnn.engines.choose import load_photos
from cropfirst.stage1_detect.mtcnn.engines.joined import ONET_ASKS, JoinedEngine
from cropfirst.stage1_detect.mtcnn.nets import modules
from cropfirst.stage1_detect.mtcnn.nets.modules import load_nets, weights_hash
from cropfirst.stage1_detect.mtcnn.parity import compare_faces
from cropfirst.stage1_detect.photos.read import read_photo

FIXTURES = Path(__file__).parents[1] / "fixtures"


class FakeEngine:
    """An engine that gives fixed outputs, and remembers the crops that it was asked about."""

    name, device, group_pixels = "fake", torch.device("cpu"), 7

    def __init__(self, logits: list[float], value: float, width: int) -> None:
        self.outputs = torch.full((len(logits), width), value)
        self.outputs[:, 0] = torch.tensor(logits)
        self.seen: list[int] = []

    def run_rnet(self, crops: torch.Tensor) -> torch.Tensor:
        self.seen = crops[:, 0, 0, 0].int().tolist()
        return self.outputs[self.seen].clone()

    run_onet = run_rnet


def joined(mine: list[float], others: list[float], width: int) -> tuple[Any, Any, torch.Tensor]:
    """The joined engine of two fakes, the second fake, and numbered crops."""
    engines: Any = FakeEngine(mine, 1.0, width), FakeEngine(others, 2.0, width)
    crops = torch.arange(len(mine)).float()[:, None, None, None].expand(-1, 2, 2, 3)
    return JoinedEngine(*engines), engines[1], crops


def test_rnet_takes_the_surer_score_and_the_hardened_ones_offsets() -> None:
    engine, reference, crops = joined([-9.0, -0.5, 0.9, 4.0], [8.0, 2.0, -1.0, 5.0], 5)
    outputs = engine.run_rnet(crops)
    # The first is no face to the hardened network, and the last one passes anyway.
    assert reference.seen == [1, 2]
    assert outputs[:, 0].tolist() == pytest.approx([-9.0, 2.0, 0.9, 4.0])
    assert outputs[:, 1:].mean(dim=1).tolist() == [1, 1, 1, 1]
    assert engine.group_pixels == 7 and engine.name == "fake"


def test_onet_takes_a_mean_logit_and_the_surer_ones_box_and_landmarks() -> None:
    engine, reference, crops = joined([ONET_ASKS[0] - 1, 3.0, 1.0], [9.0, 1.0, 5.0], 15)
    outputs = engine.run_onet(crops)
    assert reference.seen == [1, 2]
    assert outputs[:, 0].tolist() == pytest.approx([ONET_ASKS[0] - 1, 2.2, 2.6])
    assert outputs[:, 1:].mean(dim=1).tolist() == [1, 1, 2]


def test_nothing_is_asked_where_nothing_looks_like_a_face() -> None:
    engine, reference, crops = joined([-9.0, -8.0], [9.0, 9.0], 5)
    assert engine.run_rnet(crops)[:, 0].tolist() == [-9.0, -8.0] and reference.seen == []
    assert engine.run_rnet(crops[:0]).shape == (0, 5)


def photos() -> list[np.ndarray]:
    """The drawn photos of the parity fixture, of several sizes, one without a face."""
    return [
        np.ascontiguousarray(cv2.imread(str(file))[..., ::-1])
        for file in sorted(FIXTURES.glob("*.png"))
    ]


def test_all_engines_and_batches_give_the_same_faces() -> None:
    config = DetectorConfig(weights="joined", min_face_size=20)
    detector = MTCNN(config, engine="numba", threads=1)
    together = detector.detect(photos())
    assert sum(map(len, together)) >= 10 and min(map(len, together)) == 0
    for found in (
        MTCNN(config, engine="torch", threads=1).detect(photos()),
        [detector.detect([photo])[0] for photo in photos()],
    ):
        same = compare_faces(found, together)
        assert same.matched == 1 and same.extra == 0 and same.box_px < 0.05, same
    for faces in together:
        assert (np.diff(faces.probs) <= 0).all() and faces.landmarks.shape == (len(faces), 5, 2)


@pytest.mark.requires_cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: its engine is not tested")
def test_the_gpu_gives_the_same_faces() -> None:
    config = DetectorConfig(weights="joined", min_face_size=20)
    wanted = MTCNN(config).detect(photos())
    same = compare_faces(MTCNN(config, device="cuda").detect(photos()), wanted)
    assert same.matched == 1 and same.extra == 0 and same.box_px < 0.1, same


def test_a_face_whose_mean_box_leaves_the_photo_stays_there(face_photo: np.ndarray) -> None:
    """There is no window to look at again, and the rows of other faces keep their own results."""
    detector = MTCNN(DetectorConfig(weights="joined"), threads=1)
    (faces,) = detector.detect([face_photo])
    outside = torch.tensor([[500.0, 20, 560, 80]])
    boxes = torch.cat([outside, torch.from_numpy(faces.boxes)])
    candidates = Candidates(
        boxes=boxes,
        scores=torch.tensor([0.99, 0.98]),
        photo=torch.zeros(2, dtype=torch.int64),
        position=torch.zeros(2, dtype=torch.int64),
    )
    landmarks = torch.arange(2.0)[:, None, None].expand(2, 5, 2)
    images = load_photos([face_photo], torch.device("cpu"))
    with torch.inference_mode():
        best, found, points = detector._cascade._localise(images, candidates, boxes, landmarks)
    assert torch.equal(found[0], outside[0]) and best.scores.tolist() == pytest.approx([0.99, 0.98])
    assert iou(found[1:].numpy(), faces.boxes)[0, 0] > 0.85
    assert points[:, 0, 0].tolist() == [0, 1]


def test_a_face_that_reaches_past_the_edge_keeps_its_box(portrait: Any) -> None:
    """A window that the edge cuts is stretched: O-Net would make the box smaller."""
    detector = MTCNN(DetectorConfig(weights="joined"), threads=1)
    photo = portrait(1, room=2, gender="female", age=30).image
    (whole,) = detector.detect([photo])
    top = round(whole.boxes[0, 1] + 0.2 * (whole.boxes[0, 3] - whole.boxes[0, 1]))
    (faces,) = detector.detect([np.ascontiguousarray(photo[top:])])
    moved = whole.boxes[:1] - np.array([0, top, 0, top], np.float32)
    assert iou(faces.boxes, moved)[0, 0] > 0.85
    apart = np.linalg.norm(faces.landmarks[0] + (0, top) - whole.landmarks[0], axis=1)
    assert apart.mean() < 0.04 * (whole.boxes[0, 2] - whole.boxes[0, 0]), apart


def test_boxes_of_close_ups_fit_better_than_the_reference_s(shared_data: Path) -> None:
    """FairFace's photos show little more than a face; a grey border shows where it ends."""
    files = sorted((shared_data / "fairface_small").rglob("*.jpg"))[::60]
    bordered = MTCNN(DetectorConfig(weights="reference"), threads=1)
    detectors = [MTCNN(DetectorConfig(weights=name), threads=1) for name in ("reference", "joined")]
    overlaps = []
    for file in files:
        photo = read_photo(file).image
        truth = detect_with_border(photo, bordered)
        if len(truth) and truth.probs[0] >= 0.95:
            found = [each.detect([photo])[0].boxes for each in detectors]
            overlaps.append([iou(truth.boxes[:1], each).max(initial=0) for each in found])
    reference, joined_ones = np.array(overlaps).T
    assert len(overlaps) > 60
    assert (joined_ones >= 0.8).mean() > 0.7 > (reference >= 0.8).mean()


def test_the_largest_face_is_the_same_when_it_is_searched_first() -> None:
    config = DetectorConfig(weights="joined", min_face_size=20)
    everything = MTCNN(config, threads=1).detect(photos())
    largest = MTCNN(config.model_copy(update={"search": "largest"}), threads=1).detect(photos())
    for faces, wanted in zip(largest, everything, strict=True):
        assert bool(len(faces)) == bool(len(wanted))
        if len(wanted):
            areas = [np.prod(each.boxes[:, 2:] - each.boxes[:, :2], axis=1).max()
                     for each in (faces, wanted)]  # fmt: skip
            assert areas[0] == pytest.approx(areas[1], rel=0.02)


def test_the_reference_and_masked_weights_keep_their_rules() -> None:
    for name in ("reference", "masked"):
        detector = MTCNN(DetectorConfig(weights=name), threads=1)
        assert detector._cascade.rules == Cascade(detector.engine).rules
        assert detector._cascade.rules.rnet_overlap == 0.7


def test_its_detections_have_a_key_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    config = DetectConfig(detector=DetectorConfig(weights="joined"))
    key = config.crop_key(weights_hash("joined"))
    assert config_of_crops(key).detector.weights == "joined"
    before = {name: weights_hash(name) for name in modules.SHIPPED}
    assert len(set(before.values())) == 3
    monkeypatch.setattr(modules, "_JOIN_VERSION", b"joined in another way")
    changed = {name for name in modules.SHIPPED if weights_hash(name) != before[name]}
    assert changed == {"joined"}


def test_it_cannot_be_trained_further() -> None:
    with pytest.raises(DetectError, match=r"two sets of networks.*'masked' or 'reference'"):
        load_nets("joined")


def test_it_loses_no_bare_face_and_finds_more_masked_ones_of_strangers(shared_data: Path) -> None:
    boxes = read_boxes(shared_data / "strangers/boxes.csv")
    keys = list(boxes)[::8]
    images = [read_photo(shared_data / "strangers" / key).image for key in keys]
    known = [
        clip(boxes[key], *image.shape[:2], name=key)
        for key, image in zip(keys, images, strict=True)
    ]
    counts = {
        name: count_detections(
            MTCNN(DetectorConfig(weights=name), threads=1).detect(images), known, min_iou=0.3
        )
        for name in ("reference", "joined")
    }
    found = {name: each.totals() for name, each in counts.items()}
    assert found["joined"]["normal"][0] >= found["reference"]["normal"][0] > 60, found
    assert found["joined"]["wear"][0] > found["reference"]["wear"][0] > 30, found
    assert counts["joined"].false.sum() <= 1.2 * counts["reference"].false.sum()
