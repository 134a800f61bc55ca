"""The whole way from photos to the submission comes to the same under every hash seed of Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

Table = Callable[[Path, Sequence[Sequence[object]]], None]
HATS = ("caf\u00e9", "None", "none", "nan")
"""Spellings of two classes, and a word for no value."""
STEPS = (
    ("detect", ("--set", "crop.image_size=32", "--set", "workers=1")),
    ("train", ("--task", "hat,sex", "--no-pretrained", "--backbone", "test_vit", "--folds", "2",
               "--epochs", "1")),
    ("predict", ()),
)  # fmt: skip
PIPELINE = f"""
import sys
from cropfirst.cli import main
for name, more in {STEPS!r}:
    words = [name, sys.argv[1], "--work", sys.argv[2], "--device", "cpu", *more]
    main(words, standalone_mode=False)
"""


def _write(root: Path, source: Path, table: Table) -> Path:
    """Twelve photos of six people, two to predict; texts in several spellings and forms."""
    rows: list[tuple[object, ...]] = [("path", "split", "group", "hat", "sex")]
    for index, folder in enumerate(sorted((source / "train/images").iterdir())):
        for shot, photo in enumerate(sorted(folder.glob("mask[12].*"))):
            name = f"{index}-{photo.name}"
            root.mkdir(exist_ok=True)
            shutil.copy(photo, root / name)
            form = ("NFC", "NFD")[shot]
            person = unicodedata.normalize(form, f"p\u00e9rson {index}")  # type: ignore[arg-type]
            hat = unicodedata.normalize(form, HATS[(index + shot) % 4])  # type: ignore[arg-type]
            rows.append((name, "train", person, hat, ("f", "F", "m")[(2 * index + shot) % 3]))
    for name in ("x.jpg", "a.jpg"):
        shutil.copy(source / "eval/images" / name, root / name)
        rows.append((name, "test", "", "", ""))
    table(root / "labels.csv", rows)
    return root


def _results(work: Path) -> dict[str, Any]:
    """Return the results: schema, folds, out-of-fold predictions, scores and the submission."""
    (run,) = (path.parent for path in work.glob("runs/*/run.json"))
    tables = {name: pl.read_parquet(run / f"{name}.parquet") for name in ("folds", "oof")}
    return {
        "run": run.name,
        "schema": (run / "schema.json").read_text("utf-8"),
        "scores": json.loads((run / "metrics.json").read_text("utf-8"))["tasks"],
        "submission": (work / "predict/submission.csv").read_text("utf-8"),
        **{name: table.to_dicts() for name, table in tables.items()},
    }


@pytest.mark.slow
def test_the_pipeline_comes_to_the_same_under_every_hash_seed(
    contest: Path, table: Table, tmp_path: Path, ok: Callable[..., str]
) -> None:
    data = _write(tmp_path / "data", contest, table)
    # This process has a seed of its own, which is random unless it was set.
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    started = subprocess.Popen(
        [sys.executable, "-c", PIPELINE, str(data), str(tmp_path / "other")],
        env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    for name, more in STEPS:
        ok(name, data, "--work", tmp_path / "here", "--device", "cpu", *more)
    said = started.communicate(timeout=250)[0]
    assert started.returncode == 0, said
    one, two = (_results(tmp_path / work) for work in ("here", "other"))
    assert one == two
    assert len(one["oof"]) == 10 and len(one["submission"].splitlines()) == 3
    tasks = json.loads(one["schema"])["tasks"]
    assert {name: task["classes"] for name, task in tasks.items()} == {
        "hat": ["None", "caf\u00e9"], "sex": ["F", "m"]
    }  # fmt: skip
