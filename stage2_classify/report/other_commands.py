"""Parts of the report that other commands have written: audit, ensemble and label issues.

Such files may be of another version or edited: a part that is not as expected is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from cropfirst.cache import CropSet
from cropfirst.cache.tables import read_table
from cropfirst.core.errors import CropfirstError
from cropfirst.stage2_classify.audit.variants import LABELS
from cropfirst.stage2_classify.report.pictures import draw_gains, file_uri, gallery_item

Part = Callable[[], dict[str, Any]]
ISSUES = 30
"""Most label issues on the page."""


def guarded(part: Part, nothing: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a part of the page; an empty one and the reason if its file is not as expected."""
    try:
        return part()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return {**nothing, "why": f"{name} is not as expected ({error!r})."}


def audit_part(data: Mapping[str, Any], why: str, folder: Path) -> dict[str, Any]:
    """Return the audit's table, probe and pictures."""
    nothing: dict[str, Any] = {"rows": [], "variants": [], "probe": [], "pictures": []}
    return guarded(lambda: _audit(data, why, folder), nothing, "audit.json")


def ensemble_part(data: Mapping[str, Any], why: str) -> dict[str, Any]:
    """Return the steps of the ensemble, task by task."""
    return guarded(lambda: _ensemble(data, why), {"tasks": [], "notes": []}, "ensemble.json")


def _audit(data: Mapping[str, Any], why: str, folder: Path) -> dict[str, Any]:
    runs = [run for run in data.get("runs", []) if isinstance(run, Mapping)]
    variants = list(dict.fromkeys(name for run in runs for name in run.get("variants", {})))
    labels = [LABELS.get(name, name) for name in variants]
    rows = [
        {
            "name": run.get("name", ""),
            "task": run.get("task", ""),
            "background": run.get("background", ""),
            "backbone": run.get("backbone", ""),
            "variants": [
                number((run.get("variants", {}).get(name) or {}).get("accuracy"))
                for name in variants
            ],
            "gap": interval(run, "bg_gap", "+.3f"),
            "verdict": verdict_of(run)[0],
            "cam": interval(run, "cam_inside", ".2f"),
            "f1": number(run.get("out_of_fold_macro_f1")),
            "majority": number(run.get("out_of_fold_majority_macro_f1")),
            "majority_accuracy": number(
                ((run.get("variants") or {}).get("original") or {}).get("majority_accuracy")
            ),
        }
        for run in runs
    ]
    probe = [
        {
            "task": row.get("task", ""),
            "f1": number(row.get("macro_f1")),
            "majority": number(row.get("majority_macro_f1")),
            "interval": f"{number(row.get('low'))} to {number(row.get('high'))}",
        }
        for row in data.get("probe", [])
        if isinstance(row, Mapping)
    ]
    pictures = []
    for each in data.get("pictures", []):
        path = (folder / str(each.get("file", ""))).resolve()
        uri = file_uri(path) if path.is_relative_to(folder.resolve()) else None
        if uri:
            text = ": ".join(str(each[key]) for key in ("title", "caption") if each.get(key))
            pictures.append({"uri": uri, "caption": text})
    return {"rows": rows, "variants": labels, "probe": probe, "pictures": pictures, "why": why}


def _ensemble(data: Mapping[str, Any], why: str) -> dict[str, Any]:
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for step in data.get("steps", []):
        by_task.setdefault(str(step["task"]), []).append(step)
    tasks = []
    for name, steps in by_task.items():
        drawn = [
            (str(step["name"]), *(float(step["gain"][key]) for key in ("value", "low", "high")))
            for step in steps
            if step.get("gain")
        ]
        tasks.append(
            {
                "name": name,
                "steps": [_step(step) for step in steps],
                "chart": draw_gains(drawn) if drawn else None,  # type: ignore[arg-type]
                "plan": _plan((data.get("tasks") or {}).get(name)),
            }
        )
    return {"tasks": tasks, "notes": list(data.get("notes", [])), "why": why}


