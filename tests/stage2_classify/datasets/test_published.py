"""CelebA and Adience as they are published: lists beside the photos, whole and in part."""

from __future__ import annotations

from pathlib import Path

import pytest

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets import PhotoSet, describe, open_dataset
from cropfirst.stage2_classify.labels.infer_schema import infer_schema

CELEBA = {
    "list_attr_celeba.txt": "4\nSmiling Young \n000001.jpg -1  1\n000002.jpg  1  1\n"
    "000003.jpg  1 -1\n000004.jpg -1 -1\n",
    "identity_CelebA.txt": "000001.jpg 7\n000002.jpg 7\n000003.jpg 8\n000004.jpg 9\n",
    "list_eval_partition.txt": "000001.jpg 0\n000002.jpg 0\n000003.jpg 1\n000004.jpg 2\n",
    "list_bbox_celeba.txt": "4\nimage_id x_1 y_1 width height\n000001.jpg 1 2 3 4\n",
}
KAGGLE = {
    "list_attr_celeba.csv": "image_id,Smiling,Young\n000001.jpg,-1,1\n000002.jpg,1,1\n"
    "000003.jpg,1,-1\n000004.jpg,-1,-1\n",
    "list_eval_partition.csv": "image_id,partition\n000001.jpg,0\n000002.jpg,0\n000003.jpg,1\n"
    "000004.jpg,2\n",
    "list_landmarks_align_celeba.csv": "image_id,lefteye_x\n000001.jpg,69\n",
}
COLUMNS = "user_id\toriginal_image\tface_id\tage\tgender\tx\ty\n"
FOLDS = {
    "fold_0_data.txt": f"{COLUMNS}30@N03\ta_b.jpg\t1\t(25, 32)\tf\t0\t0\n"
    "30@N03\ta_b.jpg\t2\tNone\tu\t0\t0\n",
    "fold_1_data.txt": f"{COLUMNS}7@N01\tc.jpg\t1\t35\tm\t0\t0\n"
    "7@N01\tgone.jpg\t3\t(0, 2)\t\t0\t0\n",
    "fold_frontal_0_data.txt": f"{COLUMNS}30@N03\ta_b.jpg\t1\t(25, 32)\tf\t0\t0\n",
}


def write(root: Path, files: dict[str, str], *photos: str) -> Path:
    for name, text in (files | dict.fromkeys(photos, "")).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    return root


def celeba_photos(folder: str = "img_align_celeba", end: str = "jpg") -> list[str]:
    return [f"{folder}/{number:06d}.{end}" for number in (1, 2, 3, 4)]


def notes(photos: PhotoSet) -> str:
    return "\n".join(f"{problem.where}: {problem.message}" for problem in photos.problems)


def facts(photos: PhotoSet) -> list[tuple[str, str | None, object, object]]:
    return [(s.split, s.group, s.labels["Smiling"], s.labels["Young"]) for s in photos.samples]


def test_celeba_has_attributes_persons_and_splits(tmp_path: Path) -> None:
    photos = open_dataset(write(tmp_path, CELEBA, *celeba_photos()))
    assert photos.layout == "celeba" and [s.key for s in photos.samples] == celeba_photos()
    assert facts(photos) == [
        ("train", "7", -1, 1), ("train", "7", 1, 1), ("train", "8", 1, -1), ("eval", "9", -1, -1)
    ]  # fmt: skip
    assert photos.not_read == () and photos.problems == ()
    assert infer_schema(photos, ["Smiling"]).class_names("Smiling") == ("-1", "1")


@pytest.mark.parametrize("folder", ["img_align_celeba/img_align_celeba", "Img/img_align_celeba"])
def test_celeba_as_archives_have_it(tmp_path: Path, folder: str) -> None:
    kaggle = open_dataset(write(tmp_path / "kaggle", KAGGLE, *celeba_photos(folder)))
    files = {
        f"{'Eval' if 'partition' in name else 'Anno'}/{name}": text for name, text in CELEBA.items()
    }
    folders = open_dataset(write(tmp_path / "folders/CelebA", files, *celeba_photos(folder, "png")))
    assert kaggle.layout == folders.layout == "celeba"
    assert [(*row[:1], *row[2:]) for row in facts(kaggle)] == [
        (*row[:1], *row[2:]) for row in facts(folders)
    ]
    assert [row[1] for row in facts(kaggle)] == [None] * 4
    assert kaggle.not_read == folders.not_read == ()


