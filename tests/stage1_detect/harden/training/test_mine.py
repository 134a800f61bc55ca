"""Tests of the windows for training: labels, targets and pixels, each computed by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.harden.training.mine import mine
from cropfirst.stage1_detect.harden.training.training_view import TrainingView
from cropfirst.stage1_detect.harden.training.windows import (
    BARE,
    NONE,
    PART,
    PASTED,
    REAL,
    UNSURE,
    WINDOW_KINDS,
    WINDOW_SIZES,
    Windows,
)
from cropfirst.stage1_detect.mtcnn.boxes import apply_offsets
from cropfirst.stage1_detect.mtcnn.candidates import NetName
from cropfirst.stage1_detect.mtcnn.detector import MTCNN

NETS: tuple[NetName, ...] = ("pnet", "rnet", "onet")
each_net = pytest.mark.parametrize("net", NETS)

FACE = np.array([90, 70, 150, 150], np.float32)
SQUARE = np.array([80, 70, 160, 150], np.float32)
"""Bounding square of the face, computed by hand: 80 pixels about (120, 110)."""
POINTS = np.array([[106, 100], [134, 100], [120, 116], [108, 132], [132, 132]], np.float32)


@pytest.fixture(scope="module")
def cascade() -> MTCNN:
    return MTCNN(DetectorConfig(weights="reference", min_face_size=20), threads=1)


def make_view(
    image: np.ndarray | None = None,
    boxes: np.ndarray | None = None,
    *,
    hidden: bool = False,
    pasted: bool = False,
    doubtful: np.ndarray | None = None,
    complete: bool = True,
    points: np.ndarray = POINTS,
) -> TrainingView:
    """Make a view of one face, unless told otherwise, in a photo of noise."""
    if image is None:
        image = np.random.default_rng(5).integers(0, 256, (220, 240, 3), dtype=np.uint8)
    boxes = FACE[None] if boxes is None else boxes
    return TrainingView(
        image,
        boxes,
        np.broadcast_to(points, (len(boxes), 5, 2)).copy(),
        np.full(len(boxes), hidden),
        np.full(len(boxes), pasted),
        np.zeros((0, 4), np.float32) if doubtful is None else doubtful,
        complete,
    )


def mined(view: TrainingView, net: NetName, cascade: MTCNN, *, times: int = 6) -> Windows:
    """Mine windows several times from one view."""
    found = [mine(view, net, cascade, cascade, np.random.default_rng(i)) for i in range(times)]
    return Windows.join([each for each in found if each is not None])


def overlap(box: np.ndarray, other: np.ndarray) -> float:
    """Return the intersection over union of two boxes."""
    wide = min(box[2], other[2]) - max(box[0], other[0])
    high = min(box[3], other[3]) - max(box[1], other[1])
    both = max(0.0, float(wide)) * max(0.0, float(high))
    areas = [float((each[2] - each[0]) * (each[3] - each[1])) for each in (box, other)]
    return both / (sum(areas) - both)


def covered(box: np.ndarray, other: np.ndarray) -> float:
    """Return the share of a box that lies in the other."""
    wide = min(box[2], other[2]) - max(box[0], other[0])
    high = min(box[3], other[3]) - max(box[1], other[1])
    area = float((box[2] - box[0]) * (box[3] - box[1]))
    return max(0.0, float(wide)) * max(0.0, float(high)) / area


@each_net
@pytest.mark.parametrize(
    ("hidden", "pasted", "face"), [(False, False, BARE), (True, True, PASTED), (True, False, REAL)]
)
def test_labels_follow_the_overlap_with_the_faces_square(
    net: NetName, hidden: bool, pasted: bool, face: int, cascade: MTCNN
) -> None:
    windows = mined(make_view(hidden=hidden, pasted=pasted), net, cascade)
    for box, kind in zip(windows.boxes, windows.kind, strict=True):
        by_hand = overlap(box, SQUARE)
        if by_hand >= 0.65:
            wanted = face
        elif by_hand >= 0.4:
            wanted = PART
        elif by_hand >= 0.3 or covered(box, SQUARE) > 0.8:
            wanted = UNSURE
        else:
            wanted = NONE
        assert kind == wanted, f"{box} overlaps by {by_hand:.3f}: {WINDOW_KINDS[kind]}"
        in_between = 0.3 <= by_hand < 0.4
        assert not (hidden and in_between), "the teacher's word on a hidden face is not wanted"
    assert {face, PART, NONE} <= set(windows.kind.tolist())
    assert windows.pixels.shape[1:] == (WINDOW_SIZES[net], WINDOW_SIZES[net], 3)


@each_net
def test_in_between_only_the_teacher_can_say(net: NetName, cascade: MTCNN) -> None:
    windows = mined(make_view(), net, cascade, times=12)
    between = [0.3 <= overlap(box, SQUARE) < 0.4 for box in windows.boxes]
    assert any(between) and (windows.kind[between] == UNSURE).all()


@each_net
def test_faces_too_small_for_the_net_are_left_alone(net: NetName, cascade: MTCNN) -> None:
    small = np.array([[100, 100, 112, 113]], np.float32)
    square = np.array([99.5, 100, 112.5, 113], np.float32)
    windows = mined(make_view(boxes=small), net, cascade)
    assert set(windows.kind.tolist()) <= {NONE, UNSURE}
    assert max(overlap(box, square) for box in windows.boxes) < 0.1
    large = np.array([[100, 100, 130, 130]], np.float32)
    assert BARE in mined(make_view(boxes=large), net, cascade).kind


@each_net
def test_nothing_is_taught_about_doubtful_places(net: NetName, cascade: MTCNN) -> None:
    place = np.array([20, 30, 120, 130], np.float32)
    nobody = np.zeros((0, 4), np.float32)
    windows = mined(make_view(boxes=nobody, doubtful=place[None]), net, cascade, times=30)
    near = np.array([overlap(box, place) > 0.2 for box in windows.boxes])
    assert near.any() and (windows.kind[near] == UNSURE).all()
    assert (windows.kind[~near] == NONE).all()
    assert np.isnan(windows.offsets).all() and np.isnan(windows.landmarks).all()


@each_net
def test_where_faces_may_be_missing_the_teachers_finds_are_no_negatives(
    net: NetName, cascade: MTCNN, face_photo: np.ndarray
) -> None:
    """A face without a box is no face in a complete photo, and unsure in another."""
    nobody = np.zeros((0, 4), np.float32)
    strict = mined(make_view(face_photo, nobody), net, cascade)
    open_ = mined(make_view(face_photo, nobody, complete=False), net, cascade)
    assert (strict.kind == NONE).all()
    seen = open_.teacher[:, 0] > 0
    assert seen.any() and (open_.kind[seen] == UNSURE).all() and (open_.kind[~seen] == NONE).all()


@each_net
def test_targets_turned_back_are_the_faces_box_and_points(net: NetName, cascade: MTCNN) -> None:
    windows = mined(make_view(), net, cascade)
    told = windows.kind <= PART
    boxes, offsets = (torch.from_numpy(v[told]) for v in (windows.boxes, windows.offsets))
    back = apply_offsets(boxes, offsets, inclusive=net != "pnet").numpy()
    np.testing.assert_allclose(back, np.broadcast_to(FACE, back.shape), atol=1e-3)
    assert np.isnan(windows.offsets[~told]).all()
    whole = windows.kind <= BARE
    assert np.isnan(windows.landmarks[~whole]).all(), "a part of a face has no landmarks"
    if net == "onet":  # as the cascade reads them
        size = windows.boxes[whole, 2:] - windows.boxes[whole, :2] + 1
        marks = windows.landmarks[whole].reshape(-1, 2, 5) * size[:, :, None]
        marks = marks + windows.boxes[whole, :2, None] - 1
        np.testing.assert_allclose(
            marks.transpose(0, 2, 1), np.broadcast_to(POINTS, (len(marks), 5, 2)), atol=1e-3
        )


@each_net
def test_a_bare_face_stays_where_the_teacher_puts_it_from_that_window(
    net: NetName, cascade: MTCNN, face_photo: np.ndarray
) -> None:
    face = cascade.detect_batch([face_photo])[0]
    for hidden in (False, True):
        view = make_view(face_photo, face.boxes, pasted=hidden, hidden=hidden)
        windows = mined(view, net, cascade, times=2)
        on = windows.kind == (PASTED if hidden else BARE)
        sure = on & (windows.teacher[:, 0] > 0)
        assert sure.any()
        theirs = (windows.offsets == windows.teacher[:, 1:5]).all(axis=1)
        assert theirs[sure].all() if not hidden else not theirs[sure].any()
        if net == "onet":
            marks = (windows.landmarks == windows.teacher[:, 5:]).all(axis=1)
            assert marks[sure].all() if not hidden else not marks[sure].any()


def test_unknown_landmarks_are_not_taught_though_the_box_is(cascade: MTCNN) -> None:
    windows = mined(make_view(points=np.full((5, 2), np.nan, np.float32)), "onet", cascade)
    assert np.isfinite(windows.offsets[windows.kind == BARE]).all()
    assert np.isnan(windows.landmarks).all()


@pytest.mark.parametrize("net", ["rnet", "onet"])
def test_pixels_are_those_that_the_cascade_shows_the_net(
    net: NetName, cascade: MTCNN, face_photo: np.ndarray
) -> None:
    windows = mined(make_view(face_photo), net, cascade, times=1)
    shown = cascade.network_inputs(face_photo, windows.boxes, WINDOW_SIZES[net])
    ours = (windows.pixels.astype(np.float32) - 127.5) / 128
    assert np.abs(shown - ours).max() <= 0.5 / 128 + 1e-6, "no more than rounding"
    # Without a bias: a student must not learn on lighter photos than it is to see.
    assert abs(float((shown - ours).mean())) < 0.1 / 128


def test_pnets_windows_are_its_own_cells(cascade: MTCNN, face_photo: np.ndarray) -> None:
    """P-Net's output on a proposal's window alone is that of its cell in the pyramid."""
    nobody = np.zeros((0, 4), np.float32)
    windows = mined(make_view(face_photo, nobody), "pnet", cascade, times=1)
    proposals, scores = cascade.candidates([face_photo], net="pnet", thresholds=(0.3, 0.7, 0.7))[0]
    said = {tuple(box): score for box, score in zip(proposals.tolist(), scores, strict=True)}
    pairs = [
        (said[tuple(box)], 1 / (1 + np.exp(-logit)))
        for box, logit in zip(windows.boxes.tolist(), windows.teacher[:, 0], strict=True)
        if tuple(box) in said
    ]
    assert len(pairs) > 10
    level, alone = np.array(pairs).T
    # A level's pixels are not quite a window's; a proposal's box without the cell's rim fails.
    assert np.median(np.abs(level - alone)) < 0.1
    assert np.corrcoef(level, alone)[0, 1] > 0.5


@each_net
def test_hard_negatives_are_the_students_own_surest_mistakes(
    net: NetName, cascade: MTCNN, face_photo: np.ndarray
) -> None:
    nobody = np.zeros((0, 4), np.float32)
    windows = mined(make_view(face_photo, nobody), net, cascade, times=1)
    thresholds = {"pnet": (0.3, 0.7, 0.7), "rnet": (0.45, 0.7, 0.7), "onet": (0.5, 0.5, 0.7)}
    boxes, scores = cascade.candidates([face_photo], net=net, thresholds=thresholds[net])[0]
    told = {tuple(box) for box in windows.boxes.tolist()}
    # The surest ones that lie in the photo are among them.
    inside = [(box[:2] >= 0).all() and box[2] <= 384 and box[3] <= 512 for box in boxes]
    order = [i for i in np.argsort(-scores, kind="stable") if inside[i]]
    assert all(tuple(boxes[i].tolist()) in told for i in order[:3])


def test_equal_seeds_give_equal_windows_and_others_others(
    cascade: MTCNN, face_photo: np.ndarray
) -> None:
    view = make_view(face_photo)
    first, again, other = (
        mine(view, "rnet", cascade, cascade, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first is not None and again is not None and other is not None
    for ours, theirs in zip(vars(first).values(), vars(again).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(first.boxes, other.boxes)


def test_a_photo_smaller_than_a_cell_has_no_window(cascade: MTCNN) -> None:
    tiny = make_view(np.zeros((11, 40, 3), np.uint8), np.zeros((0, 4), np.float32))
    for net in NETS:
        assert mine(tiny, net, cascade, cascade, np.random.default_rng(0)) is None


def test_two_faces_keep_each_its_own_windows(cascade: MTCNN) -> None:
    boxes = np.array([[20, 20, 70, 70], [140, 120, 200, 180]], np.float32)
    windows = mined(make_view(boxes=boxes), "rnet", cascade)
    told = windows.kind <= PART
    back = apply_offsets(
        torch.from_numpy(windows.boxes[told]), torch.from_numpy(windows.offsets[told]),
        inclusive=True,
    ).numpy()  # fmt: skip
    for window, face in zip(windows.boxes[told], back, strict=True):
        nearer = max(boxes, key=lambda box: overlap(window, box))
        np.testing.assert_allclose(face, nearer, atol=1e-3)
    assert len({tuple(np.round(face).tolist()) for face in back}) == 2


def test_joined_windows_are_all_of_them(cascade: MTCNN) -> None:
    parts = [
        mine(make_view(), "pnet", cascade, cascade, np.random.default_rng(seed))
        for seed in range(2)
    ]
    whole = Windows.join([part for part in parts if part is not None])
    assert len(whole) == sum(len(part) for part in parts if part is not None)
    for name in vars(whole):
        rows = itertools.chain(*(getattr(part, name) for part in parts))
        np.testing.assert_array_equal(getattr(whole, name), np.array(list(rows)))
