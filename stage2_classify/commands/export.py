"""`export`: a bundle from trained runs, or the check of one. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cropfirst.configs.options import path_option
from cropfirst.core.console import say
from cropfirst.core.text import count_of
from cropfirst.stage2_classify.commands.workspace import (
    cache_option,
    layout_option,
    open_workspace,
)

if TYPE_CHECKING:
    from cropfirst.door.manifest import TaskEntry
    from cropfirst.stage2_classify.commands.bundle.write import Exported, Plan

NO_FOLDER = Path("--check")
"""Value of --check where no folder follows it."""


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path), metavar="[RUN]...")
@path_option("--to", metavar="DIR", help="Folder of the bundle, which must not exist.")
@path_option(
    "--check", is_flag=False, flag_value=NO_FOLDER,
    help="Check a bundle on its golden photos; needs no RUN.",
)  # fmt: skip
@click.option(
    "--tasks", metavar="NAMES", default="",
    help="Tasks of the bundle, with commas.  [default: mask alone, or the only task]",
)  # fmt: skip
@click.option(
    "--fold", type=click.IntRange(min=0), metavar="K", help="Take the network of this fold."
)
@click.option("--all-data", is_flag=True, help="Take the network of all photos.")
@click.option("--soup", is_flag=True, help="Take the mean of the weights of all folds.")
@click.option(
    "--members", type=click.IntRange(min=2), metavar="N",
    help="Take this many folds, which vote: N times the time of one.",
)  # fmt: skip
@click.option(
    "--checkpoint", type=click.Choice(["best_f1", "best_accuracy", "best_loss", "last"]),
    default="best_f1", show_default=True, help="Checkpoint of each fold.",
)  # fmt: skip
@path_option(
    "--ensemble", metavar="FILE",
    help="File that says how the networks vote; none = all with equal weights.  "
    "[default: WORK/ensemble/ensemble.json, if it is for exactly these networks]",
)  # fmt: skip
@click.option(
    "--int8", is_flag=True,
    help="Run the classifiers in 8-bit integers: smaller and faster, if next to nothing is lost.",
)  # fmt: skip
@path_option(
    "--web", metavar="DIR",
    help="Write a page that runs the bundle in the browser; also with --check.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the bundle in --to, and the page in --web.")
@path_option(
    "--data", help="Folder of the photos.  [default: those that the crop cache was made from]"
)
@layout_option
@path_option("--work", help="Folder of all results.  [default: the one above RUN with a cache]")
@cache_option
def export(
    runs: Sequence[Path], to: Path | None, check: Path | None, tasks: str, ensemble: Path | None,
    web: Path | None, int8: bool, force: bool, data: Path | None, layout: str | None,
    work: Path | None, cache_dir: Path | None, **nets_of: Any,
) -> None:  # fmt: skip
    """Write a bundle that runs without PyTorch, and check it.

    A bundle is one folder that answers photos without PyTorch (see docs/bundle.md). By default it
    has the best fold of each RUN and the task mask alone. It is written only if it answers as the
    runs do, on 200 crops and 50 photos of the data set. The tasks gender and age have to be named;
    race is never in a bundle. --check DIR compares the bundle there with its own golden photos.
    --web DIR adds a page for cameras and photos, which any static server hosts (see docs/door.md).
    """
    from rich.console import Console

    if check == NO_FOLDER:
        example = runs[0] if runs else "DIR"
        raise click.UsageError(f"wanted --check DIR: cropfirst export --check {example}")
    if check is not None:
        _check_bundle(check)
        if web is not None:
            _write_page(check, web, Console(), force=force)
        return
    if not runs or to is None:
        raise click.UsageError("wanted RUN... and --to DIR, or --check DIR")
    from cropfirst.cache import Cache
    from cropfirst.stage2_classify.audit.runs import find_work
    from cropfirst.stage2_classify.commands.bundle.write import plan_bundle, write_bundle
    from cropfirst.stage2_classify.export.nets import NetChoice, find_nets

    choice = NetChoice(**nets_of)
    nets = [find_nets(run, choice) for run in runs]
    folder = work or find_work(runs)
    place = cache_dir or folder / "cache"
    cache = Cache.open(place)
    root = data or cache.data_root
    if root is None:
        raise click.UsageError(f"the cache in {place} does not know the photos: give --data")
    workspace = open_workspace(root, layout=layout, work=folder, cache_dir=place)
    equal = ensemble is not None and str(ensemble) == "none"
    plan = plan_bundle(
        nets, cache, tasks=[name.strip() for name in tasks.split(",") if name.strip()],
        ensemble=None if equal else ensemble,
        default_ensemble=None if equal else folder / "ensemble" / "ensemble.json",
    )  # fmt: skip
    if web is not None:
        from cropfirst.door.web.folder import check_background, check_target

        check_background(plan.config.crop.background)
        check_target(web, force=force)
    done = write_bundle(
        plan, workspace.photos, to, work=folder, int8=int8, force=force, about=_about(plan)
    )
    _print_exported(done, plan, workspace.console)
    if web is not None:
        _write_page(to, web, workspace.console, force=force)


def _check_bundle(folder: Path) -> None:
    """Check a bundle on its golden photos."""
    from rich.console import Console

    from cropfirst.door.bundle import Bundle
    from cropfirst.door.check import check_golden

    found = check_golden(Bundle.open(folder), folder)
    if found.problems:
        raise click.ClickException(f"{folder} {found}")
    say(Console(), f"{folder} {found}")


def _write_page(bundle: Path, web: Path, console: Any, *, force: bool) -> None:
    """Write the page of a bundle, and say how to look at it."""
    from cropfirst.door.web.folder import write_page

    page = write_page(bundle, web, force=force)
    say(
        console,
        f"page: {page}; to see it: python -m http.server --directory {web} --bind 127.0.0.1",
    )


def _about(plan: Plan) -> dict[str, Any]:
    """Return the runs, networks and scores of a bundle, for people to read."""
    from cropfirst.stage2_classify.export.nets import scores_of

    return {
        "runs": [
            {
                "run": each.run.resolve().name,
                "networks": each.note,
                "held_out": each.held_out,
                "scores": {task: _score(scores_of(each.run, task)) for task in plan.tasks},
            }
            for each in plan.nets
        ],
        "crops": plan.crops.name,
        "votes": plan.voting.note,
    }


def _score(score: dict[str, Any]) -> dict[str, Any]:
    """Return macro F1 out of fold, and in swapped rooms; null where it is not known."""
    swapped = score.get("swapped") or {}
    return {
        "out_of_fold_macro_f1": score.get("macro_f1"),
        "swapped_rooms_macro_f1": swapped.get("macro_f1"),
    }


def _shown(score: dict[str, Any]) -> str:
    """Return a score as text, with that in swapped rooms beside it."""
    from cropfirst.stage2_classify.runs.swapped_scores import UNCHECKED

    own, swapped = score["out_of_fold_macro_f1"], score["swapped_rooms_macro_f1"]
    rooms = UNCHECKED if swapped is None else f"{swapped:.4f}"
    return (
        f"macro F1 out of fold {'unknown' if own is None else f'{own:.4f}'}, in swapped rooms "
        f"{'unknown: ' if swapped is None else ''}{rooms}"
    )


def _sets_of(task: TaskEntry) -> str:
    """Return what decides which classes of a task are possible, as text."""
    if task.sets is None:
        return "the most probable one alone, since it is not calibrated (cropfirst calibrate)"
    return f"at error rate {task.sets['alpha']:g}, calibration: {task.sets['source']}"


def _print_exported(done: Exported, plan: Plan, console: Any) -> None:
    from rich.table import Table

    manifest, parity = done.manifest, done.parity
    for net in plan.nets:
        say(console, f"network: {net.run.resolve().name}, {net.note}")
    for name, task in manifest.tasks.items():
        say(console, f"task: {name} ({', '.join(task.classes)})")
        say(console, f"  possible classes: {_sets_of(task)}")
        for run in manifest.about["runs"]:
            say(console, f"  {run['run']}: {_shown(run['scores'][name])}")
    crop = manifest.crop
    say(console, f"crops: {crop.background}, {crop.image_size} px, margin {crop.margin:g}")
    say(console, f"votes: {plan.voting.note}")
    table = Table(title="the bundle against its run")
    for title in ("compared", "number", "boxes (IoU)", "crops", "probabilities", "classes"):
        table.add_column(title)
    table.add_row("crops of the cache", str(parity.n_crops), "", "",
                  f"{parity.crop_probability:.1g}", "equal")  # fmt: skip
    for title, each in (("photos", parity.photos), ("golden photos", parity.golden)):
        pixels = f"{parity.equal_pixels:.2%}" if title == "photos" else ""
        table.add_row(
            title, f"{each.photos}, {count_of(each.faces, 'face')}", f"{each.worst_iou:.4f}",
            pixels, f"{each.worst_probability:.1g}", "equal",
        )  # fmt: skip
    console.print(table)
    for each in manifest.about.get("int8", {}).get("tasks", {}).values():
        say(
            console,
            f"int8: {each['task']} macro F1 {each['int8_macro_f1']:.4f}, with floats "
            f"{each['macro_f1']:.4f}; the same class for {each['equal']:.2%}",
        )
    say(console, f"bundle: {done.folder} ({done.n_bytes / 2**20:.1f} MiB)")
