"""The cascade: photos of any sizes in, every face's box, score and landmarks out.

Same boxes as `facenet_pytorch.MTCNN.detect`, written for batches: inputs of all three nets come
from integral images, candidates of all photos go through each net together, and nothing loops over
boxes. Not inherited from the reference: when one candidate lies wholly outside its photo, it
leaves that candidate's pixels out but keeps its row, so that all later rows of the batch get
another box's score; here the candidate is dropped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cropfirst.stage1_detect.boxes import (
    apply_offsets,
    make_square,
    nms_iou,
    nms_min,
    pixel_windows,
)
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.nets import load_nets
from cropfirst.stage1_detect.pyramid import (
    IntegralImages,
    crop_resize,
    integral_images,
    resize_level,
)

CELL, STRIDE = 12, 2
"""P-Net's receptive field and stride, in pixels of its level."""
CANDIDATES_PER_PASS = 1024
"""R- and O-Net inputs at once; bounds memory in crowds."""


@dataclass(frozen=True)
class Detections:
    """All faces of one photo, best score first. No face is zero rows, never None."""

    boxes: np.ndarray
    """(N, 4) float32 xyxy in photo pixels; may reach a little past the photo's edge."""
    probs: np.ndarray
    """(N,) float32 in [0, 1]."""
    landmarks: np.ndarray
    """(N, 5, 2) float32 x, y: left eye, right eye, nose, mouth's left and right corner, as seen."""

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class _Candidates:
    boxes: Tensor  # (N, 4)
    scores: Tensor  # (N,)
    photo: Tensor  # (N,) int64

    def pick(self, index: Tensor) -> _Candidates:
        return _Candidates(self.boxes[index], self.scores[index], self.photo[index])


def pyramid_scales(height: int, width: int, *, min_face_size: int, factor: float) -> list[float]:
    """Scales at which P-Net's 12-pixel cell sees faces from `min_face_size` up to the photo."""
    scale = CELL / min_face_size
    shorter = min(height, width) * scale
    scales = []
    while shorter >= CELL:
        scales.append(scale)
        scale *= factor
        shorter *= factor
    return scales


