"""The layouts that read tables: csv and fairface."""

from __future__ import annotations

from pathlib import Path

import pytest

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets import open_dataset, recognise
from cropfirst.stage2_classify.labels.infer_schema import infer_schema
from cropfirst.stage2_classify.labels.schema import load_schema


def data_set(root: Path, text: str | bytes, *photos: str, name: str = "labels.csv") -> Path:
    for photo in photos:
        (root / photo).parent.mkdir(parents=True, exist_ok=True)
        (root / photo).touch()
    (root / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return root


def test_split_group_and_labels_are_read(tmp_path: Path) -> None:
    text = (
        "path,split,group,age,gender,score\n"
        "img/b.jpg,train,007,24,male,0.5\n"
        "img/a.jpg,val,8,,female,1\n"
        "img/c.jpg,,,61,,\n"
    )
    photos = open_dataset(data_set(tmp_path, text, "img/a.jpg", "img/b.jpg"))
    assert photos.layout == "csv" and photos.root == tmp_path.resolve()
    a, b, c = photos.samples
    assert (a.key, a.split, a.group) == ("img/a.jpg", "eval", "8")
    assert a.labels == {"gender": "female", "score": 1.0}
    assert (b.key, b.split, b.group) == ("img/b.jpg", "train", "007")
    assert b.labels == {"age": 24, "gender": "male", "score": 0.5}
    assert isinstance(b.labels["age"], int)
    assert (c.split, c.group, dict(c.labels)) == ("train", None, {"age": 61})
    assert not c.path.exists()


def test_a_column_is_numbers_only_where_every_value_is(tmp_path: Path) -> None:
    text = "path,a,b,c,d,e\n1.jpg,1,1,01,nan,1e3\n2.jpg,2,x,02,1,-2.5\n"
    one, two = open_dataset(data_set(tmp_path, text, "1.jpg")).samples
    assert dict(one.labels) == {"a": 1, "b": "1", "c": "01", "e": 1000.0}
    assert dict(two.labels) == {"a": 2, "b": "x", "c": "02", "d": 1, "e": -2.5}


def test_spreadsheets_habits_are_survived(tmp_path: Path) -> None:
    text = '\ufeff path ,,"gender"\r\n"a,b.jpg",0, male \r\n\r\n,,\r\nc.jpg,1,""\r\n'
    photos = open_dataset(data_set(tmp_path, text, "a,b.jpg", "c.jpg"))
    assert [(s.key, dict(s.labels)) for s in photos.samples] == [
        ("a,b.jpg", {"gender": "male"}),
        ("c.jpg", {}),
    ]


def test_the_table_itself_or_a_folder_with_one_that_fits(tmp_path: Path) -> None:
    data_set(tmp_path, "path,x\n1.jpg,a\n", "1.jpg", name="table.csv")
    data_set(tmp_path, "file,x\n1.jpg,a\n", name="boxes.csv")
    assert recognise(tmp_path) == "csv"
    assert open_dataset(tmp_path) == open_dataset(tmp_path / "table.csv")
    data_set(tmp_path, "path,x\n1.jpg,b\n", name="other.csv")
    with pytest.raises(DataError, match=r"several tables.*other\.csv, table\.csv"):
        recognise(tmp_path)
    data_set(tmp_path, "path,x\n1.jpg,c\n")
    assert open_dataset(tmp_path).samples[0].labels == {"x": "c"}
    assert open_dataset(tmp_path / "other.csv").samples[0].labels == {"x": "b"}


def test_a_table_without_labels_is_to_be_predicted_on(tmp_path: Path) -> None:
    assert open_dataset(data_set(tmp_path, "path\n1.jpg\n", "1.jpg")).samples[0].split == "eval"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,x\n../1.jpg,a\n", r"row 1: '\.\./1\.jpg' leaves"),
        ("path,x\n/etc/hosts,a\n", "row 1: .*outside"),
        ("path,x\n1.jpg,a\n./1.jpg,b\n", r"row 2: '1\.jpg' is in row 1 already"),
        ("path,x\n1.jpg,a\n,b\n", "row 2: '' names no photo"),
        ("path,split\n1.jpg,trian\n", "split must be one of train.*got 'trian'"),
        ("path,group,split\n1.jpg,p,train\n2.jpg,p,test\n", "group 'p' is in two splits"),
        ("path,x\n9.jpg,a\n", "none of the 1 photos.*exists.*relative to"),
        ("path,x,x\n1.jpg,a,b\n", "column 'x' twice"),
        ("path,x\n1.jpg,a,b,c\n", "not a CSV table"),
        ('path,x\n"1.jpg,a\n2.jpg,b\n', "not a CSV table"),
        ("path,x\n", "holds no photos"),
        ("path,x\n1.jpg,m\xfcde\n".encode("latin-1"), "not UTF-8.*0xfc in line 2"),
        ("path,x\n1.jpg,a\n".encode("utf-16"), "not UTF-8"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    data_set(tmp_path, text, "1.jpg", "2.jpg")
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path, layout="csv")
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path / "labels.csv")


