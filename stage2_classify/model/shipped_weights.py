"""Weights that ship with cropfirst: a backbone and its heads in half precision, in one file.

Knows the file's format; knows nothing of runs or training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import SHIPPED
from cropfirst.stage2_classify.model.head_spec import HeadSpec
from cropfirst.stage2_classify.model.models import Classifier

CLASSES = "classes"
"""Entry of the file's metadata: task -> class names, as JSON."""
FOLDER = Path(__file__).parents[1] / "weights"


def weights_path(name: str) -> Path:
    """Return the file that `--weights` names: shipped weights, such as `faces`, or a path."""
    return FOLDER / f"{name}.safetensors" if name in SHIPPED else Path(name)


def pack_weights(model: Classifier, class_names: Mapping[str, Sequence[str]], out: Path) -> None:
    """Write the backbone and the plain heads of a model, in float16, as `load_packed_heads` reads.

    Raises:
        TrainError: a value does not fit into float16.
    """
    from safetensors.torch import save_file

    state = {f"backbone.{key}": value for key, value in model.backbone.state_dict().items()}
    plain = {task: names for task, names in class_names.items() if _is_plain(model, task)}
    for task in plain:
        state |= {f"heads.{task}.{key}": v for key, v in model.head(task).state_dict().items()}
    half = {key: v.half() if v.is_floating_point() else v for key, v in state.items()}
    if wrong := [key for key, value in half.items() if not torch.isfinite(value.float()).all()]:
        raise TrainError(f"{wrong[0]} has values beyond float16's 65504: these cannot be packed")
    text = json.dumps({task: list(names) for task, names in plain.items()})
    save_file({k: v.contiguous() for k, v in half.items()}, out, metadata={CLASSES: text})


def load_packed_heads(
    model: Classifier, path: Path, *, class_names: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """Load the heads of a packed file whose tasks, classes and shapes are those of the model.

    Returns:
        The tasks whose heads were loaded; none if the file is not a packed one.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        known = json.loads((file.metadata() or {}).get(CLASSES, "{}"))
        loaded = []
        for task in model.tasks:
            if list(class_names[task]) != known.get(task) or not _is_plain(model, task):
                continue
            own = model.head(task).state_dict()
            keys = {key: f"heads.{task}.{key}" for key in own}
            if not set(keys.values()) <= set(file.keys()):
                continue
            state: dict[str, Tensor] = {key: file.get_tensor(name) for key, name in keys.items()}
            if all(state[key].shape == own[key].shape for key in own):
                model.head(task).load_state_dict(state)
                loaded.append(task)
    return tuple(loaded)


def _is_plain(model: Classifier, task: str) -> bool:
    """Return whether a head has one logit per class."""
    spec = model.head(task).spec
    return spec == HeadSpec.plain(spec.n_classes)
