"""The whole stage on drawn portraits: one row a photo, nothing done twice, nothing mixed up."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from polars.testing import assert_frame_equal
from rich.console import Console

from cropfirst.cache import Cache
from cropfirst.cache.verify import check_cache
from cropfirst.core.errors import CacheLockedError, DetectError
from cropfirst.core.faces.boxes import iou
from cropfirst.stage1_detect.all_faces import crop_all_faces
from cropfirst.stage1_detect.config import CropConfig, DetectConfig
from cropfirst.stage1_detect.crop_sets import config_of_crops
from cropfirst.stage1_detect.mtcnn.detector import MTCNN
from cropfirst.stage1_detect.photos.read import PhotoRef
from cropfirst.stage1_detect.pipeline.contact_sheet import crop_sheet, doubtful_sheets, export_crops
from cropfirst.stage1_detect.pipeline.summary import DetectSummary, print_summary
from cropfirst.stage1_detect.run import detect

SMALL = CropConfig(image_size=64)


Draw = Callable[..., tuple[float, float, float, float]]


@pytest.fixture(scope="module")
def draw(portrait: Callable[..., Any]) -> Draw:
    """Writes a portrait drawn from a seed to a file; returns where its face is."""

    def write(path: Path, *, seed: int) -> tuple[float, float, float, float]:
        drawn = portrait(seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), drawn.image[..., ::-1])
        return drawn.face_box

    return write


@pytest.fixture(scope="module")
def album(draw: Draw, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Person p: two faces, a wall; person q: one face; and files that are no photos."""
    root = tmp_path_factory.mktemp("album")
    for name, seed in (("p/1.png", 1), ("p/2.jpg", 2), ("q/1.png", 3)):
        draw(root / name, seed=seed)
    wall = np.full((512, 384, 3), 180, dtype=np.uint8)
    cv2.imwrite(str(root / "p/wall.png"), wall)
    cv2.imwrite(str(root / "wall.png"), wall)
    (root / "p/text.jpg").write_text("no photo")
    (root / "p/half.jpg").write_bytes((root / "p/2.jpg").read_bytes()[:9000])
    return root


def _refs(root: Path) -> list[PhotoRef]:
    keys = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    keys.append("gone.jpg")
    return [
        PhotoRef(key, root / key, group=key.split("/")[0] if "/" in key else None) for key in keys
    ]


def _run(root: Path, cache: Path, **config: Any) -> DetectSummary:
    settings = DetectConfig.model_validate({"crop": SMALL, "workers": 2, **config})
    return detect(_refs(root), Cache.open(cache, data_root=root, create=True), settings)


def _rows(summary: DetectSummary) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in summary.crops.manifest.read().to_dicts()}


def test_every_photo_gets_exactly_one_row_with_its_status(album: Path, tmp_path: Path) -> None:
    summary = _run(album, tmp_path / "cache")
    rows = _rows(summary)
    assert {key: row["status"] for key, row in rows.items()} == {
        "gone.jpg": "unreadable",
        "p/1.png": "detected",
        "p/2.jpg": "detected",
        "p/half.jpg": "unreadable",
        "p/text.jpg": "unreadable",
        "p/wall.png": "sibling",
        "q/1.png": "detected",
        "wall.png": "prior",
    }
    assert summary.photos == 8 and summary.processed == 7 and summary.crops_written == 5
    assert summary.statuses == {"detected": 3, "sibling": 1, "prior": 1, "unreadable": 3}
    kinds = {key: kind for key, kind, _ in summary.errors}
    assert kinds["gone.jpg"] == "FileNotFoundError" and kinds["p/text.jpg"] == "NotAnImage"
    assert kinds["p/half.jpg"] == "Truncated"
    reader = summary.crops.reader()
    for key, row in rows.items():
        assert (key in reader) == (row["status"] != "unreadable") == (row["crop_hash"] is not None)
    assert summary.crops.verify() == []


def test_boxes_sit_on_the_drawn_faces(draw: Draw, tmp_path: Path) -> None:
    wanted = {f"{i}.png": draw(tmp_path / "data" / f"{i}.png", seed=10 + i) for i in range(4)}
    summary = _run(tmp_path / "data", tmp_path / "cache")
    for key, row in _rows(summary).items():
        if key in wanted:
            assert iou(np.array(row["box"]), np.array(wanted[key]))[0, 0] > 0.5, key


