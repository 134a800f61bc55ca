"""Small real caches and checkpoints, for the tests of what comes after training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cropfirst.cache import Cache, CropSet, crop_set_name
from cropfirst.core.fingerprint import fingerprint
from cropfirst.stage1_detect.config import Background, CropConfig, DetectConfig
from cropfirst.stage2_classify.datasets.sample import PhotoSet, Sample
from cropfirst.stage2_classify.labels.schema import LabelSchema, load_schema
from cropfirst.stage2_classify.model.models import build_classifier
from cropfirst.stage2_classify.runs.checkpoint import save_checkpoint, write_json

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
