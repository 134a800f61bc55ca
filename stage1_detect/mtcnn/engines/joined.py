"""The engine of the weights `joined`: the hardened and the reference's networks as one.

P-Net is the hardened one, since it misses few faces; R- and O-Net of both see its candidates. A
bare face is often surer to the reference, a masked one to the hardened networks, and the surer one
of two O-Nets places the box better. It knows raw outputs only, as every engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cropfirst.stage1_detect.mtcnn.engines.base import Engine, PhotoBatch
from cropfirst.stage1_detect.mtcnn.pyramid.levels import Tile

RNET_ASKS = (-1.0, 1.0)
"""Logits of the hardened R-Net between which the reference's is asked too. Below them nearly all
windows are no faces, above them a window passes anyway at thresholds up to 0.73, and asking would
only cost time."""
ONET_ASKS = (-1.0, math.inf)
"""The same of O-Net, whose scores are averaged."""
ONET_SHARE = 0.6
"""Share of the hardened O-Net's logit in the joined one."""
RNET_OVERLAP = 0.5
"""IoU from which on a better candidate of R-Net removes another one: fewer windows for two
O-Nets."""


class JoinedEngine:
    """Two engines on one device: R-Net's score is the surer of both, O-Net's a mean of logits.

    Args:
        hardened: engine of the networks trained for masked faces.
        reference: engine of the reference's networks.
    """

    def __init__(self, hardened: Engine, reference: Engine) -> None:
        self.name, self.device = hardened.name, hardened.device
        self._hardened, self.reference = hardened, reference

    @property
    def group_pixels(self) -> int:
        """See `Engine`."""
        return self._hardened.group_pixels

    def run_pnet(
        self, images: PhotoBatch, strips: Sequence[Tile], min_logit: float
    ) -> tuple[Tensor, Tensor]:
        """See `Engine`."""
        return self._hardened.run_pnet(images, strips, min_logit)

    def run_pnet_on_windows(self, windows: Tensor) -> Tensor:
        """See `Engine`."""
        return self._hardened.run_pnet_on_windows(windows)

    def run_rnet(self, crops: Tensor) -> Tensor:
        """See `Engine`. Boxes are those of the hardened network."""
        outputs = self._hardened.run_rnet(crops)
        asked, others = _ask(self.reference.run_rnet, crops, outputs, RNET_ASKS)
        outputs[asked, 0] = torch.maximum(outputs[asked, 0], others[:, 0])
        return outputs

    def run_onet(self, crops: Tensor) -> Tensor:
        """See `Engine`. Boxes and landmarks are those of the surer network."""
        outputs = self._hardened.run_onet(crops)
        asked, others = _ask(self.reference.run_onet, crops, outputs, ONET_ASKS)
        mine = outputs[asked]
        joined = torch.where(mine[:, :1] >= others[:, :1], mine, others)
        joined[:, 0] = ONET_SHARE * mine[:, 0] + (1 - ONET_SHARE) * others[:, 0]
        outputs[asked] = joined
        return outputs


def _ask(
    run: Callable[[Tensor], Tensor],
    crops: Tensor,
    outputs: Tensor,
    between: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """Return the indices of the crops whose logit is in a range, and `run`'s outputs of them."""
    asked = ((outputs[:, 0] > between[0]) & (outputs[:, 0] < between[1])).nonzero()[:, 0]
    if not len(asked):
        return asked, outputs[:0]
    return asked, run(crops[asked])
