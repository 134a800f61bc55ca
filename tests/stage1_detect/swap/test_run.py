"""The swapped twin of drawn portraits: made, kept, brought up to date, and cut short by a kill."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from rich.console import Console

from cropfirst.cache import Cache, CropSet
from cropfirst.cache.cut_outs import CutOutStore
from cropfirst.cache.swapped import SWAPPED, list_draws, open_swapped
from cropfirst.cache.verify import check_cache
from cropfirst.core.compositing import compose
from cropfirst.core.errors import CacheError, DetectError
from cropfirst.stage1_detect.config import DetectConfig, SwapConfig
from cropfirst.stage1_detect.crops.cut_out import make_cut_out
from cropfirst.stage1_detect.crops.photo_reader import box_of, landmarks_of
from cropfirst.stage1_detect.photos.read import PhotoRef
from cropfirst.stage1_detect.pipeline import photo_reads
from cropfirst.stage1_detect.run import detect
from cropfirst.stage1_detect.swap.run import swap_rooms
from cropfirst.stage1_detect.swap.summary import SwapSummary, print_swapped, swapped_sheet

PEOPLE = "abcd"
CONFIG: dict[str, Any] = {
    "crop": {"background": "box", "image_size": 48, "margin": 0.3}, "workers": 2,
    "max_missing": 1.0,
}  # fmt: skip
ONE = SwapConfig()


@dataclass
class Album:
    """Photos, and their crops in a cache."""

    root: Path
    cache: Cache
    config: DetectConfig

    @property
    def refs(self) -> list[PhotoRef]:
        paths = sorted(path for path in self.root.rglob("*") if path.is_file())
        keys = [path.relative_to(self.root).as_posix() for path in paths]
        return [
            PhotoRef(key, self.root / key, "eval" if key[0] == "z" else "train", key.split("/")[0])
            for key in keys
        ]

    def detect(self) -> CropSet:
        return detect(self.refs, self.cache, self.config).crops

    def swap(self, asked: SwapConfig | None = ONE) -> SwapSummary:
        strata = {ref.key: "odd" if ref.key[0] in "ac" else "even" for ref in self.refs}
        crops = self.cache.find()
        return swap_rooms(self.refs, self.cache, crops, self.config, strata, asked=asked)


Write = Callable[..., None]


@pytest.fixture(scope="module")
def write(portrait: Callable[..., Any]) -> Write:
    """Writes a portrait drawn from a seed in a room to a file."""

    def call(path: Path, seed: int, room: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), portrait(seed, room=room, size=(192, 256)).image[..., ::-1])

    return call


@pytest.fixture(scope="module")
def made(write: Write, tmp_path_factory: pytest.TempPathFactory) -> Album:
    """Four people with two photos each, a wall without a face, and a photo of the eval split."""
    folder = tmp_path_factory.mktemp("album")
    for number, person in enumerate(PEOPLE):
        for photo in range(2):
            write(folder / f"data/{person}/{photo}.png", 10 * number + photo, number)
    write(folder / "data/z/0.png", 99, 5)
    cv2.imwrite(str(folder / "data/a/wall.png"), np.full((256, 192, 3), 180, np.uint8))
    cache = Cache.open(folder / "cache", data_root=folder / "data", create=True)
    album = Album(folder / "data", cache, DetectConfig.model_validate(CONFIG))
    album.detect()
    return album


@pytest.fixture
def album(made: Album, tmp_path: Path) -> Album:
    """A copy of the photos and their crops, to be changed."""
    shutil.copytree(made.root, tmp_path / "data")
    shutil.copytree(made.cache.path, tmp_path / "cache")
    head = tmp_path / "cache/cache.json"
    head.write_text(head.read_text().replace(str(made.root), str(tmp_path / "data")))
    cache = Cache.open(tmp_path / "cache", data_root=tmp_path / "data")
    return Album(tmp_path / "data", cache, made.config)


def _rows(crops: CropSet) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in crops.manifest.read().to_dicts()}


def _files(summary: SwapSummary) -> list[bytes]:
    return [draw.manifest.path.read_bytes() for draw in summary.twin.draws]


def _said(summary: SwapSummary) -> str:
    console = Console(file=io.StringIO(), width=300)
    print_swapped(summary, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def _count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    read, seen = photo_reads.open_photo, []

    def counted(path: Path, *args: Any, **options: Any) -> Any:
        seen.append(path.name)
        return read(path, *args, **options)

    monkeypatch.setattr(photo_reads, "open_photo", counted)
    return seen


def test_every_train_photo_is_a_row_with_its_head_in_another_room(album: Album) -> None:
    done = album.swap()
    twin, crops = done.twin, album.cache.find()
    keys = {f"{person}/{photo}.png" for person in PEOPLE for photo in range(2)}
    assert twin.usable == keys and twin.is_finished
    assert twin.left_out == {"no face was found in the photo itself": 1}
    assert twin.left_out_statuses == {"sibling": 1}
    (draw,) = twin.draws
    rows, originals = _rows(draw), _rows(crops)
    assert set(rows) == {*keys, "a/wall.png"}, "the eval photo has no label to score it by"
    assert draw.verify() == [] and (done.crops_made, done.cut_outs_made) == (8, 8)
    assert all(key[0] != donor[0] for key, donor in done.donors[0].items())
    for key in keys:
        was, now = crops.reader()[key].astype(int), draw.reader()[key].astype(int)
        assert rows[key]["window"] == originals[key]["window"] and now.shape == was.shape
        assert np.abs(was - now)[16:32, 18:30].mean() < 1, "the face stays"
        assert np.abs(was - now)[:, [0, 1, -2, -1]].mean() > 4, f"{key}: the room does not"
    said = _said(done)
    assert "swapped rooms: 8 of 9 train photos in 1 draw; 8 crops and 8 cut-outs made" in said
    assert "1 were left out (sibling 1):" in said and "1: no face was found" in said
    assert "people only: their classes are hardly random" in said
    assert all(not check.findings for check in check_cache(album.cache.path))


def test_an_unchanged_twin_is_kept_without_reading_a_photo(
    album: Album, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = album.swap()
    files = _files(first)
    seen = _count_reads(monkeypatch)
    for asked in (ONE, None):
        again = album.swap(asked)
        assert (again.changed, again.crops_made, again.cut_outs_made) == (False, 0, 0)
        assert _files(again) == files and again.twin.fingerprint == first.twin.fingerprint
    assert seen == []


def test_the_same_seed_gives_the_same_crops_and_more_draws_change_none(
    album: Album, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _files(album.swap())
    seen = _count_reads(monkeypatch)
    more = album.swap(SwapConfig(draws=3))
    three = _files(more)
    assert more.crops_made == 16 and len(seen) == 8, "each photo is read once for both new draws"
    assert three[:1] == first and len(set(three)) == 3
    assert album.swap(ONE).twin.draws == more.twin.draws, "further draws are kept"
    assert len(album.swap(None).twin.draws) == 3
    shutil.rmtree(more.twin.crops.folder / SWAPPED)
    assert _files(album.swap(SwapConfig(draws=3))) == three
    other = album.swap(SwapConfig(seed=1))
    assert len(other.twin.draws) == 1 and _files(other) != first
    assert album.swap(None).twin.fingerprint == other.twin.fingerprint, "its seed is kept"
    assert _files(album.swap(ONE)) == first


def test_one_thread_or_many_and_small_batches_give_the_same_crops(album: Album) -> None:
    first = _files(album.swap())
    shutil.rmtree(album.cache.find().folder / SWAPPED)
    shutil.rmtree(album.cache.path / "cut-outs")
    album.config = album.config.model_copy(update={"workers": 1, "commit_photos": 1})
    assert _files(album.swap()) == first


def test_a_changed_photo_is_not_used_until_its_twin_is_made_again(
    album: Album, write: Write
) -> None:
    before = album.swap()
    old = _rows(before.twin.draws[0])
    write(album.root / "b/0.png", 77, 2)
    crops = album.detect()
    stale = open_swapped(crops)
    assert stale is not None and stale.n_outdated == 1 and "b/0.png" not in stale.usable
    assert not any(check.is_harmed for check in check_cache(album.cache.path))
    after = album.swap(None)
    lent = [key for key, donor in before.donors[0].items() if donor == "b/0.png"]
    assert after.twin.is_finished and "b/0.png" in after.twin.usable
    assert after.cut_outs_made == 1 and after.crops_made == 1 + len(lent)
    new = _rows(after.twin.draws[0])
    assert new["b/0.png"]["content_hash"] == _rows(crops)["b/0.png"]["content_hash"]
    assert {key for key in new if new[key] != old[key]} == {"b/0.png", *lent}


def test_a_photo_that_goes_leaves_the_twin_and_one_that_comes_enters_it(
    album: Album, write: Write
) -> None:
    album.swap()
    (album.root / "a/0.png").unlink()
    write(album.root / "e/0.png", 55, 4)
    album.detect()
    twin = album.swap(None).twin
    assert twin.is_finished and "a/0.png" not in twin.usable and "e/0.png" in twin.usable
    assert "a/0.png" not in _rows(twin.draws[0])
    found = {each.message for check in check_cache(album.cache.path) for each in check.findings}
    assert "1 cut-outs of photos or faces that are gone" in found


def test_a_photo_that_changes_after_detection_is_left_out_and_tried_again(album: Album) -> None:
    photo = album.root / "c/1.png"
    data = photo.read_bytes()
    photo.write_bytes((album.root / "d/1.png").read_bytes())
    done = album.swap()
    reason = "the photo is gone or has changed since it was detected"
    assert done.twin.left_out[reason] == 1 and "c/1.png" not in done.twin.usable
    assert "c/1.png" not in done.donors[0].values()
    photo.write_bytes(data)
    again = album.swap(None).twin
    assert "c/1.png" in again.usable and reason not in again.left_out


def test_a_photo_that_goes_between_cutting_out_and_swapping_is_left_out(album: Album) -> None:
    done = album.swap()
    shutil.rmtree(done.twin.crops.folder / SWAPPED)
    photo = album.root / "c/1.png"
    data = photo.read_bytes()
    photo.unlink()
    refs = album.refs
    photo.write_bytes(data)
    twin = swap_rooms(
        refs, album.cache, album.cache.find(), album.config, {}, asked=ONE
    ).twin  # not among the photos
    assert "c/1.png" not in twin.usable and twin.n_outdated == 1
    photo.write_bytes(b"no photo")
    twin = album.swap(None).twin
    assert twin.left_out["the photo is gone or has changed since it was detected"] == 1


def test_a_run_on_a_part_of_the_photos_keeps_the_rows_of_the_others(album: Album) -> None:
    before = _rows(album.swap().twin.draws[0])
    refs = [ref for ref in album.refs if ref.key[0] != "a"]
    part = swap_rooms(refs, album.cache, album.cache.find(), album.config, {}, asked=ONE)
    after = _rows(part.twin.draws[0])
    assert set(after) == set(before) and after["a/0.png"] == before["a/0.png"]
    assert all(donor[0] != "a" for donor in part.donors[0].values())


@pytest.mark.parametrize("background", ["photo", "center", "ellipse", "segment", "mean_box"])
def test_every_background_has_a_twin(album: Album, background: str) -> None:
    crop = album.config.crop.model_copy(update={"background": background})
    album.config = album.config.model_copy(update={"crop": crop})
    crops = album.detect()
    done = swap_rooms(album.refs, album.cache, crops, album.config, {}, asked=ONE)
    assert len(done.twin.usable) == 8 and done.twin.draws[0].verify() == []
    key = "b/1.png"
    was, now = crops.reader()[key], done.twin.draws[0].reader()[key]
    assert was.shape == now.shape and (was != now).any()


def test_all_photos_of_one_room_one_person_or_no_face_have_no_twin_in_clear_words(
    album: Album,
) -> None:
    shutil.rmtree(album.root / "a")
    wall = np.random.default_rng(0).integers(90, 160, (256, 192, 3), dtype=np.uint8)
    for key, row in _rows(album.cache.find()).items():
        path = album.root / key
        if key[0] in "bcd":
            image = cv2.imread(str(path))
            mask = make_cut_out(image[..., ::-1], box_of(row), landmarks_of(row)).mask()
            cv2.imwrite(str(path), compose(image, mask, wall))
    album.detect()
    said = _said(album.swap())
    assert "all photos show the same room" in said and "no photo has a swapped crop" in said
    for person in "cd":
        shutil.rmtree(album.root / person)
    album.detect()
    twin = album.swap(None).twin
    assert twin.left_out == {"fewer than 2 other people have a room to lend": 2}
    for photo in range(2):
        wall = np.full((256, 192, 3), 90 + photo, np.uint8)
        cv2.imwrite(str(album.root / f"b/{photo}.png"), wall)
    album.detect()
    assert album.swap(None).twin.left_out == {"no face was found in the photo itself": 2}


def test_the_sheet_shows_each_crop_beside_its_swapped_crops(album: Album, tmp_path: Path) -> None:
    swapped_sheet(album.swap(SwapConfig(draws=2)), tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None and sheet.std() > 10


def test_a_damaged_cut_out_is_made_again(album: Album) -> None:
    first = _files(album.swap())
    folder = album.cache.path / "cut-outs"
    data = bytearray((folder / "data.mdb").read_bytes())
    for place in range(len(data) // 2, len(data), 997):
        data[place] ^= 255
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "data.mdb").write_bytes(data)
    shutil.rmtree(album.cache.find().folder / SWAPPED)
    assert _files(album.swap()) == first


KILL = """
import os, signal, sys
from pathlib import Path
from cropfirst.cache import Cache, CropWriter, Manifest
from cropfirst.stage1_detect.config import DetectConfig, SwapConfig
from cropfirst.stage1_detect.photos.read import PhotoRef
from cropfirst.stage1_detect.swap.run import swap_rooms

