"""Check every row and every crop of a cache, and report what is damaged, wrong, missing or unused.

Changes nothing; repair.py removes what is found here. Knows rows and pixels; knows no photos.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from cropfirst.cache.cut_outs import CUT_OUTS, cut_out_id
from cropfirst.cache.encoding import digest_of
from cropfirst.cache.manifest import CROP_SCHEMA, DETECTION_SCHEMA, Manifest
from cropfirst.cache.row_check import Row, fault_of_crop, fault_of_detection, fault_of_swapped
from cropfirst.cache.scan import ShardScan, scan_cut_outs, scan_shard
from cropfirst.cache.store import shard_paths
from cropfirst.cache.swapped import SAME, SPLIT, SWAPPED
from cropfirst.core.console import say
from cropfirst.core.errors import CacheError
from cropfirst.core.fingerprint import fingerprint

HARMLESS = ("orphan", "unfinished")
"""Kinds of findings that make no result wrong: unused data, and work that the next detect does."""
FINDINGS_SHOWN = 10
"""Number of findings of one kind that are printed per folder."""
_DEPTHS = {"swapped": 3, "cut-outs": 0}
"""Kind of folder -> which of its parents is the cache, where that is not the second."""


@dataclass(frozen=True)
class Finding:
    """One fault of a cache."""

    kind: str
    """`damaged`: other bytes than were written; `wrong`: a row that cannot be true; `missing`: a
    row without its crop; `orphan`: unused data; `unfinished`: an interrupted run."""
    where: str
    """File or folder, relative to the cache."""
    message: str
    """Description of the fault."""
    key: str | None = None
    """Photo that it concerns, if it concerns a single one."""


@dataclass
class FolderCheck:
    """The findings in one folder of rows, and what a repair would remove."""

    folder: Path
    kind: str
    """`detections`, `crops`, `swapped` for a draw of a swapped twin, or `cut-outs`."""
    rows: int = 0
    """Number of rows."""
    crops: int = 0
    """Number of stored crops or cut-outs."""
    unseen: int = 0
    """Number of photos of the data set without a valid row."""
    findings: list[Finding] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    """Damaged files, and files that were not finished."""
    shards: list[Path] = field(default_factory=list)
    """Shards that cannot be read."""
    keys: set[str] = field(default_factory=set)
    """Photos whose rows are bad, or refer to a bad crop."""
    digests: dict[Path, list[bytes]] = field(default_factory=dict)
    """Per shard, the keys of stored crops that are bad, or that nothing refers to."""
    content: dict[str, str] = field(default_factory=dict)
    """Key -> content_hash of the valid rows."""
    promised: dict[str, str] = field(default_factory=dict)
    """Key -> crop_hash of the valid rows with a crop."""
    swappable: dict[str, Row] = field(default_factory=dict)
    """Key -> valid row with a crop, of the photos that a swapped twin is about."""

    @property
    def cache(self) -> Path:
        """The cache folder."""
        return self.folder.parents[_DEPTHS.get(self.kind, 1)]

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """Columns of the folder's rows."""
        return DETECTION_SCHEMA if self.kind == "detections" else CROP_SCHEMA

    @property
    def manifest(self) -> Manifest:
        """The folder's rows."""
        kind = "detections" if self.kind == "detections" else "crops"
        return Manifest(self.folder, self.schema, kind=kind)

    @property
    def is_harmed(self) -> bool:
        """Whether any finding is not harmless."""
        return any(finding.kind not in HARMLESS for finding in self.findings)

    def add(
        self, kind: str, message: str, *, key: str | None = None, file: Path | None = None
    ) -> None:
        """Add a finding."""
        place = self.folder if file is None else file
        where = place.relative_to(self.cache).as_posix()
        self.findings.append(Finding(kind, where, message, key))


@dataclass(frozen=True)
class _Photos:
    """The photos that rows may be of."""

    keys: frozenset[str]
    """The keys of the data set."""
    root: Path | None

    def has(self, key: str) -> bool:
        return key in self.keys or (self.root is not None and (self.root / key).is_file())


