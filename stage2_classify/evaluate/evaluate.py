"""Evaluate: out-of-fold predictions of runs, or a prediction against answers or labels.

Reads the tables that train and predict wrote; loads no model and opens no crop. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from cropfirst.cache import Cache, CropSet
from cropfirst.core.console import say
from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets.sample import PhotoSet
from cropfirst.stage2_classify.evaluate.console import print_reports, print_summary
from cropfirst.stage2_classify.evaluate.error_analysis import (
    Diagnosis,
    diagnose_all,
    find_crops,
    only_crops,
    people_of,
)
from cropfirst.stage2_classify.evaluate.error_pages import draw_diagnoses, print_diagnoses
from cropfirst.stage2_classify.evaluate.task_report import (
    CONVENTION,
    TaskReport,
    make_report,
    write_reports,
)
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.runs.oof import Oof, read_people, read_runs
from cropfirst.stage2_classify.runs.oof_votes import Answered, answer, can_route, voters_for
from cropfirst.stage2_classify.voting.prediction_files import (
    StoredPredictions,
    check_same_ids,
    combined_name,
    read_prediction_file,
    read_true_codes,
)
from cropfirst.stage2_classify.voting.soft_vote import split_codes

Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Evaluation:
    """What was found and written."""

    reports: tuple[TaskReport, ...]
    """In schema order; of each task every run's, then that of all runs together."""
    path: Path
    """evaluation.json"""
    pictures: tuple[Path, ...]
    """One a report: confusion_<task>.png is that of the task's headline."""
    notes: tuple[str, ...]
    diagnoses: tuple[Diagnosis, ...] = ()
    """Each headline looked into; not of predictions against labels."""
    drawn: tuple[Path, ...] = ()
    """Their reliability diagrams and galleries of mistakes."""

    def report(self, task: str) -> TaskReport | None:
        """The headline of a task: all runs together, or the only run's; None without one."""
        return next((each for each in reversed(self.reports) if each.task == task), None)


def evaluate_oof(
    runs: Sequence[Path],
    *,
    out_dir: Path,
    photos: PhotoSet | None = None,
    cache: Cache | None = None,
    console: Console | None = None,
    details: bool = False,
) -> Evaluation:
    """Score out-of-fold predictions: each run, the mean of the runs, and the combined code.

    Of the headline of each task also the slices, the calibration and the surest mistakes.

    Rows of several runs are joined by key. Their folds may differ: each row is still predicted by
    models that have not seen that person.

    Args:
        runs: runs directories or run directories.
        out_dir: gets evaluation.json and the pictures.
        photos: for slices by label.
        cache: for slices by crop, and to show the mistakes.
        details: print all tables, not only the scores of the tasks.

    Raises:
        TrainError: no finished run, or runs of different label schemas.
    """
    schema, oofs, notes = read_runs(runs)
    reports, answers = score_runs(oofs, schema, notes)
    folders = [oof.path for oof in oofs if oof.path]
    crops = find_crops(cache, folders, notes)
    people = read_people(folders)
    diagnoses = diagnose_all(answers, schema, people=people, photos=photos, crops=crops)
    return _look_into(
        reports, diagnoses, crops, out_dir, kind="oof", title="Out-of-fold scores", notes=notes,
        console=console, details=details,
    )  # fmt: skip


def score_runs(
    oofs: Sequence[Oof], schema: LabelSchema, notes: list[str]
) -> tuple[list[TaskReport], dict[str, Answered]]:
    """Score each run, and all of them together.

    Args:
        notes: gets a line on what could not be scored.

    Returns:
        Reports in schema order, and the answers behind each task's headline.
    """
    reports = []
    answers: dict[str, Answered] = {}
    for group in [[oof] for oof in oofs] + ([oofs] if len(oofs) > 1 else []):
        for name in schema.names:
            voters = voters_for(group, name, schema)
            alone = len(group) > 1 and len(voters) == 1  # that run's own report says it already
            if alone or not voters:
                continue
            answered = answer(voters, name, schema)
            report = _score(answered, voters, name, schema)
            if report.n_photos:
                reports.append(report)
                answers[name] = answered
            else:
                notes.append(f"{name}: no photo is in all of {', '.join(o.name for o in voters)}")
    for oof in oofs if len(oofs) > 1 else ():
        if not can_route(oof, oofs, schema):
            asked = ", ".join(oof.condition.classes if oof.condition else ())
            notes.append(f"{oof.name} has no say among others: no run says the {asked} of a photo")
    reports.sort(key=lambda report: schema.names.index(report.task))
    return reports, {name: answers[name] for name in schema.names if name in answers}


