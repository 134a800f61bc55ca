"""Tests of recall and false positives, counted by hand, and of their reports and sheets."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.harden.recall.recall import (
    DetectionCounts,
    count_detections,
    match_faces,
    recall_at_false,
)
from cropfirst.stage1_detect.harden.recall.report import recall_table, write_recall_json
from cropfirst.stage1_detect.harden.recall.scores import above, score_detectors
from cropfirst.stage1_detect.harden.recall.sheet import (
    SheetFace,
    best_scores,
    choose_faces,
    group_faces,
    make_tiles,
    write_recall_sheet,
)
from cropfirst.stage1_detect.harden.training.box_table import clip, read_boxes
from cropfirst.stage1_detect.harden.training.known_faces import MASK_STATES, KnownFaces
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections
from cropfirst.stage1_detect.photos.read import ReadError, read_photo

Box = tuple[float, float, float, float]


def found(*faces: tuple[Box, float]) -> Detections:
    boxes = np.array([box for box, _ in faces], np.float32).reshape(-1, 4)
    probs = np.array([score for _, score in faces], np.float32)
    return Detections(boxes, probs, np.zeros((len(faces), 5, 2), np.float32))


def known(*faces: tuple[Box, str]) -> KnownFaces:
    boxes = np.array([box for box, _ in faces], np.float32).reshape(-1, 4)
    return KnownFaces(boxes, tuple(state for _, state in faces))


def square(x: float, y: float = 0, side: float = 50) -> Box:
    return (x, y, x + side, y + side)


def test_one_detection_takes_one_face_and_the_surer_one_first() -> None:
    faces = known((square(0), "wear"), (square(200), "normal"))
    seen = match_faces(found((square(5), 0.8), (square(1), 0.9), (square(400), 0.99)), faces)
    assert seen.face.tolist() == [-1, 0, -1]
    assert seen.is_found.tolist() == [True, False]
    assert seen.is_false.tolist() == [True, False, True]  # a second on one face, one on none


def test_the_next_best_face_is_taken_where_the_best_is_gone() -> None:
    faces = known((square(0), "wear"), (square(15), "wear"))
    seen = match_faces(found((square(0), 0.9), (square(4), 0.8)), faces)
    assert seen.face.tolist() == [0, 1] and not seen.is_false.any()


def test_small_faces_count_neither_way() -> None:
    truth = [known((square(0, side=20), "wear"), ((100, 0, 139, 90), "wear"), (square(300), ""))]
    hits = [found((square(0, side=20), 0.9), (square(1, side=20), 0.8), ((100, 0, 139, 90), 0.9))]
    measured = count_detections(hits, truth)
    assert measured.totals() == {"": (0, 1), "all": (0, 1)}
    assert measured.false.tolist() == [0]
    # The shorter side decides: with one pixel more the tall face counts too.
    wider = [known((square(0, side=20), "wear"), ((100, 0, 140, 90), "wear"), (square(300), ""))]
    assert count_detections(hits, wider).totals()["wear"] == (1, 1)


def test_recall_by_state_and_false_positives_a_photo() -> None:
    truth = [
        known((square(0), "wear"), (square(100), "wear"), (square(200), "incorrect")),
        known((square(0), "normal")),
        known(),
    ]
    hits = [
        found((square(0), 0.9), (square(200), 0.9), (square(600), 0.9)),
        found(),
        found((square(0), 0.8), (square(100), 0.8)),
    ]
    measured = count_detections(hits, truth)
    assert measured.totals() == {
        "wear": (1, 2), "incorrect": (1, 1), "normal": (0, 1), "all": (2, 4),
    }  # fmt: skip
    values = {name: interval.value for name, interval in measured.recall().items()}
    assert values == {"wear": 0.5, "incorrect": 1.0, "normal": 0.0, "all": 0.5}
    assert measured.false_per_photo().value == 1.0
    assert measured.false.tolist() == [1, 0, 2]


def test_unequal_or_no_photos_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one, got 0 and 0"):
        count_detections([], [])
    with pytest.raises(ValueError, match="got 1 and 2"):
        recall_at_false([found()], [known(), known()], 0)
    one, two = (
        count_detections([found()], [known((square(0), "wear"))]),
        count_detections([found()], [known()]),
    )
    with pytest.raises(ValueError, match="same photos"):
        two.gain_over(one)


def drawn(photos: int, chance: float, seed: int) -> DetectionCounts:
    """Make counts of photos with 3 worn faces, each found with a probability."""
    rng = np.random.default_rng(seed)
    faces = np.zeros((photos, 4), np.int64)
    faces[:, 0] = 3
    hits = faces.copy()
    hits[:, 0] = rng.binomial(3, chance, photos)
    return DetectionCounts(faces, hits, rng.poisson(0.3, photos).astype(np.int64))


def test_intervals_cover_and_narrow() -> None:
    covered = [
        (low := drawn(60, 0.8, seed).recall()["wear"]).low <= 0.8 <= low.high for seed in range(60)
    ]
    assert 0.85 <= np.mean(covered) <= 1.0
    widths = [
        (interval := drawn(photos, 0.8, 1).recall()["wear"]).high - interval.low
        for photos in (50, 200, 800)
    ]
    assert widths[0] > 1.5 * widths[1] > 1.5 * 1.5 * widths[2]
    again = drawn(50, 0.8, 1)
    assert again.recall() == again.recall()


def test_paired_differences_are_sharper_than_two_intervals() -> None:
    before = drawn(200, 0.6, 2)
    found_too = before.found.copy()
    found_too[::10, 0] = 3  # the same photos, a few faces more
    after = DetectionCounts(before.faces, found_too, before.false)
    gain, more_false = after.gain_over(before)
    assert gain["wear"].is_clear and gain["wear"].value > 0
    whole = before.recall()["wear"]
    assert gain["wear"].high - gain["wear"].low < 0.6 * (whole.high - whole.low)
    assert (more_false.value, more_false.low, more_false.high) == (0.0, 0.0, 0.0)
    assert before.gain_over(after)[0]["wear"].value == pytest.approx(-gain["wear"].value)


def test_recall_at_false_is_that_of_the_lowest_allowed_threshold() -> None:
    rng = np.random.default_rng(3)
    truth, hits = [], []
    for _ in range(30):
        places = rng.uniform(0, 600, (4, 2))
        faces = [(square(*place, side=rng.uniform(20, 90)), MASK_STATES[i % 3])
                 for i, place in enumerate(places)]  # fmt: skip
        near = [(tuple(np.add(box, rng.normal(0, 8, 4))), round(rng.uniform(), 2))
                for box, _ in faces for _ in range(2)]  # fmt: skip
        truth.append(known(*faces))
        hits.append(found(*near, (square(700), round(rng.uniform(), 2))))
    scores = np.unique(np.concatenate([faces.probs for faces in hits]))
    cuts = [
        count_detections(
            [above(faces, np.nextafter(score, np.float32(-1))) for faces in hits], truth
        )
        for score in scores
    ]
    for most in (0, 3, 20, 60, 10_000):
        lowest = next((cut for cut in cuts if cut.false.sum() <= most), None)
        wanted = {} if lowest is None else lowest.recall()
        for state, recall in recall_at_false(hits, truth, most).items():
            by_hand = wanted[state].value if state in wanted else 0.0
            assert recall == pytest.approx(by_hand), (most, state)


def test_without_detections_recall_is_zero() -> None:
    truth = [known((square(0), "wear"))]
    assert recall_at_false([found()], truth, 1) == {"wear": 0.0, "all": 0.0}
    assert recall_at_false([found((square(90), 0.9))], truth, 0)["wear"] == 0.0


def test_best_scores_overlap_the_face() -> None:
    faces = np.array([square(0), square(200)], np.float32)
    assert best_scores(found(), faces) == [None, None]
    scores = best_scores(found((square(3), 0.2), (square(6), 0.4), (square(500), 0.9)), faces)
    assert scores == [pytest.approx(0.4), None]


def three_photos() -> tuple[dict[str, list[Detections]], list[KnownFaces], list[str]]:
    """Make photos with one face found now, one lost now, and one still lost beside a false
    positive."""
    truth = [
        known((square(10), "wear"), (square(150, side=10), "wear")),
        known((square(20), "incorrect")),
        known((square(30), "normal")),
    ]
    before = [found((square(10), 0.3)), found((square(20), 0.9)), found()]
    after = [found((square(10), 0.95)), found(), found((square(30), 0.2), (square(120), 0.8))]
    return {"reference": before, "<i>masked": after}, truth, ["a.jpg", "b.jpg", "c.jpg"]


def test_faces_are_grouped_by_what_became_of_them() -> None:
    detectors, truth, keys = three_photos()
    groups = group_faces(*detectors.values(), truth, keys)
    told = {name: [(face.key, face.state, face.title) for face in faces]
            for name, faces in groups.items()}  # fmt: skip
    assert told == {
        "found_now": [("a.jpg", "wear", "wear 50 px: 0.30 > 0.95")],
        "lost_now": [("b.jpg", "incorrect", "incorrect 50 px: 0.90 > none")],
        "still_lost": [("c.jpg", "normal", "normal 50 px: none > 0.20")],
        "no_face": [("c.jpg", "no face", "no face 50 px: none > 0.80")],
    }


def test_rare_states_are_shown_too_and_large_faces_first() -> None:
    faces = [SheetFace(f"{i}.jpg", square(0, side=41 + i), "wear", (None, None)) for i in range(20)]
    faces.append(SheetFace("rare.jpg", square(0), "normal", (None, None)))
    chosen = choose_faces(faces, 4)
    assert [face.key for face in chosen] == ["19.jpg", "18.jpg", "17.jpg", "rare.jpg"]
    assert choose_faces([], 4) == []


def test_tiles_show_the_face_and_grey_beyond_the_edge() -> None:
    photo = np.zeros((100, 100, 3), np.uint8)
    photo[:, :, 2] = 255
    photo[5:45, 5:45] = (255, 0, 0)

    def photos(key: str) -> np.ndarray:
        if key == "gone.jpg":
            raise ReadError("FileNotFoundError", "No such file or directory")
        return photo

    faces = [SheetFace(key, (5, 5, 45, 45), "wear", (0.1, 0.9)) for key in ("gone.jpg", "a.jpg")]
    gone, there = make_tiles(faces, photos, (0, 200, 0))
    assert (gone.image == 70).all() and gone.note == "gone.jpg"
    assert there.image[80, 80].tolist() == [255, 0, 0]
    assert there.image[150, 150].tolist() == [0, 0, 255]
    assert there.image[2, 2].tolist() == [150, 150, 150]


def test_a_sheet_has_a_row_for_each_group_and_goes_where_there_is_none(tmp_path: Path) -> None:
    detectors, truth, keys = three_photos()
    before, after = detectors.values()
    photo = np.full((120, 260, 3), 99, np.uint8)
    path = tmp_path / "recall.png"
    assert write_recall_sheet(path, before, after, truth, keys, lambda key: photo)
    first = path.read_bytes()
    sheet = np.array(Image.open(io.BytesIO(first)))
    rows = [sheet[36 + row * 198 + 80, 8 + 80].tolist() for row in range(4)]
    assert rows == [[99, 99, 99]] * 4
    assert sheet[36 + 80, 8 + 168 + 80].tolist() == [255, 255, 255], "one tile in the first row"
    assert write_recall_sheet(path, before, after, truth, keys, lambda key: photo)
    assert path.read_bytes() == first
    all_found = [found((square(10), 0.9)), found((square(20), 0.9)), found((square(30), 0.9))]
    assert not write_recall_sheet(path, all_found, all_found, truth, keys, lambda key: photo)
    assert not path.exists()


def test_the_json_holds_every_figure_with_its_interval(tmp_path: Path) -> None:
    detectors, truth, _ = three_photos()
    path = tmp_path / "recall.json"
    write_recall_json(path, score_detectors(detectors, truth), photos=3, facts={"seed": "0"})
    data = json.loads(path.read_text("utf-8"))
    assert data["photos"] == 3 and data["facts"]["seed"] == "0"
    assert (data["min_size"], data["min_iou"]) == (40, 0.4)
    first, last = data["detectors"]
    assert (first["name"], last["name"]) == ("reference", "<i>masked")
    assert last["states"]["wear"]["recall"]["value"] == 1.0
    assert set(last["states"]["wear"]["recall"]) == {"value", "low", "high"}
    assert last["states"]["incorrect"]["gain"]["value"] == -1.0
    assert last["false_a_photo"]["value"] == pytest.approx(1 / 3)
    assert first["more_false_a_photo"]["value"] == 0.0
    assert last["states"]["wear"]["recall_at_first_false"] == 1.0


def test_photos_whose_faces_are_all_small_have_a_report_too(tmp_path: Path) -> None:
    truth = [known((square(0, side=9), "wear"))]
    scores = score_detectors({"one": [found((square(30), 0.9))], "two": [found()]}, truth)
    write_recall_json(tmp_path / "recall.json", scores, photos=1, facts={})
    last = json.loads((tmp_path / "recall.json").read_text())["detectors"][1]
    assert last["states"] == {} and last["more_false_a_photo"]["value"] == -1.0


def test_the_console_table_tells_every_detector() -> None:
    detectors, truth, _ = three_photos()
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(recall_table(score_detectors(detectors, truth)))
    said = console.export_text()
    for wanted in ("wear (1)", "<i>masked", "change", "-1.000", "false per photo", "0.333"):
        assert wanted in said, wanted
    with pytest.raises(ValueError, match="at least one detector"):
        score_detectors({}, truth)


def test_the_reference_on_real_photos(shared_data: Path) -> None:
    root = shared_data / "faces_in_the_wild"
    boxes = read_boxes(root / "boxes.csv")
    keys = list(boxes)[:60]
    photos = [read_photo(root / key).image for key in keys]
    truth = [clip(boxes[key], *photo.shape[:2], name=key)
             for key, photo in zip(keys, photos, strict=True)]  # fmt: skip
    detector = MTCNN(DetectorConfig(weights="reference"))
    low = detector.detect(photos, thresholds=(0.6, 0.7, 0.01))
    measured = count_detections([above(faces, 0.7) for faces in low], truth)
    # A cut through the faces at a low threshold is the detector with a higher one.
    for faces, wanted in zip(low, detector.detect(photos[:12]), strict=False):
        np.testing.assert_array_equal(above(faces, 0.7).boxes, wanted.boxes)
    recall = {name: interval.value for name, interval in measured.recall().items()}
    assert 0.75 <= recall["wear"] <= 0.97 and 0.7 <= recall["normal"] <= 1.0
    assert measured.false.mean() <= 0.5
    at_false = recall_at_false(low, truth, int(measured.false.sum()))
    assert at_false["wear"] >= recall["wear"]
