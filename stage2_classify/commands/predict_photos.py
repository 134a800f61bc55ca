"""Predict single photos, from the file to the prediction: detect, crop, vote. No torch at import.

Uses a crop cache that lives for one call.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.commands.workspace import photo_refs

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from cropfirst.stage1_detect.all_faces import Face
    from cropfirst.stage1_detect.config import DetectConfig
    from cropfirst.stage2_classify.datasets import PhotoSet
    from cropfirst.stage2_classify.predict.ensemble_file import Ensemble
    from cropfirst.stage2_classify.predict.predict import Predictions


@dataclass(frozen=True)
class PhotoPredictions:
    """The predictions of single photos, and what could not be read."""

    predictions: Predictions
    errors: Mapping[str, str]
    """Key of each unreadable photo -> the reason."""
    weights: str
    """One line that says where the weights of the votes come from."""


def predict_photos(
    files: Sequence[Path],
    runs: Sequence[Path],
    *,
    out: Path,
    all_faces: bool = False,
    checkpoint: str | None = None,
    ensemble: Path | None = None,
    default_ensemble: Path | None = None,
    alpha: float | None = None,
    device: torch.device | str = "auto",
    batch_size: int = 64,
    console: Console | None = None,
) -> PhotoPredictions:
    """Detect, crop and predict single photos, and write predictions.parquet.

    Args:
        out: folder of the tables.
        all_faces: predict every face, with a row each, and write no submission.csv; otherwise the
            main face of each photo.
        default_ensemble: path of an ensemble.json that is used if it is for these runs.
        alpha: error rate of the sets of possible classes; None writes no sets.

    Raises:
        DataError: no photo, or `all_faces` with runs whose crops do not allow it.
        CropfirstError: the runs or the device cannot be used as asked; see core/errors.py.
    """
    from cropfirst.cache import Cache
    from cropfirst.core.device import resolve_device
    from cropfirst.stage1_detect.all_faces import crop_all_faces
    from cropfirst.stage1_detect.run import detect
    from cropfirst.stage2_classify.datasets import open_files
    from cropfirst.stage2_classify.predict.ensemble_file import choose_ensemble
    from cropfirst.stage2_classify.predict.predict import predict

    where = resolve_device(device) if isinstance(device, str) else device
    voting = choose_ensemble(
        runs, checkpoint=checkpoint, ensemble=ensemble, default=default_ensemble
    )
    configs = _configs_of_crops(voting, same_detections=all_faces)
    votes: dict[str, Any] = {
        "checkpoint": checkpoint, "ensemble": ensemble, "default_ensemble": default_ensemble,
    }  # fmt: skip
    votes |= {"alpha": alpha, "device": where, "batch_size": batch_size, "console": console}
    photos = open_files(files)
    refs = photo_refs(photos)
    errors: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="cropfirst-") as folder:
        cache = Cache.open(Path(folder) / "cache", data_root=photos.root, create=True)
        for config in configs:
            done = detect(refs, cache, config, device=str(where))
            errors |= {key: f"{kind}: {text}" for key, kind, text in done.errors}
        if not all_faces:
            found = predict(photos, cache, runs, out_dir=out, **votes)
            return PhotoPredictions(found, errors, voting.note)
        faces = [crop_all_faces(refs, cache, config) for config in configs][-1]
        by_face = Path(folder) / "predict"
        found = predict(_of_faces(photos, faces), cache, runs, out_dir=by_face, **votes)
        return PhotoPredictions(_name_photos(found, faces, out), errors, voting.note)


def _configs_of_crops(voting: Ensemble, *, same_detections: bool) -> list[DetectConfig]:
    """Return the config of every kind of crop that the voting checkpoints were trained on."""
    from cropfirst.core.fingerprint import fingerprint
    from cropfirst.stage1_detect.crop_sets import config_of_crops

    crop_sets = {meta["crop_set"]["fingerprint"]: meta["crop_set"] for meta in voting.found.metas}
    keys = [crop_set["config"] for crop_set in crop_sets.values()]
    configs = [config_of_crops(key) for key in keys]
    if same_detections and len({fingerprint(key["detection"]) for key in keys}) > 1:
        names = ", ".join(str(crop_set["name"]) for crop_set in crop_sets.values())
        raise DataError(
            f"predicting all faces needs runs whose crops were made with the same detector, "
            f"since others find other faces; these were trained on {names}: give one with --runs"
        )
    return configs


def _of_faces(photos: PhotoSet, faces: Sequence[Face]) -> PhotoSet:
    """Return a photo set in which every face is a photo."""
    by_key = photos.by_key()
    samples = sorted(
        (replace(by_key[face.photo], key=face.key) for face in faces), key=lambda each: each.key
    )
    return replace(photos, samples=tuple(samples))


def _name_photos(found: Predictions, faces: Sequence[Face], out: Path) -> Predictions:
    """Write the predictions of faces with the photo, number and box of each."""
    from cropfirst.stage2_classify.voting.prediction_files import read_predictions
    from cropfirst.stage2_classify.voting.prediction_table import with_faces, write_predictions

    named = {face.key: (face.photo, face.number, face.box) for face in faces}
    out.mkdir(parents=True, exist_ok=True)
    path = out / "predictions.parquet"
    write_predictions(path, with_faces(read_predictions(found.path), named))
    last = {face.photo: face.number for face in faces}
    several = {key: number for key, number in last.items() if number > 1}
    return replace(
        found, path=path, submission=None, earlier=None, n_photos=len(last), several_faces=several
    )
