"""Augmentation of batches: parameters are drawn for each crop, then applied.

All policies have one affine map (mirror, shift, zoom, turn), one rectangle (erasing) and one linear
function (light, contrast) per crop. OpenCV applies map and rectangle on the CPU crop by crop, torch
on a GPU for the complete batch, from the same parameters; the linear function goes into the
normalisation, where it costs nothing. Other changes of a policy are albumentations transforms
(`augment_lists.py`). All parameters follow from (seed, fold, epoch, step).
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

from cropfirst.stage2_classify.data.augment_lists import AlbumentationsList, build_transforms

Images = NDArray[np.uint8]
ERASED_AREA = (0.02, 1 / 3)
ERASED_ASPECT = (0.3, 1 / 0.3)


@dataclass(frozen=True)
class Policy:
    """Probability and largest size of each change. The defaults are those of `basic`."""

    mirror: float = 0.5
    """Probability of a mirror image."""
    move: float = 0.5
    """Probability of a shift, zoom and turn."""
    shift: float = 0.06
    """Share of the side."""
    zoom: float = 0.1
    """Share of the size."""
    turn: float = 12.0
    """Degrees."""
    light: float = 0.5
    """Probability of other light, and of other contrast; colours stay: they are evidence."""
    amount: float = 0.2
    """Largest change of light and contrast, as a share."""


# Never upside down: no photo of a face is.
POLICIES: Mapping[str, Policy | None] = {
    "none": None,
    "basic": Policy(),
    "randaugment": Policy(move=0, light=0),
    "strong": Policy(move=0.8, shift=0.1, zoom=0.2, turn=20, amount=0.3),
}


class AugmentParams(NamedTuple):
    """Parameters of the B crops of a batch: NumPy arrays on the CPU, else tensors."""

    matrices: Any
    """(B, 2, 3) float32: (column, row, 1) of a new pixel -> (column, row) of the old one."""
    moved: Any
    """(B,) bool: `matrices` is more than a mirror."""
    mirrored: Any
    """(B,) bool: `matrices` mirrors."""
    lights: Any
    """(B, 2) float32 factor and summand of the values 0-255, for the normalisation."""
    erased: Any
    """(B, 4) int64 top, left, bottom, right of what is erased; nothing if bottom <= top."""
    colours: Any
    """(B, 3) uint8 colour of what is erased."""


@dataclass(frozen=True)
class Augmenter:
    """Draws the parameters of batches, by the policy of each row.

    Attributes:
        names: the policies in use.
        of_row: (N,) index into `names` for every row of the data set; None: all have the first.
        erase: probability of RandomErasing (Zhong et al., AAAI 2020), in one random colour per
            rectangle.
        ops: number of changes per crop (randaugment).
        magnitude: strength of these changes, of 30 (randaugment).
        transforms: more transforms of albumentations, each with its `name` and arguments.
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
        """Whether no crop is changed."""
        return set(self.names) == {"none"} and not self.erase and not self.transforms

    def draw(self, rows: NDArray[np.int64], *, size: int, seed: tuple[int, ...]) -> AugmentParams:
        """Draw the parameters for a batch of (size, size) crops of these rows."""
        random = np.random.default_rng(seed)
        u = random.random((len(rows), 16))
        kinds = np.zeros(len(rows), np.int64) if self.of_row is None else self.of_row[rows]
        table = _policy_table(self.names)[kinds]  # (B, 7)
        mirror, move, shift, zoom, turn, light, amount = table.T
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
        return AugmentParams(
            matrices,
            moved,
            mirrored,
            lights,
            _rectangles(u[:, 11:16], chance=self.erase, size=size),
            random.integers(0, 256, (len(rows), 3), dtype=np.uint8),
        )

    def transforms_of(self, row: int) -> AlbumentationsList | None:
        """Return the albumentations transforms of a row; None if its policy needs none."""
        name = self.names[0 if self.of_row is None else int(self.of_row[row])]
        if name not in self._lists:
            self._lists[name] = build_transforms(
                name, ops=self.ops, magnitude=self.magnitude, transforms=self.transforms
            )
        return self._lists[name]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lists": {}}  # built again in each process

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
    """Return maps from new pixels to old ones, about the centre of a (size, size) crop.

    Args:
        scale: (B, 2); above 1 enlarges.
        shift: (B, 2) pixels to the right and down.
        turn: (B,) degrees.
        mirrored: (B,) whether left and right are swapped, after everything else.

    Returns:
        (B, 2, 3) float32.
    """
    middle = (size - 1) / 2
    angle = np.deg2rad(turn)
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.stack([cos, sin, -sin, cos], axis=1).reshape(-1, 2, 2) / scale[:, :, None]
    offset = middle - np.einsum("bij,bj->bi", linear, middle + shift)
    # The mirror comes last, so the new column is mirrored first: x -> (size - 1) - x.
    offset += np.where(mirrored, size - 1, 0)[:, None] * linear[:, :, 0]
    linear[:, :, 0] *= np.where(mirrored, -1, 1)[:, None]
    return np.concatenate([linear, offset[:, :, None]], axis=2).astype(np.float32)


