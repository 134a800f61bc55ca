"""Open a cache folder, and find its detections and crop sets.

    cache.json                        format, data root, version
    lock                              held by the one writer
    detections/<fingerprint>/         rows of one detector config
    crops/<name>/                     rows and crops of one crop config

Knows paths, configs and rows; knows nothing of labels or torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cropfirst.cache.manifest import CROP_SCHEMA, DETECTION_SCHEMA, Manifest
from cropfirst.cache.migrate import OLDEST, migrate
from cropfirst.cache.store import CropReader, CropWriter
from cropfirst.core.errors import (
    CacheCorruptError,
    CacheError,
    CacheLockedError,
    CacheMismatchError,
    CacheMissingError,
)
from cropfirst.core.files import make_folder, write_atomic
from cropfirst.core.fingerprint import FORMAT, canonical_json, fingerprint
from cropfirst.core.lock import write_lock

_DETECT_FIRST = "run cropfirst detect first"


def crop_set_name(background: str, image_size: int, fingerprint: str) -> str:
    """Return the name of a crop set, for example `ellipse-224-1f0c9a3e`."""
    return f"{background}-{image_size}-{fingerprint[:8]}"


def crop_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a crop set's config as the dotted settings of `detect`, such as `crop.margin`."""
    groups = {**(config.get("detection") or {}), "crop": config.get("crop")}
    settings: dict[str, Any] = {}
    for name, group in groups.items():
        if isinstance(group, Mapping):
            settings |= {f"{name}.{key}": value for key, value in group.items()}
        elif group is not None:
            settings[name] = group
    return settings


@dataclass(frozen=True)
class CropSet:
    """The crops of one crop config: rows in a manifest, pixels in shards."""

    name: str
    """Name of the crop set, see `crop_set_name`."""
    folder: Path
    """Folder of the crop set."""
    config: Mapping[str, Any]
    """All that decides what the crops look like, JSON-able."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the config, 16 hex characters."""
        return fingerprint(self.config)

    @property
    def manifest(self) -> Manifest:
        """Rows of all photos, including photos without a crop."""
        return Manifest(self.folder, CROP_SCHEMA, kind="crops")

    def writer(self, shard: int | str = 0) -> CropWriter:
        """Open a writer to one shard; hold the cache's lock while it is open."""
        return CropWriter(self.folder, shard)

    def reader(self) -> CropReader:
        """Return a reader of all shards, which opens nothing until the first read."""
        return CropReader(self.folder)

    def verify(self) -> list[str]:
        """Return the keys of the rows whose crop is missing or has another hash, sorted."""
        reader = self.reader()
        rows = self.manifest.read().drop_nulls("crop_hash").select("key", "crop_hash").rows()
        return [key for key, want in rows if key not in reader or reader.crop_hash(key) != want]


@dataclass(frozen=True)
class Cache:
    """An open cache folder; `Cache.open` is the way to get one."""

    path: Path
    """The cache folder."""
    data_root: Path | None
    """Folder of the photos, which keys are relative to; None if it is unknown."""

    @classmethod
    def open(cls, path: Path, *, data_root: Path | None = None, create: bool = False) -> Cache:
        """Open a cache, or create one.

        Args:
            path: the cache folder.
            data_root: folder of the photos. It must be the one the cache was made for, unless that
                one is gone: then the photos were moved, and the cache gets their new folder.
            create: whether to create a missing cache, and to convert one of an older format.

        Raises:
            CacheMissingError: there is no cache and `create` is false.
            CacheMismatchError: it has another format or data root, or `path` holds other files.
            CacheCorruptError: its cache.json cannot be read.
        """
        head = path / "cache.json"
        root = None if data_root is None else data_root.resolve()
        if not head.is_file():
            if not create:
                raise CacheMissingError(f"there is no cache in {path}: {_DETECT_FIRST}")
            _refuse_foreign(path)
            # Two processes may open an empty folder at once: only one makes it a cache.
            if not head.is_file():
                make_folder(path)
                write_head(head, root)
                return cls(path, root)
        stored = _read_head(head, migrating=create)
        settled = _settle_root(path, stored, root)
        # Only a writer writes: a reader may not even be allowed to.
        if create and settled != stored:
            write_head(head, settled)
        return cls(path, settled)

    def detections(self, config: Mapping[str, Any]) -> Manifest:
        """Return the rows of a detector config, after writing its config.json.

        Args:
            config: all that decides what is detected, JSON-able.
        """
        folder = self.path / "detections" / fingerprint(config)
        write_crop_config(folder, config)
        return Manifest(folder, DETECTION_SCHEMA, kind="detections")

    def crop_set(self, name: str, config: Mapping[str, Any]) -> CropSet:
        """Return the crop set of that name, and create it if there is none.

        Args:
            name: see `crop_set_name`.
            config: all that decides what the crops look like, JSON-able.

        Raises:
            CacheMismatchError: another config has that name.
        """
        if not name or name.startswith(".") or "/" in name or os.sep in name:
            raise ValueError(f"a crop set's name is that of one folder, got {name!r}")
        folder = self.path / "crops" / name
        write_crop_config(folder, config)
        return CropSet(name, folder, json.loads(canonical_json(config)))

    def crop_sets(self) -> list[str]:
        """Return the names of the crop sets, sorted."""
        return sorted(path.parent.name for path in (self.path / "crops").glob("*/config.json"))

    def find(self, prefix: str | None = None) -> CropSet:
        """Return the crop set whose name is or begins with `prefix`; None finds the only one.

        Raises:
            CacheMissingError: no crop set matches.
            CacheMismatchError: several match.
        """
        names = self.crop_sets()
        if not names:
            raise CacheMissingError(f"the cache {self.path} has no crops: {_DETECT_FIRST}")
        fitting = [name for name in names if name.startswith(prefix or "")]
        if prefix in fitting:
            fitting = [prefix]
        if not fitting:
            raise CacheMissingError(
                f"the cache {self.path} has no crop set {prefix!r}: it has {', '.join(names)}"
                f"{self._list_differences(names)}"
            )
        if len(fitting) > 1:
            raise CacheMismatchError(
                f"the cache {self.path} has several crop sets: choose one of them with "
                f"--crops NAME{self._list_differences(fitting)}"
            )
        return self._open_crop_set(fitting[0])

    def _open_crop_set(self, name: str) -> CropSet:
        folder = self.path / "crops" / name
        return CropSet(name, folder, read_crop_config(folder))

    def _list_differences(self, names: Sequence[str]) -> str:
        """Return a line per crop set with its settings that are not the same in all of them."""
        if len(names) < 2:
            return ""
        settings = [crop_settings(self._open_crop_set(name).config) for name in names]
        keys = dict.fromkeys(key for each in settings for key in each)
        differing = [key for key in keys if len({repr(each.get(key)) for each in settings}) > 1]
        lines = []
        for name, own in zip(names, settings, strict=True):
            values = [f"{key}={_short_json(own[key])}" for key in differing if key in own]
            lines.append(f"\n  {name}: {', '.join(values)}")
        return "".join(lines)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the cache for the only writer. The system frees the lock when the process ends.

        Raises:
            CacheLockedError: another process is the writer; the message names its pid and host.
        """
        with write_lock(self.path):
            yield

    @contextmanager
    def lock_if_writable(self) -> Iterator[None]:
        """Lock the cache, unless it is on a read-only disk.

        Raises:
            CacheLockedError: another process is the writer.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self.lock())
            except CacheLockedError:
                raise
            except CacheError:
                if os.access(self.path / "lock", os.W_OK):
                    raise
            yield


