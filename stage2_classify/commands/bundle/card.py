"""MODEL_CARD.md: what a bundle is, how it scores, and what it must not be used for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cropfirst.cache import CropSet
from cropfirst.door.manifest import Manifest
from cropfirst.stage2_classify.commands.bundle.parity import Parity
from cropfirst.stage2_classify.datasets import PhotoSet
from cropfirst.stage2_classify.export.card import personal_section, run_sections, to_markdown
from cropfirst.stage2_classify.export.nets import RunNets
from cropfirst.stage2_classify.report.card import Section

LICENCES = (
    "Detector: MTCNN (Zhang et al., 2016). The weights `reference` are facenet-pytorch's (MIT "
    "licence, from the training of D. Sandberg); `masked` were trained from them for cropfirst.",
    "Classifier: the network's published weights, if it started from some, keep their own licence; "
    "see the page of the backbone at timm.",
    "Golden photos: drawn by cropfirst; they show nobody.",
)


def card_text(
    nets: Sequence[RunNets], manifest: Manifest, parity: Parity, *,
    photos: PhotoSet, crops: CropSet, work: Path,
) -> str:  # fmt: skip
    """Return the card of a bundle as a Markdown page."""
    tasks = tuple(manifest.tasks)
    sections: list[Section] = [
        ("Bundle", _bundle(nets, manifest)),
        ("Equal to its run", _parity(parity)),
        *_int8(manifest),
        *personal_section(tasks),
        *run_sections([each.run for each in nets], tasks, photos=photos, crops=crops, work=work),
        ("When it does not answer", _unknown(manifest)),
        ("Licences", list(LICENCES)),
        ("Made by", [f"{name}: {value}" for name, value in manifest.made_by.items()]),
    ]
    return to_markdown(f"Model card: {', '.join(tasks)}", sections)


def _bundle(nets: Sequence[RunNets], manifest: Manifest) -> list[str]:
    crop = manifest.crop
    tasks = [f"{name}: {', '.join(task.classes)}" for name, task in manifest.tasks.items()]
    networks = [
        f"Network of the run {each.run.resolve().name}: {each.note}. Its own score holds for "
        f"{each.held_out}; the scores below are those of all folds of the run."
        if each.held_out != "unknown"
        else f"Network of the run {each.run.resolve().name}: {each.note}. Nobody was held out from "
        "it: its own score is unknown, and the scores below are those of the folds of the run."
        for each in nets
    ]
    return [
        *tasks,
        *networks,
        f"Detector: MTCNN, weights {manifest.detector.weights}, faces from "
        f"{manifest.detector.min_face_size} px.",
        f"Crop: {crop.background}, {crop.image_size} px, margin {crop.margin:g}.",
    ]


def _parity(parity: Parity) -> list[str]:
    photos, golden = parity.photos, parity.golden
    return [
        f"{parity.n_crops} crops of the cache: the same classes; probabilities differ by "
        f"{parity.crop_probability:.1g} at most.",
        f"{photos.photos} photos with {photos.faces} faces, end to end: the same classes; boxes "
        f"overlap by {photos.worst_iou:.4f} or more, {parity.equal_pixels:.2%} or more of each "
        f"crop within one grey level, probabilities differ by {photos.worst_probability:.1g} at "
        "most.",
        f"{golden.photos} golden photos with {golden.faces} faces: the same. cropfirst export "
        "--check DIR compares them again.",
    ]


def _int8(manifest: Manifest) -> list[Section]:
    """Return the section on 8-bit integers; empty for a bundle with floats."""
    about = manifest.about.get("int8")
    if not about:
        return []
    lines = [
        f"{each['task']}: macro F1 {each['int8_macro_f1']:.4f}, with floats "
        f"{each['macro_f1']:.4f}; the same class for {each['equal']:.2%} of {each['n_crops']} "
        f"crops {about['crops']}."
        for each in about["tasks"].values()
    ]
    return [("In 8-bit integers", ["The comparison above is of the networks with floats.", *lines])]


def _unknown(manifest: Manifest) -> list[str]:
    limits = manifest.limits
    lines = [
        f"A face is unknown if its shorter side is below {limits.smallest_face:g} px (too small), "
        f"its sharpness below {limits.sharpness:g} (blurred) or its turn above {limits.turn:g} "
        "(turned). Sharpness and turn are such that 0.5 % of the training faces are beyond each.",
        "A photo without a face gives no answer. Boxes from a person's other photos or from the "
        "data set's typical place, which training falls back on, do not exist here.",
    ]
    for name, task in manifest.tasks.items():
        if task.sets is None:
            lines.append(f"{name}: not calibrated, so that it always gives one class.")
        else:
            lines.append(
                f"{name}: it gives the set of classes that stay possible at an error rate of "
                f"{task.sets['alpha']:g} for each class (calibration: {task.sets['source']}); not "
                "sure unless that is one class."
            )
    return lines
