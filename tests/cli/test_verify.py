"""`verify`: whatever rots on disk is found, named, and with --repair made as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import polars as pl
import pytest

from cropfirst.cache import Cache
from cropfirst.cache.encoding import digest_of
from cropfirst.core.fingerprint import FORMAT
from cropfirst.stage2_classify.runs.run_folder import RunFolder
from cropfirst.stage2_classify.runs.soup import soup_of_fold, soup_of_run
from cropfirst.stage2_classify.runs.verify import check_runs, repair_runs

Ok = Callable[..., str]
Run = Callable[..., Any]


def crop_bytes(work: Any) -> dict[str, bytes]:
    reader = work.crops().reader()
    return {key: reader[key].tobytes() for key in work.crops().manifest.read()["key"]}


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 16
    path.write_bytes(data)


def crops_folder(work: Any) -> Path:
    return next((work.cache / "crops").iterdir())


def detections_folder(work: Any) -> Path:
    return next((work.cache / "detections").iterdir())


def find_crop(work: Any, key: str) -> int:
    """Return the place of a crop's pixels in data.mdb."""
    data = (crops_folder(work) / "shard-000/data.mdb").read_bytes()
    return data.index(work.crops().reader()[key].tobytes())


# What is done to the cache -> what verify must say.


def flip_a_pixel(work: Any) -> str:
    key = work.crops().manifest.read()["key"][3]
    flip(crops_folder(work) / "shard-000/data.mdb", find_crop(work, key) + 700)
    return f"damaged: {key}: the crop is not as it was written: its hash is not the one in its row"


def flip_a_header(work: Any) -> str:
    key = work.crops().manifest.read()["key"][5]
    flip(crops_folder(work) / "shard-000/data.mdb", find_crop(work, key) - 4)
    return f"damaged: {key}: the crop is not as it was written"


