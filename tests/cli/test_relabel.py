"""`relabel`: from out-of-fold predictions to a page and corrections, or to a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cropfirst.stage2_classify.datasets import open_dataset
from cropfirst.stage2_classify.runs.parquet import read_parquet, write_parquet

pytest.importorskip("cleanlab", reason="the extra [labels] is not installed")

Ok = Callable[..., str]


@pytest.fixture
def doubted(copied: Any, predict_oof: Callable[..., None]) -> tuple[Any, list[str]]:
    """A run that knows the masks, and surely contradicts the labels of three photos.

    Of gender and age it knows what one epoch taught it: nothing.
    """
    (run,) = copied.runs.iterdir()
    table = read_parquet(run / "oof.parquet")
    preds = table["mask_target"].to_numpy().copy()
    rows = [0, 10, 20]
    preds[rows] = (preds[rows] + 1) % 3
    predict_oof(run, "mask", preds, surely=0.9)
    return copied, [table["key"][row] for row in rows]


def test_relabel_writes_a_page_and_corrections_that_are_read_back(
    doubted: tuple[Any, list[str]], ok: Ok, tmp_path: Path
) -> None:
    work, wrong = doubted
    said = ok("relabel", work.data, "--work", work.work, "--out", tmp_path)
    assert str(tmp_path / "relabel.html") in said
    table = pl.read_parquet(tmp_path / "label_issues.parquet")
    assert set(table["task"]) == {"mask"}
    assert {key for keys in table["keys"].to_list() for key in keys} == set(wrong)
    page = (tmp_path / "relabel.html").read_text("utf-8")
    assert "http://" not in page and "https://" not in page and "data:image/jpeg" in page
    start = page.index("{", page.index("head, items } =") + 15)
    data = json.JSONDecoder().raw_decode(page, start)[0]
    assert {item["suggested"] for item in data["items"]} == set(table["suggested"].to_list())
    # Taking every suggestion changes these labels, and no others.
    before = open_dataset(work.data).by_key()
    after = open_dataset(work.data, corrections=tmp_path / "suggested.csv").by_key()
    changed = {key for key in before if before[key].labels != after[key].labels}
    assert changed == set(wrong)
    again = ok(
        "relabel", work.data, "--work", work.work, "--out", tmp_path / "again",
        "--corrections", tmp_path / "suggested.csv",
    )  # fmt: skip
    assert "mask: no label is probably wrong" in again
    assert (tmp_path / "again/suggested.csv").read_text() == (
        tmp_path / "suggested.csv"
    ).read_text()


def test_tasks_at_chance_are_named_while_others_get_suggestions(
    doubted: tuple[Any, list[str]], ok: Ok, tmp_path: Path
) -> None:
    work, _ = doubted
    said = " ".join(ok("relabel", work.data, "--work", work.work, "--out", tmp_path).split())
    assert "mask: 3 labels of photos are probably wrong" in said
    for task, chance in (("gender", "0.500"), ("age", "0.333")):
        start = said.index(f"{task}: no label is suggested, since the models are no better than")
        figures = said[start : said.index(" people)", start)]
        assert f"chance {chance}, difference" in figures and figures.endswith("over 6")
        assert f"{task}: no label is probably wrong" not in said


def test_nothing_is_suggested_where_every_task_is_at_chance(
    trained: Any, run: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said = run("relabel", trained.data, "--work", trained.work, "--out", out)
    error = " ".join(said.error.split())
    assert said.code == 1 and "no wrong labels can be found" in error
    assert error.count("no better than chance (balanced accuracy 0.") == 3
    assert "Train better models first" in error and not out.exists()
    said = run("relabel", trained.data, "--work", trained.work, "--out", out, "--task", "gender")
    assert said.code == 1 and "age" not in said.error


def test_labels_of_one_class_or_of_few_people_are_no_evidence(
    doubted: tuple[Any, list[str]], run: Any, tmp_path: Path
) -> None:
    work, _ = doubted
    command = ("relabel", work.data, "--work", work.work, "--out", tmp_path, "--task", "mask")
    path = next(work.runs.glob("*/oof.parquet"))
    table = read_parquet(path)
    write_parquet(path, table.filter(pl.col("mask_target") == 0))
    assert "mask: all of its labels are of one class" in run(*command).error
    people = table["group"].unique().sort().to_list()
    for count, who in ((1, "person"), (2, "people")):
        write_parquet(path, table.filter(pl.col("group").is_in(people[:count])))
        error = " ".join(run(*command).error.split())
        assert f"over {count} {who}; 6 or more are needed" in error
    write_parquet(path, table.with_columns(key=pl.lit("gone/") + pl.col("key")))
    assert "no photo of the data set has been predicted" in run(*command).error
