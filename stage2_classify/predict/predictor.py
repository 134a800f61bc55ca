"""Predicts crops with trained checkpoints: probabilities, labels and codes.

Two layers: `Member.predict_batch` on tensors, `predict_crops` on arrays. Knows nothing of photos,
caches or submissions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cropfirst.core.device import autocast, resolve_amp, resolve_device
from cropfirst.core.errors import DeviceError, TrainError
from cropfirst.core.faces.crop import resize_crop
from cropfirst.door.sets import names_of, possible_classes
from cropfirst.stage2_classify.model.models import Classifier
from cropfirst.stage2_classify.predict.ensemble_file import choose_ensemble
from cropfirst.stage2_classify.predict.tta import build_tta
from cropfirst.stage2_classify.runs.checkpoint import load_checkpoint
from cropfirst.stage2_classify.runs.checkpoints import shared_crop_config

Image = npt.NDArray[np.uint8]
Probs = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """The prediction for one crop."""

    probs: Mapping[str, Probs]
    """Task or combined code -> (C,) probabilities, summing to 1."""
    labels: Mapping[str, str]
    """Task -> name of its class."""
    code: int | None
    """Combined code; None where no member was trained for a part of it."""
    possible: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Task -> names of the classes that stay possible; empty without an error rate."""


