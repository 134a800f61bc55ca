"""Donors are other people, of strata that are all as likely, and later draws change no earlier."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cropfirst.stage1_detect.swap.donors import Candidate, Donors, people_of


def _people(counts: dict[str, int], *, photos: int = 3) -> list[Candidate]:
    """Stratum -> number of people, each with some photos."""
    return [
        Candidate(f"{stratum}{person}/{photo}", f"{stratum}{person}", stratum)
        for stratum, count in counts.items()
        for person in range(count)
        for photo in range(photos)
    ]


def _choices(candidates: list[Candidate], keys: int, **how: int) -> list[str | None]:
    donors = Donors(candidates)
    return [donors.choose(f"k{n}", "nobody", **{"seed": 0, "draw": 0, **how}) for n in range(keys)]


def test_nobody_gets_a_room_of_their_own() -> None:
    candidates = _people({"a": 2, "b": 1})
    donors = Donors(candidates)
    person = {each.key: each.person for each in candidates}
    for each in candidates:
        for draw in range(20):
            donor = donors.choose(each.key, each.person, seed=3, draw=draw)
            assert donor is not None and person[donor] != each.person


def test_strata_are_as_likely_as_each_other_whatever_their_size_and_so_are_people_and_photos() -> (
    None
):
    found = _choices(_people({"a": 30, "b": 3, "c": 1}, photos=2), 6000)
    strata = Counter(str(key)[0] for key in found)
    assert all(abs(strata[name] - 2000) < 200 for name in "abc"), strata
    people = Counter(str(key).split("/")[0] for key in found if str(key)[0] == "b")
    assert all(abs(count - 2000 / 3) < 110 for count in people.values()), people
    photos = Counter(str(key).split("/")[1] for key in found)
    assert abs(photos["0"] - 3000) < 250


def test_a_choice_depends_on_seed_draw_and_key_alone() -> None:
    candidates = _people({"a": 9, "b": 9})
    first = _choices(candidates, 200)
    assert first == _choices(candidates[::-1], 200)
    for other in ({"draw": 1}, {"seed": 1}):
        same = np.mean(
            [a == b for a, b in zip(first, _choices(candidates, 200, **other), strict=True)]
        )
        assert same < 0.1
    assert len(set(first)) > 40, "photos of one draw get rooms of their own"


def test_a_new_person_changes_few_choices() -> None:
    before = _choices(_people({"a": 20, "b": 20}), 1000)
    after = _choices(_people({"a": 21, "b": 20}), 1000)
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert 0 < len(changed) < 60
    assert all(str(b).startswith("a20") for _, b in changed)


def test_without_strata_every_person_is_as_likely() -> None:
    candidates = [
        Candidate(f"{n}/{photo}", f"{n}", None) for n in range(4) for photo in range(n + 1)
    ]
    people = Counter(str(key).split("/")[0] for key in _choices(candidates, 2000))
    assert all(abs(count - 500) < 90 for count in people.values()), people


def test_photos_without_a_stratum_lend_no_room_where_others_have_one() -> None:
    candidates = [*_people({"a": 3}), Candidate("x/0", "x", None)]
    assert "x/0" not in _choices(candidates, 300)


@pytest.mark.parametrize("counts", [{}, {"a": 1}, {"a": 2}, {"a": 1, "b": 1}])
def test_two_other_people_are_needed(counts: dict[str, int]) -> None:
    donors = Donors(_people(counts))
    assert donors.choose("a0/0", "a0", seed=0, draw=0) is None
    more = Donors(_people({"a": 3}))
    assert more.choose("a0/0", "a0", seed=0, draw=0) is not None


def test_a_class_with_one_person_gets_rooms_of_other_classes() -> None:
    donors = Donors(_people({"a": 1, "b": 3}))
    found = {donors.choose("a0/0", "a0", seed=0, draw=draw) for draw in range(50)}
    assert {str(key)[0] for key in found} == {"b"}


def test_photos_of_unknown_people_are_people_of_their_own() -> None:
    people = people_of({"a": "p", "b": "p", "c": None, "d": None, "photo c": "photo c"})
    assert people["a"] == people["b"] and len(set(people.values())) == 4
