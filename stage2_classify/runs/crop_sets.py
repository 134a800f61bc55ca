"""The crop set that a model was trained on: found in the cache, or the command that makes it.

Knows crop sets by name and config; knows no pixels, and of detect only the names of its settings.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from cropfirst.cache import Cache, CropSet
from cropfirst.core.errors import CacheMismatchError


def detect_command(
    crop_config: Mapping[str, Any], *, defaults: Mapping[str, Any] | None = None
) -> str:
    """Return the command that makes a crop set of this config, for messages.

    Args:
        defaults: the config of the crops that detect makes by default; settings that are the same
            there are left out. None names all settings.
    """
    standard = _detect_settings(defaults or {})
    flags = []
    for name, value in _detect_settings(crop_config).items():
        if standard.get(name, ...) == value:
            continue
        if name == "detector.weights":  # the config holds their hash
            if standard:
                flags.append(" --set detector.weights=FILE")
            continue
        text = value if isinstance(value, str) else json.dumps(value)
        flags.append(f" --set {shlex.quote(f'{name}={text}')}")
    return f"cli.py detect DATA{''.join(flags)}"


def _detect_settings(crop_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a crop set's config as detect's dotted settings."""
    groups = {**(crop_config.get("detection") or {}), "crop": crop_config.get("crop")}
    settings: dict[str, Any] = {}
    for name, group in groups.items():
        if isinstance(group, Mapping):
            settings |= {f"{name}.{key}": value for key, value in group.items()}
        elif group is not None:
            settings[name] = group
    return settings


def find_crop_set(
    meta: Mapping[str, Any], cache: Cache, *, defaults: Mapping[str, Any] | None
) -> CropSet:
    """Find the crop set that a model was trained on.

    Args:
        meta: the checkpoint's meta.json.
        defaults: see `detect_command`.

    Raises:
        CacheMismatchError: the crop set is not in the cache, or has another config.
    """
    wanted = meta["crop_set"]
    name = wanted["name"]
    way_out = f"run {detect_command(wanted['config'], defaults=defaults)}"
    names = cache.crop_sets()
    if name not in names:
        have = f"it has {', '.join(names)}" if names else "it has none"
        raise CacheMismatchError(
            f"the runs were trained on crops {name}, which the cache {cache.path} has not "
            f"({have}): {way_out}"
        )
    crop_set = cache.find(name)
    if crop_set.fingerprint != wanted["fingerprint"]:
        raise CacheMismatchError(
            f"the crops {name} in {cache.path} are of another config than those the runs were "
            f"trained on ({crop_set.fingerprint}, not {wanted['fingerprint']}): delete "
            f"{crop_set.folder}, then {way_out}"
        )
    return crop_set
