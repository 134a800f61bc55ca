"""The folder of crops to label: many writers, no lost label, no foreign file, and expiry."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cropfirst.core.errors import DoorError
from cropfirst.door import crop_folder
from cropfirst.door.crop_folder import DAY, CropFolder, UnknownCropError
from cropfirst.stage2_classify.datasets import open_dataset

TASKS = ("mask", "age")
NOW = 1_800_000_000.0
OLD = "20200101-000000-0123abcd.png"


@pytest.fixture
def filled(tmp_path: Path) -> Callable[..., CropFolder]:
    """Returns a folder with crops, one minute apart, that is opened for two tasks."""

    def fill(count: int, *, days: float | None = None) -> CropFolder:
        watch = CropFolder(tmp_path, TASKS[:1], now=lambda: NOW)
        if days is not None:
            watch.expire_after(days)
        for index in range(count):
            watch.add(np.full((20, 20, 3), index, np.uint8), NOW - 60 * (count - index))
        return CropFolder(tmp_path, TASKS, now=lambda: NOW)

    return fill


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_labelled_crops_are_a_data_set_with_one_group_each(
    filled: Callable[..., CropFolder], tmp_path: Path
) -> None:
    crops = filled(3, days=7)
    first, second, third = crops.crops()
    assert [each.taken for each in (first, second, third)] == [NOW - 180, NOW - 120, NOW - 60]
    assert first.expires == NOW - 180 + 7 * DAY
    assert crops.label(first.id, {"mask": "wear"}).labels == {"mask": "wear", "age": ""}
    crops.label(first.id, {"age": "<30"})
    crops.label(second.id, {"mask": "normal"})
    crops.label(second.id, {"mask": ""})
    crops.delete(third.id)
    photos = open_dataset(tmp_path)
    assert photos.layout == "csv" and not photos.problems
    assert [(s.group, s.split, s.labels) for s in photos.samples] == [
        (first.id, "train", {"mask": "wear", "age": "<30"}),
        (second.id, "train", {}),
    ]
    assert all(sample.path.is_file() for sample in photos.samples)
    assert not (tmp_path / f"{third.id}.png").exists()


def test_writers_at_the_same_time_lose_nothing(
    filled: Callable[..., CropFolder], tmp_path: Path
) -> None:
    """Two pages label a task each, while watch adds some crops and a third page deletes some."""
    ids = [each.id for each in filled(20).crops()]

    def label(task: str, label: str) -> None:
        crops = CropFolder(tmp_path, TASKS)
        for each in ids[:15]:
            crops.label(each, {task: label})

    def add() -> None:
        crops = CropFolder(tmp_path, TASKS[:1])
        for _ in range(10):
            crops.add(np.zeros((9, 9, 3), np.uint8), NOW)

    def delete() -> None:
        crops = CropFolder(tmp_path, TASKS)
        for each in ids[15:]:
            crops.delete(each)

    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(label, "mask", "wear"), pool.submit(label, "age", "<30"),
            pool.submit(add), pool.submit(delete),
        ]  # fmt: skip
        for job in jobs:
            job.result()
    rows = {row["group"]: (row["mask"], row["age"]) for row in table(tmp_path)}
    assert len(rows) == 25 and not set(ids[15:]) & set(rows)
    assert all(rows[each] == ("wear", "<30") for each in ids[:15])


KILLED = """
import sys
from pathlib import Path
from cropfirst.door.crop_folder import CropFolder
crops = CropFolder(Path(sys.argv[1]), ["mask"])
for number in range(10**6):
    for each in crops.crops():
        crops.label(each.id, {"mask": str(number)})
        print(each.id, number, flush=True)
