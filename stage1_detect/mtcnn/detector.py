"""The detector: photos of any sizes in, boxes, scores and landmarks of all their faces out.

The boxes are those of `facenet_pytorch.MTCNN.detect`; the work is done in batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from cropfirst.core.faces.pyramid import WINDOW
from cropfirst.core.prefetch import available_cores, in_slices
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.mtcnn.boxes import pixel_windows
from cropfirst.stage1_detect.mtcnn.candidates import Candidates, NetName
from cropfirst.stage1_detect.mtcnn.cascade import (
    Cascade,
    CascadeRules,
    Detections,
    Thresholds,
)
from cropfirst.stage1_detect.mtcnn.coarse_to_fine import detect_coarse_to_fine
from cropfirst.stage1_detect.mtcnn.engines.base import Engine, EngineName, PhotoBatch
from cropfirst.stage1_detect.mtcnn.engines.choose import load_photos, make_engine
from cropfirst.stage1_detect.mtcnn.engines.joined import RNET_OVERLAP, JoinedEngine
from cropfirst.stage1_detect.mtcnn.pyramid.levels import (
    MAX_PHOTOS,
    PyramidLevel,
    pyramid_levels,
)

__all__ = ["MTCNN", "PHOTOS_PER_BATCH", "Detections"]

PHOTOS_PER_BATCH = 16
"""Number of photos that a core takes at once: enough to fill the networks' batches, few enough for
its cache."""


class MTCNN:
    """The detector. May be used by several threads at once.

    Args:
        config: thresholds, smallest face, pyramid factor, search and weights.
        device: device of the networks: `cpu`, `cuda` or `cuda:N`.
        engine: what runs the networks.
        half: run them in half precision (CUDA only); boxes then differ by a pixel or so.
        threads: number of threads that `detect` spreads its photos over; 0 = one per core on the
            CPU, one elsewhere.

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
        self._cascade = Cascade(self.engine, _rules(self.engine))

    def detect(
        self, photos: Sequence[np.ndarray], *, thresholds: Thresholds | None = None
    ) -> list[Detections]:
        """Find all faces, with the photos spread over `threads`.

        Args:
            photos: (H, W, 3) uint8 RGB arrays of any sizes, also mixed.
            thresholds: scores of P-, R- and O-Net; None = those of the config.

        Returns:
            One `Detections` per photo, in the photos' order.

        Raises:
            ValueError: a photo is not (H, W, 3) uint8 with at least one pixel.
        """
        share = -(-len(photos) // self.threads)
        size = max(1, min(share, PHOTOS_PER_BATCH)) if self.threads > 1 else max(1, len(photos))
        batches = list(in_slices(photos, size))
        if len(batches) < 2:
            return self.detect_batch(photos, thresholds=thresholds)
        with ThreadPoolExecutor(self.threads, thread_name_prefix="mtcnn") as pool:
            results = pool.map(lambda b: self.detect_batch(b, thresholds=thresholds), batches)
            return [faces for batch in results for faces in batch]

    @torch.inference_mode()
    def detect_batch(
        self, photos: Sequence[np.ndarray], *, thresholds: Thresholds | None = None
    ) -> list[Detections]:
        """Find all faces of one batch in the calling thread; arguments as those of `detect`."""
        if len(photos) > MAX_PHOTOS:
            parts = in_slices(photos, MAX_PHOTOS)
            return [d for part in parts for d in self.detect_batch(part, thresholds=thresholds)]
        if not photos:
            return []
        images, levels = self._load(photos)
        thresholds = thresholds or self.config.thresholds
        if self.config.search == "largest":
            return detect_coarse_to_fine(self._cascade, images, levels, thresholds)
        proposals = self._cascade.propose(images, _flat(levels), thresholds[0])
        return self._cascade.detect(images, proposals, thresholds)

    def warm_up(self) -> None:
        """Run all networks on a small photo.

        The first time on a machine it takes seconds with engines that compile.
        """
        side = self.config.min_face_size + WINDOW
        self.detect_batch([np.zeros((side, side, 3), np.uint8)], thresholds=(0.0, 0.0, 0.0))

    @torch.inference_mode()
    def candidates(
        self, photos: Sequence[np.ndarray], *, net: NetName, thresholds: Thresholds | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the candidates of each network: for training or measuring the networks.

        Args:
            net: `pnet`: the windows that P-Net takes for a face, offsets not applied, after NMS
                within each level; `rnet`, `onet`: the squares that are that network's input.
            thresholds: as for `detect`.

        Returns:
            For each photo (N, 4) float32 xyxy boxes and (N,) float32 scores, both of the network
            before (of P-Net itself for `pnet`).
        """
        assert len(photos) <= MAX_PHOTOS
        images, levels = self._load(photos)
        thresholds = thresholds or self.config.thresholds
        proposals = self._cascade.propose(images, _flat(levels), thresholds[0])
        found: Candidates = proposals
        if net != "pnet":
            found = self._cascade.apply_pnet(proposals)
        if net == "onet":
            found = self._cascade.refine(images, found, thresholds[1])
        rows = [(found.photo == index).nonzero()[:, 0] for index in range(len(photos))]
        return [(found.boxes[i].cpu().numpy(), found.scores[i].cpu().numpy()) for i in rows]

    @torch.inference_mode()
    def network_inputs(self, photo: np.ndarray, boxes: np.ndarray, size: int) -> np.ndarray:
        """Return boxes of one photo, resized as for the networks.

        Args:
            boxes: (N, 4) xyxy; none wholly outside the photo.
            size: side of the network's input in pixels.

        Returns:
            (N, size, size, 3) float32 in [-1, 1].
        """
        images = load_photos([_checked(photo, 0)], self.device)
        windows = pixel_windows(torch.as_tensor(boxes, device=self.device), images.sizes[[0]])
        first = torch.zeros(len(boxes), dtype=torch.int64, device=self.device)
        return images.crop_resize(first, windows, size).cpu().numpy()

    def _load(self, photos: Sequence[np.ndarray]) -> tuple[PhotoBatch, list[list[PyramidLevel]]]:
        """Return the photos on the device, and the levels of each."""
        images = load_photos([_checked(p, index) for index, p in enumerate(photos)], self.device)
        size, factor = self.config.min_face_size, self.config.factor
        return images, [
            pyramid_levels(index, shape, min_face_size=size, factor=factor)
            for index, shape in enumerate(images.shapes)
        ]


def _rules(engine: Engine) -> CascadeRules:
    if isinstance(engine, JoinedEngine):
        # The localiser makes boxes fit as the reference's.
        return CascadeRules(rnet_overlap=RNET_OVERLAP, localiser=engine.reference)
    return CascadeRules()


def _flat(levels: Sequence[Sequence[PyramidLevel]]) -> list[PyramidLevel]:
    return [level for photo in levels for level in photo]


def _checked(photo: np.ndarray, index: int) -> np.ndarray:
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or 0 in photo.shape:
        raise ValueError(
            f"photo {index} must be (H, W, 3) uint8 RGB with at least one pixel, "
            f"got {photo.shape} {photo.dtype}"
        )
    return np.ascontiguousarray(photo)
