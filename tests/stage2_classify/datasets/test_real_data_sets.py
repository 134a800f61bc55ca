"""Data sets as people have them: two Unicode forms, words for "no value", other names of splits."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from cropfirst.core.errors import DataError
from cropfirst.core.files import MARKER
from cropfirst.stage2_classify.datasets import PhotoSet, describe, open_dataset, recognise
from cropfirst.stage2_classify.labels.infer_schema import infer_schema

WORN, BARE = "\ub9c8\uc2a4\ud06c", "\uc815\uc0c1"  # two Korean words


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def table(root: Path, *rows: str, name: str = "labels.csv", separator: str = ",") -> Path:
    text = "\n".join(row.replace(",", separator) for row in rows)
    (root / name).write_text(f"{text}\n", "utf-8")
    return root


def labels(photos: PhotoSet, name: str = "label") -> list[object]:
    return [sample.labels.get(name) for sample in photos.samples]


def notes(photos: PhotoSet) -> str:
    return "\n".join(f"{problem.where}: {problem.message}" for problem in photos.problems)


def test_class_folders_in_two_unicode_forms_are_one_class(tmp_path: Path) -> None:
    for word in (WORN, BARE):
        touch(tmp_path, f"train/{word}/1.jpg", f"test/{decomposed(word)}/2.jpg")
    photos = open_dataset(tmp_path)
    assert set(labels(photos)) == {WORN, BARE}
    assert infer_schema(photos).class_names("label") == tuple(sorted((WORN, BARE)))


def test_a_table_finds_files_whose_names_are_in_another_form_or_case(tmp_path: Path) -> None:
    touch(tmp_path, decomposed(f"{WORN}/{BARE}.jpg"), "b.JPG", "c.jpg", "C.JPG", "sub/d.jpg")
    table(tmp_path, "path,hat", f"{WORN}/{BARE}.jpg,yes", "b.jpg,no", "C.jpg,no", "sub\\d.jpg,yes")
    photos = open_dataset(tmp_path)
    found = {sample.key: sample.path.exists() for sample in photos.samples}
    assert found == {
        decomposed(f"{WORN}/{BARE}.jpg"): True,
        "b.JPG": True,
        "C.jpg": False,  # both c.jpg and C.JPG could be meant
        "sub/d.jpg": True,
    }


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "N/A", "null", " ", ""])
def test_words_for_no_value_are_empty_and_counted(tmp_path: Path, word: str) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    table(tmp_path, "path,group,hat,age", f"1.jpg,{word},yes,{word}", f"2.jpg,{word},{word},31",
          "3.jpg,anna,no,60")  # fmt: skip
    photos = open_dataset(tmp_path)
    assert [sample.group for sample in photos.samples] == [None, None, "anna"]
    assert labels(photos, "hat") == ["yes", None, "no"]
    assert labels(photos, "age") == [None, 31, 60], "numbers stay numbers"
    if word.strip():
        assert f"column 'group': 2 cells are read as empty ({word} 2)" in notes(photos)


def test_none_is_a_class_and_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    table(tmp_path, "path,glasses", "1.jpg,none", "2.jpg,sun", "3.jpg,")
    photos = open_dataset(tmp_path)
    assert labels(photos, "glasses") == ["none", "sun", None]
    assert "glasses: 'none' (1 photos) is read as a class" in notes(photos)


def test_spellings_of_a_class_are_joined_by_their_frequency(tmp_path: Path) -> None:
    names = ["Glasses/1.jpg", "glasses/2.jpg", "glasses/3.jpg", "none/4.jpg"]
    photos = open_dataset(touch(tmp_path, *names))
    assert labels(photos) == ["glasses", "glasses", "glasses", "none"]
    assert "'Glasses' (1), 'glasses' (2) are read as one class, 'glasses'" in notes(photos)
    equal = open_dataset(touch(tmp_path, "GLASSES/5.jpg", "GLASSES/6.jpg"))
    assert set(labels(equal)) == {"GLASSES", "none"}, "as frequent: the first in order"


@pytest.mark.parametrize(
    ("train", "test"),
    [("Training", "Testing"), ("train", "val"), ("trn", "dev"), ("TRAIN", "eval")],
)
def test_folders_of_splits_by_any_usual_name(tmp_path: Path, train: str, test: str) -> None:
    touch(tmp_path, *(f"{top}/{name}/1.jpg" for top in (train, test) for name in ("a", "b")))
    photos = open_dataset(tmp_path)
    assert recognise(tmp_path) == "folders" and set(labels(photos)) == {"a", "b"}
    assert [sample.key for sample in photos.by_split("train")] == [
        f"{train}/a/1.jpg", f"{train}/b/1.jpg"
    ]  # fmt: skip


def test_a_folder_beside_the_splits_is_left_out_and_named(tmp_path: Path) -> None:
    tops = ("train", "test", "examples")
    touch(tmp_path, *(f"{top}/{name}/1.jpg" for top in tops for name in ("a", "b")))
    photos = open_dataset(tmp_path)
    assert set(labels(photos)) == {"a", "b"} and len(photos) == 4
    assert "examples/: its 2 photos are left out" in notes(photos)


def test_a_split_of_an_unknown_name_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{top}/{name}/1.jpg" for top in ("train", "part2") for name in ("a", "b")))
    with pytest.raises(DataError, match=r"train and part2 hold the same classes \(a, b\)"):
        open_dataset(tmp_path)


def test_classes_that_are_called_as_a_split(tmp_path: Path) -> None:
    photos = open_dataset(touch(tmp_path, "train/1.jpg", "bus/2.jpg", "car/3.jpg"))
    assert sorted(map(str, labels(photos))) == ["bus", "car", "train"]


def test_what_cropfirst_made_is_no_photo_of_the_data_set(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg", "work/a/sheet.png", f"work/{MARKER}")
    photos = open_dataset(tmp_path)
    assert [sample.key for sample in photos.samples] == ["a/1.jpg", "b/2.jpg"]
    assert set(labels(photos)) == {"a", "b"}


def test_jpeg_files_of_every_name_are_taken_and_other_images_counted(tmp_path: Path) -> None:
    touch(tmp_path, "1.jfif", "2.pjpeg", "3.jpe", "4.dng", "notes.txt")
    (tmp_path / "5").write_bytes(b"\xff\xd8\xff\xe0" + bytes(20))
    photos = open_dataset(tmp_path)
    assert [sample.key for sample in photos.samples] == ["1.jfif", "2.pjpeg", "3.jpe"]
    assert photos.not_taken == {".dng": 1, "(none)": 1}
    assert "not taken, though they look like images: 1 (none), 1 .dng" in describe(photos)


def test_folders_of_persons_below_each_class(tmp_path: Path) -> None:
    names = [f"{label}/{person}/{n}.jpg" for label in "ab" for person in ("p1", "p2") for n in "12"]
    photos = open_dataset(touch(tmp_path, *names))
    assert {sample.group for sample in photos.samples} == {"p1", "p2"}
    assert "persons: 2" in describe(photos)


def test_masked_face_net_names_its_persons(tmp_path: Path) -> None:
    names = [f"CMFD/00000/{n:05}_Mask.jpg" for n in range(4)]
    names += [f"IMFD/00000/{n:05}_Mask_Mouth_Chin.jpg" for n in range(4)]
    photos = open_dataset(touch(tmp_path, *names))
    assert len({sample.group for sample in photos.samples}) == 4
    assert set(labels(photos)) == {"CMFD", "IMFD"}


def test_unknown_persons_are_said_to_be(tmp_path: Path) -> None:
    photos = open_dataset(touch(tmp_path, "a/1.jpg", "b/2.jpg", "b/x/3.jpg"))
    assert all(sample.group is None for sample in photos.samples)
    assert "persons unknown: each photo counts as a person of its own" in describe(photos)


def test_impossible_ages_are_left_out_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    photos = open_dataset(table(tmp_path, "path,age", "1.jpg,150", "2.jpg,2014", "3.jpg,70"))
    assert labels(photos, "age") == [None, None, 70] and photos.impossible == 2
    assert "2 photos have an age outside of 0 to 120 (150, 2014)" in notes(photos)


def test_a_class_of_the_test_split_alone_is_warned_of(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "test/a/3.jpg", "test/c/4.jpg")
    assert any(
        "c occurs among the eval photos only" in line for line in describe(open_dataset(tmp_path))
    )


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_other_programs(tmp_path: Path, separator: str) -> None:
    touch(tmp_path, "images/1.jpg", "images/2.jpg")
    table(tmp_path, "image,label", "1.jpg,cat", "2.jpg,dog", name="train.csv", separator=separator)
    photos = open_dataset(tmp_path)
    assert photos.layout == "csv"
    assert {sample.key: sample.labels["label"] for sample in photos.samples} == {
        "images/1.jpg": "cat", "images/2.jpg": "dog"
    }  # fmt: skip


def test_the_description_counts_classes(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "train/b/3.jpg", "test/4.jpg")
    lines = describe(open_dataset(tmp_path))
    assert lines[0] == "layout folders, 3 train, 1 eval photos (layout recognised)"
    assert lines[1] == "label label: b 2, a 1", "the photo to predict misses nothing"
    touch(tmp_path, "train/5.jpg")
    assert describe(open_dataset(tmp_path))[1] == "label label: b 2, a 1; 1 photos without it"


def test_files_with_labels_that_are_not_read_are_named(tmp_path: Path) -> None:
    touch(tmp_path, *(f"faces/{place}/{place}.jpg" for place in range(4)))
    touch(tmp_path, "rooms.csv", "LICENSE.txt", "README.txt")
    columns = "user_id\toriginal_image\tface_id\tage\tgender\tx\ty"
    for fold in range(5):
        (tmp_path / f"part_{fold}.txt").write_text(f"{columns}\n1\t1.jpg\t1\t(25, 32)\tf\t0\t0\n")
    photos = open_dataset(tmp_path)
    assert len(photos.not_read) == 5
    said = "\n".join(describe(photos))
    assert "part_0.txt and 4 more .txt (columns user_id, original_image, face_id, age" in said
    assert "wanted: a CSV whose column `path` names the photos" in said


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        (
            {f"annotations/{n}.xml": "<annotation>\n<folder>images</folder>" for n in range(3)},
            ["annotations/0.xml and 2 more .xml (VOC boxes)", "detect finds the faces"],
        ),
        (
            {f"labels/{n}.txt": "0 0.5 0.5 0.1 0.25\n" for n in range(3)},
            ["labels/0.txt and 2 more .txt (YOLO boxes)", "detect finds the faces"],
        ),
        (
            {"attributes.txt": "2\nSmiling Young\n0.jpg -1  1\n1.jpg  1  1\n"},
            ["(CelebA list of Smiling, Young)", "call it list_attr_celeba.txt"],
        ),
        (
            {"attr.csv": "image_id,Young\n0.jpg,1\n1.jpg,-1\n",
             "box.csv": "image_id,x\n0.jpg,9\n1.jpg,9\n"},
            ["attr.csv (columns image_id, Young); box.csv (columns image_id, x)", "as DATA"],
        ),
    ],
)  # fmt: skip
def test_annotations_that_are_not_read_say_what_is_wanted(
    files: dict[str, str], wanted: list[str], tmp_path: Path
) -> None:
    touch(tmp_path, "images/0.jpg", "images/1.jpg")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    said = "\n".join(describe(open_dataset(tmp_path)))
    for words in wanted:
        assert words in said


def test_a_table_of_celeba_is_read_where_it_is_given(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "img_align_celeba/img_align_celeba/1.jpg",
        "img_align_celeba/img_align_celeba/2.jpg",
    )
    table(tmp_path, "image_id,Young", "1.jpg,-1", "2.jpg,1", name="attr.csv")
    table(tmp_path, "image_id,partition", "1.jpg,0", "2.jpg,0", name="partition.csv")
    photos = open_dataset(tmp_path / "attr.csv")
    assert [sample.key for sample in photos.samples] == [
        f"img_align_celeba/img_align_celeba/{number}.jpg" for number in (1, 2)
    ]
    assert labels(photos, "Young") == [-1, 1]


@pytest.mark.parametrize("wrapper", ["dataset", "archive/dataset"])
@pytest.mark.parametrize("layout", [None, "named"])
@pytest.mark.parametrize(
    ("inside", "name"),
    [
        (["train/a/1.jpg", "train/b/2.jpg", "test/a/3.jpg"], "folders"),
        (["1.jpg", "2.jpg"], "csv"),
        (["20_0_1_20170109.jpg", "30_1_1_20170109.jpg"], "utkface"),
        (["train/images/1_male_Asian_20/normal.jpg", "eval/images/3.jpg"], "contest"),
    ],
)
def test_a_folder_around_the_data_set_changes_only_the_keys(
    inside: list[str], name: str, layout: str | None, wrapper: str, tmp_path: Path
) -> None:
    for root in (tmp_path / "plain", tmp_path / "outer" / wrapper):
        touch(root, *inside)
        if name == "csv":
            table(root, "path,hat", "1.jpg,yes", "2.jpg,no")
        if name == "contest":
            table(root / "eval", "ImageID,ans", "3.jpg,0", name="info.csv")
    touch(tmp_path / "outer", "__MACOSX/._x.jpg", "README.md", ".DS_Store")
    plain = open_dataset(tmp_path / "plain")
    photos = open_dataset(tmp_path / "outer", layout=layout and name)
    assert plain.layout == photos.layout == name and photos.root == tmp_path / "outer"
    assert photos.samples == tuple(
        replace(each, key=f"{wrapper}/{each.key}", path=photos.root / wrapper / each.key)
        for each in plain.samples
    )
    assert [sample.labels for sample in photos.samples] == [each.labels for each in plain.samples]
    if plain.submission is not None:
        assert photos.submission == (("3.jpg", f"{wrapper}/eval/images/3.jpg"),)
    # The names of UTKFace are found in any folder.
    assert (f"the data set is in its only folder {wrapper}/" in notes(photos)) == (
        name != "utkface"
    )


def test_a_folder_beside_others_is_no_wrapper(tmp_path: Path) -> None:
    touch(tmp_path, "dataset/a/1.jpg", "dataset/b/2.jpg", "3.jpg")
    assert recognise(tmp_path) == "photos"
    made = tmp_path / "made"
    touch(made, "work/a/1.jpg", "work/b/2.jpg", "work/" + MARKER)
    with pytest.raises(DataError, match="holds no photos"):
        recognise(made)
