"""Checking and repairing runs on disk: hashes of weights and tables, formats, left-over files.

Reads bytes and JSON; builds no model. Knows nothing of crops.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from cropfirst.core.errors import CropfirstError
from cropfirst.core.fingerprint import content_hash
from cropfirst.stage2_classify.runs.checkpoint import WEIGHTS_FILE, read_meta
from cropfirst.stage2_classify.runs.json_files import read_json
from cropfirst.stage2_classify.runs.parquet import read_parquet
from cropfirst.stage2_classify.runs.run_folder import RunFolder, check_format, write_lock

CHECKPOINTS = ("best_f1", "last")


@dataclass(frozen=True)
class RunFinding:
    """One fault in a run's folder."""

    where: Path
    message: str
    fold: Path | None
    """Folder of the fold; None for the run itself."""
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
    """Remove damaged folds, so that train repeats them, and files left by killed processes.

    Raises:
        TrainError: a training is running there.
    """
    for finding in findings:
        if finding.fold is not None and finding.harmless and finding.where.exists():
            with write_lock(finding.fold):
                _remove(finding.where)
    damaged = {finding.fold for finding in findings if not finding.harmless}
    for fold in sorted(fold for fold in damaged if fold is not None):
        with write_lock(fold):
            shutil.rmtree(fold)
        for name in ("oof.parquet", "metrics.json"):  # of all folds: written when the last ends
            (fold.parent / name).unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _check_run(path: Path) -> list[RunFinding]:
    findings = []
    try:
        check_format(read_json(path / "run.json"), path / "run.json")
        read_json(path / "schema.json")
        read_parquet(path / "folds.parquet")
        if (path / "oof.parquet").is_file():
            read_parquet(path / "oof.parquet")
            read_json(path / "metrics.json")
    except (CropfirstError, OSError) as error:
        findings.append(RunFinding(path, str(error), None))
    for fold in sorted(item for item in path.glob("fold*") if item.is_dir()):
        findings += _check_fold(fold, finished=RunFolder(path).is_finished(_number(fold)))
    return findings


def _number(fold: Path) -> int:
    digits = fold.name.removeprefix("fold")
    return int(digits) if digits.isdigit() else -1


def _check_fold(fold: Path, *, finished: bool) -> list[RunFinding]:
    text = "half-written, left by a process that was killed"
    findings = [RunFinding(torn, text, None, harmless=True) for torn in sorted(fold.rglob("*.tmp"))]
    if not finished:
        return findings
    if (fold / "state").is_dir():
        text = "what the fold would have resumed from, and it is finished"
        findings.append(RunFinding(fold / "state", text, fold, harmless=True))
    try:
        read_parquet(fold / "oof.parquet")
        read_json(fold / "metrics.json")
        for name in CHECKPOINTS:
            _check_checkpoint(fold / name)
    except (CropfirstError, OSError) as error:
        findings.append(RunFinding(fold, str(error), fold))
    return findings


def _check_checkpoint(folder: Path) -> None:
    meta = read_meta(folder)
    if content_hash((folder / WEIGHTS_FILE).read_bytes()) != meta.get("weights_hash"):
        raise CropfirstError(f"{folder / WEIGHTS_FILE} is not as it was written, its hash differs")
