"""`calibrate`: sets of classes that miss the true one at a chosen error rate. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from cropfirst.configs.options import path_option
from cropfirst.stage2_classify.commands.workspace import (
    batch_size_option,
    device_option,
    layout_option,
    open_workspace,
)


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@path_option(
    "--data", metavar="HELD_OUT",
    help="Data set of people that no run was trained on, with labels and crops.  "
    "[default: the runs' own people, out of fold]",
)  # fmt: skip
@click.option(
    "--alpha", "alphas", multiple=True, metavar="RATE", default=(0.1,), show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Error rate: how often the true class may be missing (repeatable).",
)  # fmt: skip
@click.option("--tasks", metavar="NAMES", help="Tasks to calibrate, with commas.  [default: all]")
@path_option(
    "--ensemble", metavar="FILE",
    help="ensemble.json of these runs, which gets the calibration; made where there is none.  "
    "[default: WORK/ensemble/ensemble.json]",
)  # fmt: skip
@click.option(
    "--check", is_flag=True,
    help="Write nothing: score the calibration that there is on the people of HELD_OUT, without "
    "those who calibrated.",
)  # fmt: skip
@layout_option
@path_option(
    "--cache", "cache_dir", help="Crop cache of HELD_OUT.  [default: work/HELD_OUT's name/cache]"
)
@device_option
@batch_size_option
def calibrate(
    runs: Sequence[Path], data: Path | None, alphas: Sequence[float], tasks: str | None,
    ensemble: Path | None, check: bool, layout: str | None, cache_dir: Path | None, device: str,
    batch_size: int,
) -> None:  # fmt: skip
    """Calibrate when a class is possible, and a face unknown.

    For a chosen error rate, finds sets of classes that miss the true one no more often. RUN is a
    run, a folder of runs, or a fold, as predict takes them. Prints how often the sets contain the
    true class and how often they have one class alone, for each class and slice, and writes the
    limits into ensemble.json; predict --alpha uses them. An error rate needs enough people of each
    class: 0.01 needs 99.
    """
    from rich.console import Console

    from cropfirst.stage2_classify.calibrate.check import check_calibration
    from cropfirst.stage2_classify.calibrate.held_out import HeldOut
    from cropfirst.stage2_classify.calibrate.run import calibrate as run_calibrate
    from cropfirst.stage2_classify.commands.detect_settings import detect_defaults
    from cropfirst.stage2_classify.predict.ensemble_file import ensemble_beside

    path = ensemble or ensemble_beside(runs)
    if path is None:
        raise click.UsageError("the runs are not in one folder: say where with --ensemble FILE")
    held_out, console = None, Console()
    if data is not None:
        workspace = open_workspace(data, layout=layout, cache_dir=cache_dir, console=console)
        held_out = HeldOut(
            workspace.photos, workspace.open_cache(), device, batch_size, detect_defaults()
        )
    names = None if tasks is None else [name.strip() for name in tasks.split(",")]
    if not check:
        run_calibrate(runs, path=path, alphas=alphas, tasks=names, data=held_out, console=console)
    elif held_out is None:
        raise click.UsageError("--check needs people to check with: --data HELD_OUT")
    else:
        check_calibration(
            runs, path=path, alphas=alphas, tasks=names, data=held_out, console=console
        )
