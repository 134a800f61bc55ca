"""Small real caches and checkpoints, for the tests of what comes after training."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from cropfirst.cache import Cache, CropSet, crop_set_name
from cropfirst.core.fingerprint import fingerprint
from cropfirst.stage1_detect.config import Background, CropConfig, DetectConfig
from cropfirst.stage2_classify.datasets.sample import PhotoSet, Sample
from cropfirst.stage2_classify.labels.schema import LabelSchema, load_schema
from cropfirst.stage2_classify.model.models import build_classifier
from cropfirst.stage2_classify.runs.checkpoint import save_checkpoint
from cropfirst.stage2_classify.runs.json_files import write_json

SIZE = 32


@pytest.fixture(scope="session")
def schema() -> LabelSchema:
    """The contest's schema."""
    return load_schema("contest")


@dataclass(frozen=True)
class CropMaker:
    """Writes crop sets of random crops, each photo's own."""

    cache: Cache

    def __call__(
        self, statuses: Mapping[str, str], *, size: int = SIZE, background: Background = "ellipse"
    ) -> CropSet:
        """A crop set with one row a key; `unreadable` ones have no crop."""
        crop = CropConfig(background=background, image_size=size)
        config = DetectConfig(crop=crop).crop_key("0123456789abcdef")
        name = crop_set_name(background, size, fingerprint(config))
        crop_set = self.cache.crop_set(name, config)
        rows: list[dict[str, Any]] = []
        with crop_set.writer() as writer:
            for key, status in statuses.items():
                row = {"key": key, "split": "eval", "status": status}
                if status != "unreadable":
                    row["crop_hash"] = writer.put(key, self.crop(key, size=size))
                rows.append(row)
        crop_set.manifest.append(rows)
        return crop_set

    def crop(self, key: str, *, size: int = SIZE) -> np.ndarray:
        """(size, size, 3) uint8, decided by the key."""
        random = np.random.default_rng([*key.encode(), size])
        return random.integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.fixture
def make_crops(tmp_path: Path) -> CropMaker:
    """Makes crop sets in one new cache."""
    return CropMaker(Cache.open(tmp_path / "cache", create=True))


@pytest.fixture
def save_member(tmp_path: Path, schema: LabelSchema) -> Callable[..., Path]:
    """Saves one fold's checkpoint under `runs/`, as train does; returns the run directory."""

    def save(
        run: str,
        crops: CropSet,
        *,
        tasks: Sequence[str],
        fold: int = 0,
        image_size: int = SIZE,
        labels: LabelSchema = schema,
        prior: Mapping[str, list[float]] | None = None,
        finished: bool = True,
    ) -> Path:
        folder = tmp_path / "runs" / run
        heads = {task: list(labels.class_names(task)) for task in tasks}
        torch.manual_seed(sum(f"{run}{fold}".encode()))
        model = build_classifier(
            "test_vit", {task: len(names) for task, names in heads.items()}, image_size=image_size
        )
        for weight in model.heads.parameters():  # answers far from flat, so that a mix-up shows
            torch.nn.init.normal_(weight, std=1.0)
        meta = {
            "backbone": "test_vit",
            "heads": heads,
            "image_size": image_size,
            "mean": model.mean.flatten().tolist(),
            "std": model.std.flatten().tolist(),
            "fold": fold,
            "schema": labels.to_dict(),
            "crop_set": {
                "name": crops.name,
                "fingerprint": crops.fingerprint,
                "config": dict(crops.config),
            },
            "class_prior": prior
            or {task: [1.0 / len(names)] * len(names) for task, names in heads.items()},
        }
        save_checkpoint(folder / f"fold{fold}" / "best_f1", model, meta)
        if finished:
            write_json(folder / f"fold{fold}" / "metrics.json", {})
        return folder

    return save


@pytest.fixture
def make_photos(tmp_path: Path) -> Callable[..., PhotoSet]:
    """Makes a photo set of keys; no photo is on disk, since stage 2 opens none."""

    def make(
        keys: Sequence[str],
        *,
        splits: Mapping[str, str] | None = None,
        labels: Mapping[str, Mapping[str, Any]] | None = None,
        **more: Any,
    ) -> PhotoSet:
        root = tmp_path / "data"
        samples = tuple(
            Sample(
                key,
                root / key,
                split="train" if (splits or {}).get(key) == "train" else "eval",
                labels=(labels or {}).get(key, {}),
            )
            for key in sorted(keys)
        )
        return PhotoSet(root, more.pop("layout", "contest"), samples, **more)

    return make


@pytest.fixture
def save_people(schema: LabelSchema) -> Callable[..., Path]:
    """Writes out-of-fold predictions of 50 people with several identical photos each."""

    def save(
        run: Path,
        *,
        photos: int,
        tasks: Sequence[str] = schema.task_names,
        known: bool = True,
        strength: float = 1.0,
        seed: int = 0,
    ) -> Path:
        """Write a run's tables.

        Args:
            photos: per person, with the same labels and predictions.
            known: whether the table says whose photo each one is.
            strength: how well the run knows the truth, which `seed` does not change.
        """
        people = np.repeat(np.arange(50), photos)
        copies = np.tile(np.arange(photos), 50)
        truth, rng = np.random.default_rng(99), np.random.default_rng(seed)
        columns: dict[str, Any] = {
            "key": [f"{p:02d}/{copy}.jpg" for p, copy in zip(people, copies, strict=True)],
            "group": [f"{p:02d}" if known else None for p in people],
            "fold": pl.Series(people % 2, dtype=pl.Int32),
            "status": ["detected"] * len(people),
        }
        for task in map(schema.task, tasks):
            targets = truth.integers(0, task.num_classes, 50)
            logits = rng.normal(size=(50, task.num_classes))
            logits[np.arange(50), targets] += strength
            probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            columns[f"{task.name}_target"] = pl.Series(targets[people], dtype=pl.Int32)
            rows = probs[people].tolist()
            columns[f"{task.name}_probs"] = pl.Series(rows, dtype=pl.List(pl.Float32))
        run.mkdir(parents=True, exist_ok=True)
        table = pl.DataFrame(columns, schema_overrides={"group": pl.String})
        table.write_parquet(run / "oof.parquet")
        table.select("key", "group", "fold").write_parquet(run / "folds.parquet")
        (run / "schema.json").write_text(json.dumps(schema.to_dict()))
        return run

    return save


@pytest.fixture
def save_in_rooms(save_people: Callable[..., Path]) -> Callable[..., Path]:
    """Writes a run that knows the gender by `own` in its photos' rooms, by `swapped` in others."""

    def save(run: Path, *, own: float, swapped: float) -> Path:
        rooms = save_people(run / "rooms", photos=3, tasks=("gender",), strength=swapped, seed=7)
        save_people(run, photos=3, tasks=("gender",), strength=own, seed=3)
        (rooms / "oof.parquet").rename(run / "swapped.parquet")
        return run

    return save
