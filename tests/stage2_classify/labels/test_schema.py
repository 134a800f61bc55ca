"""Facts become class numbers, and nothing becomes a wrong one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets.sample import Fact, PhotoSet, Sample
from cropfirst.stage2_classify.labels.infer_schema import (
    infer_schema,
    schema_of_all_columns,
    schema_text,
)
from cropfirst.stage2_classify.labels.schema import LabelError, LabelSchema, Task, load_schema

AGE = Task("age", ("<30", "30-59", ">=60"), ("age", "age_bin"), (30, 60))


def photo_set(layout: str, *labels: dict[str, Fact]) -> PhotoSet:
    samples = [Sample(f"{i}.jpg", Path(f"{i}.jpg"), labels=facts) for i, facts in enumerate(labels)]
    own = layout in {"csv", "folders"}
    return PhotoSet(Path("data"), layout, tuple(samples), own_columns=own)


@pytest.mark.parametrize(
    ("fact", "code"),
    [
        (0, 0),
        (29, 0),
        (29.9, 0),
        (30, 1),
        (59, 1),
        (60, 2),
        (116, 2),
        ("24", 0),
        (" 45.0 ", 1),
        ("0-2", 0),
        ("20-29", 0),
        ("30-39", 1),
        ("50-59", 1),
        ("50 to 59", 1),
        ("50\u201359", 1),
        ("(38, 43)", 1),
        ("60-69", 2),
        ("70+", 2),
        ("60 and over", 2),
        ("more than 70", 2),
        ("more than 59", 2),
        (">59", 2),
        (">= 60", 2),
        (">=60", 2),
        ("<30", 0),
        ("under 18", 0),
        ("<=29", 0),
        ("30-59", 1),
    ],
)
def test_age_falls_into_the_bin_that_holds_all_of_it(fact: Fact, code: int) -> None:
    assert AGE.encode({"age": fact}) == code


@pytest.mark.parametrize("fact", ["20-39", "20-30", "<=30", ">=29", "50+", "more than 58", "<31"])
def test_a_range_over_an_edge_is_refused_with_a_way_out(fact: str) -> None:
    with pytest.raises(LabelError, match=r"spans more than one class.*--corrections.*--schema"):
        AGE.encode({"age": fact})


@pytest.mark.parametrize("fact", [-1, -0.5, float("nan"), float("inf"), "old", "40-30", "", "-5"])
def test_what_is_no_age_is_refused(fact: Fact) -> None:
    with pytest.raises(LabelError, match="neither a number from 0 up nor a range"):
        AGE.encode({"age": fact}, where="a.jpg")


def test_an_alias_decides_before_the_bins() -> None:
    task = Task("age", ("young", "old"), ("age",), (30,), {"25-34": "old", "unknown": "young"})
    assert [task.encode({"age": fact}) for fact in ("25-34", "Unknown", "OLD", 29)] == [1, 0, 1, 0]


def test_the_first_fact_that_is_there_is_read() -> None:
    assert AGE.encode({"age": 24, "age_bin": ">=60"}) == 0
    assert AGE.encode({"age_bin": ">=60"}) == 2
    assert AGE.encode({"gender": "male"}) is None


def test_words_match_without_case_and_a_near_miss_is_named() -> None:
    gender = load_schema().task("gender")
    assert [gender.encode({"gender": word}) for word in ("Male", " F ", "woman")] == [0, 1, 1]
    with pytest.raises(LabelError, match=r"a\.jpg: gender='femle' .*did you mean 'female'"):
        gender.encode({"gender": "femle"}, where="a.jpg")


def test_numbers_can_be_class_names() -> None:
    task = Task("code", ("0", "1"), ("code",))
    assert [task.encode({"code": value}) for value in (0, 1.0, "1")] == [0, 1, 1]


def test_the_contest_code_is_mask_6_gender_3_age() -> None:
    schema = load_schema("contest")
    seen = set()
    for mask in range(3):
        for gender in range(2):
            for age in range(3):
                code = schema.combine({"mask": mask, "gender": gender, "age": age})
                assert code == mask * 6 + gender * 3 + age
                assert schema.split_code(code) == {"mask": mask, "gender": gender, "age": age}
                seen.add(code)
    assert seen == set(range(18)) and schema.num_classes("class18") == 18
    assert schema.class_names("class18")[7] == "incorrect male 30-59"


def test_target_of_the_combined_code_needs_every_fact() -> None:
    schema = load_schema()
    facts: dict[str, Fact] = {"mask": "normal", "gender": "female", "age": 60}
    assert schema.target("class18", facts) == 17
    assert schema.target("age", facts) == 2
    assert schema.encode(facts) == {"mask": 2, "gender": 1, "age": 2}
    assert schema.target("class18", {"mask": "normal", "gender": "female"}) is None


def test_combine_and_split_refuse_what_is_out_of_range() -> None:
    schema = load_schema()
    for codes in ({"mask": 3, "gender": 0, "age": 0}, {"mask": -1, "gender": 0, "age": 0}):
        with pytest.raises(LabelError, match=r"not within 0\.\.2"):
            schema.combine(codes)
    with pytest.raises(LabelError, match="expects task 'age'"):
        schema.combine({"mask": 0, "gender": 0})
    for code in (-1, 18):
        with pytest.raises(LabelError, match=r"not within 0\.\.17"):
            schema.split_code(code)


def test_an_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(LabelError, match=r"did you mean 'gender'.*mask, gender, age, class18"):
        load_schema().task("gendre")


def test_a_schema_survives_json() -> None:
    schema = load_schema()
    again = LabelSchema.from_dict(json.loads(json.dumps(schema.to_dict())))
    assert again == schema
    assert again.encode({"age": "more than 70", "gender": "m"}) == schema.encode(
        {"age": "more than 70", "gender": "m"}
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks: {a: {classes: [x]}}", "at least two classes"),
        ("tasks: {a: {classes: [x, X]}}", "two of its classes have one name"),
        ("tasks: {a: {classes: [x, y], bins: [1, 2]}}", "need 1 bin edges"),
        ("tasks: {a: {classes: [x, y, z], bins: [2, 1]}}", "bins must be above 0 and rise"),
        ("tasks: {a: {classes: [x, y], bins: ['30']}}", "list of numbers"),
        ("tasks: {a: {classes: [yes, no]}}", "write it in quotes"),
        ("tasks: {a: {classes: [x, y], alias: {b: x}}}", "did you mean 'aliases'"),
        ("tasks: {a: {classes: [x, y], aliases: {b: z}}}", "not a class of it"),
        ("tasks: {'a,b': {classes: [x, y]}}", "no comma"),
        ("tasks: {a: {facts: [a]}}", "'classes' is missing"),
        ("tasks: [a]", "must map task names"),
        ("name: x", "'tasks' is missing"),
        ("tasks: {a: {classes: [x, y]}}\ncombined: {name: a, tasks: [a, b]}", "used twice"),
        ("tasks: {a: {classes: [x, y]}}\ncombined: {name: c, tasks: [a, b]}", "not a task"),
        ("tasks: {a: {classes: [x, y]}}\ncombined: {name: c, tasks: [a, a]}", "two or more"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_schema_that_cannot_be_says_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text(text)
    with pytest.raises(LabelError, match=message):
        load_schema(path)


def test_a_missing_schema_names_the_shipped_ones() -> None:
    with pytest.raises(LabelError, match=r"'contets'.*contest"):
        load_schema("contets")
    assert issubclass(LabelError, DataError)


def test_infer_takes_the_contest_schema_whole_where_its_facts_are_there() -> None:
    photos = photo_set("contest", {"mask": "wear", "gender": "male", "race": "Asian", "age": 20})
    assert infer_schema(photos) == load_schema("contest")


def test_infer_takes_what_facts_there_are_and_words_as_tasks() -> None:
    photos = photo_set(
        "csv",
        {"age_group": "20-29", "gender": "F", "hair color": "dark", "width": 3, "note": "a"},
        {"age_group": "70+", "gender": "M", "hair color": "blond", "width": 4, "note": "a"},
    )
    schema = infer_schema(photos)
    assert schema.task_names == ("gender", "age", "hair_color")
    assert schema.task("hair_color").classes == ("blond", "dark")
    assert schema.combined is None
    targets = [schema.encode(sample.labels) for sample in photos.samples]
    assert targets[0] == {"gender": 1, "age": 0, "hair_color": 1}
    assert targets[1] == {"gender": 0, "age": 2, "hair_color": 0}


def test_infer_uses_a_columns_own_words_where_none_fits_the_contest() -> None:
    photos = photo_set("csv", {"mask": "none"}, {"mask": "ffp2"})
    assert infer_schema(photos).task("mask").classes == ("ffp2", "none")


def test_infer_does_not_make_a_class_of_a_typo() -> None:
    photos = photo_set("csv", {"gender": "male"}, {"gender": "femle"})
    schema = infer_schema(photos)
    assert schema.task("gender").classes == ("male", "female")
    with pytest.raises(LabelError, match="femle"):
        schema.encode({"gender": "femle"})


def test_infer_leaves_out_names_of_photos_and_people() -> None:
    rows: list[dict[str, Fact]] = [{"label": f"c{i % 3}", "name": f"n{i}"} for i in range(60)]
    assert infer_schema(photo_set("folders", *rows)).names == ("label",)


CELEBA: list[dict[str, Fact]] = [
    {"Smiling": (-1, 1)[i % 2], "Young": (-1, 1)[i // 60], "age": i, "weight": i / 2,
     "identity": f"p{i // 2}", "file": f"{i}.jpg", "same": "x"}
    for i in range(120)
]  # fmt: skip


def test_numbers_and_many_words_are_classes_where_they_are_asked_for() -> None:
    photos = photo_set("csv", *CELEBA)
    assert infer_schema(photos).task_names == ("age",)
    # All columns of -1/1 come with the first, so that the runs of a data set share one schema.
    schema = infer_schema(photos, ["Smiling"])
    assert schema == infer_schema(photos, ["Young"])
    assert schema.task_names == ("age", "Smiling", "Young")
    assert schema.task("Smiling").classes == ("-1", "1")
    assert schema.encode(CELEBA[1]) == {"age": 0, "Smiling": 1, "Young": 0}
    assert len(infer_schema(photos, ["identity"]).task("identity").classes) == 60
    numbers = photo_set("csv", *({"stars": n, "zero": n % 2 * 1.0} for n in (10, 9, 1)))
    assert infer_schema(numbers, ["stars"]).task("stars").classes == ("1", "9", "10")
    assert infer_schema(numbers, ["zero"]).task("zero").classes == ("0", "1")
    other = photo_set("fairface", {"race": "a", "age": 3}, {"race": "b"})
    assert infer_schema(other, ["race"]).task("race").classes == ("a", "b")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("weight", "column weight has 120 different numbers: 0.0 (1), 0.5 (1), 1.0 (1), 1.5 (1)"),
        ("file", "column file has 120 different words"),
        ("same", "column same has one value only: x (120)"),
        ("smiling", "column Smiling has 2 different numbers: -1 (60), 1 (60); they are classes"),
    ],
)
def test_a_column_that_is_no_task_says_why(asked: str, words: str) -> None:
    with pytest.raises(LabelError) as caught:
        infer_schema(photo_set("csv", *CELEBA), [asked])
    assert f"no task {asked!r}" in str(caught.value) and words in str(caught.value)


def test_labels_without_a_task_are_explained_with_a_schema_to_copy(tmp_path: Path) -> None:
    photos = photo_set("csv", *({"Smiling": n % 2, "many": n} for n in range(60)))
    with pytest.raises(LabelError, match="no labels that make a task") as caught:
        infer_schema(photos)
    said, _, copied = str(caught.value).partition("writes one):\n")
    assert "column Smiling has 2 different numbers: 0 (30), 1 (30)" in said
    assert "--task Smiling" in said and "column many has 60 different numbers" in said
    (tmp_path / "s.yaml").write_text(copied, "utf-8")
    assert load_schema(tmp_path / "s.yaml").task("Smiling").classes == ("0", "1")
    every = schema_of_all_columns(photo_set("csv", *CELEBA))
    assert every.task_names == ("age", "Smiling", "Young", "identity")
    (tmp_path / "all.yaml").write_text(schema_text(every), "utf-8")
    assert load_schema(tmp_path / "all.yaml") == every


def test_infer_without_labels_says_what_is_wanted() -> None:
    with pytest.raises(LabelError, match=r"no labels that make a task.*--schema"):
        infer_schema(photo_set("photos", {}))
