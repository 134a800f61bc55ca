"""The tables that `predict` writes, and their columns: predictions.parquet and submission.csv.

Knows votes, samples and the label schema; knows nothing of models or crops. No torch.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cropfirst.cache.tables import read_table, write_table
from cropfirst.core.errors import TrainError
from cropfirst.door.sets import names_of
from cropfirst.stage2_classify.datasets.sample import PhotoSet, Sample
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.voting.soft_vote import Vote
from cropfirst.stage2_classify.voting.submission_history import replace_submission

KIND, FORMAT = "predictions", 1
"""Kind of the table in its metadata, and version of its columns."""
STATUSES = ("detected", "retried", "sibling", "prior", "unreadable", "missing")
"""Crop statuses from the best to the worst; `missing` is a photo that detect has not seen yet."""


def prediction_table(
    samples: Sequence[Sample],
    result: Vote,
    schema: LabelSchema,
    *,
    statuses: Sequence[str],
    members: npt.NDArray[np.integer],
    image_ids: Mapping[str, str],
    possible: Mapping[str, npt.NDArray[np.bool_]] | None = None,
) -> pl.DataFrame:
    """Return one row per photo: key, image_id, split, status, members, then the predictions.

    Args:
        members: (N,) number of members that have predicted the photo; 0 = it has the class prior.
        image_ids: key -> id in the submission, for the photos that have one.
        possible: task -> (N, C), whether each class stays possible; None = no sets are wanted.

    Returns:
        Further columns: `<task>_probs` List(Float32), `<task>_pred` the class's name, `<task>_prob`
        Float32 its probability (with thresholds not always the highest one), for the tasks in
        `possible` `<task>_possible` List(String) their names, and `code` Int32 where all parts of
        the combined code have a vote.
    """
    keys = [sample.key for sample in samples]
    columns = [
        pl.Series("key", keys, dtype=pl.String),
        pl.Series("image_id", [image_ids.get(key) for key in keys], dtype=pl.String),
        pl.Series("split", [sample.split for sample in samples], dtype=pl.String),
        pl.Series("status", statuses, dtype=pl.String),
        pl.Series("members", members, dtype=pl.Int32),
    ]
    for name, probs in result.probs.items():
        columns.append(pl.Series(f"{name}_probs", probs.tolist(), dtype=pl.List(pl.Float32)))
    for task, codes in result.preds.items():
        names = schema.class_names(task)
        columns.append(pl.Series(f"{task}_pred", [names[code] for code in codes], dtype=pl.String))
        prob = result.probs[task][np.arange(len(codes)), codes]
        columns.append(pl.Series(f"{task}_prob", prob, dtype=pl.Float32))
    for task, rows in (possible or {}).items():
        own = [names_of(row, schema.class_names(task)) for row in rows]
        columns.append(pl.Series(f"{task}_possible", own, dtype=pl.List(pl.String)))
    if result.code is not None:
        columns.append(pl.Series("code", result.code, dtype=pl.Int32))
    return pl.DataFrame(columns)


def with_faces(
    table: pl.DataFrame, faces: Mapping[str, tuple[str, int, Sequence[float] | None]]
) -> pl.DataFrame:
    """Return the predictions of faces with the key of the photo, and columns `face` and `box`.

    Args:
        faces: key in the table -> key of the photo, number of the face, box xyxy in photo pixels.

    Returns:
        The rows sorted by photo and face.
    """
    found = [faces[key] for key in table["key"]]
    columns = [
        pl.Series("key", [photo for photo, _, _ in found], dtype=pl.String),
        pl.Series("face", [number for _, number, _ in found], dtype=pl.Int32),
        pl.Series("box", [box for _, _, box in found], dtype=pl.List(pl.Float32)),
    ]
    return table.select(*columns, pl.exclude("key", "face", "box")).sort("key", "face")


def write_predictions(path: Path, table: pl.DataFrame) -> None:
    """Write predictions.parquet in one step."""
    write_table(path, table, kind=KIND, version=FORMAT)


def write_submission(
    path: Path,
    photos: PhotoSet,
    table: pl.DataFrame,
    schema: LabelSchema,
    *,
    made_by: Mapping[str, str] | None = None,
) -> Path | None:
    """Write the submission's rows in their order; without any, every photo's path and classes.

    Args:
        made_by: `runs`, `scores` and `votes` for the list of submissions.

    Returns:
        The earlier submission, under its new name; None where it is the same or there was none.

    Raises:
        TrainError: the submission needs the combined code, and a part of it has no vote.
    """
    rows: list[tuple[object, ...]]
    if photos.submission is None:
        tasks = [task for task in schema.task_names if f"{task}_pred" in table.columns]
        header: tuple[str, ...] = ("path", *tasks)
        rows = table.select("key", *(f"{task}_pred" for task in tasks)).rows()
    else:
        if "code" not in table.columns:
            raise TrainError(_no_code(path, table, schema))
        codes = dict(table.select("key", "code").iter_rows())
        header = photos.submission_columns
        rows = [(image_id, codes[key]) for image_id, key in photos.submission]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return replace_submission(path, text.getvalue().encode(), made_by or {})


def _no_code(path: Path, table: pl.DataFrame, schema: LabelSchema) -> str:
    start = f"{path} cannot be written: it needs the combined code"
    rest = "predictions.parquet beside it has the predictions of the runs"
    if path.exists():
        rest += f"; the existing {path.name} is from an earlier predict"
    if schema.combined is None:
        return (
            f"{start}, and the runs' label schema {schema.name!r} has none: train with a schema "
            f"that combines its tasks (--schema). {rest}"
        )
    missing = [task for task in schema.combined.tasks if f"{task}_pred" not in table.columns]
    commands = " and ".join(f"`cropfirst train DATA --task {task}`" for task in missing)
    return f"{start}, and no run is trained for {', '.join(missing)}: run {commands}. {rest}"


def print_predictions(path: Path, console: Console) -> None:
    """Print each photo's status, and its class and probability for each task ("-" = no crop).

    A table of all faces has a row per face, with its number and its box.
    """
    rows = read_table(path, kind=KIND, version=FORMAT, fix="run predict again")
    tasks = [name.removesuffix("_pred") for name in rows.columns if name.endswith("_pred")]
    of_faces = "face" in rows.columns
    table = Table("photo", *(("face", "box") if of_faces else ()), "status", *tasks)
    for row in rows.iter_rows(named=True):
        face = (str(row["face"]), _corners(row["box"])) if of_faces else ()
        cells = [_prediction(row, task) for task in tasks]
        # The row of a photo without a crop has the class shares of training.
        table.add_row(
            Text(row["key"]), *face, row["status"], *(cells if row["members"] else "-" * len(cells))
        )
    console.print(table)


def _prediction(row: Mapping[str, Any], task: str) -> str:
    """Return a prediction as text, such as `wear (80%), possible: wear, normal`."""
    text = f"{row[f'{task}_pred']} ({row[f'{task}_prob']:.0%})"
    if f"{task}_possible" not in row:
        return text
    return f"{text}, possible: {', '.join(row[f'{task}_possible']) or 'none of the classes'}"


def _corners(box: Sequence[float] | None) -> str:
    """Return a box as text, such as `12,30 - 80,110`; "-" for none."""
    if box is None:
        return "-"
    x0, y0, x1, y1 = (round(value) for value in box)
    return f"{x0},{y0} - {x1},{y1}"
