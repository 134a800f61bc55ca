"""The contest's layout: names are labels, info.csv is the order, nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets import open_dataset, recognise

SHOTS = ("mask1.jpg", "mask2.jpeg", "mask3.png", "mask4.JPG", "mask5.jpg")
SHOTS = (*SHOTS, "incorrect_mask.jpg", "normal.png")


def add_person(root: Path, folder: str) -> None:
    place = root / "train/images" / folder
    place.mkdir(parents=True)
    for shot in SHOTS:
        (place / shot).touch()
        (place / f"._{shot}").touch()


def add_eval(root: Path, *names: str, info: str | None = None) -> None:
    (root / "eval/images").mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / "eval/images" / name).touch()
    if info is not None:
        (root / "eval/info.csv").write_text(info)


def test_labels_come_from_the_names(tmp_path: Path) -> None:
    add_person(tmp_path, "001498-1_female_Asian_23")
    photos = open_dataset(tmp_path)
    assert (photos.layout, photos.problems, photos.submission) == ("contest", (), None)
    assert len(photos) == 7
    assert {sample.group for sample in photos.samples} == {"001498-1"}
    masks = {sample.path.name: sample.labels["mask"] for sample in photos.samples}
    assert masks == dict.fromkeys(SHOTS[:5], "wear") | {
        "incorrect_mask.jpg": "incorrect",
        "normal.png": "normal",
    }
    facts = [{k: v for k, v in s.labels.items() if k != "mask"} for s in photos.samples]
    assert facts == [{"gender": "female", "race": "Asian", "age": 23}] * 7
    assert photos.samples[0].key == "train/images/001498-1_female_Asian_23/incorrect_mask.jpg"


def test_the_submission_has_the_rows_and_order_of_info_csv(tmp_path: Path) -> None:
    add_person(tmp_path, "000001_male_Asian_45")
    add_eval(
        tmp_path, "b.jpg", "a.png", "x.jpg", info="ImageID,ans\nb.jpg,0\ngone.jpg,0\na.png,0\n"
    )
    photos = open_dataset(tmp_path)
    assert photos.submission == (
        ("b.jpg", "eval/images/b.jpg"),
        ("gone.jpg", "eval/images/gone.jpg"),
        ("a.png", "eval/images/a.png"),
    )
    evals = photos.by_split("eval")
    assert [sample.path.name for sample in evals] == ["a.png", "b.jpg", "gone.jpg", "x.jpg"]
    assert [sample.path.exists() for sample in evals] == [True, True, False, True]
    assert all(sample.labels == {} and sample.group is None for sample in evals)
    assert [problem.where for problem in photos.problems] == ["eval/images/gone.jpg"]


def test_eval_alone_is_enough(tmp_path: Path) -> None:
    add_eval(tmp_path, "a.jpg", info="\ufeffImageID,ans\r\na.jpg,0\r\n")
    photos = open_dataset(tmp_path)
    assert photos.layout == "contest" and photos.submission == (("a.jpg", "eval/images/a.jpg"),)


@pytest.mark.parametrize(
    "folder", ["000002_unknown_Asian_45", "stuff", "1_male_Asian_x", "_male_A_3"]
)
def test_a_folder_that_does_not_parse_keeps_its_photos(tmp_path: Path, folder: str) -> None:
    add_person(tmp_path, "000001_male_Asian_45")
    add_person(tmp_path, folder)
    photos = open_dataset(tmp_path)
    odd = [sample for sample in photos.samples if f"/{folder}/" in sample.key]
    assert len(odd) == 7 and len(photos) == 14
    assert all(sample.labels.keys() == {"mask"} for sample in odd)
    assert len({sample.group for sample in odd}) == len({sample.path.parent for sample in odd})
    assert [problem.where for problem in photos.problems] == [f"train/images/{folder}"]


def test_train_csv_speaks_for_a_folder_that_does_not_parse(tmp_path: Path) -> None:
    add_person(tmp_path, "000001_male_Asian_45")
    add_person(tmp_path, "stuff")
    (tmp_path / "train/train.csv").write_text(
        "id,gender,race,age,path\n9,Female,Asian,61,stuff\n1,female,Asian,45,000001_male_Asian_45\n"
    )
    photos = open_dataset(tmp_path)
    odd = photos.by_key()["train/images/stuff/normal.png"]
    assert odd.labels == {"gender": "female", "race": "Asian", "age": 61, "mask": "normal"}
    assert odd.group == odd.path.parent.name
    # a contradiction is told; the name counts, as it is what the labels are published in
    assert photos.samples[0].labels["gender"] == "male"
    told = {problem.where: problem.message for problem in photos.problems}
    assert "train.csv says gender female" in told["train/images/000001_male_Asian_45"]
    assert set(told) == {"train/images/000001_male_Asian_45", "train/images/stuff"}


def test_a_shot_of_another_name_has_no_mask_label(tmp_path: Path) -> None:
    add_person(tmp_path, "000001_male_Asian_45")
    (tmp_path / "train/images/000001_male_Asian_45/mask6.jpg").touch()
    (tmp_path / "train/images/loose.jpg").touch()
    photos = open_dataset(tmp_path)
    by_key = photos.by_key()
    extra = by_key["train/images/000001_male_Asian_45/mask6.jpg"]
    assert extra.labels == {"gender": "male", "race": "Asian", "age": 45}
    assert extra.group == "000001"
    assert by_key["train/images/loose.jpg"].labels == {}
    assert len(photos) == 9


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ("ImageID,ans\na.jpg,0\na.jpg,0\n", "there twice"),
        ("ImageID,ans\n../../x.jpg,0\n", "leaves"),
        ("ImageID,ans\n../images/../../train/x.jpg,0\n", "leaves"),
        ("ImageID,ans\n,0\n", "ImageID is empty"),
        ("image,ans\na.jpg,0\n", "no column 'ImageID': its columns are image, ans"),
        ("", "no column 'ImageID'"),
    ],
)
def test_a_bad_info_csv_is_refused(tmp_path: Path, info: str, message: str) -> None:
    add_eval(tmp_path, "a.jpg", info=info)
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path)


@pytest.mark.parametrize("inner", ["train", "train/images"])
def test_the_inside_of_the_layout_is_not_taken_for_classes(tmp_path: Path, inner: str) -> None:
    add_person(tmp_path, "000001_male_Asian_45")
    add_person(tmp_path, "000002_female_Asian_45")
    with pytest.raises(DataError, match="give its top folder, "):
        recognise(tmp_path / inner)


def test_the_shared_contest_set(shared_data: Path) -> None:
    photos = open_dataset(shared_data / "contest")
    train, evals = photos.by_split("train"), photos.by_split("eval")
    assert photos.layout == "contest" and photos.problems == ()
    assert (len(train), len(evals)) == (241 * 7, 120 * 7)
    assert len({sample.group for sample in train}) == 241
    assert photos.submission is not None and len(photos.submission) == 840
    assert {key for _, key in photos.submission} == {sample.key for sample in evals}
    info = (shared_data / "contest/eval/info.csv").read_text().splitlines()[1:]
    assert [image_id for image_id, _ in photos.submission] == [row.split(",")[0] for row in info]
