"""The three stages of MTCNN over a batch of photos: P-Net, R-Net, O-Net, and NMS between them.

P-Net sees all levels of all photos, their candidates go through R- and O-Net together, and no
Python loops over boxes. One fault of the reference is not copied: when a candidate is entirely
outside its photo, facenet-pytorch leaves that candidate's pixels out but keeps its row, so that
rows and scores no longer fit and it raises an IndexError; here the candidate is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cropfirst.core.faces.boxes import cut_by_edge, unstretch, vote
from cropfirst.core.faces.detections import Detections
from cropfirst.core.faces.pyramid import STRIDE, WINDOW
from cropfirst.stage1_detect.mtcnn.boxes import (
    apply_offsets,
    make_square,
    nms_iou,
    nms_min,
    pixel_windows,
)
from cropfirst.stage1_detect.mtcnn.candidates import Candidates, NetName, OutputCache, Proposals
from cropfirst.stage1_detect.mtcnn.engines.base import Engine, PhotoBatch
from cropfirst.stage1_detect.mtcnn.pyramid.levels import (
    POSITION_BITS,
    PyramidLevel,
    group_strips,
)

CANDIDATE_PIXELS = {"cpu": 16 * 48**2, "cuda": 4096 * 48**2}
"""Pixels of R- and O-Net inputs at once: bounds memory in crowds, and keeps a core's work in its
cache."""
MIN_OVERLAP = 0.7
"""Intersection over the smaller area from which on a better face removes another one."""
Thresholds = tuple[float, float, float]
"""Scores that P-, R- and O-Net must give."""


@dataclass(frozen=True)
class CascadeRules:
    """The rules in which weights of our own may differ from facenet-pytorch."""

    rnet_overlap: float = 0.7
    """IoU from which on a better candidate of R-Net removes another one."""
    localiser: Engine | None = None
    """Engine whose O-Net runs again on the mean of the boxes that a face was given, and says where
    the face is; None = the best of those boxes is the face's."""


