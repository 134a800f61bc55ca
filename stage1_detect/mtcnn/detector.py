"""The cascade: photos of any sizes in, every face's box, score and landmarks out.

Same boxes as `facenet_pytorch.MTCNN.detect`, written for batches: P-Net sees all levels of all
photos, their candidates go through R- and O-Net together, and no Python loops over boxes. Not
inherited from the reference: when one candidate lies wholly outside its photo, it leaves that
candidate's pixels out but keeps its row, so that all later rows of the batch get another box's
score; here the candidate is dropped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cropfirst.core.prefetch import available_cores, in_slices
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.mtcnn.boxes import (
    apply_offsets,
    make_square,
    nms_iou,
    nms_min,
    pixel_windows,
)
from cropfirst.stage1_detect.mtcnn.candidates import Answers, Candidates, NetName, Proposals
from cropfirst.stage1_detect.mtcnn.engines.base import EngineName, PhotoBatch
from cropfirst.stage1_detect.mtcnn.engines.choose import load_photos, make_engine
from cropfirst.stage1_detect.mtcnn.pyramid.canvas import (
    CELL,
    MOST_PHOTOS,
    PLACE_BITS,
    STRIDE,
    Level,
    in_groups,
)

CANDIDATE_PIXELS = {"cpu": 16 * 48**2, "cuda": 4096 * 48**2}
"""Pixels of R- and O-Net inputs at once; bounds memory in crowds, and keeps a core's work in its
cache."""
PHOTOS_PER_TURN = 16
"""Photos that a core takes at once: enough to fill the nets' batches, few enough for its cache."""
_FIRST_SEARCH = 0.25
"""Coarse to fine starts at faces of this fraction of the photo's shorter side."""
_SURE = 0.9
"""Score from which on a face may end the search."""
_OUTGROWS = 2.5
"""A level's faces are no larger than this many times its cell. On 809 web photos of crowds the
largest face is then another one, or its box another (IoU < 0.9), once; with 2.0 twelve times."""


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
    """The detector. May be used by several threads at once.

    Args:
        config: thresholds, smallest face, pyramid factor, search and weights.
        device: where the nets and the integral images live.
        engine: what runs the nets.
        half: half-precision nets (CUDA alone); boxes then differ by a pixel or so.
        threads: how many threads `detect` spreads its photos over, and that may call
            `detect_here` at once; 0 = one a core on the CPU, one elsewhere.

    Raises:
        DetectError: no such weights, or the engine cannot run on that device or in this
            environment.
    """

    def __init__(
        self,
        config: DetectorConfig | None = None,
        *,
        device: str = "cpu",
        engine: EngineName = "auto",
        half: bool = False,
        threads: int = 0,
    ) -> None:
        self.config = config or DetectorConfig()
        self.device = torch.device(device)
        self.threads = threads or (available_cores() if self.device.type == "cpu" else 1)
        self.engine = make_engine(engine, weights=self.config.weights, device=device, half=half)

    def detect(
        self,
        photos: Sequence[np.ndarray],
        *,
        thresholds: tuple[float, float, float] | None = None,
    ) -> list[Detections]:
        """Find all faces, with the photos spread over `threads`.

        Args:
            photos: (H, W, 3) uint8 RGB arrays of any sizes, also mixed.
            thresholds: P-, R-, O-Net scores to pass instead of the config's.

        Returns:
            One `Detections` a photo, in the photos' order.

        Raises:
            ValueError: a photo is not (H, W, 3) uint8 with at least one pixel.
        """
        share = -(-len(photos) // self.threads)
        size = max(1, min(share, PHOTOS_PER_TURN)) if self.threads > 1 else max(1, len(photos))
        parts = list(in_slices(photos, size))
        if len(parts) < 2:
            return self.detect_here(photos, thresholds=thresholds)
        with ThreadPoolExecutor(self.threads, thread_name_prefix="mtcnn") as pool:
            found = pool.map(lambda part: self.detect_here(part, thresholds=thresholds), parts)
            return [faces for part in found for faces in part]

    @torch.inference_mode()
    def detect_here(
        self,
        photos: Sequence[np.ndarray],
        *,
        thresholds: tuple[float, float, float] | None = None,
    ) -> list[Detections]:
        """`detect` in this thread alone, all photos in one batch (up to `MOST_PHOTOS`)."""
        if len(photos) > MOST_PHOTOS:
            parts = in_slices(photos, MOST_PHOTOS)
            return [d for part in parts for d in self.detect_here(part, thresholds=thresholds)]
        if not photos:
            return []
        images, levels = self._open(photos)
        thresholds = thresholds or self.config.thresholds
        if self.config.search == "all":
            flat = [level for photo in levels for level in photo]
            return self._finish(images, self._propose(images, flat, thresholds[0]), thresholds)
        return self._search_coarse_to_fine(images, levels, thresholds)

    def warm_up(self) -> float:
        """Look at a small photo with all nets; returns the seconds that it took. The first time on
        a machine that is seconds, for engines that compile."""
        started = time.perf_counter()
        side = self.config.min_face_size + CELL
        self.detect_here([np.zeros((side, side, 3), np.uint8)], thresholds=(0.0, 0.0, 0.0))
        return time.perf_counter() - started

    @torch.inference_mode()
    def candidates(
        self,
        photos: Sequence[np.ndarray],
        *,
        net: NetName,
        thresholds: tuple[float, float, float] | None = None,
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """What each net is shown, in this thread: for those who train or measure the nets.

        Args:
            net: `pnet`: the cells that it takes for a face, its offsets not applied, after NMS
                within each level; `rnet`, `onet`: the squares that come to that net.
            thresholds: as for `detect`.

        Returns:
            For each photo (N, 4) float32 xyxy boxes and (N,) float32 scores, both of the net before
            (of P-Net itself for `pnet`).
        """
        assert len(photos) <= MOST_PHOTOS
        images, levels = self._open(photos)
        thresholds = thresholds or self.config.thresholds
        flat = [level for photo in levels for level in photo]
        proposals = self._propose(images, flat, thresholds[0])
        found: Candidates = proposals
        if net != "pnet":
            found = self._squares(proposals)
        if net == "onet":
            found = self._refine(images, found, thresholds[1])
        here = [(found.photo == index).nonzero()[:, 0] for index in range(len(photos))]
        return [(found.boxes[i].cpu().numpy(), found.scores[i].cpu().numpy()) for i in here]

    @torch.inference_mode()
    def cut(self, photo: np.ndarray, boxes: np.ndarray, size: int) -> np.ndarray:
        """Boxes of one photo as the nets are shown them.

        Args:
            boxes: (N, 4) xyxy; none wholly outside the photo.

        Returns:
            (N, size, size, 3) float32 in [-1, 1].
        """
        images = load_photos([_checked(photo, 0)], self.device)
        windows = pixel_windows(torch.as_tensor(boxes, device=self.device), images.sizes[[0]])
        first = torch.zeros(len(boxes), dtype=torch.int64, device=self.device)
        return images.crop_resize(first, windows, size).cpu().numpy()

    def _open(self, photos: Sequence[np.ndarray]) -> tuple[PhotoBatch, list[list[Level]]]:
        """The photos where the nets are, and the levels of each."""
        images = load_photos([_checked(p, index) for index, p in enumerate(photos)], self.device)
        return images, [self._levels(index, *shape) for index, shape in enumerate(images.shapes)]

    def _levels(self, photo: int, height: int, width: int) -> list[Level]:
        scales = pyramid_scales(
            height, width, min_face_size=self.config.min_face_size, factor=self.config.factor
        )
        return [
            Level(photo, index, scale, int(height * scale + 1), int(width * scale + 1))
            for index, scale in enumerate(scales)
        ]

    def _search_coarse_to_fine(
        self,
        images: PhotoBatch,
        levels: list[list[Level]],
        thresholds: tuple[float, float, float],
    ) -> list[Detections]:
        """Look for large faces first, and for smaller ones only where no sure face was found that
        they could not outgrow. What a net has said is kept, never asked again."""
        results = [_no_faces() for _ in images.shapes]
        known, answers = Proposals.join([], self.device), Answers(self.device)
        todo = list(range(len(levels)))
        above, below = math.inf, _FIRST_SEARCH
        while todo:
            fresh = [
                level
                for photo in todo
                for level in levels[photo]
                if below <= level.cell / min(images.shapes[photo]) < above
            ]
            known = Proposals.join(
                [known, self._propose(images, fresh, thresholds[0])], self.device
            )
            known = known.pick(torch.isin(known.photo, torch.tensor(todo, device=self.device)))
            found = self._finish(images, known.pick(known.place.argsort()), thresholds, answers)
            for photo in todo:
                results[photo] = found[photo]
            todo = [
                photo
                for photo in todo
                if _may_be_outgrown(found[photo], levels[photo], below * min(images.shapes[photo]))
            ]
            above, below = below, below / 2
        return results

    def _propose(self, images: PhotoBatch, levels: Sequence[Level], threshold: float) -> Proposals:
        """P-Net over levels of any photos, and NMS within each level."""
        outputs = [torch.zeros((0, 5), device=self.device)]
        places = [torch.zeros(0, dtype=torch.int64, device=self.device)]
        # The logit's threshold, a little early; the score itself decides below.
        least = _logit(threshold)
        for strips in in_groups(levels, self.engine.group_pixels):
            cells, place = self.engine.scan(images, strips, least)
            outputs.append(cells)
            places.append(place)
        scales = {level.index: level.scale for level in levels}
        found = self._proposals(torch.cat(outputs), torch.cat(places), scales)
        found = found.pick(found.scores >= threshold)
        # In the order of one level scanned alone: which of two equal scores survives NMS must not
        # depend on where on which canvas they lay.
        found = found.pick(found.place.argsort())
        level = found.place >> (2 * PLACE_BITS)
        return found.pick(nms_iou(found.boxes, found.scores, level, 0.5))

    def _proposals(self, outputs: Tensor, place: Tensor, scales: Mapping[int, float]) -> Proposals:
        """(N, 5) logit and offsets of cells at (N,) places."""
        low = (1 << PLACE_BITS) - 1
        level = (place >> (2 * PLACE_BITS)) & 255
        corner = torch.stack([place & low, (place >> PLACE_BITS) & low], dim=1).float() * STRIDE
        known = torch.zeros(256, device=self.device)
        known[list(scales)] = torch.tensor(list(scales.values()), device=self.device)
        scale = known[level][:, None]
        return Proposals(
            boxes=torch.cat(
                [((corner + 1) / scale).floor(), ((corner + CELL) / scale).floor()], dim=1
            ),
            scores=torch.sigmoid(outputs[:, 0]),
            offsets=outputs[:, 1:],
            photo=place >> (2 * PLACE_BITS + 8),
            place=place,
        )

    def _finish(
        self,
        images: PhotoBatch,
        proposals: Proposals,
        thresholds: tuple[float, float, float],
        answers: Answers | None = None,
    ) -> list[Detections]:
        """R- and O-Net."""
        refined = self._refine(images, self._squares(proposals), thresholds[1], answers)
        return self._decide(images, refined, thresholds[2], answers)

    def _squares(self, proposals: Proposals) -> Candidates:
        """NMS within each photo, and P-Net's offsets applied."""
        kept = proposals.pick(nms_iou(proposals.boxes, proposals.scores, proposals.photo, 0.7))
        boxes = make_square(apply_offsets(kept.boxes, kept.offsets, inclusive=False))
        return Candidates(boxes, kept.scores, kept.photo, kept.place)

    def _refine(
        self,
        images: PhotoBatch,
        candidates: Candidates,
        threshold: float,
        answers: Answers | None = None,
    ) -> Candidates:
        """R-Net at 24 pixels."""
        candidates, outputs = self._look("rnet", images, candidates, answers)
        scores = torch.sigmoid(outputs[:, 0])
        passed = (scores > threshold).nonzero()[:, 0]
        candidates = replace(candidates, scores=scores).pick(passed)
        keep = nms_iou(candidates.boxes, candidates.scores, candidates.photo, 0.7)
        candidates = candidates.pick(keep)
        boxes = apply_offsets(candidates.boxes, outputs[passed[keep], 1:5], inclusive=True)
        return replace(candidates, boxes=make_square(boxes))

    def _decide(
        self,
        images: PhotoBatch,
        candidates: Candidates,
        threshold: float,
        answers: Answers | None = None,
    ) -> list[Detections]:
        """O-Net at 48 pixels, landmarks, and the last NMS."""
        candidates, outputs = self._look("onet", images, candidates, answers)
        scores = torch.sigmoid(outputs[:, 0])
        passed = (scores > threshold).nonzero()[:, 0]
        boxes, outputs = candidates.boxes[passed], outputs[passed]
        size = boxes[:, 2:] - boxes[:, :2] + 1
        landmarks = outputs[:, 5:].view(-1, 2, 5) * size[:, :, None] + boxes[:, :2, None] - 1
        boxes = apply_offsets(boxes, outputs[:, 1:5], inclusive=True)
        return _by_photo(
            boxes.cpu().numpy(),
            scores[passed].cpu().numpy(),
            landmarks.transpose(1, 2).cpu().numpy(),
            candidates.photo[passed].cpu().numpy(),
            len(images.shapes),
        )

    def _look(
        self, net: NetName, images: PhotoBatch, candidates: Candidates, answers: Answers | None
    ) -> tuple[Candidates, Tensor]:
        """Cut candidates out and show them to a net, but for those that it has answered.

        Returns:
            The candidates that lie in their photo, and the net's (N, 5 or 15) outputs for them.
        """
        windows = pixel_windows(candidates.boxes, images.sizes[candidates.photo])
        inside = ((windows[:, 2] > windows[:, 0]) & (windows[:, 3] > windows[:, 1])).nonzero()[:, 0]
        candidates, windows = candidates.pick(inside), windows[inside]
        if answers is None:
            return candidates, self._ask(net, images, candidates.photo, windows)
        fresh = answers.missing(net, candidates.place)
        new = self._ask(net, images, candidates.photo[fresh], windows[fresh])
        answers.add(net, candidates.place[fresh], new)
        return candidates, answers.of(net, candidates.place)

    def _ask(self, net: NetName, images: PhotoBatch, photo: Tensor, windows: Tensor) -> Tensor:
        """A net's outputs for windows, a bounded number at once."""
        ask, size = (self.engine.refine, 24) if net == "rnet" else (self.engine.decide, 48)
        most = CANDIDATE_PIXELS[self.device.type] // size**2
        outputs = [
            ask(images.crop_resize(number, part, size))
            for number, part in zip(photo.split(most), windows.split(most), strict=True)
            if len(part)
        ]
        return torch.cat(outputs) if outputs else torch.zeros((0, 15), device=self.device)


def _checked(photo: np.ndarray, index: int) -> np.ndarray:
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or 0 in photo.shape:
        raise ValueError(
            f"photo {index} must be (H, W, 3) uint8 RGB with at least one pixel, "
            f"got {photo.shape} {photo.dtype}"
        )
    return np.ascontiguousarray(photo)


def _logit(score: float) -> float:
    """Slightly below the logit of a score in [0, 1]."""
    score = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(score / (1 - score)) - 1e-3


def _may_be_outgrown(faces: Detections, levels: Sequence[Level], seen: float) -> bool:
    """Whether levels below `seen` pixels could hold a larger face than any sure one found."""
    finer = [level.cell for level in levels if level.cell < seen]
    if not finer:
        return False
    sure = faces.boxes[faces.probs >= _SURE]
    if not len(sure):
        return True
    sides = (sure[:, 2:] - sure[:, :2]).max(axis=1)
    return bool(sides.max() < _OUTGROWS * max(finer))


def _by_photo(
    boxes: np.ndarray, probs: np.ndarray, landmarks: np.ndarray, photo: np.ndarray, count: int
) -> list[Detections]:
    keep = nms_min(boxes, probs, photo, 0.7)
    ends = np.searchsorted(photo[keep], np.arange(count + 1))
    parts = [keep[ends[i] : ends[i + 1]] for i in range(count)]
    return [Detections(boxes[part], probs[part], landmarks[part]) for part in parts]


def _no_faces() -> Detections:
    zero = np.zeros(0, dtype=np.float32)
    return Detections(zero.reshape(0, 4), zero, zero.reshape(0, 5, 2))
