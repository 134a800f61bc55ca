"""Known boxes are read or refused with the line; recall is counted as by hand; what shows it."""

from __future__ import annotations

import html
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from cropfirst import configs
from cropfirst.cache.tables import read_table
from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.harden.recall.compare import above, best_scores, score_detectors
from cropfirst.stage1_detect.harden.recall.recall import Measured, compare, curve, look, measure
from cropfirst.stage1_detect.harden.recall.report import recall_table, write_recall_report
from cropfirst.stage1_detect.harden.recall.tiles import Shown, choose, cut_tiles, sort_out
from cropfirst.stage1_detect.harden.training.box_table import STATE_OF, clip, read_boxes
from cropfirst.stage1_detect.harden.training.truth import STATES, KnownFaces
from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections
from cropfirst.stage1_detect.photos.read import ReadError, read_photo

HEAD = "file,xmin,ymin,xmax,ymax,label\n"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
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


# What a CSV file may say.


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
    assert set(mask["classes"]) == set(STATES)
    wanted = {state: state for state in STATES} | mask["aliases"]
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
        assert set(each.states) <= {*STATES, ""}


def test_boxes_are_cut_off_at_the_photos_edges() -> None:
    faces = known(((-5, -5, 30, 20), "wear"), ((10, 10, 500, 500), "normal"))
    cut = clip(faces, 60, 80, name="a.jpg")
    np.testing.assert_array_equal(cut.boxes, [[0, 0, 30, 20], [10, 10, 80, 60]])
    assert cut.states == faces.states
    with pytest.raises(DetectError, match=r"box 90, 0, 140, 50 of a\.jpg lies outside .* 80 x 60"):
        clip(known((square(90), "wear")), 60, 80, name="a.jpg")


# How a detector is measured, by hand.


def test_one_detection_takes_one_face_and_the_surer_one_first() -> None:
    faces = known((square(0), "wear"), (square(200), "normal"))
    seen = look(found((square(5), 0.8), (square(1), 0.9), (square(400), 0.99)), faces)
    assert seen.face.tolist() == [-1, 0, -1]
    assert seen.is_found.tolist() == [True, False]
    assert seen.is_false.tolist() == [True, False, True]  # a second on one face, one on none


def test_the_next_best_face_is_taken_where_the_best_is_gone() -> None:
    faces = known((square(0), "wear"), (square(15), "wear"))
    seen = look(found((square(0), 0.9), (square(4), 0.8)), faces)
    assert seen.face.tolist() == [0, 1] and not seen.is_false.any()


def test_small_faces_count_neither_way() -> None:
    truth = [known((square(0, side=20), "wear"), ((100, 0, 139, 90), "wear"), (square(300), ""))]
    hits = [found((square(0, side=20), 0.9), (square(1, side=20), 0.8), ((100, 0, 139, 90), 0.9))]
    measured = measure(hits, truth)
    assert measured.counts() == {"": (0, 1), "all": (0, 1)}
    assert measured.false.tolist() == [0]
    # The shorter side decides: at 39 px the tall face counts too.
    assert measure(hits, truth, min_size=39).counts()["wear"] == (1, 1)


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
    measured = measure(hits, truth)
    assert measured.counts() == {
        "wear": (1, 2), "incorrect": (1, 1), "normal": (0, 1), "all": (2, 4),
    }  # fmt: skip
    values = {name: interval.value for name, interval in measured.recall().items()}
    assert values == {"wear": 0.5, "incorrect": 1.0, "normal": 0.0, "all": 0.5}
    assert measured.false_a_photo().value == 1.0
    assert measured.false.tolist() == [1, 0, 2]


def test_unequal_or_no_photos_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one, got 0 and 0"):
        measure([], [])
    with pytest.raises(ValueError, match="got 1 and 2"):
        curve([found()], [known(), known()])
    one, two = measure([found()], [known((square(0), "wear"))]), measure([found()], [known()])
    with pytest.raises(ValueError, match="same photos"):
        compare(one, two)


def drawn(photos: int, chance: float, seed: int) -> Measured:
    """Photos of 3 worn faces that are found with a chance."""
    rng = np.random.default_rng(seed)
    faces = np.zeros((photos, 4), np.int64)
    faces[:, 0] = 3
    hits = faces.copy()
    hits[:, 0] = rng.binomial(3, chance, photos)
    return Measured(faces, hits, rng.poisson(0.3, photos).astype(np.int64))