def evaluate_answers(
    answers: Path,
    predictions: Path,
    *,
    schema: LabelSchema,
    out_dir: Path,
    columns: tuple[str, str] = ("ImageID", "ans"),
    photos: PhotoSet | None = None,
    cache: Cache | None = None,
    console: Console | None = None,
    details: bool = False,
) -> Evaluation:
    """Score predictions against a CSV of true combined codes.

    Args:
        answers: has the two columns of the submission, with exactly the predicted photos.
        predictions: predictions.parquet, submission.csv, or the folder of both.
        photos: says which photos are of one person, where it is known.
        cache: for slices by crop, and to show the mistakes; one crop set, or none is looked at.
        details: print all tables, not only the scores of the tasks.

    Raises:
        DataError: a file that cannot be used, or ids missing or extra.
    """
    truth = read_true_codes(answers, schema, columns=columns)
    predicted = read_prediction_file(predictions, schema, columns=columns)
    check_same_ids(truth, predicted.ids, where=answers)
    codes = np.array([truth[image_id] for image_id in predicted.ids], dtype=np.int32)
    targets = {**split_codes(codes, schema), combined_name(schema, answers): codes}
    reports = [
        make_report(
            name,
            source=predictions.name,
            class_names=schema.class_names(name),
            targets=targets[name],
            preds=preds,
            statuses=predicted.statuses,
        )
        for name, preds in predicted.preds.items()
        if name in targets
    ]
    classes = {name: schema.class_names(name) for name in schema.task_names if name in targets}
    notes: list[str] = []
    crops = None if cache is None else only_crops(cache, notes)
    diagnoses = diagnose_all(
        _answered(predicted, targets),
        schema,
        people={} if photos is None else people_of(photos),
        photos=photos,
        crops=crops,
        known={name: [words[code] for code in targets[name]] for name, words in classes.items()},
    )
    title = f"Scores against {answers.name}"
    return _look_into(
        reports, diagnoses, crops, out_dir, kind="answers", title=title, notes=notes,
        console=console, details=details,
    )  # fmt: skip


def _answered(predicted: StoredPredictions, targets: Mapping[str, Ints]) -> dict[str, Answered]:
    """Predictions beside the truth, as out-of-fold answers are."""
    statuses = predicted.statuses or ("",) * len(predicted.ids)
    return {
        name: Answered(
            predicted.keys or predicted.ids,
            targets[name],
            preds,
            statuses,
            0,
            predicted.probs.get(name),
        )
        for name, preds in predicted.preds.items()
        if name in targets
    }