def apply_on_cpu(image: Images, params: AugmentParams, place: int, *, out: Images) -> None:
    """Write the augmented (S, S, 3) uint8 crop to `out`, without changing the crop itself.

    Args:
        params: NumPy arrays.
        place: the crop's row in `params`.
        out: may be the crop itself if it is not moved.
    """
    import cv2

    if params.moved[place]:
        cv2.warpAffine(
            image,
            params.matrices[place],
            (image.shape[1], image.shape[0]),
            dst=out,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    elif params.mirrored[place]:
        cv2.flip(image, 1, dst=out)
    elif image is not out:
        out[...] = image
    top, left, bottom, right = params.erased[place].tolist()
    if bottom > top:
        out[top:bottom, left:right] = params.colours[place]


def apply_on_device(images: Tensor, params: AugmentParams) -> Tensor:
    """Return the moved and erased batch, (B, 3, S, S) float 0-255, on its device.

    Values are interpolated in float, where OpenCV uses steps of 1/32 pixel: they differ by a few
    levels at hard edges from those of `apply_on_cpu`.
    """
    size = images.shape[-1]
    half = (size - 1) / 2
    linear, offset = params.matrices[:, :, :2], params.matrices[:, :, 2]
    # From pixels to -1 .. 1 between the centres of the first and the last pixel.
    moved = (linear.sum(2) * half + offset - half) / half
    theta = torch.cat([linear, moved[:, :, None]], dim=2)
    grid = F.affine_grid(theta, list(images.shape), align_corners=True)
    images = F.grid_sample(
        images, grid.to(images.dtype), padding_mode="reflection", align_corners=True
    )
    at = torch.arange(size, device=images.device)
    top, left, bottom, right = params.erased[:, :, None].unbind(1)
    rows, columns = (at >= top) & (at < bottom), (at >= left) & (at < right)
    inside = rows[:, None, :, None] & columns[:, None, None, :]
    return torch.where(inside, params.colours[:, :, None, None].to(images.dtype), images)


def _policy_table(names: Sequence[str]) -> NDArray[np.float64]:
    """Return the fields of policies as (len(names), 7)."""
    rows = []
    for name in names:
        p = POLICIES[name]
        if p is None:
            rows.append([0.0] * 7)
        else:
            rows.append([p.mirror, p.move, p.shift, p.zoom, p.turn, p.light, p.amount])
    return np.array(rows)


def _rectangles(u: NDArray[np.float64], *, chance: float, size: int) -> NDArray[np.int64]:
    """Return (B, 4) top, left, bottom, right from (B, 5) random numbers in [0, 1)."""
    area = (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * u[:, 1]) * size * size
    low, high = np.log(ERASED_ASPECT)
    aspect = np.exp(low + (high - low) * u[:, 2])
    height = np.clip(np.sqrt(area * aspect), 1, size).astype(np.int64)
    width = np.clip(np.sqrt(area / aspect), 1, size).astype(np.int64)
    top = (u[:, 3] * (size - height + 1)).astype(np.int64)
    left = (u[:, 4] * (size - width + 1)).astype(np.int64)
    box = np.stack([top, left, top + height, left + width], axis=1)
    return np.where((u[:, 0] < chance)[:, None], box, 0)
