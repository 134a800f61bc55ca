"""The crops that `detect` would write, compared with those in the cache. No torch at import."""

from __future__ import annotations

from typing import Any

from cropfirst.cache import Cache, CropSet, crop_settings
from cropfirst.configs import flatten, load_config, load_yaml, recipe_path
from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.config import DetectConfig


def default_crops(recipe: str | None = None, cache: Cache | None = None) -> dict[str, Any]:
    """Return the config of the crops that `detect` writes when no setting is given.

    Args:
        recipe: recipe that `detect` gets as --config; None is none.
        cache: cache that it writes to, whose crops decide the default weights; None is a new one.
    """
    from cropfirst.stage1_detect.crop_sets import choose_weights
    from cropfirst.stage1_detect.mtcnn.nets.modules import weights_hash

    config = load_config(DetectConfig, recipe=recipe, section="detect")
    if cache is not None:
        config = choose_weights(config, cache)
    weights = config.detector.weights
    try:
        return config.crop_key(weights_hash(weights))
    except DetectError:  # the recipe names a file that is not on this machine
        return config.crop_key(weights)


def detect_defaults() -> dict[str, Any]:
    """Return `default_crops`, and under `weights` the shipped weights' hash -> name.

    For `runs.crop_sets.detect_command`, which knows nothing of stage 1.
    """
    from cropfirst.stage1_detect.mtcnn.nets.modules import SHIPPED, weights_hash

    return {**default_crops(), "weights": {weights_hash(name): name for name in SHIPPED}}


def detect_differences(recipe: str, crops: CropSet) -> list[str]:
    """Return the settings in the `detect` section of a recipe that differ from some crops."""
    section = load_yaml(recipe_path(recipe)).get("detect")
    if not section:
        return []
    wanted, found = crop_settings(default_crops(recipe)), crop_settings(crops.config)
    return [
        f"{key} is {found.get(key)!r}, in the recipe {given!r}"
        for key, given in flatten(section).items()
        if key in wanted and wanted[key] != found.get(key)
    ]
