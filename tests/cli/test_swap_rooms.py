"""`detect --swap-rooms`: the swapped twin on the command line, in verify, compact and the audit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cropfirst.cache import Cache
from cropfirst.cache.swapped import SwappedTwin, open_swapped
from cropfirst.stage1_detect.crops import cut_out
from cropfirst.stage2_classify.commands.strata import class_strata
from cropfirst.stage2_classify.datasets import open_dataset

Ok = Callable[..., str]
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def swapped(
    trained: Any, tmp_path_factory: pytest.TempPathFactory, ok: Ok, detect_flags: tuple[str, ...]
) -> tuple[Any, str]:
    """The trained work with a twin of two draws, and what was said. Not to be changed."""
    work = tmp_path_factory.mktemp("swapped") / "work"
    shutil.copytree(trained.work, work)
    done = type(trained)(trained.data, work)
    flags = ("--swap-rooms", "--set", "swap.draws=2", *detect_flags)
    return done, ok("detect", trained.data, "--work", work, *flags)


@pytest.fixture
def twin_work(swapped: tuple[Any, str], tmp_path: Path) -> Any:
    """A copy with the twin, to be changed."""
    shutil.copytree(swapped[0].work, tmp_path / "twin")
    return type(swapped[0])(swapped[0].data, tmp_path / "twin")


def _twin(work: Any) -> SwappedTwin:
    found = open_swapped(work.crops())
    assert found is not None
    return found


def test_the_twin_of_a_data_set_is_made_and_shown(swapped: tuple[Any, str]) -> None:
    work, said = swapped
    twin = _twin(work)
    assert twin.is_finished and len(twin.draws) == 2 and len(twin.usable) > 35
    assert all("/train/" in f"/{key}" for key in twin.usable), "eval photos have no twin"
    total = len(twin.usable) + sum(twin.left_out.values())
    assert total == 42 and f"swapped rooms: {len(twin.usable)} of 42 train photos" in said
    sheet = work.work / "detect" / f"{work.crops().name}-swapped.png"
    assert str(sheet) in said
    picture = cv2.imread(str(sheet))
    assert picture is not None and picture.std() > 10
    assert Cache.open(work.cache).crop_sets() == [work.crops().name]


def test_a_later_detect_keeps_the_twin_up_to_date_without_being_asked(
    twin_work: Any, ok: Ok, detect_flags: tuple[str, ...], tmp_path: Path
) -> None:
    command = ("--work", twin_work.work, *detect_flags)
    before = _twin(twin_work)
    said = ok("detect", twin_work.data, *command)
    assert "in 2 draws; 0 crops and 0 cut-outs made" in said
    assert _twin(twin_work).fingerprint == before.fingerprint
    data = tmp_path / "data"
    shutil.copytree(twin_work.data, data)
    head = twin_work.cache / "cache.json"
    head.write_text(json.dumps({**json.loads(head.read_text()), "data_root": str(data)}))
    photo = data / min(before.usable)
    image = cv2.imread(str(photo))
    cv2.imwrite(str(photo), image[:, ::-1])
    said = ok("detect", data, *command)
    twin = _twin(twin_work)
    assert " 1 cut-outs made" in said and twin.is_finished and len(twin.draws) == 2
    assert min(before.usable) in twin.usable and twin.fingerprint != before.fingerprint
    # The labels of a person decide whose rooms are those of a class.
    made_again = ok("detect", data, *command, "--swap-rooms", "--set", "swap.seed=7")
    assert "made again, since its crops were made with other settings" in made_again
    assert len(_twin(twin_work).draws) == 1


def test_a_detect_of_a_part_of_the_photos_leaves_the_twin_as_it_is(
    twin_work: Any, ok: Ok, detect_flags: tuple[str, ...], tmp_path: Path, table: Callable[..., Any]
) -> None:
    before = _twin(twin_work)
    keys = sorted(before.usable)[:14]
    data = twin_work.data / "part.csv"
    table(data, [("path", "gender"), *((key, key.split("_")[1]) for key in keys)])
    try:
        said = ok("detect", data, "--work", twin_work.work, *detect_flags)
    finally:
        data.unlink()
    assert "swapped rooms: left as they are, since 32 photos of the crop set are not in" in said
    assert _twin(twin_work).fingerprint == before.fingerprint


def test_a_data_set_without_a_twin_gets_none_unasked(
    trained: Any, copied: Any, ok: Ok, detect_flags: tuple[str, ...]
) -> None:
    said = ok("detect", copied.data, "--work", copied.work, *detect_flags)
    assert "swapped" not in said and open_swapped(copied.crops()) is None
    assert not (copied.cache / "cut-outs").exists()


def test_strata_are_the_classes_of_all_tasks_in_one_word(contest: Path, tmp_path: Path) -> None:
    strata = class_strata(open_dataset(contest))
    photos = open_dataset(contest).by_key()
    assert set(strata) == {key for key, each in photos.items() if each.split == "train"}
    key = next(key for key in strata if "_female_Drawn_60/mask1" in key)
    assert strata[key] == "wear female >=60"
    same = {word for key, word in strata.items() if "_female_Drawn_60/mask" in key}
    assert len(same) == 1 and len(set(strata.values())) == 3 * 6
    shutil.copytree(contest / "eval/images", tmp_path / "photos")
    assert class_strata(open_dataset(tmp_path / "photos")) == {}


def _flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 16
    path.write_bytes(data)


def damage_pixels(work: Any) -> list[str]:
    """Flip a bit of a swapped crop, of the rows of another draw, and of a cut-out."""
    draws = _twin(work).draws
    key = min(_twin(work).usable)
    path = draws[0].folder / "shard-000/data.mdb"
    _flip(path, path.read_bytes().index(draws[0].reader()[key].tobytes()) + 50)
    _flip(draws[1].manifest.path, draws[1].manifest.path.stat().st_size // 2)
    path = work.cache / "cut-outs/data.mdb"
    _flip(path, path.read_bytes().index(b"cut1") + 3000)
    return [
        f"damaged: {key}: the crop is not as it was written", "swapped/1: 0 rows",
        "1 cut-outs are not as they were written",
    ]  # fmt: skip


def lose_files(work: Any) -> list[str]:
    """Lose the crops of a draw, the config of another, and half of the cut-outs."""
    draws = _twin(work).draws
    shutil.rmtree(draws[0].folder / "shard-000")
    (draws[1].folder / "config.json").write_text('{"crop": {}, "swapped": {"draw": 1}}')
    path = work.cache / "cut-outs/data.mdb"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    return ["missing: ", "not the config of its crop set", "cut-outs: 0 cut-outs: 1 damaged"]


@pytest.mark.slow
@pytest.mark.parametrize("damage", [damage_pixels, lose_files], ids=lambda damage: damage.__name__)
def test_a_twin_that_rots_is_found_and_repaired_to_what_it_was(
    twin_work: Any, run: Run, ok: Ok, damage: Callable[[Any], list[str]]
) -> None:
    before = _twin(twin_work).fingerprint
    command = ("verify", twin_work.data, "--work", twin_work.work)
    expected = damage(twin_work)
    found = run(*command)
    assert all(text in found.flat for text in expected), found.text
    assert "run it again with --repair" in found.error
    said = ok(*command, "--repair", "--device", "cpu")
    last = said[said.rindex("detections/") :]
    assert last.count("all well") == 5 and "swapped/1: 42 rows" in last, last
    assert _twin(twin_work).fingerprint == before and len(_twin(twin_work).draws) == 2


def test_shards_of_draws_are_merged_too(twin_work: Any, ok: Ok) -> None:
    twin = _twin(twin_work)
    key, draw = min(twin.usable), twin.draws[0]
    crop = draw.reader()[key]
    with draw.writer(1) as writer:
        writer.put(key, crop)
    said = ok("compact", twin_work.data, "--work", twin_work.work)
    assert f"{draw.folder}: 1 shard merged" in said
    assert (draw.reader()[key] == crop).all() and draw.verify() == []


def test_the_audit_uses_the_stored_cut_outs_and_finds_the_same(
    twin_work: Any, copied: Any, ok: Ok, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def audit(work: Any, name: str) -> list[dict[str, Any]]:
        out = tmp_path / name
        ok("audit", work.runs, "--cache", work.cache, "--out", out, "--limit", "14",
           "--device", "cpu")  # fmt: skip
        rows = json.loads((out / "audit.json").read_text())["runs"]
        return [{key: row[key] for key in row if key not in ("seconds", "path")} for row in rows]

    wanted = audit(copied, "fresh")
    made: list[int] = []
    make = cut_out.make_cut_out

    def counted(*args: Any) -> Any:
        made.append(1)
        return make(*args)

    monkeypatch.setattr("cropfirst.stage1_detect.crops.photo_reader.make_cut_out", counted)
    assert audit(twin_work, "stored") == wanted
    borrowed = sum(status in ("sibling", "prior") for status in twin_work.statuses().values())
    assert len(made) <= borrowed
    assert len(_twin(twin_work).usable) > 35 and np.isfinite(wanted[0]["bg_gap"])
