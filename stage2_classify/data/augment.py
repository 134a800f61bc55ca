"""Augmentation of batches: first what is to be done to each crop, as numbers, then the doing.

What is common to all policies is one affine map (mirror, shift, zoom, turn), one rectangle
(erasing) and one line (light, contrast) per crop. OpenCV moves and erases on the CPU crop by crop,
torch on a GPU for the whole batch at once, from the same numbers; the line goes into the
normalisation, where it costs nothing. What else a policy asks for is an albumentations list
(`augment_lists.py`). Everything follows from (seed, fold, epoch, step), whatever process asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cropfirst.stage2_classify.data.augment_lists import AlbumentationsList, extra_transforms

Images = NDArray[np.uint8]
ERASED_AREA = (0.02, 1 / 3)
ERASED_ASPECT = (0.3, 1 / 0.3)


@dataclass(frozen=True)
class Policy:
    """How likely each change is, and how large it may be. The defaults are `basic`'s."""

    mirror: float = 0.5
    move: float = 0.5
    """Chance of a shift, zoom and turn."""
    shift: float = 0.06
    zoom: float = 0.1
    turn: float = 12.0
    """Degrees."""
    light: float = 0.5
    """Chance of other light, and of other contrast; colours stay, since they are evidence."""
    amount: float = 0.2


# Never upside down: no photo of a face is.
POLICIES: Mapping[str, Policy | None] = {
    "none": None,
    "basic": Policy(),
    "randaugment": Policy(move=0, light=0),
    "strong": Policy(move=0.8, shift=0.1, zoom=0.2, turn=20, amount=0.3),
}


class Plan(NamedTuple):
    """What is to be done to the B crops of a batch: NumPy arrays on the CPU, else tensors."""

    matrices: Any
    """(B, 2, 3) float32: (column, row, 1) of a new pixel -> (column, row) of the old one."""
    moved: Any
    """(B,) bool: `matrices` is more than a mirror."""
    mirrored: Any
    """(B,) bool: `matrices` mirrors."""
    lights: Any
    """(B, 2) float32: factor and summand of the values 0-255, for the normalisation."""
    erased: Any
    """(B, 4) int64: top, left, bottom, right of what is erased; empty where bottom <= top."""
    colours: Any
    """(B, 3) uint8: what it is erased with."""


@dataclass(frozen=True)
class Augmenter:
    """Plans batches, by the policy of each row.

    Attributes:
        names: the policies in use.
        of_row: (N,) index into `names` for every row of the data set; None: all have the first.
        erase: chance of RandomErasing (Zhong et al., AAAI 2020), one random colour a rectangle.
    """

    names: tuple[str, ...] = ("none",)
    of_row: NDArray[np.int64] | None = None
    erase: float = 0.0
    ops: int = 2
    magnitude: float = 9
    transforms: Sequence[Mapping[str, Any]] = ()
    _lists: dict[str, AlbumentationsList | None] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        unknown = [name for name in self.names if name not in POLICIES]
        if unknown:
            raise ValueError(f"no augmentation {unknown[0]!r}: pick one of {', '.join(POLICIES)}")

    @property
    def does_nothing(self) -> bool:
        """Whether every crop stays as it is."""
        return set(self.names) == {"none"} and not self.erase and not self.transforms

    def plan(self, rows: NDArray[np.int64], *, size: int, seed: tuple[int, ...]) -> Plan:
        """What to do to a batch of (size, size) crops of these rows."""
        random = np.random.default_rng(seed)
        u = random.random((len(rows), 16))
        kinds = np.zeros(len(rows), np.int64) if self.of_row is None else self.of_row[rows]
        knobs = _knobs(self.names)[kinds]  # (B, 7)
        mirror, move, shift, zoom, turn, light, amount = knobs.T
        mirrored, moved = u[:, 0] < mirror, u[:, 1] < move
        spread = 2 * u[:, 2:7] - 1  # zoom x, y, shift x, y, turn
        matrices = affine_matrices(
            scale=1 + np.where(moved, zoom, 0)[:, None] * spread[:, :2],
            shift=np.where(moved, shift, 0)[:, None] * spread[:, 2:4] * size,
            turn=np.where(moved, turn, 0) * spread[:, 4],
            mirrored=mirrored,
            size=size,
        )
        lights = np.zeros((len(rows), 2), np.float32)
        lights[:, 0] = 1 + np.where(u[:, 7] < light, amount * (2 * u[:, 8] - 1), 0)
        lights[:, 1] = 255 * np.where(u[:, 9] < light, amount * (2 * u[:, 10] - 1), 0)
        return Plan(
            matrices,
            moved,
            mirrored,
            lights,
            _rectangles(u[:, 11:16], chance=self.erase, size=size),
            random.integers(0, 256, (len(rows), 3), dtype=np.uint8),
        )

    def extra_of(self, row: int) -> AlbumentationsList | None:
        """The albumentations list for a row; None where its policy needs none."""
        name = self.names[0 if self.of_row is None else int(self.of_row[row])]
        if name not in self._lists:
            self._lists[name] = extra_transforms(
                name, ops=self.ops, magnitude=self.magnitude, transforms=self.transforms
            )
        return self._lists[name]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lists": {}}  # built anew in each process

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def affine_matrices(
    *,
    scale: NDArray[np.float64],
    shift: NDArray[np.float64],
    turn: NDArray[np.float64],
    mirrored: NDArray[np.bool_],
    size: int,
) -> NDArray[np.float32]:
    """Maps from new pixels to old ones, about the middle of a (size, size) crop.

    Args:
        scale: (B, 2) > 1 enlarges.
        shift: (B, 2) pixels to the right and down.
        turn: (B,) degrees.
        mirrored: (B,) left and right swapped, after all else.

    Returns:
        (B, 2, 3) float32.
    """
    middle = (size - 1) / 2
    angle = np.deg2rad(turn)
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.stack([cos, sin, -sin, cos], axis=1).reshape(-1, 2, 2) / scale[:, :, None]
    offset = middle - np.einsum("bij,bj->bi", linear, middle + shift)
    # The mirror comes last, so the new column is turned round first: x -> (size - 1) - x.
    offset += np.where(mirrored, size - 1, 0)[:, None] * linear[:, :, 0]
    linear[:, :, 0] *= np.where(mirrored, -1, 1)[:, None]
    return np.concatenate([linear, offset[:, :, None]], axis=2).astype(np.float32)