def test_intervals_cover_and_narrow() -> None:
    covered = [
        (low := drawn(60, 0.8, seed).recall(resamples=400)["wear"]).low <= 0.8 <= low.high
        for seed in range(60)
    ]
    assert 0.85 <= np.mean(covered) <= 1.0
    widths = [
        (interval := drawn(photos, 0.8, 1).recall()["wear"]).high - interval.low
        for photos in (50, 200, 800)
    ]
    assert widths[0] > 1.5 * widths[1] > 1.5 * 1.5 * widths[2]
    again = drawn(50, 0.8, 1)
    assert again.recall() == again.recall() != again.recall(seed=1)


def test_paired_differences_are_sharper_than_two_intervals() -> None:
    before = drawn(200, 0.6, 2)
    found_too = before.found.copy()
    found_too[::10, 0] = 3  # the same photos, a few faces more
    after = Measured(before.faces, found_too, before.false)
    gain, more_false = compare(before, after)
    assert gain["wear"].is_clear and gain["wear"].value > 0
    whole = before.recall()["wear"]
    assert gain["wear"].high - gain["wear"].low < 0.6 * (whole.high - whole.low)
    assert (more_false.value, more_false.low, more_false.high) == (0.0, 0.0, 0.0)
    assert compare(after, before)[0]["wear"].value == pytest.approx(-gain["wear"].value)


def test_the_curve_is_what_cuts_at_each_threshold_measure() -> None:
    rng = np.random.default_rng(3)
    truth, hits = [], []
    for _ in range(30):
        places = rng.uniform(0, 600, (4, 2))
        faces = [(square(*place, side=rng.uniform(20, 90)), STATES[i % 3])
                 for i, place in enumerate(places)]  # fmt: skip
        near = [(tuple(np.add(box, rng.normal(0, 8, 4))), round(rng.uniform(), 2))
                for box, _ in faces for _ in range(2)]  # fmt: skip
        truth.append(known(*faces))
        hits.append(found(*near, (square(700), round(rng.uniform(), 2))))
    line = curve(hits, truth)
    assert (np.diff(line.scores) < 0).all()
    for recall in line.recall.values():
        assert (np.diff(recall) >= 0).all() and recall[0] >= 0 and recall[-1] <= 1
    assert (np.diff(line.false_a_photo) >= 0).all()
    assert ((line.precision >= 0) & (line.precision <= 1)).all()
    for place in range(0, len(line.scores), 7):
        least = float(np.nextafter(np.float32(line.scores[place]), np.float32(-1)))
        cut = measure([above(faces, least) for faces in hits], truth)
        right, faces = cut.counts()["all"]
        assert line.recall["all"][place] == pytest.approx(right / faces)
        assert line.false_a_photo[place] == pytest.approx(cut.false.mean())
        assert line.precision[place] == pytest.approx(right / max(right + cut.false.sum(), 1))
    most = line.false_a_photo[len(line.scores) // 2]
    assert line.at_false(most)["wear"] == line.recall["wear"][line.false_a_photo <= most][-1]
    assert line.at_false(-1) == dict.fromkeys(line.recall, 0.0)


def test_no_detection_at_all_is_a_curve_without_points() -> None:
    line = curve([found()], [known((square(0), "wear"))])
    assert len(line.scores) == 0 and line.at_false(1.0) == {"wear": 0.0, "all": 0.0}


def test_best_scores_overlap_the_face() -> None:
    faces = known((square(0), "wear"), (square(200), "wear"))
    assert best_scores(found(), faces) == [None, None]
    scores = best_scores(found((square(3), 0.2), (square(6), 0.4), (square(500), 0.9)), faces)
    assert scores == [pytest.approx(0.4), None]


# What is shown.

EVIL = "a/<b>&{{ 7*7 }}.jpg"


def three_photos() -> tuple[dict[str, list[Detections]], list[KnownFaces], list[str]]:
    """In turn: found now, lost now, still lost; and one false positive."""
    truth = [
        known((square(10), "wear"), (square(150, side=10), "wear")),
        known((square(20), "incorrect")),
        known((square(30), "normal")),
    ]
    before = [found((square(10), 0.3)), found((square(20), 0.9)), found()]
    after = [found((square(10), 0.95)), found(), found((square(30), 0.2), (square(120), 0.8))]
    return {"reference": before, "<i>masked": after}, truth, [EVIL, "b.jpg", "c.jpg"]


def test_the_sheets_name_the_right_faces() -> None:
    detectors, truth, keys = three_photos()
    before, after = detectors.values()
    kinds = sort_out(before, after, truth, keys, thresholds=(0.7, 0.7))
    told = {kind: [(face.key, face.state, face.title) for face in faces]
            for kind, faces in kinds.items()}  # fmt: skip
    assert told == {
        "found_now": [(EVIL, "wear", "wear 50 px: 0.30 > 0.95")],
        "lost_now": [("b.jpg", "incorrect", "incorrect 50 px: 0.90 > none")],
        "still_lost": [("c.jpg", "normal", "normal 50 px: none > 0.20")],
        "no_face": [("c.jpg", "no face", "no face 50 px: none > 0.80")],
    }


def test_rare_states_are_shown_too_and_large_faces_first() -> None:
    faces = [Shown(f"{i}.jpg", square(0, side=41 + i), "wear", (None, None)) for i in range(20)]
    faces.append(Shown("rare.jpg", square(0), "normal", (None, None)))
    chosen = choose(faces, 4)
    assert [face.key for face in chosen] == ["19.jpg", "18.jpg", "17.jpg", "rare.jpg"]
    assert choose([], 4) == []


def test_tiles_show_the_face_and_grey_beyond_the_edge() -> None:
    photo = np.zeros((100, 100, 3), np.uint8)
    photo[:, :, 2] = 255
    photo[5:45, 5:45] = (255, 0, 0)

    def photos(key: str) -> np.ndarray:
        if key == "gone.jpg":
            raise ReadError("FileNotFoundError", "No such file or directory")
        return photo

    faces = [Shown(key, (5, 5, 45, 45), "wear", (0.1, 0.9)) for key in ("gone.jpg", "a.jpg")]
    gone, there = cut_tiles(faces, photos)
    assert (gone.image == 70).all() and gone.note == "gone.jpg"
    assert there.image[80, 80].tolist() == [255, 0, 0]
    assert there.image[150, 150].tolist() == [0, 0, 255]
    assert there.image[2, 2].tolist() == [150, 150, 150]


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    detectors, truth, keys = three_photos()
    photo = np.random.default_rng(0).integers(0, 255, (120, 260, 3), dtype=np.uint8)
    folder = tmp_path_factory.mktemp("reported") / "new" / "report"
    facts = {"command": "<script>alert(1)</script>", "seed": "0"}
    page = write_recall_report(
        folder, detectors, truth, keys, photos=lambda key: photo, facts=facts
    )
    assert page == folder / "report.html"
    return folder


def test_the_page_needs_nothing_else_and_runs_nothing(reported: Path) -> None:
    text = (reported / "report.html").read_text("utf-8")
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) == 8 + 4 and all(each.startswith("data:image/") for each in sources)
    assert not re.search(r"https?:|<script|<iframe|<link (?!rel=\"icon\" href=\"data:,\")", text)
    assert "url(" not in text and "@import" not in text
    assert "<b>&{{" not in text and "a/&lt;b&gt;&amp;{{ 7*7 }}.jpg" in text
    assert "<i>" not in text and "&lt;i&gt;masked" in text
    plain = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())
    for wanted in ("mask worn, 1", "mask worn wrongly, 1", "no mask, 1", "all faces, 3",
                   "1 of 1; shorter side", "<script>alert(1)</script>", "wear 50 px: 0.30 > 0.95",
                   "Still lost", "Taken for a face", "nobody marked"):  # fmt: skip
        assert wanted in plain, wanted


