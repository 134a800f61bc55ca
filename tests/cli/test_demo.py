"""The demo, as small as it can be: every step runs, and it ends with what to look at."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import polars as pl
import pytest


@pytest.mark.slow
def test_demo_goes_from_drawn_photos_to_a_submission(tmp_path: Path, ok: Any) -> None:
    work = tmp_path / "demo"
    said: str = ok("demo", "--work", work, "--people", "8", "--epochs", "1")
    submission = pl.read_csv(work / "predict/submission.csv")
    info = pl.read_csv(work / "data/eval/info.csv")
    assert submission["ImageID"].to_list() == info["ImageID"].to_list()
    assert submission["ans"].is_between(0, 17).all()
    assert len(list(work.glob("runs/*/fold*/best_f1/model.safetensors"))) == 2 * 3 * 2
    for task in ("mask", "gender", "age", "class18"):
        assert re.search(rf"│ {task} +│ 0\.\d+ +│ 0\.\d+ +│ 0\.\d+", said), said[-2000:]
    pictures = re.findall(r"^  (\S+\.png)$", said, re.MULTILINE)
    assert len(pictures) >= 6 and all(cv2.imread(path) is not None for path in pictures)
