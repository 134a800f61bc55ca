"""The demo, as small as it can be: every step runs, and it ends with what to look at."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from sklearn.metrics import f1_score

from cropfirst.configs import load_yaml


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
    check_proof(work, said)


def check_proof(work: Path, said: str) -> None:
    """Each run of the proof is scored in three places, as its own files say."""
    found = json.loads((work / "proof/proof.json").read_text())
    titles = ["whole photos", "boxes", "ellipses", "boxes, swapped"]
    assert [row["title"] for row in found["rows"]] == titles
    for row in found["rows"]:
        run = work / "proof/runs" / row["run"]
        for name, score in (("oof", row["validation"]), ("swapped", row["swapped"]["value"])):
            table = pl.read_parquet(run / f"{name}.parquet")
            preds = np.stack(table["gender_probs"].to_list()).argmax(1)
            want = f1_score(table["gender_target"], preds, average="macro")
            assert score == pytest.approx(want), (row["run"], name)
        evaluation = work / "proof/evaluate" / row["run"] / "evaluation.json"
        (report,) = json.loads(evaluation.read_text())["reports"]
        assert row["new_place"]["value"] == pytest.approx(report["macro_f1"])
        assert f"{row['validation']:.3f}" in said
    assert [each["score"] for each in found["agreements"]] == ["validation", "swapped rooms"]
    assert "boxes, swapped" in said and str(work / "proof/proof.png") in said.replace("\n", "")
    swapped_run = load_yaml(work / "proof/runs/gender-box-swapped-demo_convnext/config.yaml")
    assert swapped_run["data"]["swap_rooms"] == 0.5 and swapped_run["data"]["swap_draws"] == 3
