"""The crop set of a config, and the config of a crop set. Knows configs and the cache's folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cropfirst.cache import Cache, CropSet, crop_set_name
from cropfirst.core.errors import DetectError
from cropfirst.core.files import write_atomic
from cropfirst.core.fingerprint import fingerprint
from cropfirst.core.provenance import describe_versions, git_commit
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.mtcnn.nets.modules import AUTO, JOINED, SHIPPED, weights_hash


def crop_set_of(cache: Cache, config: DetectConfig) -> CropSet:
    """Return the crop set that a config fills, and create it if there is none."""
    key = config.crop_key(weights_hash(config.detector.weights))
    name = crop_set_name(config.crop.background, config.crop.image_size, fingerprint(key))
    return cache.crop_set(name, key)


def choose_weights(config: DetectConfig, cache: Cache) -> DetectConfig:
    """Return the config with the detector's weights named where they are `auto`.

    They are those that the cache's crops were made with, so that its photos are not detected again;
    `joined` where it has no crops, or crops of several weights.
    """
    if config.detector.weights != AUTO:
        return config
    folders = [cache.find(name).folder for name in cache.crop_sets()]
    used = {config_made_with(folder).detector.weights for folder in folders}
    weights = used.pop() if len(used) == 1 else JOINED
    detector = config.detector.model_copy(update={"weights": weights})
    return config.model_copy(update={"detector": detector})


def config_of_crops(crop_key: Mapping[str, Any]) -> DetectConfig:
    """Return the config that makes crops like those of a crop set.

    Args:
        crop_key: config of the crop set, as its `config.json` holds it.

    Raises:
        DetectError: the crops were made with weights that are not shipped (a crop set knows only
            their hash), or by another version.
    """
    try:
        detection = dict(crop_key["detection"])
        wanted = detection["detector"]["weights"]
        weights = next((name for name in SHIPPED if weights_hash(name) == wanted), SHIPPED[0])
        detection["detector"] = {**detection["detector"], "weights": weights}
        config = DetectConfig.model_validate({**detection, "crop": crop_key["crop"]})
    except (KeyError, TypeError, ValueError) as error:
        raise DetectError(f"the crops' config is not one of this version: {error}") from error
    if wanted != weights_hash(weights):
        raise DetectError(
            f"the crops were made with other detector weights than {' or '.join(SHIPPED)}: "
            "run cropfirst detect DATA --weights FILE, then predict DATA"
        )
    return config


def config_made_with(crops: Path) -> DetectConfig:
    """Return the config of the last run that filled a crop set.

    Args:
        crops: folder of the crop set.

    Raises:
        DetectError: the folder holds no readable config of this version.
    """
    try:
        made_by = json.loads((crops / "made_by.json").read_bytes())
        return DetectConfig.model_validate(made_by["config"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        pass
    try:
        return config_of_crops(json.loads((crops / "config.json").read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        raise DetectError(
            f"{crops} does not say how its crops were made ({error}): run cropfirst detect DATA "
            "with their settings"
        ) from error


def write_provenance(crops: CropSet, config: DetectConfig, device: str) -> None:
    """Write `made_by.json` beside the crops: the complete config, the device and the versions."""
    made_by = {
        "config": config.model_dump(mode="json"),
        "device": device,
        "versions": describe_versions(
            "torch", "torchvision", "numba", "opencv-python-headless", "numpy"
        ),
        "git_commit": git_commit(),
    }
    write_atomic(crops.folder / "made_by.json", json.dumps(made_by, indent=2).encode())
