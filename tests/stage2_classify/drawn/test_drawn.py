"""The drawn demo set: layout, labels, rooms, repeatability, and that MTCNN finds its faces."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter, defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets import open_dataset
from cropfirst.stage2_classify.drawn.contest import DrawnSummary, code_of, draw_contest
from cropfirst.stage2_classify.drawn.portrait import (
    N_ROOMS,
    SHOTS,
    Person,
    Portrait,
    Shot,
    draw_portrait,
    random_person,
)

SMALL = (128, 172)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> DrawnSummary:
    root = tmp_path_factory.mktemp("drawn") / "contest"
    return draw_contest(root, n_train_people=12, n_eval_people=12, seed=1, size=SMALL)


def person(gender: str = "female", age: int = 24, *, seed: int = 0) -> Person:
    return random_person(np.random.default_rng(seed), name="p", gender=gender, age=age)


def photo(kind: str = "normal", *, seed: int = 0, who: Person | None = None) -> Portrait:
    return draw_portrait(who or person(seed=seed), Shot(kind, 2), np.random.default_rng(seed))


def rows_of(path: Path) -> list[tuple[str, int]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["ImageID"], int(row["ans"])) for row in csv.DictReader(file)]


def table(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def hashes(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_train_folders_hold_the_seven_shots_in_mixed_formats(drawn: DrawnSummary) -> None:
    photos = list((drawn.root / "train" / "images").glob("*/*"))
    shots = Counter((path.parent.name, path.stem) for path in photos)
    assert len(photos) == drawn.n_train == 12 * len(SHOTS)
    assert {stem for _, stem in shots} == set(SHOTS) and set(shots.values()) == {1}
    assert {path.suffix for path in photos} == {".jpg", ".jpeg", ".png"}


def test_suffix_is_the_true_format_and_size_is_kept(drawn: DrawnSummary) -> None:
    for path in (drawn.root / "train" / "images").glob("*/*"):
        assert path.read_bytes().startswith(b"\x89PNG" if path.suffix == ".png" else b"\xff\xd8")
    image = cv2.imread(str(path))
    assert image is not None and image.shape == (SMALL[1], SMALL[0], 3)


def test_contest_layout_reads_it_without_a_problem(drawn: DrawnSummary) -> None:
    photos = open_dataset(drawn.root)
    assert photos.layout == "contest" and not photos.problems
    train, evaluation = photos.by_split("train"), photos.by_split("eval")
    assert (len(train), len(evaluation)) == (drawn.n_train, drawn.n_eval)
    assert len({sample.group for sample in train}) == 12
    assert photos.submission is not None
    assert [row[0] for row in photos.submission] == [row[0] for row in rows_of(drawn.answers)]


def test_ages_lie_in_their_band_and_all_six_kinds_are_balanced(drawn: DrawnSummary) -> None:
    kinds: Counter[tuple[str, int]] = Counter()
    for folder in (drawn.root / "train" / "images").iterdir():
        _, gender, _, age = folder.name.split("_")
        assert 18 <= int(age) <= 60
        kinds[gender, code_of("mask1", gender, int(age)) % 3] += 1
    assert set(kinds.values()) == {2} and len(kinds) == 6


def test_info_hides_the_answers_that_answers_csv_holds(drawn: DrawnSummary) -> None:
    info, answers = rows_of(drawn.root / "eval" / "info.csv"), rows_of(drawn.answers)
    files = {path.name for path in (drawn.root / "eval" / "images").iterdir()}
    assert {code for _, code in info} == {0}
    assert [name for name, _ in info] == [name for name, _ in answers]
    assert {name for name, _ in answers} == files and len(answers) == drawn.n_eval == len(files)
    # 12 people, two of each kind: five of seven photos worn, one wrongly, one bare
    assert Counter(code for _, code in answers) == {
        code: 10 if code < 6 else 2 for code in range(18)
    }
    assert [name for name, _ in info] != sorted(name for name, _ in info)


@pytest.mark.parametrize(
    ("kind", "gender", "age", "code"),
    [
        ("mask1", "male", 29, 0),
        ("mask5", "male", 30, 1),
        ("mask3", "female", 60, 5),
        ("incorrect_mask", "male", 18, 6),
        ("incorrect_mask", "female", 59, 10),
        ("normal", "male", 60, 14),
        ("normal", "female", 24, 15),
    ],
)
def test_code(kind: str, gender: str, age: int, code: int) -> None:
    assert code_of(kind, gender, age) == code


def test_rooms_go_with_the_label_in_train_and_not_in_eval(drawn: DrawnSummary) -> None:
    rooms = {file: int(room) for file, room in table(drawn.root / "rooms.csv")}
    matches: list[bool] = []
    by_person: dict[str, set[int]] = defaultdict(set)
    for file in (file for file in rooms if file.startswith("train")):
        name, gender, _, age = file.split("/")[2].split("_")
        by_person[name].add(rooms[file])
        matches.append(rooms[file] == code_of("mask1", gender, int(age)))
    assert 0.75 <= np.mean(matches) < 1 and {len(seen) for seen in by_person.values()} == {1}
    in_eval = [rooms[f"eval/images/{name}"] == code % 6 for name, code in rows_of(drawn.answers)]
    assert np.mean(in_eval) < 0.3


def test_each_room_looks_different() -> None:
    corners = []
    for room in range(N_ROOMS):
        drawn = draw_portrait(person(), Shot("normal", room), np.random.default_rng(0))
        corners.append(cv2.resize(drawn.image[:200], (12, 4), interpolation=cv2.INTER_AREA))
    apart = [
        np.abs(a.astype(int) - b).mean() for i, a in enumerate(corners) for b in corners[i + 1 :]
    ]
    assert len(corners) == 6 and min(apart) > 8


def test_boxes_are_those_of_the_photos(drawn: DrawnSummary) -> None:
    boxes = {file: np.array(box, float) for file, *box in table(drawn.root / "boxes.csv")}
    on_disk = {
        path.relative_to(drawn.root).as_posix() for path in drawn.root.glob("*/images/**/*.*")
    }
    assert set(boxes) == on_disk and len(boxes) == drawn.n_train + drawn.n_eval
    for x0, y0, x1, y1 in boxes.values():
        assert 0 < x0 < x1 < SMALL[0] and 0 < y0 < y1 < SMALL[1]


def test_a_complete_set_is_not_drawn_again(tmp_path: Path) -> None:
    def draw() -> DrawnSummary:
        return draw_contest(tmp_path / "d", n_train_people=1, n_eval_people=1, size=SMALL)

    assert not draw().reused
    before = hashes(tmp_path)
    gone = next((tmp_path / "d" / "train" / "images").glob("*/normal.*"))
    gone.unlink()
    assert draw().reused and not gone.exists()
    plan = tmp_path / "d" / "drawn.json"
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "complete": False}))
    assert not draw().reused
    assert hashes(tmp_path) == before


def test_result_depends_on_the_seed_alone(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        draw_contest(tmp_path / name, n_train_people=1, n_eval_people=1, seed=seed, size=SMALL)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert not set(hashes(tmp_path / "a").values()) & set(hashes(tmp_path / "c").values())


@pytest.mark.slow
def test_result_does_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    seen: list[int] = []
    draw_contest(tmp_path / "one", n_train_people=3, n_eval_people=2, size=SMALL)
    draw_contest(
        tmp_path / "two",
        n_train_people=3,
        n_eval_people=2,
        size=SMALL,
        n_jobs=2,
        progress=seen.append,
    )
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert seen == [len(SHOTS)] * 5


def test_a_foreign_or_differing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(DataError, match="new or empty folder"):
        draw_contest(tmp_path)
    draw_contest(tmp_path / "d", n_train_people=1, n_eval_people=1, size=SMALL)
    with pytest.raises(DataError, match="other settings"):
        draw_contest(tmp_path / "d", n_train_people=2, n_eval_people=1, size=SMALL)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["mine.txt"]


@pytest.mark.parametrize("broken", ["{", "[]", '{"format": 1'])
def test_an_unreadable_plan_is_refused(tmp_path: Path, broken: str) -> None:
    (tmp_path / "drawn.json").write_text(broken)
    with pytest.raises(DataError, match=r"drawn\.json"):
        draw_contest(tmp_path, n_train_people=1, n_eval_people=1, size=SMALL)


@pytest.mark.parametrize(
    ("people", "size", "message"),
    [(0, SMALL, "at least 1 person"), (1, (64, 96), "128"), (1, (512, 384), "upright")],
)
def test_settings_out_of_range_are_refused(
    tmp_path: Path, people: int, size: tuple[int, int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        draw_contest(tmp_path / "d", n_train_people=people, size=size)
    assert not (tmp_path / "d").exists()


def test_unknown_shot_room_or_gender_is_refused() -> None:
    with pytest.raises(DataError, match="incorrect_mask"):
        draw_portrait(person(), Shot("mask6"), np.random.default_rng(0))
    with pytest.raises(DataError, match="room"):
        draw_portrait(person(), Shot("normal", 6), np.random.default_rng(0))
    with pytest.raises(DataError, match="male, female"):
        person("other")


@pytest.mark.parametrize("size", [(384, 512), (200, 260), (128, 160)])
def test_portrait_is_rgb_with_the_face_inside(size: tuple[int, int]) -> None:
    for seed in range(3):
        drawn = draw_portrait(person(seed=seed), Shot("normal"), np.random.default_rng(seed), size)
        x0, y0, x1, y1 = drawn.face_box
        assert drawn.image.shape == (size[1], size[0], 3) and drawn.image.dtype == np.uint8
        assert 0 < x0 < x1 < size[0] and 0 < y0 < y1 < size[1]
        assert 0.28 < (x1 - x0) / size[0] < 0.56
        # skin is redder than blue: RGB, not BGR
        face = drawn.image[int(y0) : int(y1), int(x0) : int(x1)].mean(axis=(0, 1))
        assert face[0] > face[2] + 10


def test_the_mask_covers_nose_and_mouth_only_when_worn() -> None:
    who, bare = person(seed=3), photo("normal", seed=4, who=person(seed=3)).image.astype(int)
    x0, y0, x1, y1 = photo("normal", seed=4, who=who).face_box
    middle, height = int((x0 + x1) / 2), y1 - y0

    def changed(kind: str, share: float) -> float:
        """Difference to the bare face in a patch, `share` of the way down the face."""
        other = photo(kind, seed=4, who=who).image.astype(int)
        y = int(y0 + share * height)
        patch = np.s_[y - 4 : y + 4, middle - 12 : middle + 12]
        return float(np.abs(other[patch] - bare[patch]).mean())

    for kind in ("mask1", "mask2", "mask3", "mask4", "mask5"):
        assert changed(kind, 0.75) > 25
        assert changed(kind, 0.28) < 25


def test_cues_overlap_but_differ_between_genders_and_ages() -> None:
    def cue(name: str, gender: str, age: int) -> np.ndarray:
        return np.array([getattr(person(gender, age, seed=s), name) for s in range(200)])

    for name in ("brow", "jaw"):
        men, women = cue(name, "male", 40), cue(name, "female", 40)
        assert men.mean() > women.mean() + men.std() and men.min() < women.max()
    young, middle, old = (cue("lines", "female", age) for age in (24, 45, 60))
    assert young.max() < middle.mean() < old.mean()
    # either side of a border looks alike
    assert cue("lines", "male", 29).max() > cue("lines", "male", 31).min()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mtcnn_finds_the_drawn_faces() -> None:
    facenet = pytest.importorskip("facenet_pytorch")
    mtcnn = facenet.MTCNN(keep_all=True, min_face_size=40, device="cpu")

    def find(kind: str, seed: int) -> float:
        """Probability of a box at IoU 0.5 or better with the true one, else 0."""
        who = person(("male", "female")[seed % 2], (22, 45, 60)[seed % 3], seed=seed)
        drawn = photo(kind, seed=seed, who=who)
        boxes, probs = mtcnn.detect(drawn.image)
        if boxes is None:
            return 0.0
        fits = [p for box, p in zip(boxes, probs, strict=True) if iou(box, drawn.face_box) > 0.5]
        return float(max(fits, default=0.0))

    bare = np.array([find("normal", seed) for seed in range(12)])
    masked = np.array([find(SHOTS[seed % 6], seed) for seed in range(24)])
    assert (bare > 0.9).all() and (bare > 0.99).mean() >= 0.75
    assert (masked > 0).mean() >= 0.9


def iou(a: np.ndarray, b: tuple[float, float, float, float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return float(width * height / (both - width * height))
