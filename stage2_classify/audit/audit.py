"""`cli.py audit`: how much do runs lean on the background, and is there a shortcut to learn at all?

After Xiao et al., "Noise or signal: the role of image backgrounds in object recognition", ICLR
2021. Whole photos come from a reader that is handed in: stage 2 opens none itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cropfirst.cache import Cache
from cropfirst.cache.tables import write_table
from cropfirst.core.bootstrap import Interval
from cropfirst.core.device import resolve_device
from cropfirst.stage2_classify.audit.answers import FORMAT, Answers, Plan, ask
from cropfirst.stage2_classify.audit.backgrounds import PhotoReader, Rooms, enter_rooms
from cropfirst.stage2_classify.audit.pictures import (
    LABELS,
    Picture,
    as_json,
    cam_sheet,
    gap_chart,
    variant_sheets,
)
from cropfirst.stage2_classify.audit.probe import Probe, probe
from cropfirst.stage2_classify.audit.runs import AuditRun, open_runs, pick_keys
from cropfirst.stage2_classify.audit.scores import TaskAudit, score_task
from cropfirst.stage2_classify.audit.variants import VARIANTS, pick_donors
from cropfirst.stage2_classify.metrics.scores import macro_f1
from cropfirst.stage2_classify.progress import count_bar, say
from cropfirst.stage2_classify.runs.checkpoint import write_json

_COLUMN_WIDTH = 28
CAM_PHOTOS = 120
"""Photos that Grad-CAM looks at, of as many persons as there are."""


@dataclass(frozen=True)
class Audit:
    """What was found out, and where it is."""

    path: Path
    """audit.json."""
    runs: tuple[tuple[AuditRun, TaskAudit], ...]
    probes: tuple[Probe, ...]
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...]


def audit(
    paths: Sequence[Path],
    cache: Cache,
    reader: PhotoReader,
    *,
    out_dir: Path,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    batch_size: int = 64,
    checkpoint: str = "best_f1",
    console: Console | None = None,
) -> Audit:
    """Audit runs on the same changed photos, each photo by the fold that has not seen its person.

    Args:
        paths: run directories, or directories of runs.
        cache: with the crop sets that they were trained on.
        reader: of whole photos.
        out_dir: gets audit.json, audit.parquet, PNGs, and the answers so far.
        limit: photos, of whole persons; None takes all.

    Raises:
        TrainError: no runs, none finished, of different schemas, or of one person.
        DataError: the photos are gone.
        CacheError: crops are not in the cache.
    """
    started = time.perf_counter()
    where = resolve_device(device)
    runs = open_runs(paths, cache, checkpoint=checkpoint)
    keys = [k for k in pick_keys(runs, limit=limit, seed=seed) if any(k in r.rows for r in runs)]
    rows = {key: row for run in reversed(runs) for key, row in run.rows.items()}
    out_dir.mkdir(parents=True, exist_ok=True)
    with count_bar(console, "ETA") as bar:
        task = bar.add_task("photos", total=len(keys))
        rooms = enter_rooms(keys, rows, reader, tick=lambda n: bar.advance(task, n))
        plan, probes = _plan(runs, rooms, seed=seed)
        total = sum(key in run.fold_of for run in runs for key in rooms.keys)
        task = bar.add_task("answers", total=total)
        answers = ask(
            runs, plan, reader, folder=out_dir / "answers", device=where, batch_size=batch_size,
            tick=lambda n: bar.advance(task, n),
        )  # fmt: skip
        seconds = time.perf_counter() - started
        audits = _score(runs, answers)
        task = bar.add_task("pictures", total=len(runs) + 1)
        pictures = [*gap_chart(out_dir, audits), *variant_sheets(runs, plan, reader, out_dir)]
        bar.advance(task)
        for run in runs:
            pictures += cam_sheet(run, plan, reader, out_dir, device=where)
            bar.advance(task)
    notes = _notes(runs, answers, rooms)
    done = Audit(
        out_dir / "audit.json", tuple(audits), tuple(probes), tuple(pictures), tuple(notes)
    )
    _write(done, out_dir, seconds=seconds / max(len(audits), 1))
    if console is not None:
        _print(done, console)
    return done


def _plan(runs: Sequence[AuditRun], rooms: Rooms, *, seed: int) -> tuple[Plan, list[Probe]]:
    """Whose room each photo gets, for each task; and what the rooms alone give away."""
    person_of = {key: person for run in reversed(runs) for key, person in run.person_of.items()}
    people = np.unique([person_of[key] for key in rooms.keys], return_inverse=True)[1]
    donors: dict[str, Mapping[str, npt.NDArray[np.int64]]] = {}
    probes = []
    for task in dict.fromkeys(task for run in runs for task in run.tasks):
        targets = {k: v for run in reversed(runs) for k, v in run.targets.get(task, {}).items()}
        has = np.array([n for n, key in enumerate(rooms.keys) if key in targets])
        codes = np.array([targets[rooms.keys[n]] for n in has])
        n_classes = runs[0].schema.num_classes(task)
        donors[task] = {}
        lent = pick_donors(codes, people[has], rooms.clean[has], n_classes=n_classes, seed=seed)
        for name, rows in lent.items():
            full = np.full(len(rooms.keys), -1, np.int64)
            full[has] = np.where(rows >= 0, has[rows], -1)
            donors[task] = {**donors[task], name: full}
        probes.append(probe(task, rooms.features[has], codes, people[has], n_classes=n_classes))
    place = {key: n for n, key in enumerate(rooms.keys)}
    return Plan(rooms, donors, _looked_at(rooms.keys, people, seed), place), probes


def _score(
    runs: Sequence[AuditRun], answers: Sequence[Answers]
) -> list[tuple[AuditRun, TaskAudit]]:
    """Every task of every run."""
    return [
        (
            run,
            score_task(
                each.table,
                task,
                n_classes=run.schema.num_classes(task),
                person_of=run.person_of,
                detected=run.detected,
            ),
        )
        for run, each in zip(runs, answers, strict=True)
        for task in run.tasks
    ]


def _looked_at(keys: Sequence[str], people: npt.NDArray[Any], seed: int) -> frozenset[str]:
    """CAM_PHOTOS keys: one of each person, then a second one, and so on."""
    order = np.random.default_rng(seed).permutation(len(keys))
    rank: dict[int, int] = {}
    ranked = []
    for index in order.tolist():
        turn = rank[int(people[index])] = rank.get(int(people[index]), -1) + 1
        ranked.append((turn, keys[index]))
    ranked.sort(key=lambda pair: pair[0])
    return frozenset(key for _, key in ranked[:CAM_PHOTOS])


def _notes(runs: Sequence[AuditRun], answers: Sequence[Answers], rooms: Rooms) -> list[str]:
    notes = [f"{run.name}: {a.note}" for run, a in zip(runs, answers, strict=True) if a.note]
    if rooms.n_gone:
        notes.append(
            f"{rooms.n_gone} photos were left out: they are gone, or changed since cli.py detect"
        )
    if rooms.n_unsegmented:
        notes.append(
            f"of {rooms.n_unsegmented} of {len(rooms.keys)} heads GrabCut made no segment; an "
            "ellipse was taken"
        )
    return notes


def _write(done: Audit, out_dir: Path, *, seconds: float) -> None:
    rows = [
        {
            "run": run.name,
            "task": each.task,
            "background": run.background,
            "backbone": run.backbone,
            "variant": name,
            "accuracy": score.accuracy,
            "macro_f1": score.macro_f1,
            "n_photos": score.n_photos,
        }
        for run, each in done.runs
        for name, score in each.variants.items()
    ]
    write_table(out_dir / "audit.parquet", pl.DataFrame(rows), kind="audit", version=FORMAT)
    data = {
        "format": FORMAT,
        "kind": "audit",
        "runs": [_run_json(run, each, seconds) for run, each in done.runs],
        "probe": [
            {
                "task": each.task,
                "macro_f1": each.macro_f1,
                "majority_macro_f1": each.majority_macro_f1,
                "low": each.low,
                "high": each.high,
            }
            for each in done.probes
        ],
        "pictures": as_json(done.pictures),
        "notes": list(done.notes),
    }
    write_json(done.path, data)


def _run_json(run: AuditRun, each: TaskAudit, seconds: float) -> dict[str, Any]:
    return {
        "name": run.name,
        "path": str(run.path),
        "task": each.task,
        "background": run.background,
        "crops": run.crops.name,
        "backbone": run.backbone,
        "n_people": each.n_people,
        "n_photos": each.n_photos,
        "variants": {
            name: {"accuracy": score.accuracy, "macro_f1": score.macro_f1}
            for name, score in each.variants.items()
        },
        **_interval("bg_gap", each.gap),
        **_interval("bg_gap_detected", each.gap_detected),
        **_interval("cam_inside", each.cam),
        "cam_area": each.cam_area,
        "out_of_fold_macro_f1": _oof_f1(run, each.task),
        "seconds": round(seconds, 3),
    }


def _interval(name: str, found: Interval | None) -> dict[str, float | None]:
    if found is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _oof_f1(run: AuditRun, task: str) -> float:
    """Of all its out-of-fold photos, not only of those audited."""
    preds = run.oof.probs[task].argmax(1)
    return macro_f1(run.oof.targets[task], preds, run.schema.num_classes(task))


def _print(done: Audit, console: Console) -> None:
    for task in dict.fromkeys(each.task for _, each in done.runs):
        found = next((each for each in done.probes if each.task == task), None)
        here = [(run, each) for run, each in done.runs if each.task == task]
        title = f"{task}: accuracy in %, out of fold"
        names = ("background", "OOF F1", *LABELS.values(), "BG-Gap, points", "CAM in face (area)")
        columns = [
            (
                run.name, run.background, f"{_oof_f1(run, task):.3f}",
                *(f"{100 * each.variants[name].accuracy:.1f}" for name in VARIANTS),
                _points(each.gap), _share(each),
            )
            for run, each in here
        ]  # fmt: skip
        _print_columns(console, title, ("run", *names), columns)
        if found is not None:
            say(
                console,
                f"  background alone tells {task} with macro F1 {found.macro_f1:.3f} "
                f"[{found.low:.3f}, {found.high:.3f}] (most frequent class: "
                f"{found.majority_macro_f1:.3f})",
            )
    for note in done.notes:
        say(console, note, style="dim")
    say(console, f"written: {done.path}, audit.parquet and {len(done.pictures)} pictures beside it")


def _print_columns(
    console: Console, title: str, names: Sequence[str], columns: Sequence[Sequence[str]]
) -> None:
    """A run a column, as many beside each other as the console has room for."""
    fit = max(1, (console.width - max(map(len, names)) - 4) // _COLUMN_WIDTH)
    for first in range(0, len(columns), fit):
        shown = columns[first : first + fit]
        table = Table(title=title, title_justify="left")
        table.add_column(names[0])
        for run, *_ in shown:
            table.add_column(Text(run, overflow="fold"), justify="right")
        for name, *values in zip(names[1:], *(each[1:] for each in shown), strict=True):
            table.add_row(name, *map(Text, values))
        console.print(table)


def _points(gap: Interval | None) -> str:
    if gap is None:
        return "-"
    return f"{100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"


def _share(each: TaskAudit) -> str:
    if each.cam is None or each.cam_area is None:
        return "-"
    return f"{each.cam.value:.2f} [{each.cam.low:.2f}, {each.cam.high:.2f}] ({each.cam_area:.2f})"