def flip_a_row(work: Any) -> str:
    path = crops_folder(work) / "manifest.parquet"
    flip(path, path.stat().st_size // 2)
    return "manifest.parquet is not as it was written, its hash differs"


def flip_a_detection(work: Any) -> str:
    path = detections_folder(work) / "manifest.parquet"
    flip(path, 400)
    return "manifest.parquet is not as it was written, its hash differs"


def cut_the_shard(work: Any) -> str:
    path = crops_folder(work) / "shard-000/data.mdb"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    return "data.mdb is cut short"


def break_the_tree(work: Any) -> str:
    """Every page's header but those of the two meta pages: LMDB trusts them."""
    path = crops_folder(work) / "shard-000/data.mdb"
    data = bytearray(path.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 + 10 : page * 4096 + 32] = b"\xff" * 22
    path.write_bytes(data)
    return "cannot be read: "


def lose_a_crop(work: Any) -> str:
    key = work.crops().manifest.read()["key"][7]
    with lmdb.open(str(crops_folder(work) / "shard-000")) as env, env.begin(write=True) as txn:
        assert txn.delete(digest_of(key))
    return f"missing: {key}: the row's crop is not there"


def lose_the_shard(work: Any) -> str:
    shutil.rmtree(crops_folder(work) / "shard-000")
    return "46 missing"


def bend_a_row(work: Any) -> str:
    manifest = work.crops().manifest
    row = {**manifest.read().row(9, named=True), "box": [40.0, 40.0, 10.0, 60.0]}
    manifest.append([row])
    manifest.compact()
    return f"wrong: {row['key']}: box is no box"


def another_config(work: Any) -> str:
    (crops_folder(work) / "config.json").write_text('{"crop": {"margin": 3}}')
    return "config.json: not the config that the folder is named after"


def damage_the_head(work: Any) -> str:
    (work.cache / "cache.json").write_bytes(b"\0\0\0\0")
    return "all well"


DAMAGES = [
    flip_a_pixel, flip_a_header, flip_a_row, flip_a_detection, cut_the_shard, break_the_tree,
    lose_a_crop, lose_the_shard, bend_a_row, another_config, damage_the_head,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_what_rots_is_found_and_repaired_to_what_it_was(
    damage: Callable[[Any], str], copied: Any, trained: Any, run: Run, ok: Ok
) -> None:
    said = damage(copied)
    command = ("verify", copied.data, "--work", copied.work)
    if damage is damage_the_head:
        assert "verify DATA --repair" in run(*command).error
    else:
        found = run(*command)
        assert said in found.flat, found.text
        assert "run it again with --repair" in found.error
    repaired = ok(*command, "--repair", "--device", "cpu")
    assert said in " ".join(repaired.split())
    assert repaired.count("all well") >= 2, repaired
    after = ok(*command)
    assert after.count("all well") == 2, after
    assert crop_bytes(copied) == crop_bytes(trained)
    ours, theirs = (each.crops().manifest.path.read_bytes() for each in (copied, trained))
    assert ours == theirs
    assert "1 folds are finished" not in ok("predict", copied.data, "--work", copied.work)


def test_a_whole_cache_and_run_are_well(trained: Any, ok: Ok) -> None:
    said = ok("verify", trained.data, "--work", trained.work)
    assert said.count("46 rows") == 2 and "46 crops: all well" in said
    assert "0 things are wrong, 0 left over" in said


def test_orphans_are_named_and_taken_away(copied: Any, ok: Ok) -> None:
    crops = copied.crops()
    with crops.writer() as writer:
        writer.put("nobody.jpg", np.zeros((32, 32, 3), np.uint8))
    torn = [crops.folder / "manifest.parquet.77.tmp", crops.folder / "parts/00000003.parquet.tmp"]
    for path in torn:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"PAR1")
    said = ok("verify", copied.data, "--work", copied.work)
    assert "orphan: " in said and "1 crops without a row" in said and "half-written" in said
    said = ok("verify", copied.data, "--work", copied.work, "--repair")
    assert not any(path.exists() for path in torn)
    assert "nobody.jpg" not in crops.reader()
    assert ok("verify", copied.data, "--work", copied.work).count("all well") == 2


def test_rows_of_photos_that_are_gone_and_photos_without_a_row(
    copied: Any, tmp_path: Path, ok: Ok, detect_flags: tuple[str, ...]
) -> None:
    data, command = tmp_path / "data", ("--work", tmp_path / "fresh")
    source = copied.data / "train/images"
    for person in sorted(source.iterdir())[:2]:
        shutil.copytree(person, data / "class" / person.name)
    ok("detect", data, *command, *detect_flags)
    gone, *_ = sorted(data.glob("*/*/*"))
    key = gone.relative_to(data).as_posix()
    gone.rename(gone.with_name(f"new{gone.suffix}"))
    said = ok("verify", data, *command)
    assert said.count(f"orphan: {key}: a row of a photo that is gone") == 2
    assert "1 photos of the data set have no row yet: run detect" in said
    said = ok("verify", data, *command, "--repair")
    assert "14 rows" in said and ok("verify", data, *command).count("13 rows") == 2
    ok("detect", data, *command, *detect_flags)
    assert ok("verify", data, *command).count("all well") == 2


def test_rows_of_photos_outside_of_a_part_and_of_a_disk_that_is_not_mounted_are_kept(
    copied: Any, tmp_path: Path, ok: Ok, run: Run, detect_flags: tuple[str, ...]
) -> None:
    data, command = tmp_path / "data", ("--work", tmp_path / "fresh")
    people = sorted((copied.data / "train/images").iterdir())[:2]
    for person in people:
        shutil.copytree(person, data / "class" / person.name)
    ok("detect", data, *command, *detect_flags)
    photos = [path.relative_to(data).as_posix() for path in sorted(data.glob("*/*/*"))]
    (data / "part.csv").write_text("path\n" + "\n".join(photos[:2]), "utf-8")
    said = ok("verify", data / "part.csv", *command, "--repair")
    assert said.count("14 rows") == 2 and said.count("all well") == 2
    (data / "class" / people[0].name).rename(tmp_path / "unmounted")
    (data / photos[-1]).unlink()
    (data / "part.csv").unlink()
    said = ok("verify", data, *command, "--repair")
    assert said.count("8 of 14 rows are of photos that are gone") == 2
    assert "they are kept, since a disk may not be mounted" in said
    assert (
        "8 of the 14 photos that have crops are not there"
        in run("detect", data, *command, *detect_flags).error
    )
    (tmp_path / "unmounted").rename(data / "class" / people[0].name)
    said = ok("detect", data, *command, *detect_flags)
    assert "none was processed" in said or "no photo has changed" in said


def test_damaged_checkpoints_are_found_and_their_fold_is_trained_anew(
    copied: Any, trained: Any, run: Run, ok: Ok, train_flags: tuple[str, ...]
) -> None:
    (name,) = (path.name for path in copied.runs.iterdir())
    fold = copied.runs / name / "fold1"
    flip(fold / "best_f1/model.safetensors", 4000)
    torn = [copied.runs / name / each for each in ("fold0/last/model.safetensors.9.tmp", "r.tmp")]
    for path in torn:
        path.touch()
    (copied.runs / name / "fold0/state").mkdir()
    command = ("verify", copied.data, "--work", copied.work)
    said = run(*command)
    assert "fold1" in said.flat and "its hash differs" in said.flat
    assert "1 things are wrong, 3 left over" in said.flat
    ok(*command, "--repair")
    assert not any(path.exists() for path in torn)
    assert not fold.exists() and (copied.runs / name / "fold0/best_f1/meta.json").is_file()
    ok("train", copied.data, "--work", copied.work, "--task", "mask,gender,age", *train_flags)
    weights = "best_f1/model.safetensors"
    assert (fold / weights).read_bytes() == (trained.runs / name / "fold1" / weights).read_bytes()
    ok(*command)


@pytest.fixture(scope="module")
def complete_run(
    trained: Any, tmp_path_factory: pytest.TempPathFactory, ok: Ok, train_flags: tuple[str, ...]
) -> Path:
    """A run with every kind of checkpoint."""
    runs = tmp_path_factory.mktemp("complete")
    command = ("--cache", trained.cache, "--runs", runs, "--task", "gender", *train_flags)
    ok("train", trained.data, *command, "--epochs", "1", "--all-data")
    (run,) = runs.iterdir()
    folds = [run / f"fold{fold}" for fold in RunFolder(run).finished_folds()]
    for fold in folds:
        soup_of_fold(fold)
    soup_of_run(folds, run / "soup/folds")
    return run


@pytest.mark.parametrize(
    ("name", "removed"),
    [
        ("fold0/best_accuracy", "fold0"), ("fold0/best_loss", "fold0"), ("fold1/last", "fold1"),
        ("fold0/best_f1", "fold0"), ("fold0/soup", "fold0/soup"), ("all/last", "all"),
        ("soup/folds", "soup/folds"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("damage", ["flipped", "lost weights", "lost meta"])
def test_damage_of_every_checkpoint_is_found(
    complete_run: Path, tmp_path: Path, name: str, removed: str, damage: str
) -> None:
    run = tmp_path / complete_run.name
    shutil.copytree(complete_run, run)
    assert check_runs(run) == []
    if damage == "flipped":
        flip(run / name / "model.safetensors", 4000)
    else:
        file = {"lost weights": "model.safetensors", "lost meta": "meta.json"}[damage]
        (run / name / file).unlink()
    (finding,) = check_runs(run)
    assert not finding.harmless and name in str(finding.where) and name in finding.message
    repair_runs([finding])
    assert check_runs(run) == []
    assert not (run / removed).exists()
    kept = {"fold0", "fold1", "all", "soup"} - {removed.removesuffix("/folds")}
    assert all(any((run / each).rglob("meta.json")) for each in kept)


def test_a_cache_that_is_being_written_is_not_judged(copied: Any, run: Run) -> None:
    with Cache.open(copied.cache).lock():
        assert (
            "is being written by process" in run("verify", copied.data, "--work", copied.work).error
        )


def test_a_cache_of_format_1_is_brought_up_to_date(
    copied: Any, trained: Any, run: Run, ok: Ok, detect_flags: tuple[str, ...]
) -> None:
    for path in copied.cache.rglob("*.parquet"):
        pl.read_parquet(path).write_parquet(path)
    head = json.loads((copied.cache / "cache.json").read_text())
    (copied.cache / "cache.json").write_text(json.dumps({**head, "format": 1}))
    command = (copied.data, "--work", copied.work)
    assert "converts it and detects nothing again" in run("predict", *command).error
    said = ok("detect", *command, *detect_flags)
    assert "no photo has changed, none was processed again" in said
    assert json.loads((copied.cache / "cache.json").read_text())["format"] == FORMAT
    assert copied.crops().manifest.path.read_bytes() == trained.crops().manifest.path.read_bytes()
    assert ok("verify", *command).count("all well") == 2
    ok("predict", *command)
