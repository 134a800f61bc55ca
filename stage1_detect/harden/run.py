"""Teacher to student: ask the teacher, train the three nets one after the other, write the weights.

Each round makes new views of the photos, lets the student look at them, and learns from what it
found hard; P-Net first, so that R-Net learns from P-Net's own proposals, and O-Net from R-Net's. A
round's views hang on the seed and the round alone, so that a killed run goes on as if it had not
been.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import save
from torch import Tensor, nn

from cropfirst.core.console import say
from cropfirst.core.errors import DetectError
from cropfirst.core.files import make_folder, remove_torn, write_atomic
from cropfirst.core.fingerprint import content_hash, fingerprint
from cropfirst.core.lock import write_lock
from cropfirst.core.prefetch import available_cores, prefetch
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.harden.config import HardenConfig, NetConfig
from cropfirst.stage1_detect.harden.training.box_table import clip
from cropfirst.stage1_detect.harden.training.calibrate import NEXT, add_to_score, same_traffic
from cropfirst.stage1_detect.harden.training.mine import KINDS, Windows, mine
from cropfirst.stage1_detect.harden.training.samples import Subject, hold_out
from cropfirst.stage1_detect.harden.training.state import State, load_state, save_state
from cropfirst.stage1_detect.harden.training.student import Losses, Student, below
from cropfirst.stage1_detect.harden.training.targets import (
    Taught,
    from_boxes,
    from_teacher,
    learn_convention,
)
from cropfirst.stage1_detect.harden.training.teacher import Answer, ask_teacher
from cropfirst.stage1_detect.harden.training.training_view import Wardrobe, make_lesson
from cropfirst.stage1_detect.mtcnn.candidates import NetName
from cropfirst.stage1_detect.mtcnn.detector import MTCNN
from cropfirst.stage1_detect.mtcnn.nets.modules import load_nets, weights_hash
from cropfirst.stage1_detect.photos.read import ReadError, read_photo
from cropfirst.stage1_detect.pipeline.detect_batches import single_threaded_kernels
from cropfirst.stage1_detect.pipeline.progress import Progress

NETS: tuple[NetName, ...] = ("pnet", "rnet", "onet")
WEIGHTS_FILE = "weights.safetensors"
_STATE_FILE, _STUDENT_FILE = "state.safetensors", "student.safetensors"
LOSSES = tuple(field.name for field in fields(Losses))
_CALIBRATED_ON = 240
"""Photos."""

Lessons = list[tuple[Subject, Taught]]


@dataclass(frozen=True)
class Hardened:
    """What a run came to."""

    weights: Path
    learnt_from: int
    """Photos."""
    boxed: int
    """Of those, with boxes."""
    held_out: list[tuple[Subject, Taught]]
    """Never learnt from; photos without a known face are left out."""
    convention: np.ndarray | None
    """(4,) what was added to people's boxes, as fractions of their size."""
    losses: tuple[Mapping[str, float | str], ...]
    shifts: Mapping[str, float]
    """Added to the logit of each net."""
    unread: list[tuple[str, str]]
    """(key, message) of photos that cannot be read."""
    faceless: list[str]
    """Keys of photos without boxes in which the teacher is sure of no face."""
    seconds: float


def harden(
    subjects: Sequence[Subject],
    wardrobe: Wardrobe,
    out: Path,
    config: HardenConfig,
    *,
    device: str = "cpu",
    console: Console | None = None,
) -> Hardened:
    """Train; goes on where a killed run with the same photos and settings stopped.

    Args:
        subjects: all photos, also those of the fold that is held out.
        out: what the teacher says is kept here, for all folds; the rest is under `foldK`, or `all`.
        device: where the nets are trained; what they look at is looked at on the CPU.

    Raises:
        DetectError: no photo to learn from; a box outside its photo; the folder is another
            hardening's.
        CacheError: the folder cannot be written, or another process writes there.
    """
    if not subjects:
        raise DetectError("there is no photo to learn from")
    folder = out / ("all" if config.fold is None else f"fold{config.fold}")
    make_folder(folder)
    with write_lock(folder):
        remove_torn(folder)
        return _harden(subjects, wardrobe, out, folder, config, device=device, console=console)


