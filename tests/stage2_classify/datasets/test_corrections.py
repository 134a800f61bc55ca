"""Corrections change what they name, from what it was, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets import Sample, apply_corrections, open_dataset
from cropfirst.stage2_classify.datasets.corrections import read_rules
from cropfirst.stage2_classify.datasets.sample import Fact

SHOTS = {"mask1": "wear", "incorrect_mask": "incorrect", "normal": "normal"}


def person(group: str, **facts: Fact) -> list[Sample]:
    """Three photos of one person."""
    return [
        Sample(
            f"{group}/{shot}.jpg",
            Path(f"{group}/{shot}.jpg"),
            "train",
            group,
            facts | {"mask": mask},
        )
        for shot, mask in SHOTS.items()
    ]


def write(folder: Path, *lines: str) -> Path:
    path = folder / "fixes.csv"
    path.write_text("\n".join(["# a comment", "key,group,field,was,value", *lines, ""]))
    return path


def facts(samples: tuple[Sample, ...], name: str) -> list[Fact | None]:
    return [sample.labels.get(name) for sample in samples]


def test_a_rule_for_a_group_changes_all_of_its_photos_only(tmp_path: Path) -> None:
    samples = [*person("a", gender="male"), *person("b", gender="male")]
    fixed, report = apply_corrections(samples, write(tmp_path, ",b,gender,male,female"))
    assert facts(fixed, "gender") == ["male"] * 3 + ["female"] * 3
    assert report.n_changed == 3 and report.unused == ()
    assert [sample.key for sample in fixed] == [sample.key for sample in samples]
    assert facts(tuple(samples), "gender") == ["male"] * 6


def test_two_rules_swap_since_both_see_the_original(tmp_path: Path) -> None:
    path = write(tmp_path, ",a,mask,normal,incorrect", ",a,mask,incorrect,normal")
    fixed, report = apply_corrections(person("a"), path)
    assert facts(fixed, "mask") == ["wear", "normal", "incorrect"]
    assert report.n_changed == 2


def test_a_rule_holds_only_where_the_value_was_so(tmp_path: Path) -> None:
    path = write(tmp_path, ",a,gender,female,male", ",b,gender,,male", ",c,gender,female,male")
    samples = [*person("a", gender="male"), *person("b", gender="female")]
    fixed, report = apply_corrections(samples, path)
    assert facts(fixed, "gender") == ["male"] * 6
    assert report.n_changed == 3
    assert [rule.group for rule in report.unused] == ["a", "c"]
    assert "2 of 3 corrections match no photo" in report.problems[0].message


def test_a_photos_rule_goes_before_its_groups(tmp_path: Path) -> None:
    path = write(tmp_path, "a/normal.jpg,,age,,31", ",a,age,,30")
    fixed, _ = apply_corrections(person("a", age=29), path)
    assert facts(fixed, "age") == [30, 30, 31]


def test_numbers_stay_numbers_and_an_empty_value_clears(tmp_path: Path) -> None:
    path = write(tmp_path, ",a,age,29.0,58", ",a,gender,,", ",a,race,,7")
    fixed, _ = apply_corrections(person("a", age=29, gender="male", race="x"), path)
    assert facts(fixed, "age") == [58] * 3 and isinstance(fixed[0].labels["age"], int)
    assert facts(fixed, "gender") == [None] * 3
    assert facts(fixed, "race") == ["7"] * 3


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([",,gender,,male"], "must name a key or a group, or, for a rule"),
        (["a/normal.jpg,a,gender,,male"], "must name a key or a group, and not both"),
        ([",a,,,male"], "names no field"),
        ([",a,gendr,,male"], "did you mean 'gender'"),
        ([",a,gender,,male", ",a,gender,female,other"], "contradict each other"),
    ],
)
def test_a_bad_rule_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        apply_corrections(person("a", gender="female"), write(tmp_path, *lines))


def test_a_bad_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no corrections 'nosuch'.*contest"):
        apply_corrections(person("a"), "nosuch")
    path = tmp_path / "x.csv"
    path.write_text("key,field,value,wert\n")
    assert read_rules(path) == ()
    path.write_text("key,field,value,wert\na,b,c,d\n")
    with pytest.raises(DataError, match="unknown column 'wert'"):
        read_rules(path)
    path.write_text("key,value\na,b\n")
    with pytest.raises(DataError, match="no column 'field'"):
        read_rules(path)


def test_the_shipped_corrections_fix_the_contests_known_people(tmp_path: Path) -> None:
    folders = {"006359_female_Asian_18": "male", "001498-1_male_Asian_23": "female"}
    for folder in [*folders, "000020_female_Asian_50", "000001_male_Asian_20"]:
        place = tmp_path / "train/images" / folder
        place.mkdir(parents=True)
        for shot in ("mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal"):
            (place / f"{shot}.jpg").touch()
    before, after = open_dataset(tmp_path), open_dataset(tmp_path, corrections="contest")
    for folder, gender in folders.items():
        of = [s for s in after.samples if folder in s.key]
        assert {s.labels["gender"] for s in of} == {gender} and len(of) == 7
    masks = {s.path.stem: s.labels["mask"] for s in after.samples if s.group == "000020"}
    assert masks["normal"] == "incorrect" and masks["incorrect_mask"] == "normal"
    assert masks["mask3"] == "wear"
    same = [s for s in after.samples if s.group == "000001"]
    assert same == [s for s in before.samples if s.group == "000001"]
    assert after.corrections == "corrections contest: 16 photos changed by 4 of 14 rules"
    assert before.corrections is None


def test_a_rule_without_key_and_group_holds_for_every_photo_with_the_value(tmp_path: Path) -> None:
    samples = [
        *person("a", age="None"), *person("b", age="None"), *person("c", age="(25, 32)"),
        *person("d", age=30),
    ]  # fmt: skip
    rules = (",,age,None,", ',,age,"(25, 32)",25-29', ",b,age,None,40", "b/mask1.jpg,,age,None,41")
    fixed, report = apply_corrections(samples, write(tmp_path, *rules))
    assert facts(fixed, "age") == [None] * 3 + ["41", "40", "40"] + ["25-29"] * 3 + [30] * 3
    assert report.n_changed == 9 and report.unused == ()
    _, report = apply_corrections(samples, write(tmp_path, ",,age,u,"))
    assert "every photo age: u -> (none)" in report.problems[0].message


def test_a_rule_for_every_photo_needs_the_value_that_it_replaces(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1 must name a key or a group, or, .* in `was`"):
        apply_corrections(person("a", age=30), write(tmp_path, ",,age,,31"))
