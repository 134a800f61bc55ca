"""Training of the three nets, one after the other, in rounds of new views.

P-Net comes first, so that R-Net learns from the new P-Net's proposals, and O-Net from the new
R-Net's. The views of a round depend on the seed and the round alone, so that a killed run ends with
the weights of one that was not interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import save
from torch import Tensor, nn

from cropfirst.core.console import say
from cropfirst.core.errors import DetectError
from cropfirst.core.files import write_atomic
from cropfirst.core.prefetch import prefetch
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.harden.config import HardenConfig, NetConfig
from cropfirst.stage1_detect.harden.paste.cover import TemplateSet
from cropfirst.stage1_detect.harden.training.calibrate import (
    NEXT_NET,
    calibration_shift,
    shift_scores,
)
from cropfirst.stage1_detect.harden.training.mine import mine
from cropfirst.stage1_detect.harden.training.samples import HardenSample
from cropfirst.stage1_detect.harden.training.state import HardenState, save_harden_state
from cropfirst.stage1_detect.harden.training.student import Student, WindowLosses, strip_prefix
from cropfirst.stage1_detect.harden.training.targets import FaceTargets
from cropfirst.stage1_detect.harden.training.training_view import make_training_view
from cropfirst.stage1_detect.harden.training.windows import WINDOW_KINDS, Windows
from cropfirst.stage1_detect.mtcnn.candidates import NetName
from cropfirst.stage1_detect.mtcnn.detector import MTCNN
from cropfirst.stage1_detect.mtcnn.nets.modules import load_nets
from cropfirst.stage1_detect.photos.read import ReadError, read_photo
from cropfirst.stage1_detect.pipeline.detect_batches import single_threaded_kernels
from cropfirst.stage1_detect.pipeline.progress import Progress

NETS: tuple[NetName, ...] = ("pnet", "rnet", "onet")
STATE_FILE, WEIGHTS_FILE = "state.safetensors", "weights.safetensors"
_STUDENT_FILE = "student.safetensors"
_LOSS_NAMES = tuple(field.name for field in fields(WindowLosses))
_CALIBRATION_PHOTOS = 240

TargetedSamples = list[tuple[HardenSample, FaceTargets]]


@dataclass(frozen=True)
class Trainer:
    """The inputs of a training."""

    samples: TargetedSamples
    """Photos to train on with their targets."""
    template_set: TemplateSet
    folder: Path
    """Folder of the state and the weights."""
    config: HardenConfig
    teacher: MTCNN
    workers: int
    """Number of threads that make views."""
    device: torch.device
    """Device that the nets are trained on."""
    console: Console | None

    def train(self, state: HardenState, saved: Mapping[str, Tensor]) -> HardenState:
        """Train for all rounds that are not done yet and write the weights.

        Args:
            state: progress of an earlier run, or a new state.
            saved: tensors saved with the state; empty for a new one.
        """
        nets: dict[NetName, nn.Module] = dict(
            zip(NETS, load_nets(self.config.weights), strict=True)
        )
        for net, module in nets.items() if saved else ():
            module.load_state_dict(strip_prefix(f"{net}.", saved))
        if state.losses:
            say(self.console, f"continuing after {len(state.losses)} finished rounds")
        for net in NETS:
            if net not in state.shifts:
                state = self._train_net(net, nets, state, saved)
        write_atomic(self.folder / WEIGHTS_FILE, save(_tensors_of(nets)))
        return state

    def _train_net(
        self,
        net: NetName,
        nets: Mapping[NetName, nn.Module],
        state: HardenState,
        saved: Mapping[str, Tensor],
    ) -> HardenState:
        config: NetConfig = getattr(self.config, net)
        student = Student(nets[net], config, device=self.device)
        if state.rounds:
            student.restore(saved, steps=state.steps)
        while state.rounds < config.rounds:
            windows = self._mine_round(net, nets, state.rounds)
            losses = student.learn(
                windows, round_number=state.rounds, rng=self._rng(net, state.rounds)
            )
            counts = np.bincount(windows.kind, minlength=len(WINDOW_KINDS)).tolist()
            entry: dict[str, float | str] = {"net": net, "round": state.rounds + 1}
            entry |= asdict(losses) | dict(zip(WINDOW_KINDS, counts, strict=True))
            say(self.console, _describe_round(entry, config.rounds, len(windows)))
            state = state.after_round(entry, steps=student.step_count)
            save_harden_state(
                self.folder / STATE_FILE, state, _tensors_of(nets) | student.tensors()
            )
        nets[net].load_state_dict(student.mean)
        nets[net].cpu().eval().requires_grad_(False)
        state = state.after_net(net, self._calibrate(net, nets))
        save_harden_state(self.folder / STATE_FILE, state, _tensors_of(nets))
        return state

    def _mine_round(self, net: NetName, nets: Mapping[NetName, nn.Module], number: int) -> Windows:
        """Make the views of a round and choose their windows with the nets as they are."""
        config: NetConfig = getattr(self.config, net)
        student = self._student_detector(nets, min_face_size=self.config.min_face_size)
        jobs = list(enumerate(self._choose_samples(config.views, self._rng(net, number))))

        def mine_view(job: tuple[int, tuple[HardenSample, FaceTargets]]) -> Windows | None:
            index, (sample, targets) = job
            rng = self._rng(net, number, index)
            try:
                image = read_photo(sample.path).image
            except ReadError:  # the photo could be read by the teacher, so it has just changed
                return None
            view = make_training_view(image, targets, self.template_set, self.config.paste, rng)
            return mine(view, net, student, self.teacher, rng)

        parts = []
        title = f"{net} {number + 1}/{config.rounds}"
        with single_threaded_kernels(), Progress(self.console, title, total=len(jobs)) as progress:
            for _, windows in prefetch(
                jobs, mine_view, workers=self.workers, size_of=lambda found: 0
            ):
                progress.advance(1)
                if windows is not None:
                    parts.append(windows)
        if not parts:
            raise DetectError("no photo shows a face large enough to learn from")
        return Windows.join(parts)

    def _choose_samples(self, count: int, rng: np.random.Generator) -> TargetedSamples:
        """Choose photos: `boxed` of them with boxes, then equally many of each data set, each of
        its photos equally often."""
        groups: dict[tuple[bool, str], TargetedSamples] = {}
        for each in self.samples:
            groups.setdefault((each[1].complete, each[0].dataset), []).append(each)
        boxed = sum(complete for complete, _ in groups)
        share = self.config.boxed if 0 < boxed < len(groups) else boxed / len(groups)
        chosen: TargetedSamples = []
        for (complete, _), group in groups.items():
            part = share / boxed if complete else (1 - share) / (len(groups) - boxed)
            left = round(count * part)
            while left > 0:
                rows = rng.permutation(len(group))[:left]
                chosen += [group[i] for i in rows]
                left -= len(rows)
        return chosen

    def _calibrate(self, net: NetName, nets: Mapping[NetName, nn.Module]) -> float:
        """Calibrate P- or R-Net and return the shift; O-Net is left as trained."""
        if net not in NEXT_NET:
            return 0.0
        size = DetectorConfig().min_face_size
        teacher = MTCNN(
            DetectorConfig(weights=self.config.weights, min_face_size=size), threads=self.workers
        )
        images, faces = [], []
        count = min(_CALIBRATION_PHOTOS, len(self.samples))
        for sample, targets in self._choose_samples(count, self._rng(net, 0)):
            with suppress(ReadError):
                images.append(read_photo(sample.path).image)
                faces.append(np.concatenate([targets.boxes, targets.doubtful]))
        student = self._student_detector(nets, min_face_size=size)
        with single_threaded_kernels():
            shift = calibration_shift(images, faces, net, student, teacher, workers=self.workers)
        shift_scores(nets[net], net, shift)
        return shift

    def _student_detector(self, nets: Mapping[NetName, nn.Module], *, min_face_size: int) -> MTCNN:
        path = self.folder / _STUDENT_FILE
        write_atomic(path, save(_tensors_of(nets)))
        config = DetectorConfig(weights=str(path), min_face_size=min_face_size)
        return MTCNN(config, threads=self.workers)

    def _rng(self, net: NetName, *place: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, NETS.index(net), *place])


def _tensors_of(nets: Mapping[NetName, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{net}.{name}": value.detach().cpu().contiguous()
        for net, module in nets.items()
        for name, value in module.state_dict().items()
    }


def _describe_round(entry: Mapping[str, float | str], rounds: int, windows: int) -> str:
    counts = ", ".join(f"{name} {entry[name]:,}" for name in WINDOW_KINDS if entry[name])
    losses = ", ".join(f"{name} {entry[name]:.4f}" for name in _LOSS_NAMES if entry[name])
    return f"{entry['net']} {entry['round']}/{rounds}: {windows:,} windows ({counts}); {losses}"
