"""Files that are no photos, or are odd ones: a row and an answer for each, never a stack trace."""

from __future__ import annotations

import csv
import io
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from PIL import Image

from cropfirst.cache import Cache

Ok = Callable[..., str]
Run = Callable[..., Any]
Flags = tuple[str, ...]
Portrait = Callable[..., np.ndarray]

ODD = ("plain.png", "cmyk.jpg", "grey.png", "deep.png", "deep_grey.png", "alpha.png", "turned.jpg")
BAD = {
    "truncated.jpg": "Truncated",
    "truncated.png": "Truncated",
    "empty.jpg": "EmptyFile",
    "text.jpg": "NotAnImage",
    "bomb.png": "TooManyPixels",
    "dangling.jpg": "FileNotFoundError",
    "missing.jpg": "FileNotFoundError",
}


def _bomb(width: int, height: int) -> bytes:
    """A small PNG whose header promises width x height pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _jpeg(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=95, **options)
    return buffer.getvalue()


def _write_odd(folder: Path, portrait: np.ndarray) -> None:
    """One portrait in every way of storing a photo."""
    image = Image.fromarray(portrait)
    image.save(folder / "plain.png")
    (folder / "cmyk.jpg").write_bytes(_jpeg(image.convert("CMYK")))
    image.convert("L").save(folder / "grey.png")
    cv2.imwrite(str(folder / "deep.png"), portrait[..., ::-1].astype(np.uint16) * 257)
    grey = np.array(image.convert("L")).astype(np.uint16) * 257
    cv2.imwrite(str(folder / "deep_grey.png"), grey)
    clear = image.convert("RGBA")
    clear.putalpha(Image.new("L", image.size, 250))
    clear.save(folder / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show
    turned = image.transpose(Image.Transpose.ROTATE_90)
    (folder / "turned.jpg").write_bytes(_jpeg(turned, exif=exif))


def _write_bad(folder: Path, portrait: np.ndarray) -> None:
    whole = _jpeg(Image.fromarray(portrait))
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "truncated.png").write_bytes((folder / "plain.png").read_bytes()[:9000])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("no photo at all")
    (folder / "bomb.png").write_bytes(_bomb(60_000, 60_000))
    (folder / "dangling.jpg").symlink_to(folder / "nowhere.jpg")


@pytest.fixture(scope="module")
def zoo(
    tmp_path_factory: pytest.TempPathFactory, portrait: Portrait, table: Any, trained: Any,
    ok: Ok, detect_flags: Flags,
) -> tuple[Path, Path, str]:  # fmt: skip
    """A contest's eval split of such files, detected: (data, work, what detect said)."""
    root = tmp_path_factory.mktemp("zoo") / "data"
    folder = root / "eval/images"
    folder.mkdir(parents=True)
    _write_odd(folder, portrait("normal", person=3))
    _write_bad(folder, portrait("normal", person=4))
    asked = [*BAD, *reversed(ODD)]
    table(root / "eval/info.csv", [("ImageID", "ans"), *((name, 0) for name in asked)])
    work = root.parent / "work"
    return root, work, ok("detect", root, "--work", work, *detect_flags)


def _rows(work: Path) -> dict[str, dict[str, Any]]:
    table = Cache.open(work / "cache").find().manifest.read()
    return {Path(row["key"]).name: row for row in table.to_dicts()}


def test_every_file_gets_one_row_and_the_reason_is_said(zoo: tuple[Path, Path, str]) -> None:
    _, work, said = zoo
    rows = _rows(work)
    assert sorted(rows) == sorted([*ODD, *BAD])
    assert {name: rows[name]["error_type"] for name in BAD} == BAD
    for name, kind in BAD.items():
        assert rows[name]["status"] == "unreadable" and rows[name]["crop_hash"] is None
        assert f"eval/images/{name}: {kind}: " in said
    assert "60000x60000 is 3600 megapixels, the limit is 200" in said
    assert "eval/images/missing.jpg: is in eval/info.csv and not among the photos" in said


@pytest.mark.parametrize("name", ODD)
def test_odd_ways_of_storing_show_the_same_face(zoo: tuple[Path, Path, str], name: str) -> None:
    _, work, _ = zoo
    rows = _rows(work)
    plain, odd = rows["plain.png"], rows[name]
    assert odd["status"] == "detected" and odd["error"] is None
    assert (odd["width"], odd["height"]) == (plain["width"], plain["height"]) == (144, 192)
    np.testing.assert_allclose(odd["box"], plain["box"], atol=8)


def test_deep_pixels_give_the_very_same_crop(zoo: tuple[Path, Path, str]) -> None:
    rows = _rows(zoo[1])
    assert rows["deep.png"]["crop_hash"] == rows["plain.png"]["crop_hash"]
    assert rows["deep_grey.png"]["crop_hash"] == rows["grey.png"]["crop_hash"]


