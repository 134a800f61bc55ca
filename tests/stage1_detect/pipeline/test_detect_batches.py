"""Detection in batches: in order, within the memory, whatever is among the photos."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from cropfirst.cache import Cache
from cropfirst.core import decode as decoding
from cropfirst.stage1_detect.config import CropConfig, DetectConfig
from cropfirst.stage1_detect.mtcnn.detector import Detections
from cropfirst.stage1_detect.mtcnn.retry import RetryResult
from cropfirst.stage1_detect.photos.read import PhotoRef, read_photo, stat_photo
from cropfirst.stage1_detect.pipeline import recrop as recropping
from cropfirst.stage1_detect.pipeline.detect_batches import (
    PendingPhoto,
    _detect_on_gpu,
    chunk_size,
    crop_bytes,
    detect_batches,
    load_detector,
)
from cropfirst.stage1_detect.pipeline.memory import MemoryBudget, machine_memory, memory_budget
from cropfirst.stage1_detect.pipeline.recrop import RecropItem
from cropfirst.stage1_detect.pipeline.resolve import MainFace
from cropfirst.stage1_detect.run import detect


def _write(path: Path, photo: np.ndarray) -> PhotoRef:
    cv2.imwrite(str(path), cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
    return PhotoRef(path.name, path)


def test_results_come_in_the_photos_order_from_any_number_of_threads(
    face_photo: np.ndarray, tmp_path: Path
) -> None:
    photos = [_write(tmp_path / f"{i:02d}.png", np.roll(face_photo, i, 1)) for i in range(37)]
    (tmp_path / "20.png").write_bytes(b"no photo")
    new = [PendingPhoto(photo, stat_photo(photo.path)) for photo in photos]
    threads, switch = torch.get_num_threads(), sys.getswitchinterval()
    rows = {}
    for workers in (1, 3):
        config = DetectConfig(workers=workers)
        batches = list(detect_batches(new, config, device="cpu"))
        results = [result for batch in batches for result in batch]
        assert [result.ref for result in results] == photos
        rows[workers] = [result.row for result in results]
    assert rows[1] == rows[3], "to the last bit"
    assert rows[1][20]["error_type"] == "NotAnImage"
    assert sum(row["found"] == "detected" for row in rows[1]) == 36
    assert (torch.get_num_threads(), sys.getswitchinterval()) == (threads, switch)


def test_photos_fed_to_a_device_come_to_the_same_rows_and_crops(
    face_photo: np.ndarray, tmp_path: Path
) -> None:
    """A GPU's way of feeding, here to a detector on the CPU, in batches of a few photos."""
    photos = [_write(tmp_path / f"{i:02d}.png", np.roll(face_photo, i, 1)) for i in range(19)]
    (tmp_path / "07.png").write_bytes(b"no photo")
    new = [PendingPhoto(photo, stat_photo(photo.path)) for photo in photos]
    config = DetectConfig(workers=2)
    wanted = [result for some in detect_batches(new, config, device="cpu") for result in some]
    budget = MemoryBudget(10**9, batch_pixels=5 * face_photo.size // 3, crop_bytes=10**9)
    detector = load_detector(config, device="cpu")
    batches = list(_detect_on_gpu(new, config, detector, budget, workers=2))
    assert [len(batch) for batch in batches] == [3, 3, 4, 3, 3, 3]
    results = [result for batch in batches for result in batch]
    assert [result.ref for result in results] == photos
    assert [result.row for result in results] == [result.row for result in wanted], (
        "to the last bit"
    )
    hashes = [None if result.crop is None else result.crop.hash for result in results]
    assert hashes == [None if result.crop is None else result.crop.hash for result in wanted]
    assert sum(each is not None for each in hashes) == 18


class CountingDetector:
    """Finds nothing, slowly, and counts the threads at work."""

    def __init__(self) -> None:
        self.at_work = self.most = 0

    def detect(self, photos: Sequence[np.ndarray]) -> list[RetryResult]:
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        time.sleep(0.1)
        self.at_work -= 1
        none = Detections(
            np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32)
        )
        return [RetryResult("missed", "", none) for _ in photos]


@pytest.mark.parametrize(("memory_gb", "alone"), [(1.3, True), (3.0, False)])
def test_large_photos_wait_for_memory_before_their_pixels_are_decoded(
    face_photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory_gb: float,
    alone: bool,
) -> None:  # fmt: skip
    photo = _write(tmp_path / "a.jpg", cv2.resize(face_photo, (3400, 3600)))  # 12 megapixels
    new = [PendingPhoto(photo, stat_photo(photo.path))] * 8
    imdecode, decoded, held = cv2.imdecode, [0], []

    def counted(*arguments: Any) -> Any:
        decoded[0] += 1
        held.append(decoded[0])
        return imdecode(*arguments)

    class Detector(CountingDetector):
        def detect(self, photos: Sequence[np.ndarray]) -> list[RetryResult]:
            found = super().detect(photos)
            decoded[0] -= len(photos)
            return found

    monkeypatch.setattr(decoding.cv2, "imdecode", counted)
    config = DetectConfig(workers=4, commit_photos=1, memory_gb=memory_gb)
    detector = Detector()
    results = [
        result
        for some in detect_batches(new, config, device="cpu", detector=detector)  # type: ignore[arg-type]
        for result in some
    ]
    assert [result.row["found"] for result in results] == ["missed"] * 8
    assert (max(held) == 1) == (detector.most == 1) == alone, (held, detector.most)


