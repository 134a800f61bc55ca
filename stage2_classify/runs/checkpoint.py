"""A trained model on disk: `model.safetensors` beside a readable `meta.json`.

Reading them runs no code. meta.json is written last and contains the weights' hash, so a pair that
a killed process left incomplete is never loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cropfirst.core.errors import TrainError
from cropfirst.core.files import write_atomic
from cropfirst.core.fingerprint import content_hash
from cropfirst.stage2_classify.model.head_spec import HeadSpec
from cropfirst.stage2_classify.model.models import Classifier, build_classifier
from cropfirst.stage2_classify.runs.json_files import read_json, write_json
from cropfirst.stage2_classify.runs.run_paths import META_FILE

FORMAT = 2
WEIGHTS_FILE = "model.safetensors"
STATE_FILE = "state.json"
REQUIRED = ("backbone", "heads", "image_size", "mean", "std", "schema", "crop_set", "class_prior")


def save_checkpoint(folder: Path, model: Classifier, meta: Mapping[str, Any]) -> None:
    """Write both files, replacing older ones, `meta.json` last.

    Args:
        meta: JSON-able, with at least the keys `REQUIRED`; `format` and `weights_hash` are added.
    """
    missing = [key for key in REQUIRED if key not in meta]
    assert not missing, f"meta lacks {missing}"
    folder.mkdir(parents=True, exist_ok=True)
    weights_hash = write_tensors(folder / WEIGHTS_FILE, model_state(model))
    write_json(folder / META_FILE, {"format": FORMAT, **dict(meta), "weights_hash": weights_hash})


def load_checkpoint(folder: Path, device: torch.device | str) -> tuple[Classifier, dict[str, Any]]:
    """Load a classifier in eval mode on `device`, and its meta.

    Raises:
        TrainError: files are missing, incomplete, of another program or of another format.
    """
    meta = read_meta(folder)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise TrainError(f"{folder} holds {META_FILE} but no {WEIGHTS_FILE}: train again")
    raw = path.read_bytes()
    if content_hash(raw) != meta.get("weights_hash"):
        raise TrainError(
            f"{path} is not the file its {META_FILE} was written for (a copy cut short, or a "
            "training killed between the two): copy it again, or run train again to resume"
        )
    state = _parse_tensors(raw, path)
    specs = meta.get("head_specs") or {}
    model = build_classifier(
        meta["backbone"],
        {
            task: HeadSpec.from_dict(specs[task]) if task in specs else len(classes)
            for task, classes in meta["heads"].items()
        },
        image_size=meta["image_size"],
        kwargs=meta.get("model_kwargs"),
        second=meta.get("second"),
        **meta.get("head_shape") or {},
        mean=meta["mean"],
        std=meta["std"],
    )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise TrainError(
            f"{path} does not fit a {meta['backbone']} of this timm version (made with "
            f"{meta.get('versions', {}).get('timm', '?')}): {str(error)[:300]}"
        ) from error
    return model.to(device).eval(), meta


def read_meta(folder: Path) -> dict[str, Any]:
    """Read and check `meta.json` alone, without torch work.

    Raises:
        TrainError: there is no checkpoint, or it is not JSON, of another format, or lacks keys.
    """
    path = folder / META_FILE
    if not path.is_file():
        raise TrainError(
            f"no checkpoint in {folder}: wanted {META_FILE} and {WEIGHTS_FILE} as train writes "
            "them to runs/NAME/foldK/{best_f1,last}"
        )
    meta = read_json(path)
    if "format" not in meta:
        raise TrainError(f"{path} is not a cropfirst checkpoint: it has no 'format'")
    if meta["format"] != FORMAT:
        raise TrainError(
            f"{path} has format {meta['format']!r}, this version reads {FORMAT}: train again, or "
            "use the cropfirst that wrote it"
        )
    missing = [key for key in REQUIRED if key not in meta]
    if missing:
        raise TrainError(f"{path} is incomplete, it lacks {', '.join(missing)}: train again")
    return meta


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict on the CPU, with contiguous tensors, as safetensors needs them."""
    # The clone separates tensors that share memory, which safetensors refuses.
    return {
        key: value.detach().to("cpu").contiguous().clone()
        for key, value in model.state_dict().items()
    }


def save_state(folder: Path, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
    """Replace the state that a killed run resumes from, so that always one complete state exists.

    Args:
        data: JSON-able; `epoch` is the number of the finished epoch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"epoch-{data['epoch']:04d}.safetensors"
    digest = write_tensors(folder / name, tensors)
    write_json(
        folder / STATE_FILE,
        {"format": FORMAT, **dict(data), "tensors": name, "weights_hash": digest},
    )
    for path in folder.glob("epoch-*.safetensors"):
        if path.name != name:
            path.unlink()


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Load the last state that `save_state` wrote completely; None if there is none.

    Raises:
        TrainError: the files are damaged, or of another format.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    way_out = f"delete {folder.parent} to train this fold again"
    data = read_json(path)
    if data.get("format") != FORMAT:
        raise TrainError(f"{path} is of format {data.get('format')!r}, wanted {FORMAT}: {way_out}")
    file = folder / str(data["tensors"])
    if not file.is_file() or content_hash(raw := file.read_bytes()) != data["weights_hash"]:
        raise TrainError(f"{file} is missing or damaged: {way_out}")
    return _parse_tensors(raw, file), data


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a safetensors file in one step, and return its hash."""
    from safetensors.torch import save

    raw = save(dict(tensors), metadata={"format": "pt"})
    write_atomic(path, raw)
    return content_hash(raw)


def _parse_tensors(raw: bytes, path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors: dict[str, Tensor] = load(raw)
    except SafetensorError as error:
        raise TrainError(f"{path} is not a safetensors file: {error}") from error
    return tensors
