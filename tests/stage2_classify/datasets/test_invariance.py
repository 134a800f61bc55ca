"""The order of rows, the form and case of text and the hash seed do not change what is learned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cropfirst.stage2_classify.data.folds import make_folds
from cropfirst.stage2_classify.datasets import open_dataset
from cropfirst.stage2_classify.labels.infer_schema import infer_schema

DRINKS = ("caf\u00e9", "Tea", "tea")
ROWS = [
    (
        f"\uc0ac\uc9c4/{n:02}.jpg",
        f"p\u00e9rson {n // 3}",
        ("caf\u00e9", "Tea", "tea")[n % 3],
        20 + n,
    )
    for n in range(24)
]
"""Path, person, drink and age; the drink's spellings `Tea` and `tea` are one class."""
FORMS = st.sampled_from(["NFC", "NFD"])


def understood(root: Path) -> dict[str, Any]:
    """Return what training is told of a data set: its schema, targets, persons and folds."""
    photos = open_dataset(root)
    schema = infer_schema(photos)
    targets = [schema.task("drink").encode(sample.labels) for sample in photos.samples]
    groups = [sample.group for sample in photos.samples]
    keys = [sample.key for sample in photos.samples]
    folds = make_folds(keys, groups=groups, targets=_array(targets), n_folds=2)
    return {
        "schema": schema.to_dict(), "targets": targets, "groups": groups, "keys": keys,
        "folds": folds.tolist(),
    }  # fmt: skip


def _array(values: list[int | None]) -> Any:
    import numpy as np

    return np.array(values)


def write(root: Path, rows: list[tuple[Any, ...]], *, forms: list[str], separator: str) -> Path:
    for path, *_ in ROWS:
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).touch()
    lines = [separator.join(("path", "group", "drink", "age"))]
    lines += [
        unicodedata.normalize(form, separator.join(map(str, row)))  # type: ignore[arg-type]
        for row, form in zip(rows, forms, strict=True)
    ]
    (root / "labels.csv").write_text("\n".join(lines), "utf-8")
    return root


@settings(max_examples=25, deadline=None)
@given(
    rows=st.permutations(ROWS),
    forms=st.lists(FORMS, min_size=len(ROWS), max_size=len(ROWS)),
    separator=st.sampled_from([",", ";", "\t"]),
    in_capitals=st.lists(st.booleans(), min_size=len(ROWS), max_size=len(ROWS)),
)
def test_rows_forms_case_of_paths_and_separators_change_nothing(
    rows: list[tuple[Any, ...]], forms: list[str], separator: str, in_capitals: list[bool]
) -> None:
    paths = [
        (row[0].replace(".jpg", ".JPG") if capitals else row[0], *row[1:])
        for row, capitals in zip(rows, in_capitals, strict=True)
    ]
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        plain = understood(write(Path(one), ROWS, forms=["NFC"] * len(ROWS), separator=","))
        assert understood(write(Path(other), paths, forms=forms, separator=separator)) == plain
    assert plain["schema"]["tasks"]["drink"]["classes"] == ["Tea", "caf\u00e9"]


def test_the_hash_seed_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, ROWS, forms=["NFC"] * len(ROWS), separator=",")
    code = (
        "import importlib.util, json, sys; from pathlib import Path\n"
        f"spec = importlib.util.spec_from_file_location('helpers', {__file__!r})\n"
        "helpers = importlib.util.module_from_spec(spec); spec.loader.exec_module(helpers)\n"
        "print(json.dumps(helpers.understood(Path(sys.argv[1]))))"
    )
    answers = set()
    for seed in ("0", "1", "2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, timeout=250, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        answers.add(done.stdout)
    assert len(answers) == 1
    assert json.loads(answers.pop())["schema"]["tasks"]["drink"]["classes"] == ["Tea", "caf\u00e9"]
