"""Tests of the command `harden`: weights for `detect`, kills, and bad input."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
import torch
from forked import Command
from safetensors.torch import load_file, save_file

from cropfirst.cache import Cache
from cropfirst.core.files import MARKER
from cropfirst.stage1_detect.mtcnn.nets.modules import load_nets, weights_file

Ok = Callable[..., str]
Run = Callable[..., Any]
Portrait = Callable[..., np.ndarray]
Table = Callable[..., None]

NETS = ("pnet", "rnet", "onet")


def settings(*, rounds: int = 1) -> tuple[str, ...]:
    """Return the options of the shortest possible training."""
    sizes = {"rounds": rounds, "views": 3, "epochs": 1, "batch_size": 8}
    pairs = [f"{net}.{name}={value}" for net in NETS for name, value in sizes.items()]
    pairs += ["workers=1", "min_face_size=24"]
    return ("--device", "cpu", "--folds", "4", *(word for p in pairs for word in ("--set", p)))


TINY = settings()
TWICE = (*settings(rounds=2), "--set", "fold=2")
"""Options that hold one of the six people out."""
FOLDER = "fold2"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory, portrait: Portrait) -> Path:
    """Make a folder of six bare faces, which tests must not change."""
    folder = tmp_path_factory.mktemp("harden") / "people"
    folder.mkdir()
    for person in range(6):
        save(folder / f"{person}.png", portrait("normal", person=person))
    return folder


def save(path: Path, image: np.ndarray) -> None:
    assert cv2.imwrite(str(path), image[..., ::-1])


@pytest.fixture(scope="module")
def hardened(people: Path, tmp_path_factory: pytest.TempPathFactory, ok: Ok) -> tuple[Path, str]:
    """Run two undisturbed rounds per net; return the folder, which tests must not change, and the
    output."""
    out = tmp_path_factory.mktemp("hardened") / "out"
    return out, ok("harden", people, "--out", out, *TWICE)


def test_the_weights_are_for_detect_and_every_photo_is_a_row(
    hardened: tuple[Path, str], people: Path, ok: Ok, detect_flags: tuple[str, ...], tmp_path: Path
) -> None:
    out, said = hardened
    weights = out / FOLDER / "weights.safetensors"
    flat = said.replace("\n", "")
    assert f"weights: {weights} (detect --weights {weights})" in flat
    assert f"report: {out / FOLDER / 'recall-pasted.json'}" in flat
    assert json.loads((out / FOLDER / "recall-pasted.json").read_text())["detectors"]
    assert "people: 6 photos, no boxes" in said and "learnt from 5 photos, 0 of them" in said
    for net in NETS:
        assert f"{net} 1/2: " in said and f"{net} 2/2: " in said
    reference, ours = load_file(weights_file("reference")), load_file(weights)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in reference.items()}
    assert all(torch.isfinite(value).all() for value in ours.values())
    for net in NETS:
        assert any(not torch.equal(ours[k], reference[k]) for k in ours if k.startswith(net))
    usual = ("detect", people, "--work", tmp_path, *detect_flags)
    ok(*usual)
    ok(*usual, "--weights", weights)
    tables = list((tmp_path / "cache/detections").glob("*/manifest.parquet"))
    assert len(tables) == 2, "other weights are other detections"
    for table in tables:
        assert sorted(pl.read_parquet(table)["key"]) == [f"{i}.png" for i in range(6)]
    sets = [Cache.open(tmp_path / "cache").find(name) for name in
            Cache.open(tmp_path / "cache").crop_sets()]  # fmt: skip
    assert all((each.manifest.read()["status"] == "detected").sum() >= 5 for each in sets)


def test_a_finished_run_is_not_trained_again(
    hardened: tuple[Path, str], people: Path, ok: Ok, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(hardened[0], out)
    before = files(out)
    said = ok("harden", people, "--out", out, *TWICE)
    assert "continuing after 6 finished rounds" in said and "pnet 1/2" not in said
    assert files(out) == before


def files(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("what", ["seed", "settings", "photos", "boxes"])
def test_another_hardening_in_the_same_folder_is_refused(
    what: str, hardened: tuple[Path, str], people: Path, run: Run, table: Table, tmp_path: Path
) -> None:
    before = files(hardened[0])
    data, more = (
        people,
        {"seed": ["--set", "seed=1"], "settings": ["--set", "pnet.lr=0.01"]}.get(what, []),
    )
    if what in {"photos", "boxes"}:
        data = tmp_path / "people"
        shutil.copytree(people, data)
    if what == "photos":
        (data / "5.png").unlink()
    if what == "boxes":
        table(data / "boxes.csv", [COLUMNS, ("0.png", 40, 50, 100, 130)])
    said = run("harden", data, "--out", hardened[0], *TWICE, *more)
    assert "holds a hardening with other photos, boxes or settings" in said.error
    assert "to start again, or use another --out" in " ".join(said.error.split())
    assert files(hardened[0]) == before


def losses(out: Path) -> int:
    """Return the number of finished rounds by the header of the state's file."""
    try:
        data = (out / FOLDER / "state.safetensors").read_bytes()
    except FileNotFoundError:
        return 0
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return len(json.loads(header["__metadata__"]["state"])["losses"])