"""


def test_a_killed_process_loses_no_label_that_it_has_confirmed(
    filled: Callable[..., CropFolder], tmp_path: Path
) -> None:
    crops = filled(5)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    confirmed = [process.stdout.readline() for _ in range(8)]
    process.kill()
    confirmed += process.communicate()[0].splitlines()
    newest = dict(line.split() for line in confirmed)
    labels = {each.id: each.labels["mask"] for each in crops.crops()}
    assert len(labels) == 5
    # The one label after the last confirmed one may be there, too.
    assert all(int(labels[each]) >= int(number) for each, number in newest.items())
    crops.label(next(iter(labels)), {"mask": "wear"})  # the dead process's lock is free


def test_a_lock_that_stays_taken_is_said(
    filled: Callable[..., CropFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crop_folder, "LOCK_SECONDS", 0.1)
    crops = filled(1)
    with crop_folder.write_lock(tmp_path), pytest.raises(DoorError, match="is being changed"):
        crops.label(crops.crops()[0].id, {"mask": "wear"})
    assert table(tmp_path)[0]["mask"] == ""


def test_no_id_reaches_another_file(filled: Callable[..., CropFolder], tmp_path: Path) -> None:
    """Neither by its name, nor by a row of the table, nor through a link or a pipe."""
    crops = filled(3)
    secret = tmp_path.parent / "20270101-000000-0123abcd.png"
    secret.write_bytes(b"secret")
    link, pipe, gone = (each.id for each in crops.crops())
    for each in (link, pipe, gone):
        (tmp_path / f"{each}.png").unlink()
    (tmp_path / f"{link}.png").symlink_to(secret)
    os.mkfifo(tmp_path / f"{pipe}.png")
    (tmp_path / "mine.png").write_bytes(b"mine")
    rows = "".join(f"{name},a,wear\n" for name in (f"../{secret.name}", "mine.png", str(secret)))
    with (tmp_path / "labels.csv").open("a") as file:
        file.write(rows)
    before = table(tmp_path)
    assert crops.crops() == []
    for each in (
        link,
        pipe,
        gone,
        f"../{secret.stem}",
        "mine",
        str(secret)[:-4],
        "",
        ".",
        "labels",
    ):
        with pytest.raises(UnknownCropError):
            crops.photo(each)
        with pytest.raises(UnknownCropError):
            crops.label(each, {"mask": "normal"})
        with pytest.raises(UnknownCropError):
            crops.delete(each)
    assert table(tmp_path) == before and secret.read_bytes() == b"secret"


def test_what_has_expired_is_deleted_with_its_row_and_its_remains(
    filled: Callable[..., CropFolder], tmp_path: Path
) -> None:
    """Also a crop whose row was not written, and one that was not written to its end."""
    crops = filled(2, days=1)
    for name in (OLD, f"{OLD}.123.tmp", "20201399-000000-0123abcd.png", "20200101-000000.png"):
        (tmp_path / name).write_bytes(b"x")
    with (tmp_path / "labels.csv").open("a") as file:
        file.write(f"{OLD},a,wear\n../{OLD},b,wear\n")
    assert len(crops.crops()) == 2
    with pytest.raises(UnknownCropError):
        crops.photo(OLD[:-4])
    crops.purge()
    assert [row["path"] for row in table(tmp_path)][2:] == [f"../{OLD}"]
    left = {path.name for path in tmp_path.iterdir()}
    assert OLD not in left and f"{OLD}.123.tmp" not in left
    assert {"20201399-000000-0123abcd.png", "20200101-000000.png"} <= left and len(left) == 7


def test_a_folder_without_an_expiry_keeps_its_crops(
    filled: Callable[..., CropFolder], tmp_path: Path
) -> None:
    crops = filled(1)
    for days in (0.0, 1e9, float("nan")):
        with pytest.raises(DoorError, match="wanted 0 < days"):
            crops.expire_after(days)
    (tmp_path / OLD).write_bytes(b"x")
    with (tmp_path / "labels.csv").open("a") as file:
        file.write(f"{OLD},a,wear\n")
    crops.purge()
    assert [each.expires for each in crops.crops()] == [None, None]
    assert crops.photo(OLD[:-4]) == b"x"


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("labels.csv", b"path,group,helmet\n", "wanted path, group and mask or age"),
        ("labels.csv", b"path,mask\n", "wanted path, group"),
        ("labels.csv", b"path,group,mask,mask\n", "a column twice"),
        ("labels.csv", b"path,group,mask\na,b,c,d\n", "more cells than columns"),
        ("labels.csv", b"path,group,mask\na,\xff,c\n", "CSV UTF-8"),
        ("expiry.json", b"30", "when crops expire"),
        ("expiry.json", b'{"days": 0}', "when crops expire"),
        ("expiry.json", b'{"days": NaN}', "when crops expire"),
        ("expiry.json", b'{"days": 1e9}', "when crops expire"),
    ],
)  # fmt: skip
def test_a_table_or_expiry_that_cannot_be_used_is_said(
    tmp_path: Path, name: str, content: bytes, wanted: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DoorError, match=wanted):
        CropFolder(tmp_path, TASKS)
    assert (tmp_path / name).read_bytes() == content
    with pytest.raises(DoorError, match="there is no folder"):
        CropFolder(tmp_path / "missing", TASKS)


def test_a_table_saved_by_a_spreadsheet_is_read(
    filled: Callable[..., CropFolder], tmp_path: Path
) -> None:
    """With a byte-order mark and Windows's ends of lines."""
    crops = filled(1)
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    crops.label(crops.crops()[0].id, {"mask": "wear"})
    assert [row["mask"] for row in table(tmp_path)] == ["wear"]
    assert time.gmtime(crops.crops()[0].taken).tm_year == 2027
