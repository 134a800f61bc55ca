"""Box maths against plain loops and the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from facenet_pytorch.models.utils import detect_face as reference
from torchvision.ops import nms

from cropfirst.core.faces.boxes import iou, suppress, vote
from cropfirst.stage1_detect.mtcnn import boxes as boxes_module
from cropfirst.stage1_detect.mtcnn.boxes import (
    _nms_torchvision,
    apply_offsets,
    make_square,
    nms_iou,
    nms_min,
    pixel_windows,
)
from cropfirst.stage1_detect.mtcnn.engines.numba import nms as compiled_nms


def _random_boxes(count: int, *, seed: int, spread: float = 300.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, spread, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(5, 120, (count, 2))], 1).astype(np.float32)


def test_make_square_and_offsets_equal_the_reference() -> None:
    boxes = torch.from_numpy(_random_boxes(50, seed=1))
    offsets = torch.randn(50, 4, generator=torch.Generator().manual_seed(2)) * 0.1
    torch.testing.assert_close(make_square(boxes), reference.rerec(boxes.clone()))
    torch.testing.assert_close(
        apply_offsets(boxes, offsets, inclusive=True), reference.bbreg(boxes.clone(), offsets)
    )


def test_pixel_windows_equal_the_references_padding() -> None:
    boxes = torch.from_numpy(_random_boxes(80, seed=3) - 60)
    size = torch.tensor([[200, 250]]).expand(80, 2)
    y, ey, x, ex = reference.pad(boxes.clone(), 250, 200)
    windows = pixel_windows(boxes, size).numpy()
    np.testing.assert_array_equal(windows, np.stack([x - 1, y - 1, ex, ey], axis=1))


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "NumPy"])
@pytest.mark.parametrize(("count", "spread"), [(0, 300), (1, 300), (40, 300), (200, 150)])
def test_nms_min_keeps_what_the_references_loop_keeps(
    count: int, spread: float, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(boxes_module, "_suppress", lambda: suppress)
    boxes = _random_boxes(count, seed=count, spread=spread)
    scores = np.random.default_rng(count + 1).permutation(np.linspace(0.1, 1, max(count, 1)))
    scores = scores[:count].astype(np.float32)
    kept = nms_min(boxes, scores, np.zeros(count, dtype=np.int64), 0.7)
    wanted = reference.nms_numpy(boxes, scores, 0.7, "Min") if count else []
    assert list(kept) == [int(i) for i in wanted]


def test_nms_keeps_groups_apart() -> None:
    boxes = np.tile(_random_boxes(1, seed=9), (6, 1))
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], dtype=np.float32)
    groups = np.array([0, 1, 0, 1, 2, 2])
    assert sorted(nms_min(boxes, scores, groups, 0.7)) == [0, 1, 4]
    kept = nms_iou(torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(groups), 0.5)
    assert kept.tolist() == [0, 1, 4]


@pytest.mark.parametrize("by_smaller", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_both_forms_of_suppression_keep_the_same(by_smaller: bool, threshold: float) -> None:
    """Many groups, equal boxes and boxes without an area among them."""
    boxes = _random_boxes(500, seed=11, spread=200.0)
    boxes[::50, 2:] = boxes[::50, :2]
    boxes[7::50] = boxes[6::50]
    groups = np.sort(np.random.default_rng(12).integers(0, 9, 500)) * 1000
    arguments = boxes, groups, np.float32(threshold), by_smaller
    kept = compiled_nms.suppress(*arguments)
    assert 9 <= kept.sum() < 500 or threshold == 1
    np.testing.assert_array_equal(suppress(*arguments), kept)


def test_nms_iou_does_not_depend_on_what_else_is_in_the_batch() -> None:
    """Thousands of equal scores: where torchvision's batched_nms would sort unstably."""
    boxes = torch.from_numpy(_random_boxes(900, seed=5, spread=400.0).round())
    scores = torch.ones(900)
    alone = nms_iou(boxes, scores, torch.zeros(900, dtype=torch.int64), 0.5)
    groups = torch.arange(3).repeat_interleave(900)
    together = nms_iou(boxes.repeat(3, 1), scores.repeat(3), groups, 0.5)
    for group in range(3):
        part = together[groups[together] == group] - 900 * group
        assert part.tolist() == alone.tolist()


def test_nms_on_either_device_keeps_what_torchvision_keeps_of_each_group() -> None:
    """The GPU's way on CPU tensors too: also where the groups' shift reaches a million."""
    boxes = torch.from_numpy(_random_boxes(600, seed=6, spread=250.0))
    scores = torch.rand(600, generator=torch.Generator().manual_seed(7)).round(decimals=2)
    groups = torch.randint(0, 3000, (600,), generator=torch.Generator().manual_seed(8)) // 100 * 100
    for threshold in (0.3, 0.5, 0.7):
        members = [(groups == group).nonzero()[:, 0] for group in groups.unique()]
        kept = [m[nms(boxes[m], scores[m], threshold)] for m in members]
        wanted = torch.cat(kept).sort().values.tolist()
        assert 0 < len(wanted) < 600
        assert nms_iou(boxes, scores, groups, threshold).sort().values.tolist() == wanted
        assert _nms_torchvision(boxes, scores, groups, threshold).tolist() == wanted


def test_iou_of_known_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 0, 0]])
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]])
    np.testing.assert_allclose(iou(boxes, others), [[1, 1 / 3, 0], [0, 0, 0]])


def test_boxes_of_one_photo_that_overlap_vote_for_their_mean() -> None:
    boxes = np.array(
        [[0, 0, 10, 10], [0, 0, 10, 12], [4, 0, 14, 10], [0, 0, 10, 10], [50, 50, 50, 60]],
        np.float32,
    )
    photo = np.array([0, 0, 0, 1, 1])
    means = vote(boxes, photo, np.array([0, 2, 3, 4]))
    # The third overlaps the first by an IoU of 0.43 only, and the fourth is in another photo.
    wanted = [[0, 0, 10, 11], [4, 0, 14, 10], [0, 0, 10, 10], [50, 50, 50, 60]]
    np.testing.assert_allclose(means, wanted)
    assert means.dtype == np.float32
    assert vote(boxes, photo, np.zeros(0, int)).shape == (0, 4)