# Imports cost more than so small a run: they are made once, and each command is a fork.
@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_files(
    hardened: tuple[Path, str], people: Path, ok: Ok, start: Callable[..., Command], tmp_path: Path
) -> None:
    """Kill the run while the teacher runs, and after the first round of each net."""
    out = tmp_path / "out"
    command = ("harden", people, "--out", out, *TWICE)
    for rounds in (0, 1, 3, 5):
        with start(*command) as process:
            deadline = time.monotonic() + 250
            while not out.exists() or losses(out) < rounds:
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < deadline, "it did not come to the point in time"
                time.sleep(0.001)
            process.kill()
        assert losses(out) in {rounds, rounds + 1}
        assert not list(out.rglob("weights.*")), "nothing unfinished can be taken for them"
    torn = out / FOLDER / "state.safetensors.1.tmp"
    torn.write_bytes(b"half")
    said = ok(*command)
    assert "continuing after" in said and "pnet 1/2" not in said
    assert not torn.exists()
    assert files(out) == files(hardened[0]), "each file, not the weights alone"


COLUMNS = ("file", "xmin", "ymin", "xmax", "ymax", "label")
BOX = (40, 50, 100, 130)


def test_photos_that_are_left_out_are_listed_at_the_end(
    people: Path, portrait: Portrait, table: Table, ok: Ok, tmp_path: Path
) -> None:
    """Data with an unreadable photo, one without a face, and boxes of worn masks alone."""
    data = tmp_path / "bag"
    shutil.copytree(people, data)
    (data / "broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    save(data / "wall.png", np.full((120, 90, 3), 140, np.uint8))
    save(data / "worn.png", portrait("mask1", person=2))
    table(data / "boxes.csv", [COLUMNS, ("worn.png", *BOX, "wear")])
    said = ok("harden", data, "--out", tmp_path / "out", "--all-data", *TINY)
    flat = " ".join(said.split())
    assert "bag: 9 photos, 1 known faces (1 worn, none wrongly worn, none bare)" in flat
    assert "1 photos could not be read: bag/broken.jpg: " in flat
    assert (
        "1 photos show no face that the teacher is sure of, and were left out: bag/wall.png" in flat
    )
    assert "learnt from 7 photos, 1 of them with boxes; held out: none, 0 photos" in flat
    load_nets(str(tmp_path / "out/all/weights.safetensors"))


BAD_BOXES = {
    "outside": ((COLUMNS, ("0.png", 300, 300, 360, 380, "wear")),
                "the box 300, 300, 360, 380 of people/0.png lies outside that photo of 144 x 192"),
    "other columns": ((("image", "x", "y", "w", "h"), ("0.png", 4, 5, 6, 7)),
                      "has the columns 'image', 'x', 'y', 'w', 'h'; wanted a CSV file"),
    "other photos": ((COLUMNS, ("elsewhere/0.png", *BOX, "wear")),
                     "does not hold, such as 'elsewhere/0.png' (1 of 1)"),
    "unknown label": ((COLUMNS, ("0.png", *BOX, "beard")), "line 2: unknown label 'beard'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_BOXES)
def test_boxes_that_are_not_as_they_should_be_are_told(
    case: str, people: Path, table: Table, run: Run, tmp_path: Path
) -> None:
    rows, told = BAD_BOXES[case]
    table(tmp_path / "boxes.csv", rows)
    said = run(
        "harden", people, "--boxes", tmp_path / "boxes.csv", "--out", tmp_path / "out", *TINY
    )
    assert told in " ".join(said.error.split())
    nothing_begun(tmp_path / "out")


def nothing_begun(out: Path) -> None:
    """Check that there are no weights, no state and no partial files; the teacher's table may
    exist."""
    left = {path.name for path in out.rglob("*") if path.is_file()}
    assert all(
        name in {"lock", MARKER} or re.fullmatch(r"teacher.*\.parquet", name) for name in left
    ), left


def test_photos_without_a_face_are_told(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "walls"
    data.mkdir()
    for number in range(4):
        save(data / f"{number}.png", np.full((120, 90, 3), 40 * number, np.uint8))
    said = run("harden", data, "--out", tmp_path / "out", "--all-data", *TINY)
    flat = " ".join(said.error.split())
    assert "none of the 4 photos to learn from holds a known face" in flat
    assert "sure of none in 4 photos without boxes; give photos of bare faces, or boxes.csv" in flat
    nothing_begun(tmp_path / "out")


def test_an_empty_folder_or_none_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "absent"):
        said = run("harden", tmp_path / name, "--out", tmp_path / "out", *TINY)
        assert name in said.error
    assert not (tmp_path / "out").exists()


def test_templates_without_alpha_or_in_an_empty_folder_are_told(
    people: Path, portrait: Portrait, table: Table, run: Run, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    command = ("harden", people, "--templates", masks, "--out", tmp_path / "out", *TINY)
    assert "points.csv is absent; wanted a folder of PNGs with alpha" in run(*command).error
    save(masks / "blue.png", portrait("mask1", person=0))
    header = ("file", *(f"{axis}{point}" for point in "abcdef" for axis in "xy"))
    places = (10, 40, 70, 20, 130, 40, 20, 120, 70, 180, 120, 120)
    table(masks / "points.csv", [header, ("blue.png", *places)])
    said = run(*command)
    assert "blue.png must be a PNG with alpha (8 bits, RGBA), got shape (192, 144, 3)" in said.error
    assert not (tmp_path / "out").exists()


def test_weights_of_another_shape_are_told(
    people: Path, run: Run, detect_flags: tuple[str, ...], tmp_path: Path
) -> None:
    wide = load_file(weights_file("reference"))
    wide["rnet.conv1.weight"] = torch.zeros(28, 3, 5, 5)
    save_file(wide, tmp_path / "wide.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    cases = {
        "wide": "does not hold MTCNN weights",
        "foreign": "does not hold MTCNN weights",
        "text": "is no safetensors file",
        "absent": "or an existing .safetensors file",
    }
    for name, told in cases.items():
        path = tmp_path / f"{name}.safetensors"
        for said in (
            run("harden", people, "--out", tmp_path / "out", *TINY, "--set", f"weights={path}"),
            run("detect", people, "--work", tmp_path / "work", *detect_flags,
                "--set", f"detector.weights={path}"),
        ):  # fmt: skip
            flat = " ".join(said.error.split())
            assert told in flat and path.name in flat
    nothing_begun(tmp_path / "out")


def test_flags_that_contradict_each_other_are_told(people: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    shutil.copytree(people, tmp_path / "other/people")
    out = ("--out", tmp_path / "out", *TINY)
    both = run("harden", people, tmp_path / "other/people", *out)
    assert "two DATA are folders called 'people'" in both.error
    assert "two DATA" in run("harden", people, people, *out).error
    said = run("harden", people, tmp_path, "--boxes", tmp_path / "boxes.csv", *out)
    assert "--boxes FILE is for one DATA" in said.error
    said = run("harden", people, "--all-data", "--fold", "1", *out)
    assert "--all-data holds nothing out" in said.error
    assert "fold must be below folds (4), got 4" in run("harden", people, "--fold", "4", *out).error
    assert not (tmp_path / "out").exists()