def test_the_files_behind_the_page_say_the_same(reported: Path) -> None:
    data = json.loads((reported / "recall.json").read_text("utf-8"))
    assert data["photos"] == 3 and data["facts"]["seed"] == "0"
    first, last = data["detectors"]
    assert (first["name"], last["name"]) == ("reference", "<i>masked")
    assert last["states"]["wear"]["recall"]["value"] == 1.0
    assert last["states"]["incorrect"]["gain"]["value"] == -1.0
    assert last["false_a_photo"]["value"] == pytest.approx(1 / 3)
    faces = read_table(reported / "known_faces.parquet", kind="known_faces", version=1, mend="")
    assert faces.height == 2 * 4 and faces["counts"].sum() == 2 * 3
    masked = faces.filter(pl.col("detector") == "<i>masked")
    assert masked.filter("is_found")["key"].to_list() == [EVIL]
    assert masked.filter(pl.col("key") == "c.jpg")["best_score"].to_list() == [pytest.approx(0.2)]
    lines = read_table(reported / "recall_curves.parquet", kind="recall_curves", version=1, mend="")
    assert set(lines["state"]) == {*STATES, "all"}
    for name in ("precision_recall_wear.svg", "false_recall_all.svg"):
        assert (reported / name).read_text().startswith("<svg")
    for name in ("found_now", "lost_now", "still_lost", "no_face"):
        assert (reported / f"{name}.png").stat().st_size > 1000


