"""Write a bundle: the detector of stage 1, the networks of stage 2, and all that is between them.

Everything is written into a folder beside the target, compared with the run, and then renamed. So
a bundle that exists answers as its run does.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cropfirst.cache import Cache, CropSet
from cropfirst.core.errors import BundleError, DetectError
from cropfirst.core.faces.quality import sharpness, turn
from cropfirst.core.onnx_export import OPSET, check_packages
from cropfirst.core.provenance import describe_versions, git_commit
from cropfirst.door.bundle import Bundle
from cropfirst.door.check import golden_answers
from cropfirst.door.files import read_manifest, write_files
from cropfirst.door.manifest import (
    BACKGROUNDS,
    GOLDEN,
    ClassifierEntry,
    CropEntry,
    DetectorEntry,
    Limits,
    Manifest,
    RetryStep,
    TaskEntry,
)
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.crop_sets import config_made_with, config_of_crops
from cropfirst.stage1_detect.mtcnn.nets.modules import JOINED
from cropfirst.stage1_detect.mtcnn.onnx import detector_files, rnet_overlap
from cropfirst.stage2_classify.commands.bundle.card import card_text
from cropfirst.stage2_classify.commands.bundle.int8 import to_int8
from cropfirst.stage2_classify.commands.bundle.parity import Parity, check_parity
from cropfirst.stage2_classify.commands.bundle.reference import RunAnswers
from cropfirst.stage2_classify.datasets import PhotoSet
from cropfirst.stage2_classify.drawn.portrait import SHOTS, Shot, draw_portrait, random_person
from cropfirst.stage2_classify.export.classifier import classifier_file
from cropfirst.stage2_classify.export.nets import RunNets, choose_tasks, task_weights
from cropfirst.stage2_classify.predict.ensemble_file import Ensemble, choose_ensemble
from cropfirst.stage2_classify.runs.checkpoints import shared_crop_config
from cropfirst.stage2_classify.runs.crop_sets import find_crop_sets

LIMIT_CROPS = 1000
"""Number of training crops that the limits are taken from."""
BEYOND = 0.005
"""Share of the training faces that is beyond each of the limits."""
GOLDEN_SIZE = (288, 384)
"""Width and height in pixels of a golden photo."""
CARD = "MODEL_CARD.md"
REQUIREMENTS = """\
numpy>=1.26,<3
onnxruntime>=1.20,<2
opencv-python-headless>=4.11,<5
# for the command watch
click>=8.1.7,<9
pillow>=10.3
"""


@dataclass(frozen=True)
class Plan:
    """The content that a bundle is to have."""

    nets: tuple[RunNets, ...]
    voting: Ensemble
    tasks: tuple[str, ...]
    crops: CropSet
    config: DetectConfig
    """Settings that the crops were made with."""

    @property
    def runs(self) -> list[Path]:
        """Resolved folders of the runs, one per classifier."""
        return [each.run.resolve() for each in self.nets]


@dataclass(frozen=True)
class Exported:
    """A bundle that was written."""

    folder: Path
    manifest: Manifest
    parity: Parity
    n_bytes: int


def plan_bundle(
    nets: Sequence[RunNets],
    cache: Cache,
    *,
    tasks: Sequence[str],
    ensemble: Path | None,
    default_ensemble: Path | None,
) -> Plan:
    """Decide what a bundle is to have.

    Args:
        tasks: tasks that were named; () = the default.
        ensemble: ensemble.json for exactly these networks.
        default_ensemble: one that is used if it is for exactly these networks.

    Raises:
        BundleError: the runs' crops or tasks cannot be in a bundle.
        CropfirstError: the runs do not fit each other, or their crops are not in the cache.
    """
    check_packages()
    folders = [folder for each in nets for folder in each.folders]
    voting = choose_ensemble(folders, ensemble=ensemble, default=default_ensemble)
    schema, metas = voting.found.schema, voting.found.metas
    predicted = schema.tasks_of(name for meta in metas for name in meta["heads"])
    chosen = choose_tasks([name for name in schema.task_names if name in predicted], tasks)
    key = shared_crop_config(voting.found)
    background = key["crop"]["background"]
    if background not in BACKGROUNDS:
        raise BundleError(
            f"the runs were trained on {background!r} crops, which do not follow the face: a "
            f"bundle needs a run on {', '.join(BACKGROUNDS)} crops"
        )
    crops = next(iter(find_crop_sets(metas, cache, defaults=None).values()))
    try:
        config = config_of_crops(key)
    except DetectError:  # weights that are not shipped are known by their file alone
        config = config_made_with(crops.folder)
    return Plan(tuple(nets), voting, chosen, crops, config)


def write_bundle(
    plan: Plan,
    photos: PhotoSet,
    out: Path,
    *,
    work: Path,
    int8: bool = False,
    force: bool = False,
    about: Mapping[str, Any],
) -> Exported:
    """Write a bundle and compare it with its run; leave nothing behind where it differs.

    Args:
        photos: the data set, whose photos are compared end to end.
        work: folder of the results, where the card looks for an audit.
        int8: quantise the classifiers, after the comparison.
        force: replace a bundle that is there.
        about: runs and scores, for people to read.

    Raises:
        BundleError: the bundle answers otherwise than the run, or something else is in the way.
    """
    _check_target(out, force=force)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    answers = RunAnswers(plan.voting, plan.tasks, plan.config)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        manifest = _write_files(plan, answers, folder, about)
        bundle = Bundle.open(folder)
        parity = check_parity(bundle, answers, plan.crops, photos, plan.config, folder)
        if int8:
            manifest = to_int8(folder, bundle, plan.nets, plan.crops)
        card = card_text(plan.nets, manifest, parity, photos=photos, crops=plan.crops, work=work)
        manifest = write_files(folder, manifest, {CARD: card.encode()})
        if out.exists():
            shutil.rmtree(out)
        os.replace(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    n_bytes = sum(each.bytes for each in manifest.files.values())
    return Exported(out, manifest, parity, n_bytes)


def _check_target(out: Path, *, force: bool) -> None:
    if not out.exists():
        return
    if not force:
        raise BundleError(f"{out} exists: choose another --to, or replace a bundle with --force")
    try:
        read_manifest(out)
    except BundleError as error:
        raise BundleError(f"--force replaces bundles alone, and {out} is none: {error}") from error


def _write_files(
    plan: Plan, answers: RunAnswers, folder: Path, about: Mapping[str, Any]
) -> Manifest:
    """Write all files of a bundle, the manifest last."""
    files = dict(detector_files(plan.config.detector.weights))
    classifiers = []
    schema = plan.voting.found.schema
    weights = task_weights(plan.voting, plan.runs, plan.tasks)
    for number, (run, own) in enumerate(zip(plan.runs, weights, strict=True)):
        members = [each.model for each in answers.checkpoints(run)]
        if not own or not members:
            continue
        name = f"classifier-{number}.onnx"
        files[name] = classifier_file(members, tuple(own), schema)
        classifiers.append(
            ClassifierEntry(
                name, members[0].image_size, _rgb(members[0].mean), _rgb(members[0].std), own
            )
        )
    manifest = Manifest(
        files={},
        detector=detector_entry(plan.config),
        crop=CropEntry(**{name: getattr(plan.config.crop, name)
                          for name in CropEntry.__dataclass_fields__}),
        classifiers=tuple(classifiers),
        tasks={task: _task_entry(task, plan.voting) for task in plan.tasks},
        limits=_limits(plan.crops, min(each.image_size for each in classifiers)),
        made_by=_made_by(),
        about=dict(about),
    )  # fmt: skip
    files |= _golden(answers, manifest)
    files["requirements.txt"] = REQUIREMENTS.encode()
    return write_files(folder, manifest, files)


def _rgb(buffer: Any) -> tuple[float, float, float]:
    red, green, blue = (float(each) for each in buffer.flatten().tolist())
    return red, green, blue


def detector_entry(config: DetectConfig) -> DetectorEntry:
    """Return the detector's settings as a manifest has them."""
    detector = config.detector
    return DetectorEntry(
        weights=detector.weights if "/" not in detector.weights else Path(detector.weights).name,
        min_face_size=detector.min_face_size,
        factor=detector.factor,
        thresholds=detector.thresholds,
        search=detector.search,
        select=config.crop.select,
        rnet_overlap=rnet_overlap(detector.weights),
        localiser=detector.weights == JOINED,
        retry=tuple(
            RetryStep(each.name, each.thresholds, each.flip, each.contrast, each.scale)
            for each in config.retry
        ),
    )


