"""`cli.py relabel`: labels that are probably wrong, on a page to look through, and as corrections.

Reads out-of-fold predictions and crops; what it writes, `--corrections` reads. Opens no photo. No
torch.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from cropfirst.cache import Cache, CropSet
from cropfirst.cache.tables import write_table
from cropfirst.core.console import say
from cropfirst.core.errors import TrainError
from cropfirst.core.files import write_atomic
from cropfirst.core.fingerprint import fingerprint
from cropfirst.core.html import jpeg_uri, render_page
from cropfirst.stage2_classify.datasets import PhotoSet
from cropfirst.stage2_classify.datasets.corrections import Rule, read_rules
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.relabel.label_issues import Issue, find_issues, is_personal
from cropfirst.stage2_classify.runs.oof_predictions import OofPredictions, read_oof_runs
from cropfirst.stage2_classify.runs.oof_vote import voters_for
from cropfirst.stage2_classify.voting.soft_vote import vote

TEMPLATE = Path(__file__).with_name("relabel.html")
COLUMNS = ("key", "group", "field", "was", "value")
PHOTOS_SHOWN = 8
FORMAT = 1


@dataclass(frozen=True)
class Suspect:
    """An issue with all that the page and the corrections say of it."""

    task: str
    issue: Issue
    group: str | None
    """The person, where the label is theirs."""
    field: str
    """The fact that is wrong."""
    was: str
    """As the data set has it."""
    given: str
    suggested: str
    classes: tuple[str, ...]

    def rule(self) -> Rule:
        """The correction that takes the suggestion."""
        key = None if self.group is not None else self.issue.keys[0]
        return Rule(key, self.group, self.field, self.was, self.suggested)


@dataclass(frozen=True)
class Relabelling:
    """What was found, and where it is."""

    suspects: tuple[Suspect, ...]
    page: Path
    suggested: Path
    """Corrections that take every suggestion."""
    table: Path


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
        runs: runs directories or run directories; those that answer a task vote.
        crops: the crop set that the page shows, by its name's beginning; None takes that of the
            first run.
        out_dir: gets relabel.html, suggested.csv and label_issues.parquet.
        tasks: () takes all that the runs were trained on, but the combined code.
        corrections: those that the runs were trained with; what they changed stays as it is.
        most: issues a task.

    Raises:
        TrainError: no out-of-fold predictions, an unknown task, or no cleanlab.
        DataError: corrections that cannot be read.
    """
    schema, oofs, notes = read_oof_runs(runs)
    known = [n for n in schema.names if not schema.is_combined(n) and voters_for(oofs, n, schema)]
    unknown = [task for task in tasks if task not in known]
    if unknown or not known:
        raise TrainError(
            f"no run answers the task {', '.join(unknown) or 'of a label'}: there are predictions "
            f"of {', '.join(known) or 'none'}"
        )
    rules = () if corrections is None else read_rules(corrections)
    suspects = [
        each
        for task in tasks or known
        for each in _suspects(task, oofs, schema, photos, rules, most)
    ]
    out_dir.mkdir(parents=True, exist_ok=True)
    crop_set = cache.find(crops or _crops_of(runs))
    done = Relabelling(
        tuple(suspects),
        out_dir / "relabel.html",
        out_dir / "suggested.csv",
        out_dir / "label_issues.parquet",
    )
    new = [each.rule() for each in suspects]
    write_atomic(done.suggested, _csv([*rules, *new]).encode())
    write_table(done.table, _table(suspects), kind="label_issues", version=FORMAT)
    write_atomic(done.page, _page(suspects, rules, crop_set, photos).encode())
    if console is not None:
        _print(done, notes, console)
    return done


def _suspects(
    task: str,
    oofs: Sequence[OofPredictions],
    schema: LabelSchema,
    photos: PhotoSet,
    rules: Sequence[Rule],
    most: int,
) -> list[Suspect]:
    voters = voters_for(oofs, task, schema)
    shared = set(voters[0].keys).intersection(*(oof.keys for oof in voters[1:]))
    samples = photos.by_key()
    keys = sorted(shared & samples.keys())
    joined = [oof.take(keys) for oof in voters]
    conditions = [oof.condition if len(joined) > 1 else None for oof in joined]
    probs = vote([oof.probs for oof in joined], schema, conditions=conditions).probs[task]
    targets = next(oof.targets[task] for oof in joined if task in oof.targets)
    people = [samples[key].group for key in keys]
    by_person = is_personal(targets, people)
    found = find_issues(keys, targets, probs, people, by_person=by_person, most=most)
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


def _crops_of(runs: Sequence[Path]) -> str | None:
    """The crop set of the first run; None where it does not say."""
    for path in runs:
        for about in (path / "run.json", *sorted(path.glob("*/run.json"))):
            if about.is_file():
                name = (json.loads(about.read_text("utf-8")).get("crop_set") or {}).get("name")
                return None if name is None else str(name)
    return None


def _is_ruled(issue: Issue, group: str | None, fact: str, rules: Sequence[Rule]) -> bool:
    """Whether a correction speaks of this label already."""
    return any(
        rule.field == fact
        and (rule.key in issue.keys or (rule.group is not None and rule.group == group))
        for rule in rules
    )


def _csv(rules: Sequence[Rule]) -> str:
    """A corrections file."""
    out = io.StringIO()  # all is quoted, since a line that begins with # is a comment
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
    items = [_item(each, crops) for each in suspects]
    head = _csv(rules)
    name = photos.root.name or "data"
    return render_page(
        TEMPLATE,
        title=f"{name}: labels to look at",
        data={"head": head, "items": items},
        store=fingerprint([name, head, [each["id"] for each in items]]),
    )


def _item(suspect: Suspect, crops: CropSet) -> dict[str, Any]:
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
            {"key": key, "src": source}
            for key in suspect.issue.keys[:PHOTOS_SHOWN]
            if (source := _picture(key, crops)) is not None
        ],
    }


def _picture(key: str, crops: CropSet) -> str | None:
    """A crop as a data URI."""
    reader = crops.reader()
    return jpeg_uri(reader[key], quality=88) if key in reader else None


def _print(done: Relabelling, notes: Sequence[str], console: Console) -> None:
    counts: Mapping[str, int] = {
        task: sum(each.task == task for each in done.suspects)
        for task in dict.fromkeys(each.task for each in done.suspects)
    }
    for task, count in counts.items():
        who = next(each for each in done.suspects if each.task == task)
        unit = "persons" if who.group is not None else "photos"
        say(console, f"{task}: the label of {count} {unit} is probably wrong")
    if not counts:
        say(console, "no label seems wrong")
    for note in notes:
        say(console, note, style="dim")
    say(console, f"look through them: {done.page} (it writes corrections.csv)")
    say(console, f"or take every suggestion: --corrections {done.suggested}")