root, cache, config = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
left = 10  # crops, rows, crops and so on: the process dies before it writes rows

def dying(write):
    def call(*args):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(*args)
    return call

CropWriter.commit, Manifest.append = dying(CropWriter.commit), dying(Manifest.append)
config = DetectConfig.model_validate_json(config)
opened = Cache.open(cache)
keys = [row["key"] for row in opened.find().manifest.read().to_dicts()]
refs = [PhotoRef(key, root / key, "eval" if key[0] == "z" else "train", key[0]) for key in keys]
strata = {key: "odd" if key[0] in "ac" else "even" for key in keys}
swap_rooms(refs, opened, opened.find(), config, strata, asked=SwapConfig(draws=2))
"""


def test_a_kill_loses_at_most_the_open_batch_and_the_next_run_ends_with_the_same_crops(
    album: Album,
) -> None:
    whole = _files(album.swap(SwapConfig(draws=2)))
    shutil.rmtree(album.cache.find().folder / SWAPPED)
    album.config = album.config.model_copy(update={"commit_photos": 2})
    command = [sys.executable, "-c", KILL, str(album.root), str(album.cache.path),
               album.config.model_dump_json()]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(command, env=environment, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not any(check.is_harmed for check in check_cache(album.cache.path))
    twin = open_swapped(album.cache.find())
    assert twin is not None and 0 < len(twin.usable) < 8 and not twin.is_finished
    done = album.swap(None)
    assert 0 < done.crops_made < 16 and done.cut_outs_made == 0
    assert _files(done) == whole
    assert all(draw.verify() == [] for draw in list_draws(album.cache.find()))


def test_cut_outs_that_were_stored_before_a_full_disk_are_not_made_again(
    album: Album, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, batches = CutOutStore.put, []

    def full(store: CutOutStore, cut_outs: Any) -> None:
        batches.append(cut_outs)
        if len(batches) > 2:
            raise CacheError("the disk is full")
        put(store, cut_outs)

    album.config = album.config.model_copy(update={"commit_photos": 2})
    with monkeypatch.context() as patched:
        patched.setattr(CutOutStore, "put", full)
        with pytest.raises(CacheError, match="the disk is full"):
            album.swap()
    assert album.swap().cut_outs_made == 4


def test_a_twin_that_is_not_there_cannot_be_brought_up_to_date(album: Album) -> None:
    with pytest.raises(DetectError, match="--swap-rooms"):
        album.swap(None)
    assert not (album.cache.find().folder / SWAPPED).exists()


def test_rows_of_a_draw_have_the_columns_of_crop_rows(album: Album) -> None:
    (draw,) = album.swap().twin.draws
    rows = draw.manifest.read()
    assert rows.filter(pl.col("crop_hash").is_null())["error_type"].to_list() == ["BorrowedBox"]
    assert rows.filter(pl.col("recipe") == "").height == 1