def _task_entry(task: str, voting: Ensemble) -> TaskEntry:
    plan = voting.plan.tasks.get(task) if voting.plan is not None else None
    return TaskEntry(
        classes=tuple(voting.found.schema.class_names(task)),
        temperature=1.0 if plan is None else plan.temperature,
        offsets=() if plan is None else plan.offsets,
        sets=_sets(task, voting),
    )


def _sets(task: str, voting: Ensemble) -> dict[str, Any] | None:
    """Return the limits of the sets of classes, if these networks are calibrated."""
    calibration = voting.calibration
    if isinstance(calibration, str) or task not in calibration.tables:
        return None
    table = calibration.tables[task].to_dict()
    return {**table, "alpha": calibration.alpha, "source": calibration.source}


def _limits(crops: CropSet, side: int) -> Limits:
    """Return the limits beyond which a face is unlike those of training.

    Args:
        side: smallest input of a classifier in pixels; a face half as large loses little in it.
    """
    table = crops.manifest.read()
    rows = [row for row in table.to_dicts() if row["status"] == "detected"]
    rows = rows[:: max(1, len(rows) // LIMIT_CROPS)]
    if not rows:
        return Limits(0.0, 0.0, 1e6)
    reader = crops.reader()
    sharp = [sharpness(reader[row["key"]]) for row in rows]
    reader.close()
    boxes = np.array([row["box"] for row in rows], np.float64)
    sizes = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    turns = [turn(np.asarray(row["landmarks"], np.float32).reshape(5, 2)) for row in rows]
    return Limits(
        smallest_face=round(min(float(np.quantile(sizes, BEYOND)), side / 2), 1),
        sharpness=round(float(np.quantile(sharp, BEYOND)), 4),
        turn=round(float(np.quantile(turns, 1 - BEYOND)), 4),
    )


def _made_by() -> dict[str, Any]:
    return {
        **describe_versions("torch", "timm", "onnx", "onnxruntime"),
        "opset": OPSET,
        "git_commit": git_commit(),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def golden_photos() -> dict[str, np.ndarray]:
    """Return drawn photos by file name: each kind of mask, two people, and a room without any."""
    photos = {}
    for number, kind in enumerate(SHOTS):
        rng = np.random.default_rng([7, number])
        person = random_person(rng, name="golden", gender=("female", "male")[number % 2],
                               age=20 + 8 * number)  # fmt: skip
        photos[f"golden/{kind}.png"] = draw_portrait(
            person, Shot(kind, number % 6), rng, GOLDEN_SIZE
        ).image
    first, second = list(photos.values())[:2]
    photos["golden/two.png"] = np.concatenate([first, second], axis=1)
    photos["golden/none.png"] = np.full_like(first, 127)
    return photos


def _golden(answers: RunAnswers, manifest: Manifest) -> dict[str, bytes]:
    """Return the golden photos and the run's answers as files."""
    photos = golden_photos()
    found = {name: answers.answers(photo, manifest).faces for name, photo in photos.items()}
    files = {}
    for name, photo in photos.items():
        done, encoded = cv2.imencode(".png", photo[..., ::-1])
        assert done
        files[name] = encoded.tobytes()
    return {**files, GOLDEN: golden_answers(found)}
