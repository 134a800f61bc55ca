"""Checking and repairing runs on disk: hashes of weights and tables, formats, left-over files.

Reads bytes and JSON; builds no model. Knows nothing of crops.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cropfirst.core.errors import CropfirstError
from cropfirst.core.fingerprint import content_hash
from cropfirst.stage2_classify.runs.checkpoint import WEIGHTS_FILE, read_meta
from cropfirst.stage2_classify.runs.json_files import read_json
from cropfirst.stage2_classify.runs.parquet import read_parquet
from cropfirst.stage2_classify.runs.run_folder import RunFolder, check_format, run_lock
from cropfirst.stage2_classify.runs.run_paths import ALL, META_FILE
from cropfirst.stage2_classify.runs.soup import SOUP
from cropfirst.stage2_classify.runs.swapped_scores import SWAPPED_FILE


@dataclass(frozen=True)
class RunFinding:
    """One fault in a run's folder."""

    where: Path
    message: str
    owner: Path | None = None
    """Folder that is locked for the repair: of the fold, or of the run."""
    removes: Path | None = None
    """The file or folder that the repair removes; None = nothing."""
    harmless: bool = False
    """Whether it is only a left-over file: nothing needs to be trained again."""


def check_runs(runs_dir: Path) -> list[RunFinding]:
    """Check a run, or every run in a folder; of unfinished folds nothing is required."""
    findings: list[RunFinding] = []
    files = [*runs_dir.glob("run.json"), *runs_dir.glob("*/run.json")]
    for path in sorted(file.parent for file in files):
        findings += _check_run(path)
    return findings


def repair_runs(findings: list[RunFinding]) -> None:
    """Remove damaged folds, so that train repeats them, damaged soups, and what was left over.

    Raises:
        TrainError: a training is running there.
    """
    owners = {
        finding.removes: finding.owner
        for finding in findings
        if finding.removes is not None and finding.owner is not None
    }
    for path, owner in sorted(owners.items()):
        if owner != path and owner in owners:
            continue  # removed with its fold
        with run_lock(owner):
            _remove(path)
        if path == owner and path.name != ALL:
            # Of all folds, written after the last one.
            for name in ("oof.parquet", SWAPPED_FILE, "metrics.json"):
                (path.parent / name).unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _check_run(path: Path) -> list[RunFinding]:
    findings = _torn_files(path, sorted(path.glob("*.tmp")))
    try:
        check_format(read_json(path / "run.json"), path / "run.json")
        read_json(path / "schema.json")
        read_parquet(path / "folds.parquet")
        if (path / "oof.parquet").is_file():
            read_parquet(path / "oof.parquet")
            read_json(path / "metrics.json")
    except (CropfirstError, OSError) as error:
        findings.append(RunFinding(path, str(error)))
    run = RunFolder(path)
    for fold in sorted(item for item in path.glob("fold*") if item.is_dir()):
        findings += _check_fold(fold, finished=run.is_finished(_number(fold)))
    if run.all_data.is_dir():
        finished = (run.all_data / "metrics.json").is_file()
        findings += _check_fold(run.all_data, finished=finished)
    for soup in _checkpoints_in(path / SOUP):
        findings += _check_checkpoint(soup, owner=path, removes=soup)
    return findings


def _number(fold: Path) -> int:
    digits = fold.name.removeprefix("fold")
    return int(digits) if digits.isdigit() else -1


def _check_fold(fold: Path, *, finished: bool) -> list[RunFinding]:
    findings = _torn_files(fold, sorted(fold.rglob("*.tmp")))
    if not finished:
        return findings
    state = fold / "state"
    if state.is_dir():
        text = "what the fold would have resumed from, and it is finished"
        findings.append(RunFinding(state, text, fold, state, harmless=True))
    required = {fold / "last"}
    try:
        best = read_json(fold / "metrics.json").get("best", {})
        if fold.name != ALL:
            required |= {fold / f"best_{name}" for name in ("f1", *best)}
            read_parquet(fold / "oof.parquet")
    except (CropfirstError, OSError) as error:
        findings.append(RunFinding(fold, str(error), fold, fold))
    if (swapped := fold / SWAPPED_FILE).is_file():
        try:
            read_parquet(swapped)
        except (CropfirstError, OSError) as error:  # made again by the next train
            findings.append(RunFinding(swapped, str(error), fold, swapped))
    for folder in sorted(required.union(_checkpoints_in(fold))):
        # A soup is made again by `ensemble`; all else only by training.
        removes = folder if folder.name == SOUP else fold
        findings += _check_checkpoint(folder, owner=fold, removes=removes)
    return findings


def _torn_files(owner: Path, files: Sequence[Path]) -> list[RunFinding]:
    text = "half-written, left by a process that was killed"
    return [RunFinding(file, text, owner, file, harmless=True) for file in files]


def _checkpoints_in(folder: Path) -> set[Path]:
    """Return the checkpoint folders in a folder, also those that lack one of their files."""
    return {path.parent for name in (META_FILE, WEIGHTS_FILE) for path in folder.glob(f"*/{name}")}


def _check_checkpoint(folder: Path, *, owner: Path, removes: Path) -> list[RunFinding]:
    path = folder / WEIGHTS_FILE
    try:
        meta = read_meta(folder)
        if content_hash(path.read_bytes()) == meta.get("weights_hash"):
            return []
        text = f"{path} is not as it was written, its hash differs"
    except (CropfirstError, OSError) as error:
        text = str(error)
    return [RunFinding(folder, text, owner, removes)]
