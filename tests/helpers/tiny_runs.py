"""Runs on tiny drawn crops, each trained in about a second, for the tests of training."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from cropfirst.cache import Cache, CropSet
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.datasets.sample import PhotoSet, Sample
from cropfirst.stage2_classify.labels.schema import LabelSchema, load_schema
from cropfirst.stage2_classify.runs.results import RunSummary
from cropfirst.stage2_classify.train.train import train

MASKS = ("wear", "incorrect", "normal")
SIZE = 32


def draw(root: Path, *, n_people: int = 12) -> tuple[PhotoSet, LabelSchema, CropSet]:
    """A tiny data set: the mask is the crop's colour, the gender a white bar on top."""
    crops = Cache.open(root / "cache", create=True).crop_set("ellipse-32", {"image_size": SIZE})
    rng = np.random.default_rng(0)
    samples, rows = [], []
    with crops.writer() as writer:
        for person in range(n_people):
            for shot, mask in enumerate(MASKS):
                key = f"p{person:02d}/{mask}.jpg"
                crop = rng.integers(0, 80, (SIZE, SIZE, 3)).astype(np.uint8)
                crop[..., shot] += 140
                if person % 2:
                    crop[:10] = 255
                facts: dict[str, str | int | float] = {
                    "mask": mask,
                    "gender": ("male", "female")[person % 2],
                    "age": (20, 40, 60)[person // 2 % 3],
                }
                group = f"p{person:02d}"
                samples.append(Sample(key, root / key, "train", group, facts))
                rows.append(
                    {"key": key, "split": "train", "group": group, "status": "detected",
                     "crop_hash": writer.put(key, crop)}
                )  # fmt: skip
    crops.manifest.append(rows)
    ordered = tuple(sorted(samples, key=lambda sample: sample.key))
    return PhotoSet(root, "csv", ordered), load_schema("contest"), crops


def configure(task: str = "mask", **changes: Any) -> TrainConfig:
    """A config that trains in a second; `optim__lr=1` changes `optim.lr`."""
    data: dict[str, Any] = {
        "task": task,
        "model": {"backbone": "test_resnet", "pretrained": False, "drop_rate": 0.1},
        "data": {"batch_size": 8},
        "optim": {"epochs": 3, "lr": 5e-3, "warmup_epochs": 0.5},
        "folds": {"n_folds": 2},
        "device": "cpu",
    }
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            data[section][key] = value
        else:
            data[section] = value
    return TrainConfig.model_validate(data)


def run(root: Path, config: TrainConfig, *, runs: str = "runs", **options: Any) -> RunSummary:
    photos, schema, crops = draw(root) if not (root / "cache").exists() else reopen(root)
    return train(photos, schema, crops, config, runs_dir=root / runs, **options)


def reopen(root: Path) -> tuple[PhotoSet, LabelSchema, CropSet]:
    other = root / "again"
    shutil.rmtree(other, ignore_errors=True)
    photos, schema, _ = draw(other)
    return photos, schema, Cache.open(root / "cache").find()


def stop_after(text: str) -> Console:
    """A console on which the user presses Ctrl-C as soon as it shows `text`."""

    class Interrupt(io.StringIO):
        def write(self, shown: str) -> int:
            if text in shown:
                raise KeyboardInterrupt
            return super().write(shown)

    return Console(file=Interrupt(), width=200)


def results(folder: Path) -> dict[str, Any]:
    """All of a run that must not depend on how often it was killed."""
    out: dict[str, Any] = {}
    for path in sorted(folder.rglob("model.safetensors")):
        out[str(path.relative_to(folder))] = path.read_bytes()
    for path in sorted(folder.rglob("oof.parquet")):
        out[str(path.relative_to(folder))] = pl.read_parquet(path).to_dicts()
    for path in sorted(folder.rglob("history.csv")):
        out[str(path.relative_to(folder))] = (
            pl.read_csv(path).drop("crops_per_s", "seconds").to_dicts()
        )
    for path in sorted(folder.rglob("metrics.json")):
        out[str(path.relative_to(folder))] = json.loads(path.read_text())
    return out


def assert_same(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert list(got) == list(want)
    assert [name for name in want if got[name] != want[name]] == []