def test_cropping_again_decodes_large_photos_one_at_a_time(
    face_photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = _write(tmp_path / "a.jpg", cv2.resize(face_photo, (3400, 3600)))
    content = read_photo(photo.path).content_hash
    at_work, most = [0], [0]
    cut = recropping.make_crop

    def counted(*arguments: Any) -> Any:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        time.sleep(0.05)
        at_work[0] -= 1
        return cut(*arguments)

    monkeypatch.setattr(recropping, "make_crop", counted)
    face = MainFace("prior", np.array([10, 10, 500, 500], np.float32))
    items = [RecropItem(photo, face, face.box, content)] * 6  # type: ignore[arg-type]
    for memory_gb, alone in ((1.3, True), (3.0, False)):
        most[0] = 0
        config = DetectConfig(workers=4, memory_gb=memory_gb)
        done = list(recropping.recrop(items, config, put=lambda key, crop: crop.hash))
        assert all(result.crop_hash for result in done)
        assert (most[0] == 1) == alone


@pytest.mark.parametrize(("image_size", "count"), [(224, 16), (1024, 10), (2048, 2)])
def test_large_crops_are_made_a_few_at_a_time(image_size: int, count: int) -> None:
    config = DetectConfig(crop=CropConfig(image_size=image_size))
    assert chunk_size(config) == count
    assert count * crop_bytes(config) <= 32_000_000


def test_the_memory_is_divided_among_the_workers() -> None:
    plenty = memory_budget(DetectConfig(memory_gb=64), workers=2)
    assert plenty.batch_pixels == 8_000_000, "batch_megapixels is the most"
    assert plenty.photo_pixels > 900_000_000
    little = memory_budget(DetectConfig(memory_gb=1.2), workers=4)
    assert little.batch_pixels == pytest.approx(little.photo_pixels / 4, abs=1)
    half = DetectConfig(memory_gb=machine_memory() / 2e9)
    assert memory_budget(DetectConfig(), workers=1) == memory_budget(half, workers=1)


def test_a_photo_beyond_the_memory_is_a_row_and_is_tried_again(
    face_photo: np.ndarray, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    large = cv2.resize(face_photo, (3400, 3600))
    photos = [_write(folder / "large.png", large), _write(folder / "small.png", face_photo)]
    cache = Cache.open(tmp_path / "cache", data_root=folder, create=True)
    first = detect(photos, cache, DetectConfig(memory_gb=1.0))
    assert [key for key, *_ in first.errors] == ["large.png"]
    _, kind, message = first.errors[0]
    assert (
        kind == "TooLargeForMemory"
        and message == "3400x3600 is 12 megapixels, the run's memory allows 8 (--memory)"
    )
    second = detect(photos, cache, DetectConfig(memory_gb=4.0))
    assert second.processed == 1 and second.errors == ()
    assert second.statuses == {"detected": 2}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc: peak memory unknown")
def test_photos_of_100_megapixels_stay_within_the_memory(
    face_photo: np.ndarray, tmp_path: Path
) -> None:
    """In a process of its own, whose peak is the run's."""
    folder = tmp_path / "photos"
    folder.mkdir()
    large = cv2.resize(face_photo, (9000, 11200), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(folder / "a.jpg"), large)
    for index in range(3):
        os.link(folder / "a.jpg", folder / f"large{index}.jpg")
    for index in range(20):
        _write(folder / f"small{index}.png", face_photo)
    script = (
        "import sys, cropfirst.cli as cli\n"
        "try:\n    cli.main(sys.argv[1:])\n"
        "finally:\n    print(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')))\n"
    )
    arguments = ("detect", str(folder), "--work", str(tmp_path / "work"), "--memory", "4")
    settings = ("--set", "detector.min_face_size=400", "--set", "crop.image_size=2048")
    settings += ("--set", "workers=8")
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments, *settings],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "120"},
    )  # fmt: skip
    peak = int(done.stdout.rpartition("VmHWM:")[2].split()[0]) * 1024
    assert "24 crops written" in done.stdout, done.stdout
    # All four at once would fit into the allowed 4 GB; the run must not hold them at once.
    assert 1e9 < peak < 2e9, f"{peak / 1e9:.1f} GB"