class Member:
    """A loaded checkpoint, which is one member of an ensemble."""

    def __init__(
        self,
        folder: Path,
        model: Classifier,
        meta: Mapping[str, Any],
        *,
        device: torch.device,
        tta: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.transforms = build_tta(tta)
        self.meta = meta
        self.device = device
        self._amp = _precision(meta, device)
        layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        self.model = model.to(memory_format=layout)  # type: ignore[call-overload]

    @classmethod
    def load(
        cls, folder: Path, *, device: torch.device | str = "cpu", tta: Sequence[str] = ()
    ) -> Member:
        """Load a checkpoint folder, such as runs/NAME/fold0/best_f1.

        Args:
            tta: kinds of test-time augmentation, see `tta.TTA_KINDS`.

        Raises:
            TrainError: no checkpoint there, one that cannot be read, or an unknown kind.
            DeviceError: the device is not available.
        """
        where = resolve_device(device) if isinstance(device, str) else device
        model, meta = load_checkpoint(folder, where)
        return cls(folder, model, meta, device=where, tta=tta)

    @property
    def image_size(self) -> int:
        """Side of the model's input in pixels, which crops of another size are resized to."""
        return int(self.meta["image_size"])

    @torch.inference_mode()
    def predict_batch(self, crops: Tensor) -> dict[str, Tensor]:
        """Return probabilities of one batch, on the device, as the mean over all transforms.

        Args:
            crops: (N, image_size, image_size, 3) uint8 RGB, on any device.

        Returns:
            Task -> (N, classes) float32.
        """
        try:
            found = [self._forward(transform(crops)) for transform in self.transforms]
        except torch.cuda.OutOfMemoryError as error:
            raise DeviceError(
                f"{self.device} has too little memory for {len(crops)} crops of "
                f"{self.image_size} px at once: use a smaller --batch-size"
            ) from error
        if len(found) == 1:
            return found[0]
        return {task: torch.stack([each[task] for each in found]).mean(0) for task in found[0]}

    def _forward(self, crops: Tensor) -> dict[str, Tensor]:
        images = self.model.prepare(crops)
        with autocast(self.device, self._amp):
            outputs = self.model(images)
        return self.model.probs(outputs)

    def predict_batches(self, batches: Iterable[Tensor]) -> dict[str, Probs]:
        """Return task -> (N, classes) float32 probabilities of all batches, in order."""
        parts: dict[str, list[Tensor]] = {task: [] for task in self.meta["heads"]}
        for crops in batches:
            for task, probs in self.predict_batch(crops).items():
                parts[task].append(probs)  # a copy to the host here would wait for the device
        return {
            task: torch.cat(tables).cpu().numpy()
            if tables
            else np.empty((0, len(self.meta["heads"][task])), np.float32)
            for task, tables in parts.items()
        }

    def predict_crops(
        self, crops: Sequence[Image] | Image, *, batch_size: int = 64
    ) -> dict[str, Probs]:
        """Return task -> (N, classes) float32 probabilities of crops in memory.

        Args:
            crops: N crops, each (H, W, 3) uint8 RGB; sizes may differ.
        """
        check_crops(crops)
        starts = range(0, len(crops), batch_size)
        return self.predict_batches(self.stack(crops[at : at + batch_size]) for at in starts)

    def stack(self, crops: Iterable[Image]) -> Tensor:
        """Return crops as one (N, image_size, image_size, 3) uint8 tensor, for `predict_batch`."""
        batch = torch.from_numpy(np.stack([resize_crop(crop, self.image_size) for crop in crops]))
        return batch.pin_memory() if self.device.type == "cuda" else batch


class Predictor:
    """An ensemble that stays loaded, for photos that come one by one."""

    def __init__(
        self,
        runs: Sequence[Path],
        *,
        device: torch.device | str = "auto",
        checkpoint: str | None = None,
        ensemble: Path | None = None,
        alpha: float | None = None,
    ) -> None:
        """Load every fold of every run.

        Args:
            runs: runs directories, of which baselines are left out (see `runs.baselines`), run
                directories or fold directories.
            checkpoint: checkpoint of each fold; None = that of ensemble.json, or best_f1.
            ensemble: path of an ensemble.json for these runs; None = all weigh the same.
            alpha: error rate of the sets of possible classes; None = no sets.

        Raises:
            TrainError: no checkpoints, checkpoints of different schemas or crop sets, or no
                calibration that carries `alpha`.
            DeviceError: the device is not available.
        """
        self.ensemble = choose_ensemble(runs, checkpoint=checkpoint, ensemble=ensemble)
        self.limits = {} if alpha is None else self.ensemble.set_limits(alpha)
        found = self.ensemble.found
        self.schema = found.schema
        self.conditions = found.conditions
        self.crop_config = shared_crop_config(found)
        """Config of the crop set that every member was trained on."""
        self.members = tuple(
            Member.load(folder, device=device, tta=self.ensemble.tta) for folder in found.folders
        )

    def predict_crops(
        self, crops: Sequence[Image] | Image, *, batch_size: int = 64
    ) -> list[Prediction]:
        """Return the vote of all members, one prediction per crop, in order.

        Args:
            crops: N crops, each (H, W, 3) uint8 RGB, made with `crop_config`.
        """
        check_crops(crops)
        if not len(crops):
            return []
        probs = [member.predict_crops(crops, batch_size=batch_size) for member in self.members]
        result = self.ensemble.vote(probs)
        possible = {
            task: possible_classes(result.probs[task], own) for task, own in self.limits.items()
        }
        return [
            Prediction(
                probs={name: table[row] for name, table in result.probs.items()},
                labels={
                    task: self.schema.class_names(task)[codes[row]]
                    for task, codes in result.preds.items()
                },
                code=None if result.code is None else int(result.code[row]),
                possible={
                    task: names_of(own[row], self.schema.class_names(task))
                    for task, own in possible.items()
                },
            )
            for row in range(len(crops))
        ]


def _precision(meta: Mapping[str, Any], device: torch.device) -> torch.dtype | None:
    """Return the type to autocast to: that of the training on a GPU that has it; None on the CPU.

    The CPU, where float32 is as fast, needs no less precise type.
    """
    if device.type == "cpu":
        return None
    config = meta.get("config") or {}
    try:
        return resolve_amp((config.get("optim") or {}).get("amp", "auto"), device)
    except TrainError:  # bf16 of another GPU
        return resolve_amp("auto", device)


def check_crops(crops: Sequence[Image] | Image) -> None:
    """Check that every item is a crop.

    Raises:
        ValueError: a crop that is not (H, W, 3) uint8.
    """
    for crop in crops:
        if crop.ndim != 3 or crop.shape[2] != 3 or crop.dtype != np.uint8 or crop.size == 0:
            raise ValueError(f"a crop is (H, W, 3) uint8 RGB, got {crop.shape} {crop.dtype}")
