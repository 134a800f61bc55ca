"""The report command: everything about some runs in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import torch

from cropfirst.cache import Cache, CropSet
from cropfirst.core.charts import as_svg
from cropfirst.core.device import describe_device, resolve_device
from cropfirst.core.files import write_atomic
from cropfirst.core.html import render_page
from cropfirst.core.provenance import describe_versions
from cropfirst.core.spread import spread
from cropfirst.stage2_classify.datasets.sample import PhotoSet
from cropfirst.stage2_classify.evaluate.error_analysis import ErrorAnalysis, analyze_all, find_crops
from cropfirst.stage2_classify.evaluate.pictures import mistakes_with_crops
from cropfirst.stage2_classify.evaluate.score_runs import score_runs
from cropfirst.stage2_classify.evaluate.task_report import TaskReport, headlines
from cropfirst.stage2_classify.metrics.plots import draw_reliability
from cropfirst.stage2_classify.report.cams import CamSheets, cam_sheets
from cropfirst.stage2_classify.report.card import model_card
from cropfirst.stage2_classify.report.other_commands import audit_part, ensemble_part, issues_part
from cropfirst.stage2_classify.report.pictures import (
    draw_curves,
    file_uri,
    gallery_item,
)
from cropfirst.stage2_classify.report.run_info import (
    RunInfo,
    environment_rows,
    find_run_folders,
    read_optional,
    read_run,
)
from cropfirst.stage2_classify.runs.baselines import choose_voters
from cropfirst.stage2_classify.runs.oof_predictions import read_oof_runs, read_people
from cropfirst.stage2_classify.runs.swapped_scores import NOT_CHECKED

TEMPLATE = Path(__file__).with_name("page.html")
MISTAKES, CROPS, SLICES = 24, 16, 14
"""Most mistakes per task, crops per status and slices per task on the page."""
CONTENTS = (
    ("card", "Model card"), ("runs", "Runs"), ("scores", "Scores"), ("slices", "Worst slices"),
    ("mistakes", "Mistakes"), ("cam", "Grad-CAM"), ("audit", "Audit"), ("ensemble", "Ensemble"),
    ("curves", "Curves"), ("labels", "Labels"), ("crops", "Crops"), ("data", "Data"),
    ("environment", "Environment"),
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """A report that was written."""

    path: Path
    n_bytes: int
    absent: tuple[str, ...]
    """Reasons why parts are missing, one per part."""


def build_report(
    runs: Sequence[Path],
    *,
    photos: PhotoSet,
    work: Path,
    out: Path,
    cache: Cache | None = None,
    cam: bool = True,
    device: str = "auto",
) -> Report:
    """Write the report of some runs.

    Args:
        runs: run folders, or folders of runs.
        photos: the data set.
        work: folder of the results of audit, ensemble, eda and relabel.
        out: the HTML file, replaced in one step.
        cache: the crops; None shows none.
        cam: draw Grad-CAM.
        device: where the models run for it.

    Raises:
        TrainError: no out-of-fold predictions, or runs of different schemas.
    """
    schema, oofs, notes = read_oof_runs(find_run_folders(runs))
    voters = choose_voters(oofs, runs, schema, option="")
    notes += voters.notes
    folders = [oof.path for oof in oofs if oof.path]
    people = read_people(folders)
    reports, answers = score_runs(oofs, schema, voters, people, notes)
    crops = find_crops(cache, [folder for folder in folders if voters.of(folder)], notes)
    analyses = analyze_all(answers, schema, people=people, photos=photos, crops=crops)
    infos = [read_run(oof, schema, people, voters) for oof in oofs]
    where = resolve_device(device)
    sheets = CamSheets((), "Grad-CAM was switched off (--no-cam).")
    if cam:
        sheets = cam_sheets(oofs, schema, cache, device=where)
    audit = read_optional(work / "audit" / "audit.json", "audit")
    keys = [sample.key for sample in photos.samples]
    context: dict[str, Any] = {
        "title": f"{photos.root.name}: {', '.join(d.task for d in analyses)}",
        "subtitle": f"cropfirst report of {len(infos)} runs, {date.today().isoformat()}",
        "contents": CONTENTS,
        "warnings": _room_warnings(reports),
        "rooms": {each.task: str(each.swapped) for each in headlines(reports) if each.swapped},
        "notes": notes,
        "analyses": analyses,
        "runs": infos,
        "scored": [name for name in schema.names if any(name in info.scores for info in infos)],
        "tasks": _tasks(reports, analyses, crops),
        "card": model_card(
            photos, infos, headlines(reports), analyses,
            statuses=_statuses(crops, keys), audit=audit[0],
        ),
        "cams": sheets,
        **_other_parts(work, infos, crops, audit, analyses),
        "curves": _curves(infos),
        "crops": _crop_sheets(crops, keys),
        "environment": [*environment_rows(infos), *_now(where)],
        "configs": _configs(infos),
    }  # fmt: skip
    raw = render_page(TEMPLATE, **context).encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, raw)
    absent = [context[name]["why"] for name in ("audit", "ensemble", "issues")] + [sheets.why]
    return Report(out, len(raw), tuple(why for why in absent if why))


def _room_warnings(reports: Sequence[TaskReport]) -> list[str]:
    """Return the warnings that the report begins with: of scores that do not hold elsewhere."""
    if all(report.swapped is None for report in reports):
        return [NOT_CHECKED]
    return [
        report.swapped.warning(f"{report.task}, {report.source}")
        for report in reports
        if report.swapped is not None and report.swapped.falls
    ]


def _other_parts(
    work: Path,
    infos: Sequence[RunInfo],
    crops: CropSet | None,
    audit: tuple[dict[str, Any], str],
    analyses: Sequence[ErrorAnalysis],
) -> dict[str, Any]:
    """Return the parts that other commands have written."""
    plan, why = read_optional(work / "ensemble" / "ensemble.json", "ensemble")
    ensemble = ensemble_part(plan, why)
    runs = set(plan.get("runs") or ())
    if runs and runs != {info.name for info in infos if info.votes}:
        ensemble["notes"].append(f"It was searched for on the runs {', '.join(sorted(runs))}.")
    if baselines := sorted(runs & {info.name for info in infos if not info.votes}):
        ensemble["notes"].append(
            f"It was made with {', '.join(baselines)}, baselines which do not vote unless they are "
            "named: predict does not use it without them. Run cropfirst ensemble again."
        )
    at_chance = {each.task: str(each.chance) for each in analyses if not each.chance.is_better}
    return {
        "audit": audit_part(*audit, work / "audit"),
        "ensemble": ensemble,
        "issues": issues_part(work / "relabel", crops, at_chance),
        "eda": _pictures(work / "eda"),
    }


def _configs(infos: Sequence[RunInfo]) -> list[dict[str, str]]:
    files = {info.name: info.path / "config.yaml" for info in infos}
    return [
        {"name": name, "text": path.read_text("utf-8")}
        for name, path in files.items()
        if path.is_file()
    ]


def _tasks(
    reports: Sequence[TaskReport], analyses: Sequence[ErrorAnalysis], crops: CropSet | None
) -> list[dict[str, Any]]:
    by_task = {each.task: each for each in analyses}
    reader = None if crops is None else crops.reader()
    found = []
    for report in headlines(reports):
        each = by_task[report.task]
        shown = [] if reader is None else mistakes_with_crops(each.mistakes, reader, most=MISTAKES)
        found.append(
            {
                "name": report.task,
                "source": report.source,
                "classes": report.classes,
                "matrix": report.matrix.tolist(),
                "reliability": each.reliability
                and as_svg(draw_reliability(each.reliability), "reliability diagram"),
                "ece": str(each.ece),
                "slices": each.slices[:SLICES],
                "n_mistakes": len(each.mistakes),
                "gallery": [gallery_item(crop, mistake.caption) for mistake, crop in shown],
            }
        )
    if reader is not None:
        reader.close()
    return found


def _curves(infos: Sequence[RunInfo]) -> list[dict[str, Any]]:
    return [
        {
            "name": info.name,
            "loss": draw_curves(info.histories, ("train_loss", "val_loss"), label="loss"),
            "f1": draw_curves(info.histories, ("val_f1",), label="macro F1"),
        }
        for info in infos
        if info.histories
    ]


def _statuses(crops: CropSet | None, keys: Sequence[str]) -> dict[str, int]:
    if crops is None:
        return {}
    rows = crops.manifest.read(keys).group_by("status").len().sort("status")
    return dict(rows.iter_rows())


def _crop_sheets(crops: CropSet | None, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Return some crops of each status, spread evenly over the keys."""
    if crops is None:
        return []
    reader = crops.reader()
    sheets = []
    table = crops.manifest.read(keys).filter(pl.col("crop_hash").is_not_null())
    for status in ("detected", "retried", "sibling", "prior"):
        found = [key for key in table.filter(pl.col("status") == status)["key"] if key in reader]
        if not found:
            continue
        items = [gallery_item(reader[key], key.rpartition("/")[2]) for key in spread(found, CROPS)]
        sheets.append({"title": f"{status}: {len(found)} photos", "items": items})
    reader.close()
    return sheets


def _pictures(folder: Path) -> list[dict[str, str]]:
    titles = {"classes": "classes", "faces": "faces and light", "rooms": "rooms"}
    found = [(titles.get(path.stem, path.stem), file_uri(path)) for path in folder.glob("*.png")]
    return [{"caption": title, "uri": uri} for title, uri in sorted(found) if uri]


def _now(device: torch.device) -> list[tuple[str, str]]:
    versions = describe_versions("torch", "matplotlib")
    made = ", ".join(f"{name} {value}" for name, value in versions.items())
    return [("report made with", f"{made}, {describe_device(device)}")]