def test_a_table_without_path_says_what_columns_it_has(tmp_path: Path) -> None:
    data_set(tmp_path, "place;x\n1.jpg;a\n", "1.jpg")
    with pytest.raises(DataError, match="no column 'path': its columns are place, x"):
        open_dataset(tmp_path / "labels.csv")
    with pytest.raises(DataError, match="no column 'path': its columns are place, x"):
        recognise(tmp_path)
    (tmp_path / "labels.csv").rename(tmp_path / "boxes.csv")
    assert recognise(tmp_path) == "photos"
    with pytest.raises(DataError, match="no table with a column `path`"):
        open_dataset(tmp_path, layout="csv")


FAIRFACE_AGES = ["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"]


@pytest.mark.parametrize("folder", ["", "fairface-img-margin025-trainval/"])
def test_fairface_as_published(tmp_path: Path, folder: str) -> None:
    head = "file,age,gender,race,service_test\n"
    rows = [f"train/{i}.jpg,{age},Male,Black,True\n" for i, age in enumerate(FAIRFACE_AGES)]
    photos = [f"{folder}train/{i}.jpg" for i in range(len(rows))]
    data_set(tmp_path, head + "".join(rows), *photos, name="fairface_label_train.csv")
    text = f"{head}val/1.jpg,3-9,Female,East Asian,False\n"
    data_set(tmp_path, text, f"{folder}val/1.jpg", name="fairface_label_val.csv")
    opened = open_dataset(tmp_path)
    assert opened.layout == "fairface" and all(sample.path.exists() for sample in opened.samples)
    train, (one,) = opened.by_split("train"), opened.by_split("eval")
    assert one.key == f"{folder}val/1.jpg"
    assert one.labels == {"age": "3-9", "gender": "female", "race": "East Asian"}
    schema = infer_schema(opened)
    assert schema.task_names == ("gender", "age")
    assert [schema.target("age", s.labels) for s in train] == [0, 0, 0, 0, 1, 1, 1, 2, 2]
    assert {schema.target("gender", s.labels) for s in train} == {0}


def test_fairface_refuses_what_it_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds none of fairface_label_train"):
        open_dataset(tmp_path, layout="fairface")
    data_set(tmp_path, "file,age\ntrain/1.jpg,3-9\n", name="fairface_label_train.csv")
    with pytest.raises(DataError, match="no column 'gender'"):
        open_dataset(tmp_path)
    text = "file,age,gender,race\n,3-9,Male,Black\n"
    data_set(tmp_path, text, name="fairface_label_train.csv")
    with pytest.raises(DataError, match="row 1 names no photo"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(("name", "count"), [("fairface_small", 5400), ("portraits", 340)])
def test_the_shared_tables(shared_data: Path, name: str, count: int) -> None:
    photos = open_dataset(shared_data / name)
    assert (photos.layout, len(photos), photos.problems) == ("csv", count, ())
    assert all(sample.path.is_file() for sample in photos.samples)
    schema = load_schema()
    ages = [schema.target("age", sample.labels, where=sample.key) for sample in photos.samples]
    assert None not in ages
    if name == "fairface_small":  # its own age bins must be those that its age groups fall into
        groups = [schema.task("age").encode({"age": s.labels["age_group"]}) for s in photos.samples]
        assert groups == ages
    else:
        assert len({sample.group for sample in photos.samples}) == 240
