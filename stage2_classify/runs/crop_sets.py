"""The crop set that a model was or will be trained on, or the command that makes it.

Knows crop sets by name and config; knows no pixels, and of detect only the names of its settings.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cropfirst.cache import Cache, CropSet, crop_settings
from cropfirst.core.errors import CacheMismatchError, TrainError
from cropfirst.stage2_classify.runs.json_files import read_json

DEFAULT_BACKGROUND = "ellipse"
"""Background of the crops that detect makes by default."""


def detect_command(
    crop_config: Mapping[str, Any], *, defaults: Mapping[str, Any] | None = None
) -> str:
    """Return the command that makes a crop set of this config, for messages.

    Args:
        defaults: the config of the crops that detect makes by default; settings that are the same
            there are left out. May have `weights`: hash -> name. None names all settings.
    """
    standard = crop_settings(defaults or {})
    flags = []
    for name, value in crop_settings(crop_config).items():
        if standard.get(name, ...) == value:
            continue
        if name == "detector.weights":  # the config holds their hash
            if standard:
                flags.append(f" --weights {(defaults or {}).get('weights', {}).get(value, 'FILE')}")
            continue
        text = value if isinstance(value, str) else json.dumps(value)
        flags.append(f" --set {shlex.quote(f'{name}={text}')}")
    return f"cropfirst detect DATA{''.join(flags)}"


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


def find_crop_sets(
    metas: Iterable[Mapping[str, Any]], cache: Cache, *, defaults: Mapping[str, Any] | None
) -> dict[str, CropSet]:
    """Return fingerprint -> crop set, of all that some models were trained on.

    Args:
        metas: meta.json of each model's checkpoint.
        defaults: see `detect_command`.

    Raises:
        CacheMismatchError: crop sets are not in the cache, or have another config; the message has
            the commands that make all of them.
    """
    wanted = {meta["crop_set"]["fingerprint"]: meta for meta in metas}
    names = cache.crop_sets()
    missing = [m["crop_set"] for m in wanted.values() if m["crop_set"]["name"] not in names]
    if len(missing) > 1:
        commands = [detect_command(each["config"], defaults=defaults) for each in missing]
        raise CacheMismatchError(
            f"the runs were trained on {len(missing)} kinds of crops which the cache {cache.path} "
            f"has not ({', '.join(each['name'] for each in missing)}): run "
            f"{' and '.join(commands)}; or choose runs on the same crops with --runs"
        )
    return {
        fingerprint: find_crop_set(meta, cache, defaults=defaults)
        for fingerprint, meta in wanted.items()
    }


def choose_crop_set(
    cache: Cache,
    prefix: str | None,
    *,
    own: Sequence[str] = (),
    wanted: Mapping[str, Any] | None = None,
) -> tuple[CropSet, str]:
    """Choose a crop set of a cache, by name or by default.

    Without a name it is the only one; else one that the same command was given before (`own`); else
    the one of the wanted background with the fewest settings that are not as wanted.

    Args:
        prefix: beginning of the crop set's name; None chooses by default.
        own: names of the crop sets of earlier runs of the same command.
        wanted: config of the wanted crops; None takes the default background, and ignores the
            other settings.

    Returns:
        The crop set, and why it was chosen; the reason is empty if there was no choice.

    Raises:
        CacheMissingError: no crop set matches.
        CacheMismatchError: several match equally well.
    """
    names = cache.crop_sets()
    if prefix is not None or len(names) < 2:
        return cache.find(prefix), ""
    kept = [name for name in names if name in own]
    if len(kept) == 1:
        return cache.find(kept[0]), "as in the run so far"
    candidates = kept or names
    standard = crop_settings(wanted or {})
    background = standard.get("crop.background", DEFAULT_BACKGROUND)

    def distance(name: str) -> tuple[bool, int]:
        own_settings = crop_settings(cache.find(name).config)
        changed = sum(own_settings.get(key) != value for key, value in standard.items())
        return name.partition("-")[0] != background, changed

    ranked = sorted(candidates, key=distance)
    if distance(ranked[0]) == distance(ranked[1]):
        cache.find()  # raises the error that lists them
    return cache.find(ranked[0]), "nearest to the settings of detect"


def crop_sets_of_runs(runs: Iterable[Path]) -> list[str]:
    """Return the names of the crop sets that some run folders were made with.

    Folders that do not exist, or whose run.json cannot be read, are left out.
    """
    names = []
    for run in runs:
        try:
            about = read_json(run / "run.json")
        except (OSError, TrainError):
            continue
        names.append(str((about.get("crop_set") or {}).get("name")))
    return names