def _refuse_foreign(path: Path) -> None:
    """Refuse to create a cache in a folder that holds something else."""
    if path.exists() and not path.is_dir():
        raise CacheMismatchError(f"{path} is a file: choose a folder for the cache")
    names = sorted(item.name for item in path.iterdir()) if path.is_dir() else []
    foreign = [
        name for name in names if name != "lock" and name[0] != "." and not name.endswith(".tmp")
    ]
    if foreign and "cache.json" not in foreign:
        raise CacheMismatchError(
            f"{path} is no cache and is not empty (it holds {', '.join(foreign[:3])}): choose a "
            "new or empty folder with --cache"
        )


def write_head(head: Path, data_root: Path | None) -> None:
    """Write cache.json in this format."""
    try:
        cropfirst = version("cropfirst")
    except PackageNotFoundError:
        cropfirst = "unknown"
    root = None if data_root is None else str(data_root)
    _write_json(head, {"format": FORMAT, "data_root": root, "cropfirst": cropfirst})


def _read_head(head: Path, *, migrating: bool) -> Path | None:
    """Return the data root in cache.json; convert an older format, or refuse it."""
    stored = _read_json(head)
    found = stored.get("format")
    root = Path(stored["data_root"]) if isinstance(stored.get("data_root"), str) else None
    if isinstance(found, int) and OLDEST <= found < FORMAT:
        if not migrating:
            raise CacheMismatchError(
                f"the cache {head.parent} has format {found}, this cropfirst writes {FORMAT}: run "
                "cropfirst detect DATA once, which converts it and detects nothing again"
            )
        with write_lock(head.parent):
            migrate(head.parent)
            write_head(head, root)
    elif found != FORMAT:
        raise CacheMismatchError(
            f"the cache {head.parent} has format {found!r}, made by cropfirst "
            f"{stored.get('cropfirst', '(unknown)')}; this one reads format {FORMAT}: use that "
            "version, or delete the folder or choose a new one with --cache, and run detect again"
        )
    return root


def _settle_root(path: Path, stored: Path | None, given: Path | None) -> Path | None:
    if stored is None or given is None or stored == given:
        return given or stored
    if not stored.is_dir():
        return given
    if given.is_dir() and os.path.samefile(stored, given):
        return stored
    raise CacheMismatchError(
        f"the cache {path} was made for the photos in {stored}, not in {given}: choose another "
        "folder with --cache, or delete this one"
    )


def read_crop_config(folder: Path) -> dict[str, Any]:
    """Return the config of a crop set in a folder.

    Raises:
        CacheCorruptError: its config.json cannot be read.
    """
    return _read_json(folder / "config.json")


def write_crop_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write config.json into a folder of rows, or check that the one there is equal.

    Raises:
        CacheMismatchError: the folder was made with another config.
    """
    wanted = canonical_json(config)
    path = folder / "config.json"
    if not path.exists():
        make_folder(folder)
        _write_json(path, config)
    elif canonical_json(_read_json(path)) != wanted:
        raise CacheMismatchError(
            f"{folder} was made with another config, see its config.json: delete that folder, or "
            "choose another with --cache"
        )


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    write_atomic(path, f"{text}\n".encode())


def _short_json(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _read_json(path: Path) -> dict[str, Any]:
    fix = "run cropfirst verify DATA --repair"
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise CacheCorruptError(f"{path} is not readable as JSON ({error}): {fix}") from error
    if not isinstance(value, dict):
        raise CacheCorruptError(f"{path} holds no JSON object: {fix}")
    return value
