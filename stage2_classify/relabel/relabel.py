"""The relabel command: finds labels that are probably wrong, and writes a page to review them.

Reads out-of-fold predictions and crops. Also writes suggested corrections, which `--corrections`
reads. Opens no photo. No torch.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from cropfirst.cache import Cache, CropReader, CropSet
from cropfirst.cache.tables import write_table
from cropfirst.core.console import say
from cropfirst.core.errors import TrainError
from cropfirst.core.files import mark_output, write_atomic
from cropfirst.core.fingerprint import fingerprint
from cropfirst.core.html import jpeg_uri, render_page
from cropfirst.stage2_classify.datasets import PhotoSet
from cropfirst.stage2_classify.datasets.corrections import Rule, read_rules
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.relabel.label_issues import Issue, find_issues, is_personal
from cropfirst.stage2_classify.relabel.task_vote import TaskVote, find_fault, vote_on_task
from cropfirst.stage2_classify.runs.baselines import choose_voters, voting_oofs
from cropfirst.stage2_classify.runs.oof_predictions import (
    OofPredictions,
    read_about,
    read_oof_runs,
)
from cropfirst.stage2_classify.runs.oof_vote import voters_for

TEMPLATE = Path(__file__).with_name("relabel.html")
COLUMNS = ("key", "group", "field", "was", "value")
PHOTOS_SHOWN = 8
FORMAT = 1


@dataclass(frozen=True)
class Suspect:
    """A label issue in the words of the data set, for the page and for corrections."""

    task: str
    issue: Issue
    group: str | None
    """Person whose label it is; None for the label of a photo."""
    field: str
    """Name of the fact that is probably wrong."""
    was: str
    """Value in the data set."""
    given: str
    suggested: str
    classes: tuple[str, ...]

    def rule(self) -> Rule:
        """Return the correction that follows the suggestion."""
        key = None if self.group is not None else self.issue.keys[0]
        return Rule(key, self.group, self.field, self.was, self.suggested)


@dataclass(frozen=True)
class Relabelling:
    """The label issues, and the files that were written."""

    suspects: tuple[Suspect, ...]
    page: Path
    suggested: Path
    """Path of the corrections that follow every suggestion."""
    table: Path
    refused: Mapping[str, str]
    """Task for which nothing is suggested -> reason, such as models that are at chance."""


def relabel(
    photos: PhotoSet,
    runs: Sequence[Path],
    cache: Cache,
    *,
    crops: str | None = None,
    out_dir: Path,
    tasks: Sequence[str] = (),
    corrections: str | None = None,
    most: int = 200,
    console: Console | None = None,
) -> Relabelling:
    """Find labels that are probably wrong.

    Args:
        photos: the data set as it is, before any corrections.
        runs: runs directories or run directories; those that predict a task vote on it, except
            baselines in a runs directory (see `runs.baselines`).
        crops: start of the name of the crop set that the page shows; None = that of the first run.
        out_dir: folder for relabel.html, suggested.csv and label_issues.parquet.
        tasks: tasks to check; () = all that the runs predict, except the combined code.
        corrections: file that the runs were trained with; labels that it changed are left out.
        most: maximum number of issues per task.

    Raises:
        TrainError: no out-of-fold predictions, an unknown task, no cleanlab, or no task whose
            predictions are better than chance: what they contradict is then no worse than the rest.
        DataError: corrections that cannot be read.
    """
    schema, oofs, notes = read_oof_runs(runs)
    voters = choose_voters(oofs, runs, schema)
    oofs = voting_oofs(oofs, voters, schema)
    notes += voters.notes
    known = [n for n in schema.names if not schema.is_combined(n) and voters_for(oofs, n, schema)]
    unknown = [task for task in tasks if task not in known]
    if unknown or not known:
        raise TrainError(
            f"no run predicts {', '.join(unknown) or 'a task with labels'}; the runs predict "
            f"{', '.join(known) or 'no such task'}"
        )
    rules = () if corrections is None else read_rules(corrections)
    suspects: list[Suspect] = []
    refused: dict[str, str] = {}
    asked = list(dict.fromkeys(tasks or known))
    for task in asked:
        found = vote_on_task(task, oofs, schema, photos)
        if reason := find_fault(found):
            refused[task] = reason
        else:
            suspects += _suspects(task, found, schema, photos, rules, most)
    if len(refused) == len(asked):
        reasons = "; ".join(f"{task}: {reason}" for task, reason in refused.items())
        advice = ". Train better models first, on more people or for longer"
        raise TrainError(
            f"no wrong labels can be found. {reasons}{advice if 'chance' in reasons else ''}"
        )
    mark_output(out_dir)
    crop_set = cache.find(crops or _crops_of(oofs[0]))
    done = Relabelling(
        tuple(suspects),
        out_dir / "relabel.html",
        out_dir / "suggested.csv",
        out_dir / "label_issues.parquet",
        refused,
    )
    new = [each.rule() for each in suspects]
    write_atomic(done.suggested, _csv([*rules, *new]).encode())
    write_table(done.table, _table(suspects), kind="label_issues", version=FORMAT)
    write_atomic(done.page, _page(suspects, rules, crop_set, photos).encode())
    if console is not None:
        _print(done, asked, notes, console)
    return done


def _suspects(
    task: str,
    votes: TaskVote,
    schema: LabelSchema,
    photos: PhotoSet,
    rules: Sequence[Rule],
    most: int,
) -> list[Suspect]:
    samples = photos.by_key()
    by_person = is_personal(votes.targets, votes.people)
    found = find_issues(
        votes.keys, votes.targets, votes.probs, votes.people, by_person=by_person, most=most
    )
    fields = schema.task(task)
    names = schema.class_names(task)
    suspects = []
    for issue in found:
        first = samples[issue.keys[0]]
        fact = fields.fact(first.labels)
        if fact is None or _is_ruled(issue, first.group, fact, rules):
            continue
        suspects.append(
            Suspect(
                task=task,
                issue=issue,
                group=first.group if by_person else None,
                field=fact,
                was=str(first.labels[fact]),
                given=names[issue.given],
                suggested=names[issue.suggested],
                classes=tuple(names),
            )
        )
    return suspects


def _crops_of(oof: OofPredictions) -> str | None:
    """Return the name of a run's crop set; None where it is not known."""
    assert oof.path is not None
    name = (read_about(oof.path).get("crop_set") or {}).get("name")
    return None if name is None else str(name)


