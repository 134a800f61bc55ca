"""Mask templates: a folder of pictures and points, and what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.harden.paste.templates import (
    COLUMNS,
    drawn_templates,
    read_templates,
)

TEMPLATES = drawn_templates(0)


def write_templates(folder: Path) -> Path:
    for each in TEMPLATES[:3]:
        cv2.imwrite(str(folder / f"{each.name}.png"), cv2.cvtColor(each.image, cv2.COLOR_RGBA2BGRA))
    lines = [
        ",".join([f"{each.name}.png", *(str(float(value)) for value in each.points.ravel())])
        for each in TEMPLATES[:3]
    ]
    (folder / "points.csv").write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
    return folder


def test_templates_are_read_as_they_were_written(tmp_path: Path) -> None:
    read = read_templates(write_templates(tmp_path))
    assert [each.view for each in read] == ["front", "left", "right"]
    for got, drawn in zip(read, TEMPLATES, strict=False):
        assert got.name == drawn.name
        spread = np.ptp(drawn.points, axis=0) / np.ptp(got.points, axis=0)
        assert np.allclose(spread, spread[0], atol=0.02) and max(got.image.shape) <= 264


def break_columns(folder: Path) -> None:
    (folder / "points.csv").write_text("file,x,y\nsurgical.png,1,2\n")


def break_alpha(folder: Path) -> None:
    cv2.imwrite(str(folder / "surgical.png"), np.zeros((20, 20, 3), np.uint8))


def break_picture(folder: Path) -> None:
    (folder / "surgical.png").write_bytes(b"no picture")


def break_numbers(folder: Path) -> None:
    table = folder / "points.csv"
    first, second, *rest = table.read_text().splitlines()
    table.write_text("\n".join([first, second.rsplit(",", 1)[0] + ",wide", *rest]))


def break_endless(folder: Path) -> None:
    table = folder / "points.csv"
    first, second, *rest = table.read_text().splitlines()
    table.write_text("\n".join([first, second.rsplit(",", 1)[0] + ",inf", *rest]))


def break_points(folder: Path) -> None:
    (folder / "points.csv").write_text(",".join(COLUMNS) + "\nsurgical.png" + ",5" * 12 + "\n")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "points.csv").unlink(), r"points\.csv is absent; wanted a"),
        (break_columns, r"must have the columns file,xa,ya,.*, got file,x,y"),
        (lambda folder: (folder / "points.csv").write_bytes(b"\xff\xfe"), "cannot be read as CSV"),
        (
            lambda folder: (folder / "points.csv").write_text(",".join(COLUMNS) + "\n"),
            "names no template",
        ),
        (lambda folder: (folder / "surgical.png").unlink(), r"surgical\.png is absent, but line 2"),
        (break_alpha, r"surgical\.png must be a PNG with alpha .* got shape \(20, 20, 3\)"),
        (break_picture, r"surgical\.png must be a PNG with alpha .* got no picture"),
        (break_numbers, r"line 2 \(surgical\.png\): wanted 12 numbers"),
        (break_endless, r"line 2 \(surgical\.png\): wanted 12 numbers"),
        (break_points, r"line 2 \(surgical\.png\): .* lie on one line"),
    ],
)  # fmt: skip
def test_bad_templates_are_refused_and_named(tmp_path: Path, break_it, message: str) -> None:  # type: ignore[no-untyped-def]
    break_it(write_templates(tmp_path))
    with pytest.raises(DetectError, match=message):
        read_templates(tmp_path)