class MTCNN:
    """The detector. Thread-compatible: one instance per thread.

    Args:
        config: thresholds, smallest face, pyramid factor and weights.
        device: where the nets and the integral images live.
    """

    def __init__(self, config: DetectorConfig | None = None, *, device: str = "cpu") -> None:
        self.config = config or DetectorConfig()
        self.device = torch.device(device)
        self.pnet, self.rnet, self.onet = load_nets(self.config.weights, device=self.device)

    @torch.inference_mode()
    def detect(
        self,
        photos: Sequence[np.ndarray],
        *,
        thresholds: tuple[float, float, float] | None = None,
    ) -> list[Detections]:
        """Find all faces.

        Args:
            photos: (H, W, 3) uint8 RGB arrays of any sizes, also mixed.
            thresholds: P-, R-, O-Net scores to pass instead of the config's.

        Returns:
            One `Detections` a photo, in the photos' order.

        Raises:
            ValueError: a photo is not (H, W, 3) uint8 with at least one pixel.
        """
        photos = [_checked(photo, index) for index, photo in enumerate(photos)]
        if not photos:
            return []
        p_threshold, r_threshold, o_threshold = thresholds or self.config.thresholds
        images = integral_images(photos, device=self.device)
        proposals = self._propose(images, p_threshold)
        refined = self._refine(images, proposals, r_threshold)
        return self._decide(images, refined, o_threshold)

    def _propose(self, images: IntegralImages, threshold: float) -> _Candidates:
        """P-Net over every level of every photo, NMS per level, then per photo."""
        by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, shape in enumerate(images.shapes):
            by_size[shape].append(index)
        scales = {shape: self._scales(*shape) for shape in by_size}
        n_levels = max(len(levels) for levels in scales.values())
        if not n_levels:
            return _no_candidates(self.device)
        found = []
        for shape, members in by_size.items():
            group, photos = images.group(members), torch.tensor(members, device=self.device)
            for level, scale in enumerate(scales[shape]):
                size = (int(shape[0] * scale + 1), int(shape[1] * scale + 1))
                pixels = resize_level(group, *size)
                hits = self._scan(_normalise(pixels), scale, threshold)
                found.append((*hits[:-1], photos[hits[-1]], photos[hits[-1]] * n_levels + level))
        boxes, scores, moves, photo, level_of = (
            torch.cat(parts) for parts in zip(*found, strict=True)
        )
        keep = nms_iou(boxes, scores, level_of, 0.5)
        keep = keep[nms_iou(boxes[keep], scores[keep], photo[keep], 0.7)]
        boxes = make_square(apply_offsets(boxes[keep], moves[keep], inclusive=False))
        return _Candidates(boxes, scores[keep], photo[keep])

    def _scales(self, height: int, width: int) -> list[float]:
        return pyramid_scales(
            height, width, min_face_size=self.config.min_face_size, factor=self.config.factor
        )

    def _scan(
        self, pixels: Tensor, scale: float, threshold: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """P-Net over one level: boxes in photo pixels, scores, offsets and the row of `pixels` of
        every cell that passes."""
        offsets, scores = self.pnet(pixels)
        hit = (scores >= threshold).nonzero()
        row, y, x = hit.unbind(1)
        cell = hit[:, [2, 1]].float() * STRIDE
        boxes = torch.cat([((cell + 1) / scale).floor(), ((cell + CELL) / scale).floor()], dim=1)
        return boxes, scores[row, y, x], offsets.permute(0, 2, 3, 1)[row, y, x], row

    def _refine(
        self, images: IntegralImages, candidates: _Candidates, threshold: float
    ) -> _Candidates:
        """R-Net at 24 pixels."""
        candidates, outputs = _look(self.rnet, images, candidates, 24)
        if not outputs:
            return candidates
        offsets, scores = outputs
        passed = (scores > threshold).nonzero()[:, 0]
        candidates = _Candidates(candidates.boxes[passed], scores[passed], candidates.photo[passed])
        keep = nms_iou(candidates.boxes, candidates.scores, candidates.photo, 0.7)
        candidates = candidates.pick(keep)
        boxes = apply_offsets(candidates.boxes, offsets[passed][keep], inclusive=True)
        return _Candidates(make_square(boxes), candidates.scores, candidates.photo)

    def _decide(
        self, images: IntegralImages, candidates: _Candidates, threshold: float
    ) -> list[Detections]:
        """O-Net at 48 pixels, landmarks, and the last NMS."""
        candidates, outputs = _look(self.onet, images, candidates, 48)
        if not outputs:
            return [_no_faces() for _ in images.shapes]
        offsets, scores, fractions = outputs
        passed = (scores > threshold).nonzero()[:, 0]
        boxes, scores = candidates.boxes[passed], scores[passed]
        size = boxes[:, 2:] - boxes[:, :2] + 1
        landmarks = fractions[passed] * size[:, :, None] + boxes[:, :2, None] - 1
        boxes = apply_offsets(boxes, offsets[passed], inclusive=True)
        return _by_photo(
            boxes.float().cpu().numpy(),
            scores.float().cpu().numpy(),
            landmarks.float().transpose(1, 2).cpu().numpy(),
            candidates.photo[passed].cpu().numpy(),
            len(images.shapes),
        )


def _checked(photo: np.ndarray, index: int) -> np.ndarray:
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or 0 in photo.shape:
        raise ValueError(
            f"photo {index} must be (H, W, 3) uint8 RGB with at least one pixel, "
            f"got {photo.shape} {photo.dtype}"
        )
    return np.ascontiguousarray(photo)


def _normalise(pixels: Tensor) -> Tensor:
    return pixels.sub_(127.5).mul_(0.0078125)


def _look(
    net: Callable[[Tensor], Any], images: IntegralImages, candidates: _Candidates, size: int
) -> tuple[_Candidates, tuple[Tensor, ...]]:
    """Cut every candidate out at `size` pixels and show them to a net, a bounded number at once.

    Returns:
        The candidates that lie in their photo, and the net's outputs for them; no outputs at all
        when there are none.
    """
    windows = pixel_windows(candidates.boxes, images.sizes[candidates.photo])
    inside = ((windows[:, 2] > windows[:, 0]) & (windows[:, 3] > windows[:, 1])).nonzero()[:, 0]
    candidates, windows = candidates.pick(inside), windows[inside]
    outputs = [
        net(_normalise(crop_resize(images, photo, part, size)))
        for photo, part in zip(
            candidates.photo.split(CANDIDATES_PER_PASS),
            windows.split(CANDIDATES_PER_PASS),
            strict=True,
        )
        if len(part)
    ]
    return candidates, tuple(torch.cat(parts) for parts in zip(*outputs, strict=True))


def _by_photo(
    boxes: np.ndarray, probs: np.ndarray, landmarks: np.ndarray, photo: np.ndarray, count: int
) -> list[Detections]:
    keep = nms_min(boxes, probs, photo, 0.7)
    ends = np.searchsorted(photo[keep], np.arange(count + 1))
    parts = [keep[ends[i] : ends[i + 1]] for i in range(count)]
    return [Detections(boxes[part], probs[part], landmarks[part]) for part in parts]


def _no_candidates(device: torch.device) -> _Candidates:
    empty = torch.zeros(0, device=device)
    return _Candidates(empty.view(0, 4), empty, empty.long())


def _no_faces() -> Detections:
    zero = np.zeros(0, dtype=np.float32)
    return Detections(zero.reshape(0, 4), zero, zero.reshape(0, 5, 2))