def check_cache(
    path: Path, *, keys: Collection[str] | None = None, root: Path | None = None
) -> list[FolderCheck]:
    """Check all detections and all crop sets of a cache.

    Args:
        path: the cache folder; hold its lock, or the open batch of a writer is reported.
        keys: photos of the data set; rows of photos that are neither among them nor on disk are
            orphans. None accepts every key.
        root: folder that keys are relative to; None counts no photo as on disk.
    """
    known = None if keys is None else _Photos(frozenset(keys), root)
    detections = [
        _check(folder, "detections", fault_of_detection, known)
        for folder in _folders(path / "detections")
    ]
    by_name = {check.folder.name: check for check in detections}
    crops = []
    rows: list[Row] = []
    for folder in _folders(path / "crops"):
        check = _check(folder, "crops", fault_of_crop, known)
        config = _read_config(folder)
        behind = by_name.get(fingerprint(config.get("detection")))
        _check_against_detections(check, {} if behind is None else behind.content)
        _check_crops(check, config)
        crops.append(check)
        crops += [_check_draw(each, check, config) for each in _folders(folder / SWAPPED)]
        rows += check.swappable.values()
    stored = [_check_cut_outs(path / CUT_OUTS, rows)] if (path / CUT_OUTS).is_dir() else []
    return [*detections, *crops, *stored]


def _folders(path: Path) -> list[Path]:
    return sorted(item for item in path.iterdir() if item.is_dir()) if path.is_dir() else []


def _check(
    folder: Path,
    kind: str,
    fault_of: Callable[[Mapping[str, Any]], str | None],
    photos: _Photos | None,
) -> FolderCheck:
    """Check the files and rows of one folder."""
    check = FolderCheck(folder, kind)
    for torn in sorted((*folder.glob("*.tmp"), *(folder / "parts").glob("*.tmp"))):
        check.files.append(torn)
        check.add("orphan", "half-written, left by a process that was killed", file=torn)
    _check_config(check)
    check.unseen = 0 if photos is None else len(photos.keys)
    gone = []
    for row in _read_good_rows(check).iter_rows(named=True):
        check.rows += 1
        fault = fault_of(row)
        if fault is not None:
            check.keys.add(row["key"])
            check.add("wrong", fault, key=row["key"])
        else:
            if photos is not None and not photos.has(row["key"]):
                gone.append(row["key"])
            check.content[row["key"]] = row["content_hash"]
            check.unseen -= photos is not None and row["key"] in photos.keys
            if row.get("crop_hash") is not None:
                check.promised[row["key"]] = row["crop_hash"]
                if row["split"] == SPLIT:
                    check.swappable[row["key"]] = row
    _add_gone(check, gone)
    return check


def _add_gone(check: FolderCheck, gone: Sequence[str]) -> None:
    """Add the rows of photos that are gone: to be removed, unless they are most of them."""
    if len(gone) > check.rows / 2:
        check.add(
            "orphan",
            f"{len(gone)} of {check.rows} rows are of photos that are gone, such as {gone[0]}: "
            "they are kept, since a disk may not be mounted",
        )
        return
    for key in gone:
        check.keys.add(key)
        del check.content[key]
        check.promised.pop(key, None)
        check.swappable.pop(key, None)
        check.add("orphan", "a row of a photo that is gone", key=key)


def _check_draw(folder: Path, crops: FolderCheck, crops_config: Mapping[str, Any]) -> FolderCheck:
    """Check a draw of a swapped twin, and whether its rows are of the crop set as it is now."""
    photos = _Photos(frozenset(crops.swappable), None)
    check = _check(folder, "swapped", fault_of_swapped, photos)
    config = _read_config(folder)
    own = {name: value for name, value in config.items() if name != SWAPPED}
    if config and own != crops_config:
        check.files.append(folder / "config.json")
        check.add("damaged", "not the config of its crop set", file=folder / "config.json")
    _check_crops(check, crops_config)
    for row in _read_good_rows(FolderCheck(folder, "swapped")).iter_rows(named=True):
        current = crops.swappable.get(row["key"])
        if current is not None and any(row[name] != current[name] for name in SAME):
            text = "of a crop that was made again: the next detect goes on"
            check.add("unfinished", text, key=row["key"])
    return check


def _check_cut_outs(folder: Path, rows: Sequence[Row]) -> FolderCheck:
    """Check the stored cut-outs, and whether a crop row needs each."""
    check = FolderCheck(folder, "cut-outs")
    if not (folder / "data.mdb").is_file():
        return check
    scan = scan_cut_outs(folder)
    if scan.fault is not None:
        check.shards.append(folder)
        check.add("damaged", f"cannot be read: {scan.fault}", file=folder)
        return check
    needed = {cut_out_id(row).encode() for row in rows}
    check.crops = len(scan.records)
    bad = [name for name, record in scan.records.items() if record.fault]
    unused = [name for name in scan.records if name not in needed]
    if bad:
        check.add("damaged", f"{len(bad)} cut-outs are not as they were written", file=folder)
    if unused:
        check.add("orphan", f"{len(unused)} cut-outs of photos or faces that are gone", file=folder)
    if bad or unused:
        check.digests[folder] = sorted({*bad, *unused})
    return check


