"""Grad-CAM, which shows what a classifier looks at, and the share of its mass inside a box.

Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based
localization", ICCV 2017, with the package grad-cam. Knows classifiers and crops; knows nothing of
photos, folds or runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.model.models import Classifier

Floats = npt.NDArray[np.float32]
Reshape = Callable[[Tensor], Tensor]

BATCH = 16
"""Number of crops per backward pass."""
LEAST_SIDE = 6
"""Side from which a map is fine enough; the deepest such map is used."""
SMALLEST = 2
"""Side below which a map does not say where."""


class NoMapError(TrainError):
    """The backbone has no spatial features."""


class TaskCam:
    """Grad-CAM of one task of a classifier, for the class that it predicts."""

    def __init__(self, model: Classifier, task: str) -> None:
        """Find the layers whose output is explained.

        Raises:
            NoMapError: the backbone has no spatial features.
        """
        self.model = model
        self._logits = _TaskLogits(model, task)
        bodies = getattr(model.backbone, "bodies", None) or [model.backbone]
        found = [find_layer(body, model.image_size) for body in bodies]
        self._layers = [each.module for each in found]
        # The package reshapes the outputs of all layers by one function.
        self._reshapes = {each.shape: each.reshape for each in found}

    def maps(self, crops: Tensor) -> Floats:
        """Return the maps of crops, (N, S, S) float32 from 0 to 1.

        A map is 0 everywhere where nothing speaks for the predicted class.

        Args:
            crops: (N, S, S, 3) uint8 RGB, of the model's image size.
        """
        return np.concatenate([self._batch_maps(batch) for batch in crops.split(BATCH)])

    def _batch_maps(self, crops: Tensor) -> Floats:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        images = self.model.prepare(crops).contiguous()
        with torch.no_grad():
            classes = self._logits(images).argmax(1).tolist()
        with GradCAM(self._logits, self._layers, reshape_transform=self._reshape) as cam:
            found = cam(images, [ClassifierOutputTarget(code) for code in classes])
        return np.nan_to_num(np.asarray(found, np.float32))

    def _reshape(self, output: Tensor) -> Tensor:
        return self._reshapes[tuple(output.shape[1:])](output)


def mass_inside(maps: Floats, boxes: Floats) -> Floats:
    """Return the share of each map's mass inside its box, (N,); NaN where a map is 0 everywhere.

    Args:
        maps: (N, S, S), not negative.
        boxes: (N, 4) xyxy in pixels of the map.
    """
    size = maps.shape[1]
    at = np.arange(size, dtype=np.float64) + 0.5
    across = _overlap(at, boxes[:, 0], boxes[:, 2])
    down = _overlap(at, boxes[:, 1], boxes[:, 3])
    inside = np.einsum("nyx,ny,nx->n", maps, down, across)
    total = maps.sum((1, 2))
    shares = np.where(total > 0, inside / np.maximum(total, 1e-9), np.nan)
    return np.asarray(shares, np.float32)


@dataclass(frozen=True)
class CamLayer:
    """A layer with spatial output."""

    module: nn.Module
    shape: tuple[int, ...]
    """Shape of its output, without the batch."""
    reshape: Reshape
    """Turns its output into (N, C, h, w)."""
    side: int
    """The smaller of h and w."""


def find_layer(body: nn.Module, image_size: int) -> CamLayer:
    """Find the deepest layer of a backbone with a fine enough map, else the finest one.

    Raises:
        NoMapError: none of its layers has spatial output.
    """
    names = _candidates(body)
    seen = _outputs(body, names, image_size)
    chosen: CamLayer | None = None
    for name in names:
        reshape = _reshape_of(body, seen.get(name))
        if reshape is None:
            continue
        side = min(reshape(seen[name]).shape[2:])
        # From the deepest up: the first that is fine enough, else the finest of those there are.
        if side >= SMALLEST and (chosen is None or side > chosen.side):
            shape = tuple(seen[name].shape[1:])
            chosen = CamLayer(body.get_submodule(name), shape, reshape, side)
        if side >= LEAST_SIDE:
            break
    if chosen is None:
        kind = type(body).__name__
        raise NoMapError(
            f"Grad-CAM needs spatial features, and {kind} has none at {image_size} px (tried "
            f"{', '.join(names) or 'no layer'}): the audit goes on without it; use a CNN, Swin or "
            "ViT of timm, or larger crops"
        )
    return chosen


class _TaskLogits(nn.Module):
    """A classifier that returns one task's logits, or log probabilities if it has other outputs."""

    def __init__(self, model: Classifier, task: str) -> None:
        super().__init__()
        self.model, self.task = model, task

    def forward(self, images: Tensor) -> Tensor:
        output = self.model(images)[self.task]
        spec = self.model.head(self.task).spec
        if spec.kind == "classes" and spec.width == spec.n_classes:
            return torch.as_tensor(output)
        probs = self.model.probs({self.task: output})[self.task]
        return probs.clamp_min(1e-6).log()


def _overlap(at: npt.NDArray[np.float64], low: Floats, high: Floats) -> npt.NDArray[np.float64]:
    """Return how much of each pixel, from at - 0.5 to at + 0.5, is between two bounds: (N, S)."""
    left = np.maximum(at[None] - 0.5, low[:, None])
    right = np.minimum(at[None] + 0.5, high[:, None])
    return np.clip(right - left, 0.0, 1.0)


def _candidates(body: nn.Module) -> list[str]:
    """Return the names of the layers to try, deepest first."""
    info: Any = getattr(body, "feature_info", None)
    if info is None:
        known = dict(body.named_children())
        return [name for name in ("block8", "repeat_3", "repeat_2") if name in known]
    names = [each["module"] for each in info if each.get("module")]
    if hasattr(body, "blocks") and hasattr(body, "num_prefix_tokens"):
        # After the last block's attention, the class token takes in nothing more of the others.
        names = [f"{name}.norm1" for name in names]
    modules = dict(body.named_modules())
    return [name for name in reversed(names) if name in modules]


@torch.inference_mode()
def _outputs(body: nn.Module, names: Sequence[str], image_size: int) -> dict[str, Tensor]:
    """Return the outputs of some layers for one black image."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found[name] = output

        return hook

    modules = dict(body.named_modules())
    hooks = [modules[name].register_forward_hook(keep(name)) for name in names]
    try:
        where = next(body.parameters()).device
        body(torch.zeros(1, 3, image_size, image_size, device=where))
    finally:
        for each in hooks:
            each.remove()
    return found


def _reshape_of(body: nn.Module, output: Tensor | None) -> Reshape | None:
    """Return what turns a layer's output into (N, C, h, w); None where it is not spatial."""
    if output is None:
        return None
    if output.ndim == 4:
        # Swin and some others keep channels last.
        last = getattr(body, "output_fmt", "NCHW") == "NHWC" or (
            output.shape[1] == output.shape[2] != output.shape[3]
            and output.shape[3] > output.shape[1]
        )
        return _channels_first if last else _unchanged
    if output.ndim != 3:
        return None
    prefix = int(getattr(body, "num_prefix_tokens", 0))
    side = math.isqrt(max(output.shape[1] - prefix, 0))
    if side < SMALLEST or side * side != output.shape[1] - prefix:
        return None

    def tokens(value: Tensor) -> Tensor:
        places = value[:, prefix:].transpose(1, 2)
        return places.reshape(len(value), -1, side, side)

    return tokens


def _channels_first(value: Tensor) -> Tensor:
    return value.permute(0, 3, 1, 2)


def _unchanged(value: Tensor) -> Tensor:
    return value
