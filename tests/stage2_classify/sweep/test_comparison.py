"""Lines of a sweep against each other: differences, and how sure they are."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from sklearn.metrics import f1_score

from cropfirst.core.bootstrap import Interval
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.sweep.comparison import compare, comparison_table
from cropfirst.stage2_classify.sweep.console import print_comparison
from cropfirst.stage2_classify.sweep.page import write_report
from cropfirst.stage2_classify.sweep.scores import kind_of_scores, read_line


def test_identical_photos_of_a_person_do_not_narrow_the_interval(
    save_people: Callable[..., Path], schema: LabelSchema, tmp_path: Path
) -> None:
    """Drawing photos instead of people would halve the interval: sqrt(4) = 2."""

    def difference(photos: int, *, known: bool) -> Interval:
        lines = []
        for name, strength, seed in (("base", 0.5, 1), ("other", 1.0, 2)):
            run = save_people(
                tmp_path / f"{photos}{known}" / name,
                photos=photos,
                known=known,
                strength=strength,
                seed=seed,
            )
            lines.append(read_line(name, [run], schema, n_jobs=2, n_finished=2))
        return compare(lines, schema.task_names).differences["other"]

    one, four = difference(1, known=True), difference(4, known=True)
    assert one.value > 0 and four == one
    narrow = difference(4, known=False)
    ratio = (one.high - one.low) / (narrow.high - narrow.low)
    assert ratio == pytest.approx(2, abs=0.2)


def test_the_table_has_the_majority_of_the_mean_and_of_each_task(
    save_people: Callable[..., Path], schema: LabelSchema, tmp_path: Path
) -> None:
    run = save_people(tmp_path / "run", photos=2, strength=1.0)
    oof = pl.read_parquet(run / "oof.parquet")
    line = read_line("line", [run], schema, n_jobs=1, n_finished=1)
    comparison = compare([line], schema.task_names)
    (row,) = comparison_table(comparison).to_dicts()
    want = {}
    for task in schema.task_names:
        targets = oof[f"{task}_target"].to_numpy()
        constant = np.full(len(targets), np.bincount(targets).argmax())
        want[task] = f1_score(targets, constant, average="macro", zero_division=0)
        assert row[f"{task}_majority_f1"] == pytest.approx(want[task])
    mean = float(np.mean([*want.values()]))
    assert row["majority_f1"] == pytest.approx(mean)
    parquet, page = write_report(
        comparison, comparison_table(comparison), tmp_path, title="t", settings={}
    )
    console = Console(file=io.StringIO(), width=100)
    print_comparison(console, comparison, pl.read_parquet(parquet), page)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "most frequent class" in said
    rows = [text.split() for text in said.splitlines() if text.strip().startswith("majority ")]
    assert rows[0] == ["majority", f"{mean:.3f}"]
    assert rows[1][1:4] == [f"{want[task]:.3f}" for task in schema.task_names]
    html = page.read_text()
    assert all(f"{value:.4f}</td>" in html for value in (mean, *want.values()))
    assert "gender majority</button>" in html


def test_lines_are_compared_in_swapped_rooms_where_all_have_them(
    tmp_path: Path, schema: LabelSchema, save_in_rooms: Callable[..., Path]
) -> None:
    room = save_in_rooms(tmp_path / "room", own=9, swapped=0)
    face = save_in_rooms(tmp_path / "face", own=2, swapped=4)
    for kind, better in (("swapped", "face"), ("oof", "room")):
        assert kind_of_scores([[room], [face]], "auto" if kind == "swapped" else "oof") == kind
        lines = [
            read_line(run.name, [run], schema, n_jobs=1, n_finished=1, kind=kind)  # type: ignore[arg-type]
            for run in (room, face)
        ]
        found = compare(lines, ["gender"], baseline="best", kind=kind)  # type: ignore[arg-type]
        assert found.baseline == better
        (difference,) = found.differences.values()
        assert difference.high < 0
        table = comparison_table(found)
        assert table["line"][0] == better
        own = dict(table.select("line", "oof_macro_f1").iter_rows())
        assert own["room"] > 0.95 > own["face"]
    (face / "swapped.parquet").unlink()
    assert kind_of_scores([[room], [face]], "auto") == "oof"
