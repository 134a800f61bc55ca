"""Other ways to join the reference's and the hardened networks, for benchmarks/recall.py.

Each is the shipped way (engines/joined.py) with one thing changed, or one that was tried before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from equal_false import Find, low
from torch import Tensor

from cropfirst.core.faces.boxes import iou
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.mtcnn.cascade import Cascade, CascadeRules
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections
from cropfirst.stage1_detect.mtcnn.engines.joined import (
    ONET_ASKS,
    RNET_ASKS,
    RNET_OVERLAP,
    JoinedEngine,
)

Outputs = Callable[[Tensor, Tensor], Tensor]
"""Joins the hardened and the reference's (N, 5 or 15) outputs."""


def mean(mine: Tensor, others: Tensor) -> Tensor:
    """Return the mean of logits, offsets and landmarks."""
    return (mine + others) / 2


def surer(mine: Tensor, others: Tensor) -> Tensor:
    """Return the complete outputs of the network with the higher logit."""
    return torch.where(mine[:, :1] >= others[:, :1], mine, others)


class ReferenceBoxes(JoinedEngine):
    """The shipped way with the reference's boxes and the plain mean of O-Net's logits."""

    def run_rnet(self, crops: Tensor) -> Tensor:
        """See `Engine`."""
        mine, others = self._hardened.run_rnet(crops), self.reference.run_rnet(crops)
        joined = others.clone()
        joined[:, 0] = torch.maximum(mine[:, 0], others[:, 0])
        return torch.where(mine[:, :1] > RNET_ASKS[0], joined, mine)

    def run_onet(self, crops: Tensor) -> Tensor:
        """See `Engine`."""
        mine, others = self._hardened.run_onet(crops), self.reference.run_onet(crops)
        joined = surer(mine, others)
        joined[:, :5] = others[:, :5]
        joined[:, 0] = (mine[:, 0] + others[:, 0]) / 2
        return torch.where(mine[:, :1] > ONET_ASKS[0], joined, mine)


class AllOfBoth(JoinedEngine):
    """Both R-Nets and both O-Nets on all candidates, joined in one way."""

    def __init__(self, hardened: Any, reference: Any, join: Outputs) -> None:
        super().__init__(hardened, reference)
        self.join = join

    def run_rnet(self, crops: Tensor) -> Tensor:
        """See `Engine`."""
        return self.join(self._hardened.run_rnet(crops), self.reference.run_rnet(crops))

    def run_onet(self, crops: Tensor) -> Tensor:
        """See `Engine`."""
        return self.join(self._hardened.run_onet(crops), self.reference.run_onet(crops))


def joined_with(
    weights: str, min_face_size: int, make: Callable[..., JoinedEngine] = JoinedEngine
) -> Find:
    """Return the rules of the shipped way to join, with other hardened networks or another engine.

    Args:
        weights: `masked`, or a .safetensors file.
        make: makes the engine of the hardened and the reference's.
    """
    config = DetectorConfig(weights=weights, min_face_size=min_face_size)
    detector = MTCNN(config, threads=1)
    reference = MTCNN(config.model_copy(update={"weights": "reference"}), threads=1).engine
    engine = make(detector.engine, reference)
    detector._cascade = Cascade(engine, CascadeRules(RNET_OVERLAP, reference))
    return low(detector)


def joins(min_face_size: int) -> dict[str, Find]:
    """Return each way by name."""

    def load(weights: str, rnet: float = 0.7) -> MTCNN:
        return MTCNN(
            DetectorConfig(
                weights=weights, min_face_size=min_face_size, thresholds=(0.6, rnet, 0.7)
            ),
            threads=1,
        )

    def with_engine(join: Outputs, rnet: float) -> Find:
        detector = load("masked", rnet)
        engine = AllOfBoth(detector.engine, load("reference").engine, join)
        detector._cascade = Cascade(engine)
        return low(detector)

    def with_rules(rnet_overlap: float, *, localised: bool) -> Find:
        detector = load("joined")
        engine = detector.engine
        assert isinstance(engine, JoinedEngine)
        localiser = engine.reference if localised else None
        detector._cascade = Cascade(engine, CascadeRules(rnet_overlap, localiser))
        return low(detector)

    return {
        "joined, the reference's boxes": joined_with("masked", min_face_size, ReferenceBoxes),
        "joined, boxes not localised": with_rules(0.5, localised=False),
        "joined, NMS 0.7": with_rules(0.7, localised=True),
        "joined, NMS 0.7, not localised": with_rules(0.7, localised=False),
        "mean of all outputs, R-Net 0.5": with_engine(mean, 0.5),
        "outputs of the surer, R-Net 0.7": with_engine(surer, 0.7),
        "two complete cascades": two_cascades(low(load("masked")), low(load("reference"))),
    }


def two_cascades(one: Find, other: Find) -> Find:
    """Match the faces of two detectors; a face that one lacks has a probability of 0.2 there."""

    def find(photo: np.ndarray) -> Detections:
        mine, others = one(photo), other(photo)
        overlap = iou(mine.boxes, others.boxes)
        logits = [_logit(each.probs) for each in (mine, others)]
        joined = [np.full(len(each), _logit(np.float32(0.2))) for each in logits]
        for row in np.argsort(-mine.probs) if overlap.size else ():
            best = int(overlap[row].argmax())
            if overlap[row, best] >= 0.5:
                joined[0][row], joined[1][best] = logits[1][best], np.nan
                overlap[:, best] = -1
        alone = ~np.isnan(joined[1])
        scores = np.concatenate([logits[0] + joined[0], (logits[1] + joined[1])[alone]]) / 2
        return Detections(
            np.concatenate([mine.boxes, others.boxes[alone]]),
            (1 / (1 + np.exp(-scores))).astype(np.float32),
            np.concatenate([mine.landmarks, others.landmarks[alone]]),
        )

    return find


def _logit(scores: Any) -> Any:
    scores = np.clip(scores, 1e-6, 1 - 1e-6)
    return np.log(scores / (1 - scores))