def _harden(
    subjects: Sequence[Subject],
    wardrobe: Wardrobe,
    out: Path,
    folder: Path,
    config: HardenConfig,
    *,
    device: str,
    console: Console | None,
) -> Hardened:
    started = time.perf_counter()
    name = _fingerprint(subjects, wardrobe, config)
    # Before the teacher is asked, which may take long.
    going_on = load_state(folder / _STATE_FILE, name)
    workers = config.workers or available_cores()
    teacher = MTCNN(
        DetectorConfig(weights=config.weights, min_face_size=config.min_face_size),
        threads=workers,
    )
    with single_threaded_kernels():
        answers, unread = ask_teacher(
            subjects, teacher, out / _teacher_file(config), workers=workers, console=console
        )
    subjects = [_in_its_photo(subject, answers.get(subject.key)) for subject in subjects]
    looks = {s.key: answers[s.key].look for s in subjects if s.known and s.key in answers}
    learn, held = hold_out(subjects, folds=config.folds, fold=config.fold, looks=looks)
    convention = _convention(learn, answers, config)
    lessons, faceless = _what_is_taught(learn, answers, convention, config)
    _check(lessons, learn, held, faceless)
    run = _Run(lessons, wardrobe, folder, config, teacher, workers, torch.device(device), console)
    state = run.train(*(going_on or (State(name), {})))
    return Hardened(
        weights=folder / WEIGHTS_FILE,
        learnt_from=len(lessons),
        boxed=sum(taught.complete for _, taught in lessons),
        held_out=_what_is_taught(held, answers, convention, config)[0],
        convention=convention,
        losses=state.losses,
        shifts=state.shifts,
        unread=unread,
        faceless=faceless,
        seconds=time.perf_counter() - started,
    )


def _convention(
    learn: Sequence[Subject], answers: Mapping[str, Answer], config: HardenConfig
) -> np.ndarray | None:
    known = {
        subject.key: subject.known
        for subject in learn
        if subject.known is not None and subject.key in answers
    }
    return learn_convention(
        list(known.values()), [answers[key].faces for key in known], sure=config.sure
    )


def _what_is_taught(
    subjects: Sequence[Subject],
    answers: Mapping[str, Answer],
    convention: np.ndarray | None,
    config: HardenConfig,
) -> tuple[Lessons, list[str]]:
    """What is taken for the truth of each photo, and the keys of those that teach nothing."""
    lessons: Lessons = []
    faceless = []
    for subject in subjects:
        answer = answers.get(subject.key)
        if answer is None:
            continue
        if subject.known is not None:
            taught = from_boxes(
                subject.known, answer.faces, convention=convention, sure=config.sure
            )
            lessons.append((subject, taught))
        elif len(taught := from_teacher(answer.faces, sure=config.sure)):
            lessons.append((subject, taught))
        else:
            faceless.append(subject.key)
    return lessons, faceless


def _in_its_photo(subject: Subject, answer: Answer | None) -> Subject:
    """With its boxes cut off at the photo's edges; those that are held out too, so that a wrong
    box is told before hours of training."""
    if subject.known is None or answer is None:
        return subject
    return replace(
        subject, known=clip(subject.known, answer.height, answer.width, name=subject.key)
    )


def _check(
    lessons: Lessons, learn: Sequence[Subject], held: Sequence[Subject], faceless: Sequence[str]
) -> None:
    if not learn:
        raise DetectError(
            f"all {len(held)} photos are in the part that is held out, and none is left to learn "
            "from: give more photos or people, or use --all-data"
        )
    if not any(len(taught) for _, taught in lessons):
        raise DetectError(
            f"none of the {len(learn)} photos to learn from holds a known face: the teacher is "
            f"sure of none in {len(faceless)} photos without boxes; give photos of bare faces, or "
            "boxes.csv"
        )


def _fingerprint(subjects: Sequence[Subject], wardrobe: Wardrobe, config: HardenConfig) -> str:
    settings = config.model_dump(mode="json", exclude={"workers", "device"})
    return fingerprint(
        {
            "config": settings | {"weights": weights_hash(config.weights)},
            "photos": [[subject.key, _size(subject.path)] for subject in subjects],
            "boxes": [
                [] if each.known is None else [each.known.boxes.tolist(), list(each.known.states)]
                for each in subjects
            ],
            "templates": [
                [each.name, content_hash(each.image.tobytes()), each.points.tolist()]
                for each in wardrobe.given
            ],
        }
    )