def test_every_file_gets_an_answer_on_its_own_row(
    zoo: tuple[Path, Path, str], trained: Any, ok: Ok, tmp_path: Path
) -> None:
    data, work, _ = zoo
    said = ok("predict", data, "--work", work, "--runs", trained.runs, "--out", tmp_path)
    assert "detected 7, unreadable 7" in said
    with (tmp_path / "submission.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows] == ["ImageID", *BAD, *reversed(ODD)]
    assert all(0 <= int(code) < 18 for _, code in rows[1:])
    answers = pl.read_parquet(tmp_path / "predictions.parquet")
    table = {row["image_id"]: row for row in answers.iter_rows(named=True)}
    assert {name: row["members"] for name, row in table.items()} == {
        **dict.fromkeys(BAD, 0), **dict.fromkeys(ODD, 2)
    }  # fmt: skip
    assert len({tuple(table[name]["mask_probs"]) for name in BAD}) == 1, "the class prior"
    crops = Cache.open(work / "cache", data_root=data).find(None).manifest.read()
    hashes = {Path(key).name: value for key, value in crops.select("key", "crop_hash").iter_rows()}
    assert hashes["deep.png"] == hashes["plain.png"] != hashes["grey.png"]
    # Equal crops at two places of a batch may differ in the last bit.
    assert table["deep.png"]["mask_probs"] == pytest.approx(table["plain.png"]["mask_probs"])
    assert table["grey.png"]["mask_probs"] != table["plain.png"]["mask_probs"]


def test_strict_fails_after_it_has_done_all_it_could(
    zoo: tuple[Path, Path, str], run: Run, detect_flags: Flags
) -> None:
    data, work, _ = zoo
    said = run("detect", data, "--work", work, *detect_flags, "--strict")
    assert said.error == "unreadable photos: 7 (--strict)"
    assert "contact sheets:" in said.text and "12 were unchanged, 2 were missing" in said.text


def test_strict_is_content_with_good_photos(copied: Any, ok: Ok, detect_flags: Flags) -> None:
    ok("detect", copied.data, "--work", copied.work, *detect_flags, "--strict")


def test_the_sheet_of_doubtful_photos_shows_the_reasons(zoo: tuple[Path, Path, str]) -> None:
    (sheet,) = (zoo[1] / "detect").glob("*-not-detected.png")
    image = cv2.imread(str(sheet))
    assert image is not None and image.std() > 10


def test_single_bad_photos_are_named_and_not_guessed_at(
    zoo: tuple[Path, Path, str], trained: Any, run: Run
) -> None:
    folder = zoo[0] / "eval/images"
    said = run("predict", folder / "plain.png", folder / "text.jpg", "--runs", trained.runs)
    assert said.code == 0, said.text
    assert "text.jpg: NotAnImage: neither Pillow nor OpenCV" in said.text
    (line,) = [line for line in said.text.splitlines() if "unreadable" in line]
    assert "%" not in line, "no class is made up for a photo that nobody has seen"
    said = run("predict", folder / "empty.jpg", "--runs", trained.runs)
    assert said.error == "no photo could be read: nothing was predicted"
    assert "empty.jpg: EmptyFile: the file has no bytes" in said.text


def test_a_data_set_of_bad_photos_alone(
    tmp_path: Path, run: Run, ok: Ok, detect_flags: Flags, trained: Any
) -> None:
    data, work = tmp_path / "data", tmp_path / "work"
    data.mkdir()
    (data / "a.jpg").write_bytes(b"\xff\xd8\xff")
    (data / "b.jpg").touch()
    said = ok("detect", data, "--work", work, *detect_flags)
    assert "layout photos" in said and "0 crops written" in said
    said = ok("predict", data, "--work", work, "--runs", trained.runs)
    assert "unreadable 2" in said
    assert len((work / "predict/submission.csv").read_text().splitlines()) == 3


def test_photos_without_a_face_get_the_typical_place(
    tmp_path: Path, ok: Ok, detect_flags: Flags
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name, grey in (("a.png", 0), ("b.png", 200)):
        cv2.imwrite(str(data / name), np.full((96, 80, 3), grey, np.uint8))
    cv2.imwrite(str(data / "dot.png"), np.zeros((1, 1, 3), np.uint8))
    ok("detect", data, "--work", tmp_path / "work", *detect_flags)
    rows = _rows(tmp_path / "work")
    assert {row["status"] for row in rows.values()} == {"prior"}
    assert all(row["crop_hash"] for row in rows.values())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file: not tested as root")
def test_a_photo_that_may_not_be_read(
    tmp_path: Path, ok: Ok, portrait: Portrait, detect_flags: Flags
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    Image.fromarray(portrait("normal", person=1)).save(data / "a.png")
    Image.fromarray(portrait("normal", person=1)).save(data / "closed.png")
    (data / "closed.png").chmod(0)
    said = ok("detect", data, "--work", tmp_path / "work", *detect_flags)
    assert "closed.png: PermissionError: Permission denied" in said
    assert _rows(tmp_path / "work")["a.png"]["status"] == "detected"


def test_names_that_are_hard_on_terminals_and_tables(
    tmp_path: Path, ok: Ok, portrait: Portrait, trained: Any, detect_flags: Flags
) -> None:
    names: Sequence[str] = ("[red]x.png", 'a,b "c".png', "übung ✓.png", "line\nbreak.png")
    data, work = tmp_path / "[bold]data", tmp_path / "work"
    data.mkdir()
    for name in names:
        Image.fromarray(portrait("normal", person=2)).save(data / name)
    (data / "[red]bad.png").touch()
    said = ok("detect", data, "--work", work, *detect_flags)
    assert "[red]bad.png: EmptyFile" in said
    ok("predict", data, "--work", work, "--runs", trained.runs)
    with (work / "predict/submission.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert sorted(row[0] for row in rows[1:]) == sorted([*names, "[red]bad.png"])
    said = ok("predict", *(data / name for name in names), "--runs", trained.runs)
    assert "[red]x.png" in said