def test_a_part_of_celeba_and_photos_that_are_not_in_it(tmp_path: Path) -> None:
    photos = open_dataset(write(tmp_path, CELEBA, "img/000002.jpg", "img/mine.jpg"))
    assert [dict(sample.labels) for sample in photos.samples] == [{"Smiling": 1, "Young": 1}, {}]
    said = notes(photos)
    assert "names 3 photos that are not there, such as 000001; they are left out" in said
    assert "has no row for 1 photos, such as img/mine.jpg; they have no labels" in said


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list_attr_celeba.txt", "1\nSmiling Young\n000001.jpg -1\n", "line 3: wanted a photo"),
        ("list_attr_celeba.txt", "1\nSmiling\n000001.jpg 5\n", "an attribute of 000001 is '5'"),
        ("list_attr_celeba.txt", "1\nSmiling\n000001.jpg 1\n000001.jpg 1\n", "in the list twice"),
        ("list_eval_partition.txt", "000001.jpg 3\n", "partition of 000001 is '3'; wanted 0, 1"),
        ("list_attr_celeba.txt", "1\nSmiling\n9.jpg 1\n", "none of the 1 photos of .* is in its"),
        ("identity_CelebA.txt", "000001.jpg 9\n000004.jpg 9\n", "group '9' is in two splits"),
    ],
)  # fmt: skip
def test_a_bad_list_of_celeba_is_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(write(tmp_path, CELEBA | {name: text}, *celeba_photos()))


def test_photos_that_are_there_twice_are_refused(tmp_path: Path) -> None:
    write(tmp_path, CELEBA, *celeba_photos(), *celeba_photos("img_celeba"))
    with pytest.raises(DataError, match=r"are the same photo of list_attr_celeba\.txt"):
        open_dataset(tmp_path)


def test_a_table_of_the_users_own_comes_first(tmp_path: Path) -> None:
    own = {"labels.csv": "path,hat\nimg/000001.jpg,yes\n"}
    assert open_dataset(write(tmp_path / "a", CELEBA | own, "img/000001.jpg")).layout == "csv"
    assert open_dataset(write(tmp_path / "b", FOLDS | own, "img/000001.jpg")).layout == "csv"


def test_forty_labels_of_yes_and_no_are_described_in_a_line(tmp_path: Path) -> None:
    names = [f"Attribute_{number:02d}" for number in range(40)]
    rows = "".join(
        f"{photo:06d}.jpg {' '.join(str((-1, 1)[n % photo == 0]) for n in range(40))}\n"
        for photo in (1, 2, 3, 4)
    )
    text = f"4\n{' '.join(names)}\n{rows}"
    lines = describe(
        open_dataset(write(tmp_path, {"list_attr_celeba.txt": text}, *celeba_photos()))
    )
    (line,) = [line for line in lines if "Attribute_00" in line]
    assert line.startswith("40 labels of -1, 0 and 1, with the number of 1: Attribute_00 4, ")
    assert "Attribute_01 1, Attribute_02 2" in line


@pytest.mark.parametrize(("folder", "kind"), [("faces", "coarse_tilt"), ("aligned", "landmark")])
def test_adience_has_ages_genders_and_persons(tmp_path: Path, folder: str, kind: str) -> None:
    keys = [
        f"{folder}/30@N03/{kind}_aligned_face.1.a_b.jpg",
        f"{folder}/30@N03/{kind}_aligned_face.2.a_b.jpg",
        f"{folder}/7@N01/{kind}_aligned_face.1.c.jpg",
    ]
    photos = open_dataset(write(tmp_path, FOLDS, *keys))
    assert photos.layout == "adience" and [s.key for s in photos.samples] == keys
    assert [(s.split, s.group, dict(s.labels)) for s in photos.samples] == [
        ("train", "30@N03", {"age": "(25, 32)", "gender": "female"}),
        ("train", "30@N03", {}),
        ("train", "7@N01", {"age": "35", "gender": "male"}),
    ]
    assert photos.not_read == ()
    said = notes(photos)
    assert "names 1 photos that are not there, such as 7@N01/3.gone.jpg; they are left out" in said
    assert "1 faces have no age" in said and "2 faces have no gender" in said
    assert infer_schema(photos).class_names("gender") == ("male", "female")
    assert infer_schema(photos).task("age").encode({"age": "35"}) == 1


def test_adience_with_both_kinds_of_photos_or_none_is_refused(tmp_path: Path) -> None:
    aligned = "aligned/7@N01/landmark_aligned_face.1.c.jpg"
    both = ("faces/7@N01/coarse_tilt_aligned_face.1.c.jpg", aligned)
    with pytest.raises(DataError, match="are the same photo of fold_"):
        open_dataset(write(tmp_path / "both", FOLDS, *both))
    with pytest.raises(DataError, match="none of the 4 photos"):
        open_dataset(write(tmp_path / "none", FOLDS, "faces/1/1.jpg"))
