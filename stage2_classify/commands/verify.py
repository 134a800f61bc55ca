"""`verify`: is everything on disk as it was written, and with --repair made so again. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cropfirst.core.console import say
from cropfirst.stage2_classify.commands.strata import class_strata
from cropfirst.stage2_classify.commands.workspace import (
    Workspace,
    data_options,
    device_option,
    open_workspace,
    photo_refs,
    runs_option,
)

if TYPE_CHECKING:
    from rich.console import Console

    from cropfirst.cache import Cache
    from cropfirst.cache.verify import FolderCheck
    from cropfirst.stage1_detect.config import DetectConfig


@click.command()
@data_options(runs_option, device_option)
@click.option("--repair", is_flag=True, help="Remove what is damaged, and write it again.")
def verify(runs: Sequence[Path], device: str, repair: bool, **data: Any) -> None:
    """Check the cache and the runs for damage, and repair them.

    Reads every row, crop and checkpoint, and prints what is not as it was written. With --repair,
    damaged rows and crops are removed, and their photos detected or cropped again; files that
    nothing refers to are removed. Damaged folds are removed too: `train` trains them again. The
    exit code is 1 if any damage remains.
    """
    workspace = open_workspace(**data)
    bad = _verify_cache(workspace, device, repair=repair)
    for runs_dir in workspace.find_runs(runs):
        bad += _verify_runs(runs_dir, workspace.console, repair=repair)
    if bad:
        way = "this cannot be repaired automatically" if repair else "run it again with --repair"
        raise click.ClickException(f"{bad} things are wrong: {way}")


def _verify_cache(workspace: Workspace, device: str, *, repair: bool) -> int:
    """Check the cache, repair it on demand, and return the number of faults that stay."""
    from cropfirst.cache.repair import open_damaged, repair_cache
    from cropfirst.cache.verify import check_cache, print_checks
    from cropfirst.core.device import resolve_device
    from cropfirst.stage1_detect.detect_photos import detect_photos

    path, console = workspace.cache_path, workspace.console
    cache = open_damaged(path, data_root=workspace.photos.root, repair=repair)
    keys = {sample.key for sample in workspace.photos.samples}
    with cache.lock_if_writable():
        checks = check_cache(path, keys=keys, root=cache.data_root)
        if repair:
            repair_cache(checks)
    bad = print_checks(checks, path, console)
    if not repair or not bad:
        return bad
    where = resolve_device(device)
    for config in _configs_of(cache, checks):
        say(console, f"again, what was taken out: {config.crop.background} crops")
        detect_photos(
            photo_refs(workspace.photos), cache, config, where, out=path.parent / "detect",
            console=console, strata=lambda: class_strata(workspace.photos),
        )  # fmt: skip
    with cache.lock_if_writable():
        return print_checks(check_cache(path, keys=keys, root=cache.data_root), path, console)


def _configs_of(cache: Cache, checks: Sequence[FolderCheck]) -> list[DetectConfig]:
    """Return the settings of every crop set that must be filled again."""
    from cropfirst.stage1_detect.crop_sets import config_made_with

    # A crop set that was made from damaged detections is filled again too, and with it its twin.
    lost = any(check.is_harmed for check in checks if check.kind == "detections")
    folders = {
        check.folder if check.kind == "crops" else check.folder.parents[1]: None
        for check in checks
        if check.kind in ("crops", "swapped") and (check.is_harmed or lost)
    }
    return [config_made_with(folder) for folder in folders]


def _verify_runs(runs_dir: Path, console: Console, *, repair: bool) -> int:
    """Check a folder of runs, repair it on demand, and return the number of faults that stay."""
    from cropfirst.stage2_classify.runs.verify import check_runs, repair_runs

    findings = check_runs(runs_dir)
    for finding in findings:
        say(console, f"  {finding.where}: {finding.message}")
    harmed = sum(not finding.harmless for finding in findings)
    say(console, f"{runs_dir}: {harmed} things are wrong, {len(findings) - harmed} left over")
    if repair and findings:
        repair_runs(findings)
        findings = check_runs(runs_dir)
        say(console, "  removed; run train again with the same settings where folds are gone")
    return sum(not finding.harmless for finding in findings)
