"""One hardening: run the teacher, hold out a fold, set targets, train, and write the weights."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from cropfirst.core.errors import DetectError
from cropfirst.core.files import mark_output, remove_torn
from cropfirst.core.fingerprint import content_hash, fingerprint
from cropfirst.core.lock import write_lock
from cropfirst.core.prefetch import available_cores
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.harden.config import HardenConfig
from cropfirst.stage1_detect.harden.paste.cover import TemplateSet
from cropfirst.stage1_detect.harden.training.box_table import clip
from cropfirst.stage1_detect.harden.training.samples import HardenSample, hold_out
from cropfirst.stage1_detect.harden.training.state import HardenState, load_harden_state
from cropfirst.stage1_detect.harden.training.targets import (
    estimate_convention,
    targets_from_boxes,
    targets_from_teacher,
)
from cropfirst.stage1_detect.harden.training.teacher import TeacherOutput, run_teacher
from cropfirst.stage1_detect.harden.training.trainer import (
    STATE_FILE,
    WEIGHTS_FILE,
    TargetedSamples,
    Trainer,
)
from cropfirst.stage1_detect.mtcnn.detector import MTCNN
from cropfirst.stage1_detect.mtcnn.nets.modules import weights_hash
from cropfirst.stage1_detect.pipeline.detect_batches import single_threaded_kernels


@dataclass(frozen=True)
class HardenResult:
    """Weights of a hardening and how they were trained."""

    weights: Path
    trained_on: int
    """Number of photos trained on."""
    with_boxes: int
    """Number of those that have boxes."""
    held_out: TargetedSamples
    """Held-out photos with a known face."""
    convention: np.ndarray | None
    """(4,) what was added to drawn boxes, as fractions of their size; None if nothing was."""
    losses: tuple[Mapping[str, float | str], ...]
    """Losses and numbers of windows of each round."""
    shifts: Mapping[str, float]
    """Number added to the logit of each net."""
    unreadable: list[tuple[str, str]]
    """(key, message) of the photos that cannot be read."""
    faceless: list[str]
    """Keys of photos without boxes in which the teacher is certain of no face."""
    seconds: float


def harden(
    samples: Sequence[HardenSample],
    template_set: TemplateSet,
    out: Path,
    config: HardenConfig,
    *,
    device: str = "cpu",
    console: Console | None = None,
) -> HardenResult:
    """Train the nets; continue a killed run with the same photos and settings.

    Args:
        samples: all photos, including those of the fold that is held out.
        out: folder of the teacher's output, which all folds share; everything else is below its
            `foldK` or `all`.
        device: device that the nets are trained on; windows are always mined on the CPU.

    Raises:
        DetectError: there is no photo to train on, a box is outside its photo, or the folder holds
            another hardening.
        CacheError: the folder cannot be written, or another process writes there.
    """
    if not samples:
        raise DetectError("there is no photo to learn from")
    folder = out / ("all" if config.fold is None else f"fold{config.fold}")
    mark_output(folder)
    with write_lock(folder):
        remove_torn(folder)
        return _harden(samples, template_set, out, folder, config, device, console)


def _harden(
    samples: Sequence[HardenSample],
    template_set: TemplateSet,
    out: Path,
    folder: Path,
    config: HardenConfig,
    device: str,
    console: Console | None,
) -> HardenResult:
    started = time.perf_counter()
    name = _fingerprint(samples, template_set, config)
    # Another hardening's folder is refused before the teacher runs, which may take long.
    saved = load_harden_state(folder / STATE_FILE, name)
    workers = config.workers or available_cores()
    teacher = MTCNN(
        DetectorConfig(weights=config.weights, min_face_size=config.min_face_size),
        threads=workers,
    )
    table = out / f"teacher-{_teacher_name(config)}.parquet"
    with single_threaded_kernels():
        outputs, unreadable = run_teacher(samples, teacher, table, workers=workers, console=console)
    samples = [_clip_boxes(sample, outputs.get(sample.key)) for sample in samples]
    hashes = {s.key: outputs[s.key].image_hash for s in samples if s.known and s.key in outputs}
    training, held_out = hold_out(
        samples, folds=config.folds, fold=config.fold, image_hashes=hashes
    )
    convention = _estimate_convention(training, outputs, config)
    targeted, faceless = _set_targets(training, outputs, convention, config)
    _check(targeted, training, held_out, faceless)
    trainer = Trainer(
        samples=targeted,
        template_set=template_set,
        folder=folder,
        config=config,
        teacher=teacher,
        workers=workers,
        device=torch.device(device),
        console=console,
    )
    state = trainer.train(*(saved or (HardenState(name), {})))
    return HardenResult(
        weights=folder / WEIGHTS_FILE,
        trained_on=len(targeted),
        with_boxes=sum(targets.complete for _, targets in targeted),
        held_out=_set_targets(held_out, outputs, convention, config)[0],
        convention=convention,
        losses=state.losses,
        shifts=state.shifts,
        unreadable=unreadable,
        faceless=faceless,
        seconds=time.perf_counter() - started,
    )


def _estimate_convention(
    samples: Sequence[HardenSample], outputs: Mapping[str, TeacherOutput], config: HardenConfig
) -> np.ndarray | None:
    pairs = [
        (sample.known, outputs[sample.key].faces)
        for sample in samples
        if sample.known is not None and sample.key in outputs
    ]
    known, found = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return estimate_convention(known, found, sure=config.sure)


def _set_targets(
    samples: Sequence[HardenSample],
    outputs: Mapping[str, TeacherOutput],
    convention: np.ndarray | None,
    config: HardenConfig,
) -> tuple[TargetedSamples, list[str]]:
    """Return the readable photos with their targets, and the keys of those without any target."""
    targeted: TargetedSamples = []
    faceless = []
    for sample in samples:
        if sample.key not in outputs:
            continue
        faces = outputs[sample.key].faces
        if sample.known is not None:
            targets = targets_from_boxes(
                sample.known, faces, convention=convention, sure=config.sure
            )
            targeted.append((sample, targets))
        elif len(targets := targets_from_teacher(faces, sure=config.sure)):
            targeted.append((sample, targets))
        else:
            faceless.append(sample.key)
    return targeted, faceless


def _clip_boxes(sample: HardenSample, output: TeacherOutput | None) -> HardenSample:
    """Cut boxes off at the photo's edges. Held-out photos are checked too, so that a wrong box is
    reported before hours of training."""
    if sample.known is None or output is None:
        return sample
    return replace(sample, known=clip(sample.known, output.height, output.width, name=sample.key))


def _check(
    targeted: TargetedSamples,
    training: Sequence[HardenSample],
    held_out: Sequence[HardenSample],
    faceless: Sequence[str],
) -> None:
    if not training:
        raise DetectError(
            f"all {len(held_out)} photos are in the part that is held out, and none is left to "
            "learn from: give more photos or people, or use --all-data"
        )
    if not any(len(targets) for _, targets in targeted):
        raise DetectError(
            f"none of the {len(training)} photos to learn from holds a known face: the teacher is "
            f"sure of none in {len(faceless)} photos without boxes; give photos of bare faces, or "
            "boxes.csv"
        )


def _fingerprint(
    samples: Sequence[HardenSample], template_set: TemplateSet, config: HardenConfig
) -> str:
    settings = config.model_dump(mode="json", exclude={"workers", "device"})
    return fingerprint(
        {
            "config": settings | {"weights": weights_hash(config.weights)},
            "photos": [[sample.key, _file_size(sample.path)] for sample in samples],
            "boxes": [
                [] if each.known is None else [each.known.boxes.tolist(), list(each.known.states)]
                for each in samples
            ],
            "templates": [
                [each.name, content_hash(each.image.tobytes()), each.points.tolist()]
                for each in template_set.given
            ],
        }
    )


def _file_size(path: Path) -> int:
    """Return the size in bytes, which tells other photos of the same names; -1 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _teacher_name(config: HardenConfig) -> str:
    """Return a hash of all that the teacher's output depends on."""
    return fingerprint([weights_hash(config.weights), config.min_face_size])
