"""`report`: one HTML page about some runs. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from cropfirst.configs.options import path_option
from cropfirst.core.console import say
from cropfirst.stage2_classify.commands.workspace import (
    cache_option,
    corrections_option,
    device_option,
    layout_option,
    open_workspace,
)


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@path_option(
    "--data", help="Folder of the photos.  [default: those that the crop cache was made from]"
)
@layout_option
@corrections_option
@path_option("--work", help="Folder of all results.  [default: the one above RUN with a cache]")
@cache_option
@device_option
@click.option("--cam/--no-cam", default=True, show_default=True, help="Include Grad-CAM pictures.")
@path_option("--out", metavar="FILE", help="HTML page to write.  [default: WORK/report.html]")
def report(
    runs: Sequence[Path], data: Path | None, layout: str | None, corrections: str | None,
    work: Path | None, cache_dir: Path | None, device: str, cam: bool, out: Path | None,
) -> None:  # fmt: skip
    """Write one HTML page about some runs.

    The file needs no other file and no network. It says what was trained on what, and shows scores
    with intervals, learning curves, confusion matrices, the worst slices, the most confident
    mistakes, Grad-CAM, crops and a model card; and what audit, ensemble, relabel and eda have
    written, where they have.
    """
    from cropfirst.cache import Cache
    from cropfirst.stage2_classify.audit.runs import find_work
    from cropfirst.stage2_classify.report.build import build_report

    folder = work or find_work(runs)
    place = cache_dir or folder / "cache"
    root = data or (Cache.open(place).data_root if place.is_dir() else None)
    if root is None:
        raise click.UsageError(f"there is no cache in {place} that knows the photos: give --data")
    workspace = open_workspace(
        root, layout=layout, corrections=corrections, work=folder, cache_dir=cache_dir
    )
    done = build_report(
        runs, photos=workspace.photos, work=folder, out=out or folder / "report.html",
        cache=workspace.open_cache_if_any(), cam=cam, device=device,
    )  # fmt: skip
    for why in done.absent:
        say(workspace.console, f"not in it: {why}")
    say(workspace.console, f"report: {done.path} ({done.n_bytes / 2**20:.1f} MiB)")