def apply_on_cpu(image: Images, plan: Plan, place: int, *, out: Images) -> None:
    """Write the moved and erased (S, S, 3) uint8 crop to `out`; the crop itself stays as it is.

    The plan's fields are NumPy arrays. `out` may be the crop itself where the plan moves nothing.
    """
    import cv2

    if plan.moved[place]:
        cv2.warpAffine(
            image,
            plan.matrices[place],
            (image.shape[1], image.shape[0]),
            dst=out,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    elif plan.mirrored[place]:
        cv2.flip(image, 1, dst=out)
    elif image is not out:
        out[...] = image
    top, left, bottom, right = plan.erased[place].tolist()
    if bottom > top:
        out[top:bottom, left:right] = plan.colours[place]


def apply_on_device(images: Tensor, plan: Plan) -> Tensor:
    """The same for a whole batch, (B, 3, S, S) float 0-255, wherever it and the plan lie.

    Values are interpolated in float here and in 1/32 pixels by OpenCV: a few levels apart at hard
    edges, the same elsewhere.
    """
    size = images.shape[-1]
    half = (size - 1) / 2
    linear, offset = plan.matrices[:, :, :2], plan.matrices[:, :, 2]
    # From pixels to the -1 .. 1 between the middles of the first and the last pixel.
    moved = (linear.sum(2) * half + offset - half) / half
    theta = torch.cat([linear, moved[:, :, None]], dim=2)
    grid = F.affine_grid(theta, list(images.shape), align_corners=True)
    images = F.grid_sample(
        images, grid.to(images.dtype), padding_mode="reflection", align_corners=True
    )
    at = torch.arange(size, device=images.device)
    top, left, bottom, right = plan.erased[:, :, None].unbind(1)
    rows, columns = (at >= top) & (at < bottom), (at >= left) & (at < right)
    inside = rows[:, None, :, None] & columns[:, None, None, :]
    return torch.where(inside, plan.colours[:, :, None, None].to(images.dtype), images)


def _knobs(names: Sequence[str]) -> NDArray[np.float64]:
    rows = []
    for name in names:
        p = POLICIES[name]
        if p is None:
            rows.append([0.0] * 7)
        else:
            rows.append([p.mirror, p.move, p.shift, p.zoom, p.turn, p.light, p.amount])
    return np.array(rows)


def _rectangles(u: NDArray[np.float64], *, chance: float, size: int) -> NDArray[np.int64]:
    """(B, 4) top, left, bottom, right from (B, 5) numbers of [0, 1)."""
    area = (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * u[:, 1]) * size * size
    low, high = np.log(ERASED_ASPECT)
    aspect = np.exp(low + (high - low) * u[:, 2])
    height = np.clip(np.sqrt(area * aspect), 1, size).astype(np.int64)
    width = np.clip(np.sqrt(area / aspect), 1, size).astype(np.int64)
    top = (u[:, 3] * (size - height + 1)).astype(np.int64)
    left = (u[:, 4] * (size - width + 1)).astype(np.int64)
    box = np.stack([top, left, top + height, left + width], axis=1)
    return np.where((u[:, 0] < chance)[:, None], box, 0)