class Cascade:
    """The stages, each a method; an engine runs the networks.

    `propose`, `apply_pnet`, `refine` and `finish` follow each other. A cache, where one is given,
    keeps what R- and O-Net said, for a search that comes to the same candidates again.
    """

    def __init__(self, engine: Engine, rules: CascadeRules | None = None) -> None:
        self.engine, self.device = engine, engine.device
        self.rules = rules or CascadeRules()

    def detect(
        self,
        images: PhotoBatch,
        proposals: Proposals,
        thresholds: Thresholds,
        cache: OutputCache | None = None,
    ) -> list[Detections]:
        """Return the faces of each photo that P-Net's proposals lead to."""
        candidates = self.refine(images, self.apply_pnet(proposals), thresholds[1], cache)
        return self.finish(images, candidates, thresholds[2], cache)

    def propose(
        self, images: PhotoBatch, levels: Sequence[PyramidLevel], threshold: float
    ) -> Proposals:
        """Run P-Net over levels of any photos, with NMS within each level."""
        outputs = [torch.zeros((0, 5), device=self.device)]
        positions = [torch.zeros(0, dtype=torch.int64, device=self.device)]
        for strips in group_strips(levels, self.engine.group_pixels):
            output, position = self.engine.run_pnet(images, strips, _logit(threshold))
            outputs.append(output)
            positions.append(position)
        proposals = self._proposals(torch.cat(outputs), torch.cat(positions), levels)
        proposals = proposals.select(proposals.scores >= threshold)
        # In the order of one level run alone: which of two equal scores survives NMS must not
        # depend on where on which canvas they were.
        proposals = proposals.select(proposals.position.argsort())
        level = proposals.position >> (2 * POSITION_BITS)
        return proposals.select(nms_iou(proposals.boxes, proposals.scores, level, 0.5))

    def _proposals(
        self, outputs: Tensor, position: Tensor, levels: Sequence[PyramidLevel]
    ) -> Proposals:
        """Return the boxes of (N, 5) outputs (logit, offsets) at (N,) positions."""
        low = (1 << POSITION_BITS) - 1
        corner = torch.stack([position & low, (position >> POSITION_BITS) & low], dim=1) * STRIDE
        scales = torch.zeros(256, device=self.device)
        by_index = {level.index: level.scale for level in levels}
        scales[list(by_index)] = torch.tensor(list(by_index.values()), device=self.device)
        scale = scales[(position >> (2 * POSITION_BITS)) & 255][:, None]
        top_left, bottom_right = ((corner.float() + end) / scale for end in (1, WINDOW))
        return Proposals(
            boxes=torch.cat([top_left.floor(), bottom_right.floor()], dim=1),
            scores=torch.sigmoid(outputs[:, 0]),
            photo=position >> (2 * POSITION_BITS + 8),
            position=position,
            offsets=outputs[:, 1:],
        )

    def apply_pnet(self, proposals: Proposals) -> Candidates:
        """Apply NMS within each photo and P-Net's offsets; return squares."""
        kept = proposals.select(nms_iou(proposals.boxes, proposals.scores, proposals.photo, 0.7))
        boxes = make_square(apply_offsets(kept.boxes, kept.offsets, inclusive=False))
        return Candidates(boxes, kept.scores, kept.photo, kept.position)

    def refine(
        self,
        images: PhotoBatch,
        candidates: Candidates,
        threshold: float,
        cache: OutputCache | None = None,
    ) -> Candidates:
        """Run R-Net at 24 pixels, with NMS within each photo; return squares."""
        candidates, outputs = self._run("rnet", images, candidates, cache)
        scores = torch.sigmoid(outputs[:, 0])
        passed = (scores > threshold).nonzero()[:, 0]
        candidates = replace(candidates, scores=scores).select(passed)
        keep = nms_iou(
            candidates.boxes, candidates.scores, candidates.photo, self.rules.rnet_overlap
        )
        candidates = candidates.select(keep)
        boxes = apply_offsets(candidates.boxes, outputs[passed[keep], 1:5], inclusive=True)
        return replace(candidates, boxes=make_square(boxes))

    def finish(
        self,
        images: PhotoBatch,
        candidates: Candidates,
        threshold: float,
        cache: OutputCache | None = None,
    ) -> list[Detections]:
        """Run O-Net at 48 pixels, with the last NMS; return the faces of each photo."""
        candidates, outputs = self._run("onet", images, candidates, cache)
        scores = torch.sigmoid(outputs[:, 0])
        passed = (scores > threshold).nonzero()[:, 0]
        candidates = replace(candidates, scores=scores).select(passed)
        boxes, landmarks = _place(candidates.boxes, outputs[passed])
        if self.rules.localiser is not None:
            candidates, boxes, landmarks = self._localise(images, candidates, boxes, landmarks)
        return _by_photo(
            boxes.cpu().numpy(),
            candidates.scores.cpu().numpy(),
            landmarks.cpu().numpy(),
            candidates.photo.cpu().numpy(),
            len(images.shapes),
        )

    def _localise(
        self, images: PhotoBatch, candidates: Candidates, boxes: Tensor, landmarks: Tensor
    ) -> tuple[Candidates, Tensor, Tensor]:
        """Run the localiser's O-Net on the mean of each face's boxes.

        Box voting and iterative localisation: Gidaris and Komodakis, "Object detection via a
        multi-region and semantic segmentation-aware CNN model" (ICCV 2015).

        Returns:
            The best candidate of each face, its box (N, 4) from there, and its landmarks (N, 5, 2),
            which are from there too where the photo's edge cuts the face.
        """
        found, photo = boxes.cpu().numpy(), candidates.photo.cpu().numpy()
        kept = nms_min(found, candidates.scores.cpu().numpy(), photo, MIN_OVERLAP)
        index = torch.from_numpy(kept).to(self.device)
        best = candidates.select(index)
        boxes = torch.from_numpy(vote(found, photo, kept)).to(self.device)
        landmarks = landmarks[index]
        every = torch.arange(len(boxes), device=self.device)
        cut = self._look_again(images, best.photo, boxes, landmarks, every)
        self._look_again(images, best.photo, boxes, landmarks, cut)  # these boxes move far
        return best, boxes, landmarks

    def _look_again(
        self,
        images: PhotoBatch,
        photo: Tensor,
        boxes: Tensor,
        landmarks: Tensor,
        faces: Tensor,
    ) -> Tensor:
        """Run the localiser's O-Net on the squares of faces, and change their boxes in place.

        A square that the photo's edge cuts is put right by `unstretch`, and the face's landmarks
        are changed too. A square that misses its photo is left out.

        Args:
            photo: (N,) int64 index of the photo.
            boxes: (N, 4).
            landmarks: (N, 5, 2).
            faces: (K,) indices of the faces to look at.

        Returns:
            Indices of those that the edge cuts.
        """
        assert self.rules.localiser is not None
        squares, is_cut = make_square(boxes), torch.zeros_like(photo, dtype=torch.bool)
        windows = pixel_windows(squares, images.sizes[photo])
        seen = faces[_not_empty(windows[faces])]
        most = CANDIDATE_PIXELS[self.device.type] // 48**2
        for rows in seen.split(most) if len(seen) else ():
            crops = images.crop_resize(photo[rows], windows[rows], 48)
            places = squares[rows].cpu().numpy(), windows[rows].cpu().numpy()
            cut = cut_by_edge(*places)
            if len(cut):
                put_right = unstretch(crops[cut].cpu().numpy(), *(each[cut] for each in places))
                crops[cut] = torch.from_numpy(put_right).to(crops)
                is_cut[rows[cut]] = True
            boxes[rows], points = _place(squares[rows], self.rules.localiser.run_onet(crops))
            landmarks[rows[cut]] = points[cut]
        return is_cut.nonzero()[:, 0]

    def _run(
        self, net: NetName, images: PhotoBatch, candidates: Candidates, cache: OutputCache | None
    ) -> tuple[Candidates, Tensor]:
        """Run a network on the candidates.

        Returns:
            The candidates that overlap their photo, and their (N, 5 or 15) outputs.
        """
        seen, windows = _windows(images, candidates)
        candidates = candidates.select(seen)
        if cache is None:
            return candidates, self._run_on_windows(net, images, candidates.photo, windows)
        new = cache.missing(net, candidates.position)
        outputs = self._run_on_windows(net, images, candidates.photo[new], windows[new])
        cache.add(net, candidates.position[new], outputs)
        return candidates, cache.get(net, candidates.position)

    def _run_on_windows(
        self, net: NetName, images: PhotoBatch, photo: Tensor, windows: Tensor
    ) -> Tensor:
        """Return a network's outputs for windows, a bounded number at once."""
        run, size = (self.engine.run_rnet, 24) if net == "rnet" else (self.engine.run_onet, 48)
        most = CANDIDATE_PIXELS[self.device.type] // size**2
        outputs = [
            run(images.crop_resize(number, part, size))
            for number, part in zip(photo.split(most), windows.split(most), strict=True)
            if len(part)
        ]
        return torch.cat(outputs) if outputs else torch.zeros((0, 15), device=self.device)