def issues_part(
    folder: Path, crops: CropSet | None, at_chance: Mapping[str, str]
) -> dict[str, Any]:
    """Return the labels that are probably wrong.

    Args:
        at_chance: task whose predictions are no better than chance -> figures. Its labels are not
            judged, also not by an earlier version of relabel.
    """
    path = folder / "label_issues.parquet"
    command = "cropfirst relabel DATA"
    notes = [
        f"{task}: no label is suggested, since the models are no better than chance ({figures})."
        for task, figures in at_chance.items()
    ]
    nothing = {"rows": [], "n": 0, "gallery": [], "command": command, "notes": notes}
    if not path.is_file():
        return {
            **nothing,
            "why": f"There is no {path.name} in {folder}: the command has not been run.",
        }
    try:
        table = read_table(path, kind="label_issues", version=1, fix=f"run {command} again")
    except CropfirstError as error:
        return {**nothing, "why": f"{error}."}
    if missing := {"keys", "task", "given", "suggested", "prob_given"} - set(table.columns):
        return {**nothing, "why": f"{path} has no column {', '.join(sorted(missing))}."}
    table = table.filter(~pl.col("task").is_in(list(at_chance)))
    if not table.height:
        which = "No label of another task" if at_chance else "No label"
        return {**nothing, "why": f"{which} seems to be wrong.", "command": ""}
    rows = [
        {
            **{name: str(row[name]) for name in ("task", "given", "suggested")},
            "key": row["keys"][0],
            "more": len(row["keys"]) - 1,
            "quality": number(row["prob_given"]),
        }
        for row in table.sort("prob_given").head(ISSUES).iter_rows(named=True)
    ]
    return {
        **nothing,
        "rows": rows,
        "n": table.height,
        "gallery": _gallery(rows, crops),
        "why": "",
    }


def verdict_of(run: Mapping[str, Any]) -> tuple[str, str]:
    """Return what an audit found of a run, and the reason where it cannot tell.

    Args:
        run: entry of audit.json.
    """
    finding = run.get("verdict")
    if not isinstance(finding, str):
        return "cannot tell", "audit.json is of an earlier version (run cropfirst audit again)"
    return finding, str(run.get("verdict_reason") or "")


def number(value: object, form: str = ".3f") -> str:
    """Return a number as text; empty where it is not a number."""
    return format(value, form) if isinstance(value, int | float) and value == value else ""


def interval(row: Mapping[str, Any], name: str, form: str) -> str:
    """Return a value with its bounds as text; empty where there is none."""
    text = number(row.get(name), form)
    low, high = (number(row.get(f"{name}_{end}"), form) for end in ("low", "high"))
    return f"{text} [{low}, {high}]" if text and low and high else text


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    gain = step.get("gain")
    name = f"{step['name']} ({step['note']})" if step.get("note") else str(step["name"])
    found = {
        "name": name,
        "f1": number(step.get("macro_f1"), ".4f"),
        "majority": number(step.get("majority_macro_f1"), ".4f"),
        "kept": bool(step.get("kept")),
    }
    if not gain:
        return {**found, "gain": "", "interval": "", "kind": ""}
    kind = "good" if gain["low"] > 0 else "bad" if gain["high"] < 0 else ""
    return {
        **found,
        "gain": number(gain["value"], "+.4f"),
        "interval": f"{number(gain['low'], '+.4f')} to {number(gain['high'], '+.4f')}",
        "kind": kind,
    }


def _plan(plan: Mapping[str, Any] | None) -> str:
    from cropfirst.stage2_classify.ensemble.console import describe_plan
    from cropfirst.stage2_classify.voting.vote_plan import TaskPlan

    if plan is None:
        return ""
    names = ("weights", "route", "vote", "temperature", "offsets")
    return describe_plan(TaskPlan(**{name: plan[name] for name in names}))


def _gallery(rows: Sequence[Mapping[str, Any]], crops: CropSet | None) -> list[dict[str, str]]:
    if crops is None:
        return []
    reader = crops.reader()
    try:
        return [
            gallery_item(reader[row["key"]], f"{row['task']}: {row['given']} → {row['suggested']}?")
            for row in rows
            if row["key"] in reader
        ]
    except CropfirstError:
        return []
    finally:
        reader.close()
