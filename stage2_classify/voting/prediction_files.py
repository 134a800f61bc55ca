"""Reads files to be scored: the true codes that a user has, and the predictions of `predict`.

Knows ids, codes and class names; scores nothing and knows nothing of models. No torch.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from cropfirst.cache.tables import read_table
from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.voting.prediction_table import FORMAT, KIND
from cropfirst.stage2_classify.voting.soft_vote import split_codes

Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class StoredPredictions:
    """Predictions read from a file, one row per photo."""

    ids: tuple[str, ...]
    """(N,) image ids of the submission; keys where there is no submission."""
    preds: Mapping[str, Ints]
    """Task or combined code -> (N,) class numbers."""
    statuses: tuple[str, ...] | None
    """(N,) crop statuses; None where the file has none."""
    keys: tuple[str, ...] | None = None
    """(N,) keys of the photos; None where the file has none."""
    probs: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """Task -> (N, classes) probabilities; only tasks that the file has some for."""


def read_true_codes(
    path: Path, schema: LabelSchema, *, columns: tuple[str, str] = ("ImageID", "ans")
) -> dict[str, int]:
    """Read image id -> combined code from a CSV with these two columns.

    Raises:
        DataError: no such file, columns missing, an id twice, or an invalid code.
    """
    id_column, code_column = columns
    n_codes = schema.num_classes(combined_name(schema, path))
    answers: dict[str, int] = {}
    for line, row in _read_csv(path, columns):
        image_id, text = row[id_column], row[code_column]
        try:
            code = int(text)
        except (TypeError, ValueError):
            code = -1
        if not 0 <= code < n_codes:
            raise DataError(
                f"{path}, line {line}: {code_column}={text!r} is not a code from 0 to {n_codes - 1}"
            )
        if image_id in answers:
            raise DataError(f"{path}, line {line}: {image_id} occurs twice")
        answers[image_id] = code
    if not answers:
        raise DataError(f"{path} has no answers, only a header")
    return answers


def read_prediction_file(
    path: Path,
    schema: LabelSchema,
    *,
    columns: tuple[str, str] = ("ImageID", "ans"),
    by_key: bool = False,
) -> StoredPredictions:
    """Read predictions.parquet, submission.csv, or the folder that `predict` wrote them to.

    Args:
        by_key: read all photos by their key, also those with ids in a submission.

    Raises:
        DataError: no such file, not a file of predict, or one of another label schema.
    """
    if path.is_dir():
        path = path / "predictions.parquet"
    if not path.is_file():
        raise DataError(f"there are no predictions in {path}: run cropfirst predict first")
    if path.suffix == ".csv":
        if by_key:
            raise DataError(f"{path} has no keys: give the predictions.parquet beside it")
        codes = read_true_codes(path, schema, columns=columns)
        preds = with_parts(np.array([*codes.values()]), schema)
        return StoredPredictions(tuple(codes), preds, None)
    table = read_predictions(path)
    if "face" in table.columns:
        raise DataError(
            f"{path} has a row per face (predict --all-faces), and scores need one per photo: run "
            "cropfirst predict without --all-faces"
        )
    if not by_key and table["image_id"].null_count() < table.height:
        table = table.drop_nulls("image_id")
        ids = table["image_id"].to_list()
    else:
        ids = table["key"].to_list()
    preds = {
        task: _class_numbers(table[f"{task}_pred"], schema.class_names(task), path)
        for task in schema.task_names
        if f"{task}_pred" in table.columns
    }
    if "code" in table.columns and schema.combined is not None:
        preds[schema.combined.name] = table["code"].to_numpy()
    return StoredPredictions(
        tuple(ids),
        preds,
        tuple(table["status"].to_list()),
        tuple(table["key"].to_list()),
        _probs(table, schema),
    )


def read_predictions(path: Path) -> pl.DataFrame:
    """Read the table of a predictions.parquet.

    Raises:
        CacheError: it is not Parquet, is damaged, or was written by a newer cropfirst.
        DataError: it was not written by predict.
    """
    table = read_table(path, kind=KIND, version=FORMAT, fix="run predict again")
    missing = [name for name in ("key", "image_id", "status") if name not in table.columns]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}: wanted a predictions.parquet as predict "
            "writes it"
        )
    return table


def predicted_tasks(path: Path) -> tuple[str, ...]:
    """Return the tasks of a predictions.parquet or of its folder; empty for any other file."""
    path = path / "predictions.parquet" if path.is_dir() else path
    if path.suffix != ".parquet" or not path.is_file():
        return ()
    columns = read_predictions(path).columns
    return tuple(name.removesuffix("_pred") for name in columns if name.endswith("_pred"))


def check_same_ids(truth: Collection[str], predicted: Collection[str], *, where: Path) -> None:
    """Check that the true codes are those of the predicted photos.

    Raises:
        DataError: ids that are missing or extra; the message names some.
    """
    missing = sorted(set(predicted) - set(truth))
    extra = sorted(set(truth) - set(predicted))
    if not missing and not extra:
        return
    faults = [
        f"{len(ids)} {what}, such as {', '.join(ids[:3])}"
        for ids, what in ((missing, "predicted photos have no answer"),
                          (extra, "answers are for photos that were not predicted"))
        if ids
    ]  # fmt: skip
    raise DataError(
        f"{where} does not fit the predictions: {'; '.join(faults)}. Wanted exactly one answer for "
        "each predicted photo"
    )


def combined_name(schema: LabelSchema, path: Path) -> str:
    """Return the name of the schema's combined code, which a file of codes needs.

    Raises:
        DataError: the schema combines no tasks.
    """
    if schema.combined is None:
        raise DataError(
            f"{path} has combined codes, and the label schema {schema.name!r} has none: give one "
            "that combines its tasks with --schema"
        )
    return schema.combined.name


def with_parts(codes: Ints, schema: LabelSchema) -> dict[str, Ints]:
    """Return (N,) combined codes by their name, and the class numbers of the tasks in them."""
    parts = split_codes(codes, schema)
    return parts | ({schema.combined.name: codes} if schema.combined else {})


def _probs(table: pl.DataFrame, schema: LabelSchema) -> dict[str, npt.NDArray[np.float32]]:
    """Return the probabilities of the tasks that have some, of as many classes as the schema's."""
    found: dict[str, npt.NDArray[np.float32]] = {}
    for name in schema.names:
        column = f"{name}_probs"
        size = schema.num_classes(name)
        if column in table.columns and set(table[column].list.len().to_list()) <= {size}:
            rows = table[column].list.to_array(size).to_numpy()
            found[name] = np.asarray(rows, np.float32).reshape(table.height, size)
    return found


def _class_numbers(column: pl.Series, names: Sequence[str], path: Path) -> Ints:
    number = {name: code for code, name in enumerate(names)}
    foreign = sorted({str(name) for name in column.unique().to_list()} - number.keys())
    if foreign:
        raise DataError(
            f"{path}: {column.name} has {', '.join(foreign[:3])}, the label schema has "
            f"{', '.join(names)}: give the schema of the training with --schema"
        )
    return np.array([number[name] for name in column], dtype=np.int32)


def _read_csv(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read (line number, row) of a CSV with these columns."""
    if not path.is_file():
        raise DataError(f"there is no file {path}: wanted a CSV with {' and '.join(columns)}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
            names = reader.fieldnames or []
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not readable as CSV ({error})") from error
    missing = [name for name in columns if name not in names]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)} (it has {', '.join(names) or 'none'}): "
            f"wanted {' and '.join(columns)}"
        )
    return rows