def _size(path: Path) -> int:
    """In bytes, for photos of the same names that are others; -1 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _teacher_file(config: HardenConfig) -> str:
    """Each teacher's own: another one's word is another."""
    name = fingerprint([weights_hash(config.weights), config.min_face_size])
    return f"teacher-{name}.parquet"


@dataclass(frozen=True)
class _Run:
    lessons: Lessons
    wardrobe: Wardrobe
    folder: Path
    config: HardenConfig
    teacher: MTCNN
    workers: int
    device: torch.device
    console: Console | None

    def train(self, state: State, saved: Mapping[str, Tensor]) -> State:
        """All rounds of all nets that are not done yet; then the weights."""
        nets: dict[NetName, nn.Module] = dict(
            zip(NETS, load_nets(self.config.weights), strict=True)
        )
        for net, module in nets.items() if saved else ():
            module.load_state_dict(below(f"{net}.", saved))
        if state.losses:
            say(self.console, f"going on after {len(state.losses)} rounds that are done")
        for net in NETS:
            if net not in state.shifts:
                state = self._train_net(net, nets, state, saved)
        write_atomic(self.folder / WEIGHTS_FILE, save(_whole(nets)))
        return state

    def _train_net(
        self,
        net: NetName,
        nets: Mapping[NetName, nn.Module],
        state: State,
        saved: Mapping[str, Tensor],
    ) -> State:
        config: NetConfig = getattr(self.config, net)
        student = Student(nets[net], config, device=self.device)
        if state.rounds:
            student.restore(saved, steps=state.steps)
        while state.rounds < config.rounds:
            windows = self._look(net, nets, state.rounds)
            losses = student.learn(
                windows, round_number=state.rounds, rng=self._rng(net, state.rounds)
            )
            counts = np.bincount(windows.kind, minlength=len(KINDS)).tolist()
            entry: dict[str, float | str] = {"net": net, "round": state.rounds + 1}
            entry |= asdict(losses) | dict(zip(KINDS, counts, strict=True))
            say(self.console, _in_words(entry, config.rounds, len(windows)))
            state = state.after_round(entry, steps=student.step_count)
            save_state(self.folder / _STATE_FILE, state, _whole(nets) | student.tensors())
        nets[net].load_state_dict(student.mean)
        nets[net].cpu().eval().requires_grad_(False)
        state = state.after_net(net, self._calibrate(net, nets))
        save_state(self.folder / _STATE_FILE, state, _whole(nets))
        return state

    def _look(self, net: NetName, nets: Mapping[NetName, nn.Module], number: int) -> Windows:
        """A round's windows: views of photos, and what the student makes of them."""
        config: NetConfig = getattr(self.config, net)
        student = self._detector(nets, min_face_size=self.config.min_face_size)
        jobs = list(enumerate(self._picks(config.views, self._rng(net, number))))

        def look(job: tuple[int, tuple[Subject, Taught]]) -> Windows | None:
            index, (subject, taught) = job
            rng = self._rng(net, number, index)
            try:
                photo = read_photo(subject.path).image
            except ReadError:  # it could be read a moment ago
                return None
            lesson = make_lesson(photo, taught, self.wardrobe, self.config.paste, rng)
            return mine(lesson, net, student, self.teacher, rng)

        parts = []
        title = f"{net} {number + 1}/{config.rounds}"
        with single_threaded_kernels(), Progress(self.console, title, total=len(jobs)) as progress:
            for _, windows in prefetch(jobs, look, workers=self.workers, size_of=lambda found: 0):
                progress.advance(1)
                if windows is not None:
                    parts.append(windows)
        if not parts:
            raise DetectError("no photo shows a face large enough to learn from")
        return Windows.join(parts)

    def _picks(self, views: int, rng: np.random.Generator) -> Lessons:
        """Photos of a round: the share of those with boxes, then as many of each data set, and each
        of its photos as often."""
        lots: dict[tuple[bool, str], Lessons] = {}
        for each in self.lessons:
            lots.setdefault((each[1].complete, each[0].dataset), []).append(each)
        boxed = sum(complete for complete, _ in lots)
        share = self.config.boxed if 0 < boxed < len(lots) else boxed / len(lots)
        picks: Lessons = []
        for (complete, _), lot in lots.items():
            part = share / boxed if complete else (1 - share) / (len(lots) - boxed)
            count = round(views * part)
            while count > 0:
                some = rng.permutation(len(lot))[:count]
                picks += [lot[i] for i in some]
                count -= len(some)
        return picks

    def _calibrate(self, net: NetName, nets: Mapping[NetName, nn.Module]) -> float:
        """Let the thresholds mean what they meant; O-Net's is left as it was learnt."""
        if net not in NEXT:
            return 0.0
        size = DetectorConfig().min_face_size
        usual = MTCNN(
            DetectorConfig(weights=self.config.weights, min_face_size=size), threads=self.workers
        )
        photos, faces = [], []
        count = min(_CALIBRATED_ON, len(self.lessons))
        for subject, taught in self._picks(count, self._rng(net, 0)):
            with suppress(ReadError):
                photos.append(read_photo(subject.path).image)
                faces.append(np.concatenate([taught.boxes, taught.doubtful]))
        student = self._detector(nets, min_face_size=size)
        with single_threaded_kernels():
            shift = same_traffic(photos, net, student, usual, workers=self.workers, faces=faces)
        add_to_score(nets[net], net, shift)
        return shift

    def _detector(self, nets: Mapping[NetName, nn.Module], *, min_face_size: int) -> MTCNN:
        path = self.folder / _STUDENT_FILE
        write_atomic(path, save(_whole(nets)))
        config = DetectorConfig(weights=str(path), min_face_size=min_face_size)
        return MTCNN(config, threads=self.workers)

    def _rng(self, net: NetName, *place: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, NETS.index(net), *place])


def _whole(nets: Mapping[NetName, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{net}.{name}": value.detach().cpu().contiguous()
        for net, module in nets.items()
        for name, value in module.state_dict().items()
    }


def _in_words(entry: Mapping[str, float | str], rounds: int, windows: int) -> str:
    counts = ", ".join(f"{name} {entry[name]:,}" for name in KINDS if entry[name])
    losses = ", ".join(f"{name} {entry[name]:.4f}" for name in LOSSES if entry[name])
    return f"{entry['net']} {entry['round']}/{rounds}: {windows:,} windows ({counts}); {losses}"