def _read_good_rows(check: FolderCheck) -> pl.DataFrame:
    """Return the rows of all readable files, the newest per key, and report the other files."""
    manifest = check.manifest
    frames = [pl.DataFrame(schema=manifest.schema)]
    for file in manifest.files():
        try:
            frames.append(manifest.decode(file.read_bytes(), file))
        except (CacheError, OSError) as error:
            check.files.append(file)
            check.add("damaged", f"rows are lost: {error}", file=file)
    return pl.concat(frames).unique("key", keep="last", maintain_order=True)


def _check_config(check: FolderCheck) -> None:
    """Check that the folder is named after its config."""
    file = check.folder / "config.json"
    if not file.is_file():
        check.add("unfinished", "has no config.json: it was being made when a process died")
        return
    config = _read_config(check.folder)
    name = fingerprint(config)
    if check.kind == "swapped":
        return
    if check.folder.name != name and not check.folder.name.endswith(f"-{name[:8]}"):
        check.files.append(file)
        check.add("damaged", "not the config that the folder is named after", file=file)


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _check_against_detections(check: FolderCheck, content: Mapping[str, str]) -> None:
    """Check that each crop is of the photo that its detection was made on."""
    for key, digest in check.content.items():
        if content.get(key) != digest:
            text = "ahead of its detection" if key not in content else "of another detection"
            check.add("unfinished", f"the crop's row is {text}: the next detect goes on", key=key)


def _check_crops(check: FolderCheck, config: Mapping[str, Any]) -> None:
    """Check that every row has the crop that it names, and every crop a row."""
    side = dict(config.get("crop") or {}).get("image_size")
    scans = list(_scan(check))
    owners = {digest_of(key): key for key in check.promised}
    for scan in scans:
        check.crops += len(scan.records)
        stray = [digest for digest in scan.records if digest not in owners]
        if stray:
            check.digests[scan.folder] = stray
            check.add("orphan", f"{len(stray)} crops without a row", file=scan.folder)
    for digest, key in owners.items():
        found = [(scan, scan.records[digest]) for scan in scans if digest in scan.records]
        wanted = check.promised[key]
        good = [record for _, record in found if record.crop_hash == wanted and record.shape]
        if not good:
            places = [(scan.folder, digest, record.fault) for scan, record in found]
            _add_bad_crop(check, key, places)
        elif side and any(record.shape != (side, side) for record in good):
            check.keys.add(key)
            check.add("wrong", f"the crop is {good[0].shape}, wanted {side}x{side}", key=key)


def _add_bad_crop(check: FolderCheck, key: str, found: list[tuple[Path, bytes, str]]) -> None:
    check.keys.add(key)
    for shard, digest, _ in found:
        check.digests.setdefault(shard, []).append(digest)
    if found:
        reason = found[0][2] or "its hash is not the one in its row"
        check.add("damaged", f"the crop is not as it was written: {reason}", key=key)
    else:
        check.add("missing", "the row's crop is not there", key=key)


def _scan(check: FolderCheck) -> Iterator[ShardScan]:
    for shard in shard_paths(check.folder):
        scan = scan_shard(shard)
        if scan.fault is None:
            yield scan
        else:
            check.shards.append(shard)
            check.add("damaged", f"cannot be read: {scan.fault}", file=shard)


def print_checks(checks: Sequence[FolderCheck], cache: Path, console: Console) -> int:
    """Print a line per folder and the first findings; return the number that is not harmless."""
    for check in checks:
        place = check.folder.relative_to(cache).as_posix()
        crops = f", {check.crops} crops" if check.kind in ("crops", "swapped") else ""
        counts = Counter(finding.kind for finding in check.findings)
        text = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "all well"
        held = f"{check.crops} cut-outs" if check.kind == "cut-outs" else f"{check.rows} rows"
        say(console, f"{place}: {held}{crops}: {text}")
        if check.unseen:
            whose = "train photos" if check.kind == "swapped" else "photos of the data set"
            say(console, f"  {check.unseen} {whose} have no row yet: run detect")
        for kind in sorted(counts):
            findings = [finding for finding in check.findings if finding.kind == kind]
            for each in findings[:FINDINGS_SHOWN]:
                say(console, f"  {kind}: {each.key or each.where}: {each.message}")
            if len(findings) > FINDINGS_SHOWN:
                say(console, f"  and {len(findings) - FINDINGS_SHOWN} more of this kind")
    return sum(finding.kind not in HARMLESS for check in checks for finding in check.findings)
