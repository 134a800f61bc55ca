"""The evaluate command: scores predictions of runs out of fold, or against true codes or labels.

Reads the tables that train and predict wrote; loads no model. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from cropfirst.cache import Cache, CropSet
from cropfirst.core.console import say
from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets.sample import PhotoSet
from cropfirst.stage2_classify.evaluate.console import (
    print_analyses,
    print_reports,
    print_scores,
)
from cropfirst.stage2_classify.evaluate.error_analysis import (
    ErrorAnalysis,
    analyze_all,
    find_crops,
    people_of,
)
from cropfirst.stage2_classify.evaluate.pictures import write_error_pictures
from cropfirst.stage2_classify.evaluate.score_runs import report_of, score_runs
from cropfirst.stage2_classify.evaluate.task_report import (
    CONVENTION,
    TaskReport,
    write_reports,
)
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.runs.baselines import choose_voters
from cropfirst.stage2_classify.runs.oof_predictions import read_oof_runs, read_people
from cropfirst.stage2_classify.runs.oof_vote import OofVote
from cropfirst.stage2_classify.runs.swapped_scores import NOT_CHECKED
from cropfirst.stage2_classify.voting.prediction_files import (
    check_same_ids,
    combined_name,
    read_prediction_file,
    read_true_codes,
)
from cropfirst.stage2_classify.voting.soft_vote import split_codes


@dataclass(frozen=True)
class Evaluation:
    """The scores of some predictions, and the files that were written."""

    reports: tuple[TaskReport, ...]
    """Reports in schema order; of each task every run's, then that of all runs together."""
    path: Path
    """Path of evaluation.json."""
    pictures: tuple[Path, ...]
    """Confusion matrices, one per report; confusion_<task>.png is that of the task's headline."""
    notes: tuple[str, ...]
    analyses: tuple[ErrorAnalysis, ...] = ()
    """Error analysis of each headline; empty for predictions against labels."""
    error_pictures: tuple[Path, ...] = ()
    """Reliability diagrams and galleries of mistakes."""

    def report(self, task: str) -> TaskReport | None:
        """Return the headline of a task: the report of all runs together, or of the only one."""
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
    """Score out-of-fold predictions: each run, the mean of those that vote, and the combined code.

    The headline of each task also gets slices, calibration and the most confident mistakes.

    Rows of several runs are joined by key. Their folds may differ: each row is still predicted by
    models that were not trained on that person.

    Args:
        runs: runs directories or run directories. Baselines in a runs directory are scored and do
            not vote, see `runs.baselines`.
        out_dir: folder for evaluation.json and the pictures.
        photos: labels for slices.
        cache: crops for slices and for the gallery of mistakes.
        details: print all tables, not only the scores of the tasks.

    Raises:
        TrainError: no finished run, or runs of different label schemas.
    """
    schema, oofs, notes = read_oof_runs(runs)
    voters = choose_voters(oofs, runs, schema)
    notes += voters.notes
    folders = [oof.path for oof in oofs if oof.path]
    people = read_people(folders)
    reports, answers = score_runs(oofs, schema, voters, people, notes)
    if all(report.swapped is None for report in reports):
        notes.append(NOT_CHECKED)
    crops = find_crops(cache, [folder for folder in folders if voters.of(folder)], notes)
    analyses = analyze_all(answers, schema, people=people, photos=photos, crops=crops)
    return _finish(
        reports, analyses, crops, out_dir, kind="oof", title="Out-of-fold scores", notes=notes,
        console=console, details=details,
    )  # fmt: skip


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
        answers: CSV with the two columns of the submission and exactly the predicted photos.
        predictions: predictions.parquet, submission.csv, or the folder of both.
        photos: persons and labels of the photos, where they are known.
        cache: crops for slices and for the gallery of mistakes, if it has only one crop set.
        details: print all tables, not only the scores of the tasks.

    Raises:
        DataError: a file that cannot be used, or ids missing or extra.
    """
    truth = read_true_codes(answers, schema, columns=columns)
    predicted = read_prediction_file(predictions, schema, columns=columns)
    check_same_ids(truth, predicted.ids, where=answers)
    codes = np.array([truth[image_id] for image_id in predicted.ids], dtype=np.int32)
    targets = {**split_codes(codes, schema), combined_name(schema, answers): codes}
    answered = {
        name: OofVote(
            predicted.keys or predicted.ids,
            targets[name],
            preds,
            predicted.statuses or (),
            n_differ=0,
            probs=predicted.probs.get(name),
        )
        for name, preds in predicted.preds.items()
        if name in targets
    }
    reports = [
        report_of(name, each, schema, source=predictions.name) for name, each in answered.items()
    ]
    classes = {name: schema.class_names(name) for name in schema.task_names if name in targets}
    notes: list[str] = []
    crops = find_crops(cache, (), notes)
    analyses = analyze_all(
        answered,
        schema,
        people={} if photos is None else people_of(photos),
        photos=photos,
        crops=crops,
        facts={name: [words[code] for code in targets[name]] for name, words in classes.items()},
    )
    return _finish(
        reports, analyses, crops, out_dir, kind="answers", title=f"Scores against {answers.name}",
        notes=notes, console=console, details=details,
    )  # fmt: skip


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
        predictions: path of predictions.parquet, or of its folder.
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
        answered = OofVote(
            tuple(predicted.ids[row] for row in rows),
            np.array([found[row] for row in rows], dtype=np.int32),
            preds[rows],
            tuple(predicted.statuses[row] for row in rows) if predicted.statuses else (),
            n_differ=0,
        )
        note = "" if len(rows) == len(found) else note
        reports.append(report_of(name, answered, schema, source=predictions.name, note=note))
    if not reports:
        raise DataError(
            f"no photo in {predictions} has a label in {photos.root}: give the true codes with "
            "--answers FILE"
        )
    return _finish(
        reports, None, None, out_dir, kind="labels", title="Scores against labels", notes=notes,
        console=console, details=details,
    )  # fmt: skip


def _finish(
    reports: Sequence[TaskReport],
    analyses: Sequence[ErrorAnalysis] | None,
    crops: CropSet | None,
    out_dir: Path,
    *,
    kind: str,
    title: str,
    notes: Sequence[str],
    console: Console | None,
    details: bool,
) -> Evaluation:
    """Write and print the scores and, where there is one, the error analysis."""
    # The file has always named the error analyses "diagnoses".
    more = None if analyses is None else {"diagnoses": [each.to_dict() for each in analyses]}
    path, matrices = write_reports(out_dir, reports, kind=kind, notes=notes, more=more)
    pictures = write_error_pictures(out_dir, analyses or (), crops)
    if console is not None and not details:
        print_scores(console, reports, analyses or (), title=title)
        for note in notes:
            say(console, note, style="dim")
        say(console, f"written: {path} and pictures beside it; --details prints the tables")
    elif console is not None:
        print_reports(console, reports, title=title)
        if analyses is not None:
            print_analyses(console, analyses)
        for note in (*notes, CONVENTION):
            say(console, note, style="dim")
        say(console, f"written: {path}")
        say(console, f"confusion matrices: {out_dir / 'confusion_*.png'} ({len(matrices)})")
        if analyses is not None:
            where = out_dir / "{reliability,mistakes}_*.png"
            say(console, f"calibration, most confident mistakes: {where} ({len(pictures)})")
    return Evaluation(
        tuple(reports), path, matrices, tuple(notes), tuple(analyses or ()), tuple(pictures)
    )
