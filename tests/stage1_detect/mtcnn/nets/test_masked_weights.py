"""The hardened weights that are shipped: whole, engine-independent, and worth their name on photos
that they never learnt from."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from cropfirst.core.faces.boxes import iou
from cropfirst.core.faces.select import select_face
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections
from cropfirst.stage1_detect.mtcnn.nets.modules import (
    JOINED_PARTS,
    load_nets,
    weights_file,
    weights_hash,
)
from cropfirst.stage1_detect.mtcnn.parity import compare_faces
from cropfirst.stage1_detect.photos.read import read_photo


def test_every_shipped_file_is_whole_and_has_its_card() -> None:
    card = weights_file("reference").with_name("README.md").read_text("utf-8")
    assert len({weights_hash(name) for name in JOINED_PARTS}) == len(JOINED_PARTS)
    for name in JOINED_PARTS:
        for net in load_nets(name):
            assert all(torch.isfinite(value).all() for value in net.state_dict().values())
        assert weights_file(name).stat().st_size < 2_500_000
        assert f"`{name}.safetensors`" in card
    for source in ("FairFace", "CC BY 4.0", "CC0", "MIT"):
        assert source in card, f"{source} is part of what the weights come from"


def test_both_engines_give_the_same_faces(face_photo: np.ndarray) -> None:
    config = DetectorConfig(weights="masked", min_face_size=30)
    found = {
        name: MTCNN(config, engine=name, threads=1).detect([face_photo, face_photo[:, ::-1]])
        for name in ("torch", "numba")
    }
    same = compare_faces(found["numba"], found["torch"])
    assert same.faces >= 2 and same.matched == 1 and same.extra == 0 and same.prob < 1e-4


def main_faces(weights: str, photos: list[np.ndarray]) -> list[np.ndarray | None]:
    config = DetectorConfig(weights=weights)
    return [main_face(faces, photo) for faces, photo in
            zip(MTCNN(config).detect(photos), photos, strict=True)]  # fmt: skip


def main_face(faces: Detections, photo: np.ndarray) -> np.ndarray | None:
    height, width = photo.shape[:2]
    index = select_face(faces, "largest_over_threshold", height=height, width=width)
    return None if index is None else faces.boxes[index]


@pytest.mark.parametrize(("shot", "least"), [("mask", 0.97), ("incorrect", 0.95), ("normal", 1)])
def test_masked_faces_of_strangers_are_found(shot: str, least: float, shared_data: Path) -> None:
    """No person of that set was learnt from; its masks are pasted, so this is no more than sane."""
    table = pl.read_csv(shared_data / "contest/boxes.csv")
    pattern = re.compile(rf"train/.*/{shot}[^/]*$")
    rows = [row for row in table.to_dicts() if pattern.match(row["file"])][::5][:80]
    photos = [read_photo(shared_data / "contest" / row["file"]).image for row in rows]
    truth = [np.array([[row[side] for side in ("x0", "y0", "x1", "y1")]]) for row in rows]

    def share(weights: str) -> float:
        found = main_faces(weights, photos)
        on = [box is not None and iou(box[None], true)[0, 0] >= 0.4
              for box, true in zip(found, truth, strict=True)]  # fmt: skip
        return float(np.mean(on))

    assert len(rows) > 40
    masked, reference = share("masked"), share("reference")
    assert masked >= least and masked >= reference, f"{masked:.3f}, the reference {reference:.3f}"
    if shot == "mask":
        assert masked > reference + 0.1


def test_bare_faces_stay_where_they_were(shared_data: Path) -> None:
    paths = sorted((shared_data / "portraits/images").iterdir())[::6]
    photos = [read_photo(path).image for path in paths]
    pairs = zip(main_faces("masked", photos), main_faces("reference", photos), strict=True)
    overlaps = [0.0 if a is None or b is None else iou(a[None], b[None])[0, 0] for a, b in pairs]
    assert min(overlaps) > 0.75 and np.mean(overlaps) > 0.93
