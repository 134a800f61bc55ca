"""The audit command: how much do runs lean on the background?

After Xiao et al., "Noise or signal: the role of image backgrounds in object recognition", ICLR
2021. Whole photos come from a reader that is handed in: stage 2 opens none itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cropfirst.cache import Cache
from cropfirst.core.device import resolve_device
from cropfirst.core.files import mark_output
from cropfirst.stage2_classify.audit.answers import RunAnswers, collect_answers
from cropfirst.stage2_classify.audit.backgrounds import (
    Backgrounds,
    PhotoReader,
    collect_backgrounds,
)
from cropfirst.stage2_classify.audit.output import Audit, print_audit, write_audit
from cropfirst.stage2_classify.audit.pictures import draw_gaps, draw_variants
from cropfirst.stage2_classify.audit.plan import make_plan
from cropfirst.stage2_classify.audit.runs import (
    AuditRun,
    compare_oof_with_chance,
    open_runs,
    pick_keys,
)
from cropfirst.stage2_classify.audit.scores import TaskAudit, score_task
from cropfirst.stage2_classify.progress import count_bar


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
    console: Console | None = None,
) -> Audit:
    """Audit runs on the same changed photos, each photo by the fold that has not seen its person.

    Args:
        paths: run directories, or directories of runs.
        cache: with the crop sets that they were trained on.
        reader: of whole photos.
        out_dir: gets audit.json, audit.parquet, PNGs, and the answers so far.
        limit: number of photos, of whole persons; None takes all.
        seed: of the choice of photos and of donors.
        device: where the models run.
        batch_size: crops that are predicted at once.
        console: gets tables and a progress bar.

    Raises:
        TrainError: no runs, none finished, of different schemas, or of one person.
        DataError: the photos are gone.
        CacheError: crops are not in the cache.
    """
    started = time.perf_counter()
    where = resolve_device(device)
    runs = open_runs(paths, cache)
    rows = {key: row for run in reversed(runs) for key, row in run.rows.items()}
    keys = [key for key in pick_keys(runs, limit=limit, seed=seed) if key in rows]
    mark_output(out_dir)
    with count_bar(console, "ETA") as bar:
        task = bar.add_task("photos", total=len(keys))
        backgrounds = collect_backgrounds(keys, rows, reader, tick=lambda n: bar.advance(task, n))
        plan, probes = make_plan(runs, backgrounds, seed=seed)
        total = sum(key in run.fold_of for run in runs for key in backgrounds.keys)
        task = bar.add_task("answers", total=total)
        answers = collect_answers(
            runs, plan, reader, folder=out_dir / "answers", device=where, batch_size=batch_size,
            tick=lambda n: bar.advance(task, n),
        )  # fmt: skip
    found = tuple(_score(runs, answers))
    seconds = (time.perf_counter() - started) / max(len(found), 1)
    pictures = [*draw_gaps(out_dir, found), *draw_variants(out_dir, runs, plan, reader)]
    notes = _notes(runs, answers, backgrounds)
    done = Audit(out_dir / "audit.json", found, tuple(probes), tuple(pictures), tuple(notes))
    write_audit(done, seconds=seconds)
    if console is not None:
        print_audit(done, console)
    return done


def _score(
    runs: Sequence[AuditRun], answers: Sequence[RunAnswers]
) -> list[tuple[AuditRun, TaskAudit]]:
    """Score every task of every run."""
    return [
        (
            run,
            score_task(
                each.table,
                task,
                n_classes=run.schema.num_classes(task),
                person_of=run.person_of,
                chance=compare_oof_with_chance(run, task),
                detected=run.detected,
            ),
        )
        for run, each in zip(runs, answers, strict=True)
        for task in run.tasks
    ]


def _notes(
    runs: Sequence[AuditRun], answers: Sequence[RunAnswers], backgrounds: Backgrounds
) -> list[str]:
    notes = [
        f"{run.name}: {each.note}" for run, each in zip(runs, answers, strict=True) if each.note
    ]
    if backgrounds.n_missing:
        notes.append(
            f"{backgrounds.n_missing} photos were left out: they are gone, or have changed since "
            "cropfirst detect"
        )
    if backgrounds.n_unsegmented:
        notes.append(
            f"GrabCut could not segment {backgrounds.n_unsegmented} of {len(backgrounds.keys)} "
            "heads; an ellipse was used instead"
        )
    return notes