def test_compiling_is_said_while_it_lasts(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(file=io.StringIO(), width=200)
    seen = []

    def said() -> bool:
        return "compiling the detector" in console.file.getvalue()  # type: ignore[attr-defined]

    def slow_warm_up(_: MTCNN) -> None:
        deadline = time.monotonic() + 120
        while not said() and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.append(said())

    monkeypatch.setattr("cropfirst.stage1_detect.run.COMPILE_SECONDS", 0.05)
    monkeypatch.setattr(MTCNN, "warm_up", slow_warm_up)
    photos = _refs(album)[-3:]
    cache = Cache.open(tmp_path / "cache", data_root=album, create=True)
    settings = DetectConfig(crop=SMALL, workers=1, engine="numba")
    detect(photos, cache, settings, console=console)
    assert seen == [True]
    console.file = io.StringIO()
    monkeypatch.setattr(MTCNN, "warm_up", lambda _: None)
    cache = Cache.open(tmp_path / "other", data_root=album, create=True)
    detect(photos, cache, settings, console=console)
    assert not said(), "a detector that loads at once compiles nothing"


def test_rates_and_remaining_times_are_those_of_one_clock(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiling is not counted, and the summary has the rate of the bar."""
    warm_up = MTCNN.warm_up

    def slow_warm_up(detector: MTCNN) -> None:
        warm_up(detector)
        time.sleep(1.5)

    monkeypatch.setattr(MTCNN, "warm_up", slow_warm_up)
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    refs = [
        PhotoRef(f"{number}", album / f"p/{1 + number % 2}.{('png', 'jpg')[number % 2]}")
        for number in range(24)
    ]
    config = DetectConfig(crop=SMALL, workers=2, engine="numba", commit_photos=2)
    cache = Cache.open(tmp_path / "cache", data_root=album, create=True)
    summary = detect(refs, cache, config, console=console)
    assert summary.processed == 24 and summary.seconds > summary.detect_seconds + 1.4
    print_summary(summary, console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    shown = [
        (int(done), float(rate), left)
        for done, rate, left in re.findall(
            r"(\d+)/24\S* \S*?([\d.]+) photos/s\S* \S*?(\d:\d\d:\d\d)", said
        )
    ]
    times = [done / rate for done, rate, _ in shown]
    assert times == sorted(times) and times[-1] == pytest.approx(summary.detect_seconds, rel=0.02)
    assert shown[-1][0] == 24 and shown[-1][2] == "0:00:00"
    for done, rate, left in shown:
        seconds = int(left[-2:]) + 60 * int(left[2:4])
        assert seconds == pytest.approx((24 - done) / rate, abs=0.6)
    assert f"processed 24 photos, {shown[-1][1]:.1f} per second" in said


def test_a_missing_photo_is_not_said_to_be_unchanged(album: Path, tmp_path: Path) -> None:
    first = _said(_run(album, tmp_path / "cache"))
    assert "processed 7 photos, " in first and "1 was missing" in first
    assert "unchanged" not in first
    again = _said(_run(album, tmp_path / "cache"))
    assert "none was processed, 7 were unchanged, 1 was missing" in again


def test_an_unchanged_album_is_not_processed_again(album: Path, tmp_path: Path) -> None:
    first = _run(album, tmp_path / "cache")
    manifest = first.crops.manifest.path.read_bytes()
    again = _run(album, tmp_path / "cache")
    assert again.processed == 0 and again.crops_written == 0
    assert first.changed and not again.changed
    assert again.statuses == first.statuses and again.errors == first.errors
    assert again.crops.manifest.path.read_bytes() == manifest


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
def test_a_photo_is_read_again_once_a_fault_of_the_system_has_passed(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    open_file = os.open

    def fail(path: Any, *args: Any, **options: Any) -> int:
        if str(path) == str(album / "q/1.png"):
            raise OSError(code, os.strerror(code))
        return open_file(path, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", fail)
        first = _run(album, tmp_path / "cache")
        assert _rows(first)["q/1.png"]["error"] == os.strerror(code)
        same = _run(album, tmp_path / "cache")
    assert same.processed == 1 and not same.changed and same.errors == first.errors
    again = _run(album, tmp_path / "cache")
    assert again.processed == 1, "faults of the content are not retried"
    assert _rows(again)["q/1.png"]["status"] == "detected" and again.crops.verify() == []


def test_another_crop_config_cuts_anew_without_detecting(album: Path, tmp_path: Path) -> None:
    first = _run(album, tmp_path / "cache")
    other = _run(album, tmp_path / "cache", crop=CropConfig(image_size=64, margin=0.5))
    assert other.processed == 0 and other.crops_written == 5
    assert other.crops.name != first.crops.name
    assert first.crops.verify() == [] and other.crops.verify() == []


@pytest.mark.parametrize("background", ["box", "photo", "center", "mean_box"])
def test_every_background_gives_every_readable_photo_a_crop(
    album: Path, tmp_path: Path, background: str
) -> None:
    crop = CropConfig.model_validate({"background": background, "image_size": 64})
    summary = _run(album, tmp_path / "cache", crop=crop)
    assert summary.crops_written == 5 and summary.crops.verify() == []
    rows = _rows(summary)
    if background == "mean_box":
        windows = {tuple(row["window"]) for row in rows.values() if row["window"]}
        assert len(windows) == 1, "one typical box for all photos of one size"


def test_a_changed_photo_alone_is_processed_again(album: Path, draw: Draw, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(album, root)
    before = _rows(_run(root, tmp_path / "cache"))
    draw(root / "q/1.png", seed=77)
    os.utime(root / "q/1.png", ns=(1, 1))
    again = _run(root, tmp_path / "cache")
    after = _rows(again)
    assert again.processed == 1
    assert after["q/1.png"]["crop_hash"] != before["q/1.png"]["crop_hash"]
    assert after["p/1.png"] == before["p/1.png"]
    assert again.crops.verify() == []


def test_a_photo_that_changed_unseen_is_not_cut_by_its_old_box(draw: Draw, tmp_path: Path) -> None:
    """Same size, same time, other pixels: no stat tells, the content's hash does."""
    photo = tmp_path / "data/a.bmp"
    draw(photo, seed=1)
    before = _run(photo.parent, tmp_path / "cache")
    assert _rows(before)["a.bmp"]["status"] == "detected"
    times = photo.stat().st_atime_ns, photo.stat().st_mtime_ns
    cv2.imwrite(str(photo), cv2.flip(cv2.imread(str(photo)), 1))
    os.utime(photo, ns=times)
    other = {"crop": CropConfig(image_size=64, margin=0.5)}
    changed = _run(photo.parent, tmp_path / "cache", **other)
    row = _rows(changed)["a.bmp"]
    assert (changed.processed, changed.crops_written) == (0, 0)
    assert (row["status"], row["error_type"], row["crop_hash"]) == ("unreadable", "Changed", None)
    again = _run(photo.parent, tmp_path / "cache", **other)
    assert (again.processed, again.crops_written) == (1, 1)
    assert _rows(again)["a.bmp"]["status"] == "detected" and again.crops.verify() == []


def test_other_decode_limits_are_another_detection(album: Path, tmp_path: Path) -> None:
    strict = _run(album, tmp_path / "cache", decode={"max_megapixels": 0.1})
    assert {kind for _, kind, _ in strict.errors} >= {"TooManyPixels"}
    assert strict.statuses == {"unreadable": 8}
    assert _run(album, tmp_path / "cache").statuses["detected"] == 3


def test_a_photo_that_appears_and_one_that_goes(album: Path, draw: Draw, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(album, root)
    _run(root, tmp_path / "cache")
    (root / "p/1.png").unlink()
    draw(root / "r/new.png", seed=5)
    again = _run(root, tmp_path / "cache")
    rows = _rows(again)
    assert "p/1.png" not in rows and rows["r/new.png"]["status"] == "detected"
    assert again.processed == 1


def _said(summary: DetectSummary) -> str:
    console = Console(file=io.StringIO(), width=300)
    print_summary(summary, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_run_on_a_part_of_the_photos_keeps_the_rows_of_the_others(
    album: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(album, root)
    first = _run(root, tmp_path / "cache")
    before = _rows(first)
    (root / "p/2.jpg").unlink()
    config = DetectConfig(crop=SMALL, workers=2)
    cache = Cache.open(tmp_path / "cache", data_root=root, create=True)
    part = detect([ref for ref in _refs(root) if ref.key[0] == "q"], cache, config)
    assert first.kept == 0 and part.kept == 5
    said = _said(part)
    assert "5 photos of the crop set are not in this data set; they keep their rows" in said
    assert "1 photos" in said and part.statuses == {"detected": 1}
    del before["p/2.jpg"], before["gone.jpg"]
    assert _rows(part) == before and part.crops.verify() == []
    again = _run(root, tmp_path / "cache")
    assert again.processed == 0, "nothing is detected again"
    assert {key: _rows(again)[key] for key in ("p/1.png", "q/1.png")} == {
        key: before[key] for key in ("p/1.png", "q/1.png")
    }
    sheets = doubtful_sheets(part.crops, tmp_path / "s.png", photo_path={}.__getitem__, keys=["q"])
    assert len(sheets) == 1
    assert export_crops(part.crops, tmp_path / "png", keys=["q/1.png"]) == 1


@pytest.mark.parametrize("listed", [True, False])
def test_a_disk_that_is_not_mounted_loses_nothing(
    album: Path, tmp_path: Path, listed: bool
) -> None:
    """Its photos may be named by a table, or just not be found in their folder."""
    root = tmp_path / "data"
    shutil.copytree(album, root)
    refs = _refs(root)
    first = _run(root, tmp_path / "cache")
    before = _rows(first)
    (root / "p").rename(tmp_path / "p")
    (root / "wall.png").rename(tmp_path / "wall.png")
    left = refs if listed else _refs(root)
    config = DetectConfig(crop=SMALL, workers=2)
    cache = Cache.open(tmp_path / "cache", data_root=root, create=True)
    files = {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*.parquet")}
    with pytest.raises(DetectError, match=r"4 of the 5 photos that have crops are not there, such"):
        detect(left, cache, config)
    assert files == {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*.parquet")}
    allowed = detect(left, cache, config.model_copy(update={"max_missing": 1.0}))
    assert allowed.statuses["detected"] == 1
    assert detect(left, cache, config).changed is False, "no error for ever"
    (tmp_path / "p").rename(root / "p")
    (tmp_path / "wall.png").rename(root / "wall.png")
    back = _run(root, tmp_path / "cache")
    assert back.processed == 0 and back.crops_written == 4
    assert _rows(back) == before and back.crops.verify() == []


def test_a_photo_that_comes_back_changed_is_detected_again(
    album: Path, draw: Draw, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(album, root)
    refs = _refs(root)
    config = DetectConfig(crop=SMALL, workers=2)
    cache = Cache.open(tmp_path / "cache", data_root=root, create=True)
    before = _rows(detect(refs, cache, config))
    (root / "q/1.png").unlink()
    row = _rows(detect(refs, cache, config))["q/1.png"]
    assert (row["status"], row["error_type"]) == ("unreadable", "FileNotFoundError")
    assert not [finding for check in check_cache(cache.path) for finding in check.findings
                if finding.kind != "orphan"]  # fmt: skip
    draw(root / "q/1.png", seed=78)
    again = detect(refs, cache, config)
    assert again.processed == 1 and _rows(again)["q/1.png"]["status"] == "detected"
    assert _rows(again)["q/1.png"]["crop_hash"] != before["q/1.png"]["crop_hash"]


def test_a_disk_that_fails_while_crops_are_cut_loses_no_detection(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _run(album, tmp_path / "cache")
    other = {"crop": CropConfig(image_size=64, margin=0.5)}

    open_file = os.open

    def fail(path: Any, *args: Any, **options: Any) -> int:
        if str(path).startswith(str(album)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return open_file(path, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", fail)
        failed = _run(album, tmp_path / "cache", **other)
    assert failed.crops_written == 0 and failed.statuses == {"unreadable": 8}
    again = _run(album, tmp_path / "cache", **other)
    assert again.processed == 0 and again.crops_written == 5
    assert again.statuses == first.statuses


def test_an_interrupted_run_goes_on_to_the_same_rows(album: Path, tmp_path: Path) -> None:
    """Half of the photos first, then all: as a killed run and its restart."""
    whole = _run(album, tmp_path / "whole")
    config = DetectConfig(crop=SMALL)
    cache = Cache.open(tmp_path / "parts", data_root=album, create=True)
    detect(_refs(album)[::2], cache, config)
    resumed = detect(_refs(album), cache, config)
    assert resumed.processed < whole.processed
    assert_frame_equal(resumed.crops.manifest.read(), whole.crops.manifest.read())
    assert resumed.crops.manifest.path.read_bytes() == whole.crops.manifest.path.read_bytes()


def test_batch_size_and_workers_change_nothing(album: Path, tmp_path: Path) -> None:
    one = _run(album, tmp_path / "one", workers=1, batch_megapixels=0.01, commit_photos=1)
    many = _run(album, tmp_path / "many", workers=4, batch_megapixels=50)
    left, right = one.crops.manifest.read(), many.crops.manifest.read()
    assert left["crop_hash"].to_list() == right["crop_hash"].to_list()
    assert left["status"].to_list() == right["status"].to_list()


def test_a_locked_cache_is_refused(album: Path, tmp_path: Path) -> None:
    cache = Cache.open(tmp_path / "cache", data_root=album, create=True)
    with cache.lock(), pytest.raises(CacheLockedError, match=str(os.getpid())):
        detect(_refs(album), cache, DetectConfig(crop=SMALL))


def test_no_photos_and_double_keys_are_refused(album: Path, tmp_path: Path) -> None:
    cache = Cache.open(tmp_path / "cache", data_root=album, create=True)
    with pytest.raises(DetectError, match="no photos"):
        detect([], cache, DetectConfig())
    twice = [PhotoRef("a", album / "p/1.png"), PhotoRef("a", album / "p/2.jpg")]
    with pytest.raises(DetectError, match="more than one photo"):
        detect(twice, cache, DetectConfig())


def test_a_crop_sets_config_rebuilds_the_detector(album: Path, tmp_path: Path) -> None:
    detector = {"min_face_size": 60, "weights": "masked"}
    config = DetectConfig.model_validate(
        {"crop": {"image_size": 64, "margin": 0.2}, "detector": detector, "retry": []}
    )
    summary = detect(
        _refs(album), Cache.open(tmp_path / "cache", data_root=album, create=True), config
    )
    rebuilt = config_of_crops(summary.crops.config)
    assert rebuilt.detector == config.detector and rebuilt.crop == config.crop
    assert rebuilt.retry == ()
    with pytest.raises(DetectError, match="not one of this version"):
        config_of_crops({"crop": {}})


def test_default_weights_are_those_of_the_caches_crops(album: Path, tmp_path: Path) -> None:
    def run(cache: Path, **detector: str) -> tuple[DetectSummary, str]:
        store = Cache.open(cache, data_root=album, create=True)
        config = DetectConfig.model_validate({"crop": {"image_size": 64}, "detector": detector})
        summary = detect(_refs(album), store, config)
        return summary, config_of_crops(summary.crops.config).detector.weights

    assert run(tmp_path / "new")[1] == "joined"
    first, _ = run(tmp_path / "old", weights="reference")
    again, weights = run(tmp_path / "old")
    assert weights == "reference" and again.crops.name == first.crops.name
    assert not again.changed and not again.processed, "no photo is detected again"
    assert run(tmp_path / "old", weights="joined")[1] == "joined"
    assert run(tmp_path / "old")[1] == "joined", "where the cache has crops of several weights"


@pytest.mark.parametrize("background", ["photo", "center", "mean_box"])
def test_crops_that_are_alike_for_all_faces_are_not_cut_for_each(
    album: Path, tmp_path: Path, background: Any
) -> None:
    config = DetectConfig(crop=CropConfig(background=background, image_size=64))
    cache = Cache.open(tmp_path / "cache", data_root=album, create=True)
    with pytest.raises(DetectError, match="the same for all faces of a photo"):
        crop_all_faces(_refs(album), cache, config)


def test_contact_sheets_and_export_are_pictures(album: Path, tmp_path: Path) -> None:
    summary = _run(album, tmp_path / "cache")
    crop_sheet(summary.crops, tmp_path / "crops.png")
    (tmp_path / "doubtful-9.png").touch()  # of an earlier run
    pages = doubtful_sheets(
        summary.crops, tmp_path / "doubtful.png", photo_path=lambda key: album / key, page=2
    )
    assert [page.name for page in pages] == ["doubtful.png", "doubtful-2.png", "doubtful-3.png"]
    assert not (tmp_path / "doubtful-9.png").exists()
    for path in (tmp_path / "crops.png", *pages):
        sheet = cv2.imread(str(path))
        assert sheet is not None and sheet.std() > 10
    assert export_crops(summary.crops, tmp_path / "png") == 5
    exported = cv2.imread(str(tmp_path / "png/p/2.jpg.png"))[..., ::-1]
    assert (exported == summary.crops.reader()["p/2.jpg"]).all()