def evaluate_labels(
    photos: PhotoSet,
    predictions: Path,
    *,
    schema: LabelSchema,
    out_dir: Path,
    console: Console | None = None,
    details: bool = False,
) -> Evaluation:
    """Score predictions against the data set's own labels, where the predicted photos have some.

    Args:
        predictions: predictions.parquet, or the folder it lies in.
        details: print all tables, not only the scores of the tasks.

    Raises:
        DataError: none of the predicted photos has a label, or a file that cannot be used.
    """
    predicted = read_prediction_file(predictions, schema, by_key=True)
    samples = photos.by_key()
    reports, notes = [], []
    for name, preds in predicted.preds.items():
        labels = [samples[key].labels if key in samples else {} for key in predicted.ids]
        found = [
            schema.target(name, facts, where=key)
            for key, facts in zip(predicted.ids, labels, strict=True)
        ]
        rows = [row for row, code in enumerate(found) if code is not None]
        if not rows:
            notes.append(f"{name}: no predicted photo has a label")
            continue
        note = f"{len(rows)} of {len(found)} predicted photos have a label"
        reports.append(
            make_report(
                name,
                source=predictions.name,
                class_names=schema.class_names(name),
                targets=np.array([found[row] for row in rows], dtype=np.int32),
                preds=preds[rows],
                statuses=[predicted.statuses[row] for row in rows] if predicted.statuses else None,
                note="" if len(rows) == len(found) else note,
            )
        )
    if not reports:
        raise DataError(
            f"no photo in {predictions} has a label in {photos.root}: give the true codes with "
            "--answers FILE"
        )
    return _finish(
        reports, out_dir, kind="labels", title="Scores against labels", notes=notes,
        console=console, details=details,
    )  # fmt: skip


def _look_into(
    reports: Sequence[TaskReport],
    diagnoses: Sequence[Diagnosis],
    crops: CropSet | None,
    out_dir: Path,
    *,
    kind: str,
    title: str,
    notes: Sequence[str],
    console: Console | None,
    details: bool,
) -> Evaluation:
    """Write and print the scores, then where and how the predictions are wrong."""
    done = _finish(
        reports, out_dir, kind=kind, title=title, notes=notes, diagnoses=diagnoses,
        console=console, details=details,
    )  # fmt: skip
    pictures = draw_diagnoses(out_dir, diagnoses, crops)
    if console is not None and details:
        print_diagnoses(console, diagnoses)
        where = out_dir / "{reliability,mistakes}_*.png"
        say(console, f"calibration, surest mistakes: {where} ({len(pictures)})")
    return replace(done, diagnoses=tuple(diagnoses), drawn=tuple(pictures))


def _finish(
    reports: Sequence[TaskReport],
    out_dir: Path,
    *,
    kind: str,
    title: str,
    notes: Sequence[str] = (),
    diagnoses: Sequence[Diagnosis] | None = None,
    console: Console | None = None,
    details: bool = False,
) -> Evaluation:
    more = None if diagnoses is None else {"diagnoses": [each.to_dict() for each in diagnoses]}
    path, pictures = write_reports(out_dir, reports, kind=kind, notes=notes, more=more)
    if console is not None and not details:
        print_summary(console, reports, diagnoses or (), title=title)
        for note in notes:
            say(console, note, style="dim")
        say(console, f"written: {path} and pictures beside it; --details prints the tables")
    elif console is not None:
        print_reports(console, reports, title=title)
        for note in (*notes, CONVENTION):
            say(console, note, style="dim")
        say(console, f"written: {path}")
        say(console, f"confusion matrices: {out_dir / 'confusion_*.png'} ({len(pictures)})")
    return Evaluation(tuple(reports), path, pictures, tuple(notes))


def _score(answered: Answered, voters: Sequence[Oof], name: str, schema: LabelSchema) -> TaskReport:
    """Soft vote of the runs on the photos that all of them have."""
    return make_report(
        name,
        source=voters[0].name if len(voters) == 1 else f"soft vote of {len(voters)} runs",
        class_names=schema.class_names(name),
        targets=answered.targets,
        preds=answered.preds,
        statuses=answered.statuses,
        note=_join_note(voters, n_joined=len(answered.keys), n_differ=answered.n_differ),
    )


def _join_note(voters: Sequence[Oof], *, n_joined: int, n_differ: int) -> str:
    if len(voters) == 1:
        condition = voters[0].condition
        about = ", ".join(condition.classes) if condition else ""
        return f"only the {n_joined} photos of the {about} that it was trained on" if about else ""
    n_all = len({key for oof in voters for key in oof.keys})
    names = ", ".join(oof.name for oof in voters)
    note = f"{n_joined} of {n_all} photos could be joined by key from {names}"
    if n_differ:
        note += f"; {n_differ} were left out, their labels differ between the runs"
    return note
