"""Crops of doubtful tracks: a data set to label, which forgets by itself."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from cropfirst.core.errors import DoorError
from cropfirst.door.crop_folder import DAY
from cropfirst.door.tracks import Sighting, Tracks
from cropfirst.door.watch.doubtful import DoubtfulCrops, cut
from cropfirst.door.watch.sources import Frame
from cropfirst.stage2_classify.datasets import open_dataset

CLASSES = ("wear", "normal")


def play(crops: DoubtfulCrops, possible: tuple[str, ...], *, count: int = 30) -> None:
    """One person comes nearer, with the same answer in all frames."""
    tracks = Tracks(CLASSES)
    for index in range(count):
        size = 60 + index
        box = (100.0, 50.0, 100.0 + size, 50.0 + size)
        face = Sighting(box, size, 1.0, {"wear": 0.6, "normal": 0.4}, possible)
        events = tracks.step(index / 8, [face])
        crops.add(Frame(index / 8, np.full((240, 320, 3), index, np.uint8)), tracks.live)
        crops.note(events)
    crops.note(tracks.close())


def test_only_doubtful_tracks_leave_a_crop_and_the_folder_is_a_data_set(tmp_path: Path) -> None:
    crops = DoubtfulCrops(tmp_path, "mask", days=1)
    play(crops, ("wear",))
    assert crops.kept == 0 and [path.name for path in tmp_path.iterdir()] == ["expiry.json"]
    play(crops, CLASSES)
    play(crops, CLASSES)
    assert crops.kept == 2
    photos = open_dataset(tmp_path)
    assert photos.layout == "csv" and len(photos.samples) == 2
    assert len({sample.group for sample in photos.samples}) == 2
    assert all(sample.labels.get("mask") is None for sample in photos.samples)
    image = cv2.imread(str(photos.samples[0].path))
    # The last frame, in which the face was largest: 89 pixels, and half of it on each side.
    assert image.shape[0] > 140 and image[0, 0, 0] == 29


def test_crops_expire_and_other_files_stay(tmp_path: Path) -> None:
    clock = [1_000_000.0]
    crops = DoubtfulCrops(tmp_path, "mask", days=2, now=lambda: clock[0])
    play(crops, CLASSES)
    (tmp_path / "mine.png").write_bytes(b"mine")
    clock[0] += 1.9 * DAY
    play(crops, CLASSES)
    assert len(list(tmp_path.glob("*.png"))) == 3
    clock[0] += 0.2 * DAY
    DoubtfulCrops(tmp_path, "mask", days=2, now=lambda: clock[0])
    left = [path.name for path in tmp_path.glob("*.png")]
    assert len(left) == 2 and "mine.png" in left
    with (tmp_path / "labels.csv").open() as file:
        assert [row["path"] in left for row in csv.DictReader(file)] == [True]


def test_labels_and_other_files_are_kept(tmp_path: Path) -> None:
    """A label that was filled in stays, and what is no crop of ours is never deleted."""
    precious = tmp_path / "precious.png"
    precious.write_bytes(b"x")
    folder = tmp_path / "kept"
    folder.mkdir()
    old = "20200101-000000-0123abcd.png"
    (folder / old).write_bytes(b"x")
    names = ("../precious.png", f"../{old}", "mine.png", old)
    rows = "".join(f"{name},a,wear,Ann\n" for name in names)
    (folder / "labels.csv").write_text(f"path,group,mask,by\n{rows}")
    crops = DoubtfulCrops(folder, "mask", days=1)
    play(crops, CLASSES)
    with (folder / "labels.csv").open() as file:
        left = list(csv.DictReader(file))
    assert [row["path"] for row in left[:-1]] == list(names[:-1])
    assert (left[0]["mask"], left[0]["by"], left[-1]["mask"]) == ("wear", "Ann", "")
    assert precious.exists() and not (folder / old).exists()
    (folder / "labels.csv").write_text("path,label\na.png,x\n")
    with pytest.raises(DoorError, match="wanted"):
        DoubtfulCrops(folder, "mask", days=1)


def test_the_cut_stays_inside_the_picture() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    assert cut(image, (-20, -20, 20, 20)).shape == (40, 40, 3)
    assert cut(image, (90, 90, 130, 130)).shape == (30, 30, 3)
