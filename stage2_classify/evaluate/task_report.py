"""Scores of one task from one source of predictions, as a value, as JSON and as pictures.

Knows class numbers and names; knows nothing of where predictions come from. No torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cropfirst.core.files import mark_output, write_atomic
from cropfirst.stage2_classify.metrics.scores import (
    ClassScore,
    MajorityScore,
    accuracy,
    confusion,
    macro_f1,
    macro_f1_of,
    majority_score,
    per_class,
)
from cropfirst.stage2_classify.runs.swapped_scores import SwappedScore
from cropfirst.stage2_classify.voting.prediction_table import STATUSES

Ints = npt.NDArray[np.integer]

CONVENTION = (
    "macro F1 is the mean F1 of the classes that occur, in the truth or in the predictions "
    "(scikit-learn's convention); classes that occur in neither are listed as absent"
)


@dataclass(frozen=True)
class StatusScore:
    """Scores of the photos with one crop status."""

    status: str
    n_photos: int
    macro_f1: float
    accuracy: float


@dataclass(frozen=True)
class TaskReport:
    """Scores of one source of predictions for one task or the combined code."""

    task: str
    source: str
    """The run, "soft vote of N runs", or the predictions' file."""
    n_photos: int
    macro_f1: float
    accuracy: float
    classes: tuple[ClassScore, ...]
    """Scores in schema order, also of classes that never occur."""
    matrix: npt.NDArray[np.int64]
    """(C, C) counts, truth in rows."""
    statuses: tuple[StatusScore, ...]
    """Scores by crop status, the best status first; empty where statuses are not known."""
    note: str = ""
    """Note on rows that were joined or left out; "" = none."""
    votes: bool = True
    """Whether the source votes; a baseline, a run on crops with background, does not."""
    swapped: SwappedScore | None = None
    """Scores in swapped rooms; None where a run of the source has none."""

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of classes that occur neither in the truth nor in the predictions."""
        occurs = (self.matrix.sum(0) + self.matrix.sum(1)) > 0
        return tuple(each.name for each, seen in zip(self.classes, occurs, strict=True) if not seen)

    @property
    def majority(self) -> MajorityScore:
        """Scores of always predicting the most frequent class of these photos."""
        return majority_score(self.matrix.sum(1))

    @property
    def detected(self) -> StatusScore | None:
        """Scores of the photos with status `detected`; None where there are none."""
        return next((each for each in self.statuses if each.status == "detected"), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON types."""
        detected = self.detected
        return {
            "task": self.task,
            "source": self.source,
            "n_photos": self.n_photos,
            "macro_f1": self.macro_f1,
            "accuracy": self.accuracy,
            "majority_macro_f1": self.majority.macro_f1,
            "majority_accuracy": self.majority.accuracy,
            "macro_f1_detected": detected.macro_f1 if detected else None,
            "classes": [asdict(each) for each in self.classes],
            "absent": list(self.absent),
            "confusion": self.matrix.tolist(),
            "statuses": [asdict(each) for each in self.statuses],
            "note": self.note,
            "votes": self.votes,
            "swapped": None if self.swapped is None else self.swapped.to_dict(),
        }


def make_report(
    task: str,
    *,
    source: str,
    class_names: Sequence[str],
    targets: Ints,
    preds: Ints,
    statuses: Sequence[str] | None = None,
    note: str = "",
) -> TaskReport:
    """Score (N,) predicted class numbers against (N,) true ones.

    Args:
        statuses: N crop statuses; None where they are not known.
    """
    matrix = confusion(targets, preds, len(class_names))
    return TaskReport(
        task=task,
        source=source,
        n_photos=len(targets),
        macro_f1=macro_f1_of(matrix),
        accuracy=accuracy(targets, preds),
        classes=per_class(targets, preds, class_names),
        matrix=matrix,
        statuses=_by_status(targets, preds, statuses, n_classes=len(class_names)),
        note=note,
    )


def _by_status(
    targets: Ints, preds: Ints, statuses: Sequence[str] | None, *, n_classes: int
) -> tuple[StatusScore, ...]:
    if statuses is None:
        return ()
    column = np.asarray(statuses, dtype=object)
    scores = []
    for status in (*STATUSES, *sorted(set(statuses) - set(STATUSES))):
        rows = column == status
        if rows.any():
            truth, own = targets[rows], preds[rows]
            score = macro_f1(truth, own, n_classes)
            scores.append(StatusScore(status, len(truth), score, accuracy(truth, own)))
    return tuple(scores)


def headlines(reports: Sequence[TaskReport]) -> tuple[TaskReport, ...]:
    """Return one report per task: the last, which is the vote of all runs if there are several."""
    return tuple({report.task: report for report in reports}.values())


def write_reports(
    out_dir: Path,
    reports: Sequence[TaskReport],
    *,
    kind: str,
    notes: Sequence[str] = (),
    more: Mapping[str, Any] | None = None,
) -> tuple[Path, tuple[Path, ...]]:
    """Write evaluation.json and one confusion matrix per report.

    Args:
        kind: what the predictions were scored against: oof, answers or labels.
        more: further entries of evaluation.json.

    Returns:
        The path of evaluation.json, and those of the pictures.
    """
    from cropfirst.stage2_classify.metrics.plots import save_confusion

    mark_output(out_dir)
    best = {id(report) for report in headlines(reports)}
    entries, pictures = [], []
    for report in reports:
        name = report.task if id(report) in best else f"{report.task}_{report.source}"
        picture = out_dir / f"confusion_{file_name(name)}.png"
        names = [each.name for each in report.classes]
        title = (
            f"{report.task}: {report.source}\nmacro F1 {report.macro_f1:.4f}, majority "
            f"{report.majority.macro_f1:.4f}"
        )
        save_confusion(picture, report.matrix, classes=names, title=title)
        pictures.append(picture)
        entries.append({**report.to_dict(), "picture": picture.name})
    data = {"kind": kind, "macro_f1": CONVENTION, "notes": list(notes), "reports": entries}
    data |= more or {}
    path = out_dir / "evaluation.json"
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, f"{text}\n".encode())
    return path, tuple(pictures)


def file_name(text: str) -> str:
    """Return a name without signs that some file systems refuse."""
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.") or "task"