def test_a_second_report_takes_the_firsts_place(reported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    shutil.copytree(reported, folder)
    truth = [known((square(0), ""))]
    same = {"a $x_1$ _": [found((square(0), 0.9))]}
    for _ in range(2):
        page = write_recall_report(
            folder, same, truth, ["a.jpg"], photos=lambda key: np.zeros((9, 9, 3), np.uint8),
            facts={},
        )  # fmt: skip
    assert not list(folder.glob("*.png")) and "unknown state, 1" in page.read_text("utf-8")
    again = page.read_bytes()
    write_recall_report(folder, same, truth, ["a.jpg"], photos=lambda key: np.zeros((9, 9, 3)),
                        facts={})  # fmt: skip
    assert page.read_bytes() == again


def test_photos_whose_faces_are_all_small_have_a_page_too(tmp_path: Path) -> None:
    truth = [known((square(0, side=9), "wear"))]
    page = write_recall_report(
        tmp_path, {"one": [found((square(30), 0.9))], "two": [found()]}, truth, ["a.jpg"],
        photos=lambda key: np.zeros((9, 9, 3), np.uint8), facts={}, title="Nothing counts",
    )  # fmt: skip
    text = page.read_text("utf-8")
    assert "Nothing counts" in text and "mask worn" not in text and "-1.000" in text


def test_the_console_table_tells_every_detector() -> None:
    detectors, truth, _ = three_photos()
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(recall_table(score_detectors(detectors, truth)))
    said = console.export_text()
    for wanted in ("wear (1)", "<i>masked", "change", "-1.000", "false a photo", "0.333"):
        assert wanted in said, wanted
    with pytest.raises(ValueError, match="at least one detector"):
        score_detectors({}, truth)
    with pytest.raises(ValueError, match=r"thresholds of \['masked'\]"):
        score_detectors(detectors, truth, thresholds={"masked": 0.5})


HARNESS = """<!doctype html><body><iframe id=f src="report.html" style="width:400px;height:2000px">
</iframe><pre id=o>nothing</pre><script>
f.onload = () => {
  const page = f.contentDocument, images = [...page.images];
  o.textContent = JSON.stringify({
    broken: images.filter(each => !each.complete || !each.naturalWidth).length,
    wide: page.documentElement.scrollWidth - f.clientWidth,
    ink: getComputedStyle(page.body).color, ground: getComputedStyle(page.body).backgroundColor,
  });
};
</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_shows_well_in_a_browser(theme: str, reported: Path, tmp_path: Path) -> None:
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("NO BROWSER is installed (chromium): how the report looks was NOT tested")
    shutil.copy(reported / "report.html", tmp_path)
    (tmp_path / "harness.html").write_text(HARNESS)
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}",
            f"--blink-settings=preferredColorScheme={0 if theme == 'dark' else 1}",
            "--virtual-time-budget=10000", "--dump-dom", (tmp_path / "harness.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    answer = re.search(r'<pre id="o">(\{.*?\})</pre>', done.stdout)
    assert answer, done.stderr[-2000:]
    seen: dict[str, Any] = json.loads(html.unescape(answer[1]))
    assert seen["broken"] == 0
    assert seen["wide"] <= 0, "the page scrolls sideways at 400 px"
    bright = [sum(map(int, re.findall(r"\d+", seen[name])[:3])) for name in ("ink", "ground")]
    assert (bright[0] > bright[1]) == (theme == "dark")


def test_the_reference_on_real_photos(shared_data: Path) -> None:
    root = shared_data / "faces_in_the_wild"
    boxes = read_boxes(root / "boxes.csv")
    keys = list(boxes)[:60]
    photos = [read_photo(root / key).image for key in keys]
    truth = [clip(boxes[key], *photo.shape[:2], name=key)
             for key, photo in zip(keys, photos, strict=True)]  # fmt: skip
    detector = MTCNN(DetectorConfig())
    low = detector.detect(photos, thresholds=(0.6, 0.7, 0.01))
    measured = measure([above(faces, 0.7) for faces in low], truth)
    # A cut through the faces at a low threshold is the detector with a higher one.
    for faces, wanted in zip(low, detector.detect(photos[:12]), strict=False):
        np.testing.assert_array_equal(above(faces, 0.7).boxes, wanted.boxes)
    recall = {name: interval.value for name, interval in measured.recall().items()}
    assert 0.75 <= recall["wear"] <= 0.97 and 0.7 <= recall["normal"] <= 1.0
    assert measured.false.mean() <= 0.5
    line = curve(low, truth)
    used = int((line.scores > 0.7).sum()) - 1
    assert line.recall["wear"][used] == pytest.approx(recall["wear"])