def _windows(images: PhotoBatch, candidates: Candidates) -> tuple[Tensor, Tensor]:
    """Return the indices of the candidates that overlap their photo, and their (N, 4) windows."""
    windows = pixel_windows(candidates.boxes, images.sizes[candidates.photo])
    seen = _not_empty(windows)
    return seen, windows[seen]


def _not_empty(windows: Tensor) -> Tensor:
    """Return the indices of the (N, 4) windows that overlap their photo."""
    return ((windows[:, 2] > windows[:, 0]) & (windows[:, 3] > windows[:, 1])).nonzero()[:, 0]


def _place(boxes: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the boxes (N, 4) and landmarks (N, 5, 2) that O-Net's outputs (N, 15) say."""
    size = boxes[:, 2:] - boxes[:, :2] + 1
    landmarks = outputs[:, 5:].view(-1, 2, 5) * size[:, :, None] + boxes[:, :2, None] - 1
    return apply_offsets(boxes, outputs[:, 1:5], inclusive=True), landmarks.transpose(1, 2)


def _logit(score: float) -> float:
    """Return a value slightly below the logit of a score in [0, 1]; the score itself decides."""
    score = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(score / (1 - score)) - 1e-3


def _by_photo(
    boxes: np.ndarray, probs: np.ndarray, landmarks: np.ndarray, photo: np.ndarray, count: int
) -> list[Detections]:
    """Apply the last NMS and divide the faces among `count` photos."""
    keep = nms_min(boxes, probs, photo, MIN_OVERLAP)
    ends = np.searchsorted(photo[keep], np.arange(count + 1))
    parts = [keep[ends[i] : ends[i + 1]] for i in range(count)]
    return [Detections(boxes[part], probs[part], landmarks[part]) for part in parts]