def _is_ruled(issue: Issue, group: str | None, fact: str, rules: Sequence[Rule]) -> bool:
    """Return whether a correction already covers this label."""
    return any(
        rule.field == fact
        and (rule.key in issue.keys or (rule.group is not None and rule.group == group))
        for rule in rules
    )


def _csv(rules: Sequence[Rule]) -> str:
    """Return the text of a corrections file."""
    out = io.StringIO()  # all values are quoted, since a line that begins with # is a comment
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    for rule in rules:
        writer.writerow(
            [rule.key or "", rule.group or "", rule.field, rule.was or "", rule.value or ""]
        )
    return out.getvalue()


def _table(suspects: Sequence[Suspect]) -> pl.DataFrame:
    schema = {
        "task": pl.String(), "keys": pl.List(pl.String()), "group": pl.String(),
        "given": pl.String(), "suggested": pl.String(), "prob_given": pl.Float64(),
        "prob_suggested": pl.Float64(),
    }  # fmt: skip
    rows = [
        {
            "task": each.task,
            "keys": list(each.issue.keys),
            "group": each.group,
            "given": each.given,
            "suggested": each.suggested,
            "prob_given": each.issue.prob_given,
            "prob_suggested": each.issue.prob_suggested,
        }
        for each in suspects
    ]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _page(
    suspects: Sequence[Suspect], rules: Sequence[Rule], crops: CropSet, photos: PhotoSet
) -> str:
    with closing(crops.reader()) as reader:
        items = [_item(each, reader) for each in suspects]
    head = _csv(rules)
    name = photos.root.name or "data"
    return render_page(
        TEMPLATE,
        title=f"{name}: labels to check",
        data={"head": head, "items": items},
        store=fingerprint([name, head, [each["id"] for each in items]]),
    )


def _item(suspect: Suspect, reader: CropReader) -> dict[str, Any]:
    """Return what the page shows of an issue."""
    rule = suspect.rule()
    return {
        "id": f"{suspect.task}/{rule.key or rule.group}",
        "key": rule.key or "",
        "group": rule.group or "",
        "field": rule.field,
        "was": rule.was or "",
        "task": suspect.task,
        "given": suspect.given,
        "suggested": suspect.suggested,
        "classes": list(suspect.classes),
        "prob_given": round(suspect.issue.prob_given, 3),
        "prob_suggested": round(suspect.issue.prob_suggested, 3),
        "photos": [
            {"key": key, "src": jpeg_uri(reader[key], quality=88)}
            for key in suspect.issue.keys[:PHOTOS_SHOWN]
            if key in reader
        ],
    }


def _print(done: Relabelling, tasks: Sequence[str], notes: Sequence[str], console: Console) -> None:
    for task in tasks:
        found = [each for each in done.suspects if each.task == task]
        if task in done.refused:
            text = f"{task}: no label is suggested, since {done.refused[task]}"
            say(console, text, style="yellow")
        elif found:
            unit = "persons" if found[0].group is not None else "photos"
            say(console, f"{task}: {len(found)} labels of {unit} are probably wrong")
        else:
            say(console, f"{task}: no label is probably wrong")
    for note in notes:
        say(console, note, style="dim")
    say(console, f"to review them, open {done.page}, which saves corrections.csv")
    say(console, f"to follow every suggestion: --corrections {done.suggested}")
