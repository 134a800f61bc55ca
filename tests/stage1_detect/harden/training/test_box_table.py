"""Tests of boxes.csv, which is read, or refused with the line that is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cropfirst import configs
from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.harden.training.box_table import STATE_OF, clip, read_boxes
from cropfirst.stage1_detect.harden.training.known_faces import MASK_STATES, KnownFaces

HEAD = "file,xmin,ymin,xmax,ymax,label\n"
Box = tuple[float, float, float, float]


def known(*faces: tuple[Box, str]) -> KnownFaces:
    boxes = np.array([box for box, _ in faces], np.float32).reshape(-1, 4)
    return KnownFaces(boxes, tuple(state for _, state in faces))


def square(x: float, y: float = 0, side: float = 50) -> Box:
    return (x, y, x + side, y + side)


def test_a_table_becomes_faces_by_photo(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text(
        "note,file,label,xmin,ymin,xmax,ymax\n"
        "x,images/b.jpg,Wear,1,2,3.5,4\n"
        "\n"
        ",./a.jpg,without_mask,-5,0,9,9\n"
        '"two\nlines",images\\b.jpg,,10,20,30,40\n',
        encoding="utf-8-sig",
    )
    faces = read_boxes(path)
    assert list(faces) == ["images/b.jpg", "a.jpg"]
    assert faces["images/b.jpg"].states == ("wear", "")
    assert faces["a.jpg"].states == ("normal",)
    np.testing.assert_array_equal(faces["images/b.jpg"].boxes, [[1, 2, 3.5, 4], [10, 20, 30, 40]])
    assert faces["a.jpg"].boxes.dtype == np.float32


def test_the_other_names_of_corners_and_no_label(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text("file,x0,y0,x1,y1\na.jpg,1,2,3,4\n")
    assert read_boxes(path)["a.jpg"].states == ("",)


def test_labels_are_those_of_the_label_schema() -> None:
    schema = yaml.safe_load((Path(configs.__file__).parent / "labels/contest.yaml").read_text())
    mask = schema["tasks"]["mask"]
    assert set(mask["classes"]) == set(MASK_STATES)
    wanted = {state: state for state in MASK_STATES} | mask["aliases"]
    assert {word: state for word, state in STATE_OF.items() if word} == wanted


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,left,top,right,bottom\na,1,2,3,4\n", "'left', 'top'.*wanted a CSV file.*rename"),
        ("xmin,ymin,xmax,ymax\n1,2,3,4\n", "wanted a CSV file with the columns file"),
        (HEAD, "holds no row"),
        (HEAD + ",,,,,\n\n", "holds no row"),
        ("", "not a table"),
        (HEAD + "a.jpg,1,2,3,4,wear,more\n", "not a table"),
        (HEAD + "a.jpg,1,2,3,4,\n\nb.jpg,1,two,3,4,\n", "line 4: wanted four numbers.*ymin 'two'"),
        (HEAD + "a.jpg,1,,3,4,\n", "line 2: wanted four numbers"),
        (HEAD + "a.jpg,1,nan,3,4,\n", "line 2: wanted four numbers"),
        (HEAD + "a.jpg,1,2,3e99,4,\n", "line 2: wanted four numbers"),
        (HEAD + "a.jpg,5,2,3,4,\n", "line 2: the box is empty or turned.*xmin < xmax"),
        (HEAD + '"a\nb.jpg",1,2,3,4,\na.jpg,1,4,3,4,\n', "line 4: the box is empty"),
        (HEAD + "a.jpg,-9,2,0,4,\n", "line 2: the box lies outside any photo"),
        (HEAD + "a.jpg,1,2,3,4,half\n", "line 2: unknown label 'half'; wanted one of wear, inc"),
        (HEAD + "a\0.jpg,1,2,3,4,wear\n", "line 2: wanted under file a path relative"),
        (HEAD + ",1,2,3,4,wear\n", "line 2: wanted under file a path relative"),
        (HEAD + "/a.jpg,1,2,3,4,wear\n", "line 2: wanted under file a path relative"),
        (HEAD + "../a.jpg,1,2,3,4,wear\n", "line 2: wanted under file a path relative"),
    ],
)
def test_what_is_no_box_is_refused_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    with pytest.raises(DetectError, match=told):
        read_boxes(path)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DetectError, match=r"cannot be read \(No such file"):
        read_boxes(tmp_path / "none.csv")
    with pytest.raises(DetectError, match="cannot be read"):
        read_boxes(tmp_path)
    (tmp_path / "latin.csv").write_bytes(HEAD.encode() + b"caf\xe9.jpg,1,2,3,4,wear\n")
    with pytest.raises(DetectError, match="line 2 is not UTF-8"):
        read_boxes(tmp_path / "latin.csv")


CELL = st.one_of(
    st.sampled_from(["a.jpg", "1", "2.5", "-3", "1e999", "nan", "wear", "", '"', "\n", " ", "..",
                     "é", "\x00", "\r", "file", "xmin", "0x1"]),
    st.text(max_size=4),
)  # fmt: skip


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    head=st.sampled_from([HEAD, "file,x0,y0,x1,y1\n", "", "file,file,xmin,ymin,xmax,ymax\n"]),
    rows=st.lists(st.lists(CELL, min_size=1, max_size=7), max_size=5),
    tail=st.binary(max_size=3),
)
def test_any_file_is_a_table_or_a_clear_error(
    tmp_path: Path, head: str, rows: list[list[str]], tail: bytes
) -> None:
    path = tmp_path / "boxes.csv"
    text = head + "\n".join(",".join(row) for row in rows)
    path.write_bytes(text.encode("utf-8", "surrogatepass") + tail)
    try:
        faces = read_boxes(path)
    except DetectError as error:
        assert "boxes.csv" in str(error) and "wanted" in str(error)
        return
    assert faces
    for key, each in faces.items():
        assert key and not key.startswith("/") and ".." not in key.split("/")
        assert len(each.boxes) == len(each.states) > 0 and np.isfinite(each.boxes).all()
        assert (each.boxes[:, 2:] > each.boxes[:, :2]).all()
        assert set(each.states) <= {*MASK_STATES, ""}


def test_boxes_are_cut_off_at_the_photos_edges() -> None:
    faces = known(((-5, -5, 30, 20), "wear"), ((10, 10, 500, 500), "normal"))
    cut = clip(faces, 60, 80, name="a.jpg")
    np.testing.assert_array_equal(cut.boxes, [[0, 0, 30, 20], [10, 10, 80, 60]])
    assert cut.states == faces.states
    with pytest.raises(DetectError, match=r"box 90, 0, 140, 50 of a\.jpg lies outside .* 80 x 60"):
        clip(known((square(90), "wear")), 60, 80, name="a.jpg")
