"""Trained members at work: crops in, probabilities, labels and codes out.

Two layers: `Member.predict_batch` on tensors, `predict_crops` on arrays. Knows nothing of photos,
caches or submissions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cropfirst.core.device import autocast, resolve_amp, resolve_device
from cropfirst.core.errors import DeviceError
from cropfirst.stage2_classify.data.crop_dataset import resize_crop
from cropfirst.stage2_classify.model.models import Classifier
from cropfirst.stage2_classify.predict.ensemble_file import choose_team
from cropfirst.stage2_classify.predict.tta import build_views
from cropfirst.stage2_classify.runs.checkpoint import load_checkpoint
from cropfirst.stage2_classify.runs.checkpoints import shared_crop_config
from cropfirst.stage2_classify.voting.blend import vote_as_planned
from cropfirst.stage2_classify.voting.soft_vote import Vote, vote

Image = npt.NDArray[np.uint8]
Probs = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """What the members say of one crop."""

    probs: Mapping[str, Probs]
    """Task (or the combined code) -> (classes,) probabilities, summing to 1."""
    labels: Mapping[str, str]
    """Task -> name of its class."""
    code: int | None
    """The combined code; None where a part of it has no member."""


class Member:
    """One checkpoint, ready to run."""

    def __init__(
        self,
        folder: Path,
        model: Classifier,
        meta: Mapping[str, Any],
        *,
        device: torch.device,
        views: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.views = build_views(views)
        self.meta = meta
        self.device = device
        self._amp = resolve_amp("auto", device)
        layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        self.model = model.to(memory_format=layout)  # type: ignore[call-overload]

    @classmethod
    def load(
        cls, folder: Path, *, device: torch.device | str = "cpu", views: Sequence[str] = ()
    ) -> Member:
        """Load a checkpoint folder, such as runs/NAME/fold0/best_f1.

        Args:
            views: test-time augmentation, see `views.KINDS`.

        Raises:
            TrainError: there is none, or it cannot be read; or an unknown view.
            DeviceError: the device is not there.
        """
        where = resolve_device(device) if isinstance(device, str) else device
        model, meta = load_checkpoint(folder, where)
        return cls(folder, model, meta, device=where, views=views)

    @property
    def image_size(self) -> int:
        """Side of the model's input in pixels; crops of another size are resized to it."""
        return int(self.meta["image_size"])

    @torch.inference_mode()
    def predict_batch(self, crops: Tensor) -> dict[str, Tensor]:
        """Probabilities of one batch, left on the device: the mean over all views of it.

        Args:
            crops: (N, image_size, image_size, 3) uint8 RGB, on any device.

        Returns:
            Task -> (N, classes) float32.
        """
        try:
            seen = [self._look(view(crops)) for view in self.views]
        except torch.cuda.OutOfMemoryError as error:
            raise DeviceError(
                f"{self.device} has too little memory for {len(crops)} crops of "
                f"{self.image_size} px at once: use a smaller --batch-size"
            ) from error
        if len(seen) == 1:
            return seen[0]
        return {task: torch.stack([each[task] for each in seen]).mean(0) for task in seen[0]}

    def _look(self, crops: Tensor) -> dict[str, Tensor]:
        images = self.model.prepare(crops)
        with autocast(self.device, self._amp):
            outputs = self.model(images)
        return self.model.probs(outputs)

    def predict_batches(self, batches: Iterable[Tensor]) -> dict[str, Probs]:
        """`predict_batch` over many: task -> (N, classes) float32 of all, in order."""
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
        """Probabilities of crops in memory: task -> (N, classes) float32.

        Args:
            crops: N crops, each (H, W, 3) uint8 RGB; sizes may differ.
        """
        check_crops(crops)
        starts = range(0, len(crops), batch_size)
        return self.predict_batches(self.stack(crops[at : at + batch_size]) for at in starts)

    def stack(self, crops: Iterable[Image]) -> Tensor:
        """Crops as one (N, image_size, image_size, 3) uint8 tensor, resized as in training."""
        batch = torch.from_numpy(np.stack([resize_crop(crop, self.image_size) for crop in crops]))
        return batch.pin_memory() if self.device.type == "cuda" else batch


class Predictor:
    """All members of some runs, kept loaded: for photos that come by ones and twos."""

    def __init__(
        self,
        runs: Sequence[Path],
        *,
        device: torch.device | str = "auto",
        checkpoint: str | None = None,
        ensemble: Path | None = None,
    ) -> None:
        """Load every fold of every run.

        Args:
            runs: runs directories, run directories or fold directories.
            checkpoint: which of each fold's votes; None is the ensemble's, or best_f1.
            ensemble: an ensemble.json, which must be for these runs; None: all weigh the same.

        Raises:
            TrainError: no members, or members of different schemas or crop sets.
            DeviceError: the device is not there.
        """
        team = choose_team(runs, checkpoint=checkpoint, ensemble=ensemble)
        found = team.found
        self.team = team
        self.schema = found.schema
        self.conditions = found.conditions
        self.crop_config = shared_crop_config(found)
        """The config of the crop set that every member was trained on."""
        self.members = tuple(
            Member.load(folder, device=device, views=team.views) for folder in found.folders
        )

    def predict_crops(
        self, crops: Sequence[Image] | Image, *, batch_size: int = 64
    ) -> list[Prediction]:
        """Soft vote of all members, one prediction a crop, in order.

        Args:
            crops: N crops, each (H, W, 3) uint8 RGB, made with `crop_config`.
        """
        check_crops(crops)
        if not len(crops):
            return []
        votes = [member.predict_crops(crops, batch_size=batch_size) for member in self.members]
        ballot = self._count(votes)
        return [
            Prediction(
                probs={name: table[row] for name, table in ballot.probs.items()},
                labels={
                    task: self.schema.class_names(task)[codes[row]]
                    for task, codes in ballot.preds.items()
                },
                code=None if ballot.code is None else int(ballot.code[row]),
            )
            for row in range(len(crops))
        ]

    def _count(self, votes: Sequence[Mapping[str, Probs]]) -> Vote:
        if self.team.plan is None:
            return vote(votes, self.schema, conditions=self.conditions)
        return vote_as_planned(
            votes, self.team.names, self.schema, self.team.plan, conditions=self.conditions
        )


def check_crops(crops: Sequence[Image] | Image) -> None:
    """Refuse what is no list of crops.

    Raises:
        ValueError: a crop that is not (H, W, 3) uint8.
    """
    for crop in crops:
        if crop.ndim != 3 or crop.shape[2] != 3 or crop.dtype != np.uint8 or crop.size == 0:
            raise ValueError(f"a crop is (H, W, 3) uint8 RGB, got {crop.shape} {crop.dtype}")
