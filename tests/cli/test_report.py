"""`report` and `eda`: one page that needs nothing else, and shows well in a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest

from cropfirst.cache.tables import write_table
from cropfirst.stage2_classify.report.pictures import draw_gains

Run = Callable[..., Any]
Ok = Callable[..., str]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def test_a_charts_names_are_text_and_nothing_else() -> None:
    chart = str(draw_gains([("<script>alert(1)</script> & $x_2$", 0.1, 0.0, 0.2)]))
    assert "<script" not in chart
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; $x_2$" in chart


class Page(HTMLParser):
    """Sources, links and ids of a page; a tag that is not closed shows in `open`."""

    VOID = frozenset({"meta", "link", "img", "br", "use", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"]] if found.get("id") else []
        self.sources += [str(found[k]) for k in ("src", "srcset") if found.get(k)]
        self.links += [str(found["href"])] if found.get("href") else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag, tag


@pytest.fixture(scope="module")
def reported(
    trained: Any, tmp_path_factory: pytest.TempPathFactory, ok: Ok,
    predict_oof: Callable[..., None],
) -> tuple[Path, str, str]:  # fmt: skip
    """A page with every part that others write, its path and what was said.

    The run knows all masks but one, and of gender and age what one epoch taught it: nothing.
    """
    work = tmp_path_factory.mktemp("reported") / "work"
    shutil.copytree(trained.work, work)
    (run_folder,) = (work / "runs").iterdir()
    masks = pl.read_parquet(run_folder / "oof.parquet")["mask_target"].to_numpy().copy()
    masks[0] = (masks[0] + 1) % 3
    predict_oof(run_folder, "mask", masks, surely=0.9)
    ok("eda", trained.data, "--work", work)
    ok("ensemble", trained.data, "--work", work, "--steps", "thresholds,temperature")
    picture = np.full((40, 60, 3), 128, np.uint8)
    (work / "audit").mkdir()
    cv2.imwrite(str(work / "audit/sheet.png"), picture)
    variants = {"original": {"accuracy": 0.9, "macro_f1": 0.8, "majority_accuracy": 0.625},
                "mixed_rand": {"accuracy": 0.7}}  # fmt: skip
    name = min(path.parent.name for path in work.glob("runs/*/run.json"))
    run = {"name": name, "path": "x", "task": "gender", "background": "box", "backbone": "b",
           "variants": variants, "bg_gap": 0.2, "bg_gap_low": 0.1, "bg_gap_high": 0.3,
           "cam_inside": 0.5, "cam_inside_low": None, "cam_inside_high": None,
           "verdict": "uses the background", "verdict_reason": "",
           "out_of_fold_macro_f1": 0.8, "out_of_fold_majority_macro_f1": 0.375}  # fmt: skip
    lost = {**run, "task": "age", "bg_gap": 0.0, "bg_gap_low": -0.1, "bg_gap_high": 0.1,
            "verdict": "cannot tell", "verdict_reason": "it is at chance"}  # fmt: skip
    fine = {**run, "task": "mask", "bg_gap": 0.0, "bg_gap_low": -0.01, "bg_gap_high": 0.02,
            "verdict": "no use was found"}  # fmt: skip
    # Of an earlier version, which certified a gap of 0 whatever the run knew.
    earlier = {k: v for k, v in lost.items() if not k.startswith("verdict")} | {"task": "class18"}
    probe = {"task": "gender", "macro_f1": 0.9, "majority_macro_f1": 0.4, "low": 0.8, "high": 1}
    pictures = [{"file": "sheet.png", "title": "<sheet>", "caption": "of <b>composites"},
                {"file": "../../lost.png", "title": "lost", "caption": ""}]  # fmt: skip
    runs = [run, lost, fine, earlier]
    audit = {"format": 1, "kind": "audit", "runs": runs, "probe": [probe], "pictures": pictures}
    (work / "audit/audit.json").write_text(json.dumps(audit))
    (work / "relabel").mkdir()
    keys = pl.read_parquet(next(work.glob("runs/*/oof.parquet")))["key"].to_list()[:3]
    issues = {
        "keys": [[keys[0]], [keys[1], keys[2]], [keys[2]], [keys[0]]],
        "task": ["mask"] * 3 + ["age"],
        "given": ["wear"] * 3 + ["<30"],
        "suggested": ["normal"] * 3 + ["never suggested"],
        "prob_given": [0.3, 0.1, 0.2, 0.05],
    }
    write_table(
        work / "relabel/label_issues.parquet", pl.DataFrame(issues), kind="label_issues", version=1
    )
    said = ok("report", work / "runs", "--device", "cpu")
    page = work / "report.html"
    return page, page.read_text("utf-8"), said


def test_the_page_needs_no_other_file(reported: tuple[Path, str, str]) -> None:
    path, text, said = reported
    page = Page(text)
    assert page.open == []
    assert page.sources and all(source.startswith("data:image/") for source in page.sources)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert {link[1:] for link in page.links if link[0] == "#"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"url\((?!#)|@import|<script|<iframe", text)
    assert f"report: {path}" in " ".join(said.split())


def test_every_part_is_there(reported: tuple[Path, str, str]) -> None:
    path, text, _ = reported
    plain = html.unescape(re.sub(r"<[^>]+>", " ", text))
    for wanted in (
        "Model card", "Intended use", "perceived", "The runs", "test_vit",
        "Expected calibration error", "Worst slices", "Mistakes with the highest", "BG-Gap",
        "+0.200 [+0.100, +0.300]", "from the background alone", "chosen", "thresholds",
        "loss: solid in training", "Labels that are probably wrong", "Crops", "Environment",
        "a wrong background costs 20.0% of accuracy: it uses the background", "right (",
        "and 1 more of this person",
    ):  # fmt: skip
        assert wanted in plain, wanted
    assert "&lt;sheet&gt;: of &lt;b&gt;composites" in text and "<sheet>" not in text
    assert "lost" not in plain  # a picture that is not there is left out
    assert "has not been run" not in plain
    steps = json.loads((path.parent / "ensemble/ensemble.json").read_text())["steps"]
    for step in steps:
        shown = f"<td>{step['macro_f1']:.4f}</td><td>{step['majority_macro_f1']:.4f}</td>"
        assert shown in text, step
    rows = re.findall(r"<td>(0\.[123]00)</td></tr>", text)
    assert rows[-3:] == ["0.100", "0.200", "0.300"]  # the likeliest mistake first


def test_nothing_is_certified_of_what_is_at_chance(reported: tuple[Path, str, str]) -> None:
    _, text, _ = reported
    plain = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())
    assert "Sorting and counting photos of faces by mask, where single mistakes" in plain
    assert "Not for gender, age, class18: the models are no better than chance there" in plain
    assert "age: the models are no better than chance (balanced accuracy 0." in plain
    assert "mask: the models are no better" not in plain
    # By what the audit says of each run, which a version before did not.
    assert "age: cannot tell whether it uses the background, since it is at chance (BG-Gap" in plain
    assert "mask: no use of the background was found (BG-Gap +0.0 points, 95 % -1.0" in plain
    assert "class18: cannot tell whether it uses the background, since audit.json is of" in plain
    assert plain.count("no use of the background was found") == 1
    # Labels of a task at chance are not judged, also where an earlier relabel has judged them.
    assert "age: no label is suggested, since the models are no better than chance" in plain
    assert "contradict 3 labels" in plain and "never suggested" not in plain


def test_bg_gap_comes_first_in_the_table_of_the_audit(reported: tuple[Path, str, str]) -> None:
    table = reported[1].partition('id="audit"')[2].partition("</table>")[0]
    head, *rows = (
        [html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(?:<b>)?([^<]*)", row)]
        for row in table.split("<tr>")[1:]
    )
    assert head[:4] == ["run", "task", "BG-Gap", "verdict"]
    assert rows[0][2:4] == ["+0.200 [+0.100, +0.300]", "uses the background"]
    assert [row[3] for row in rows[1:]] == ["cannot tell", "no use was found", "cannot tell"]
    assert head[-4:] == ["majority", "Grad-CAM in face", "macro F1", "majority"]
    assert rows[0][-4] == "0.625" and rows[0][-2:] == ["0.800", "0.375"]


def test_scores_of_the_page_have_the_majority_beside_them(reported: tuple[Path, str, str]) -> None:
    """Of seven photos of a person, five have a mask: accuracy 5/7, macro F1 10/12 of a third."""
    text = reported[1]
    cards = text.partition('class="cards"')[2].partition("</div>\n</div>")[0]
    assert "majority: 0.278" in cards and "accuracy 0.714" in cards and "majority: 0.333" in cards
    assert cards.count("no better than chance") == 3
    runs = text.partition('id="runs"')[2].partition("</table>")[0]
    assert "<th>mask</th><th>majority</th><th>gender</th><th>majority</th>" in runs
    assert "<td>0.278</td>" in runs and "<td>0.333</td>" in runs and "<td>0.167</td>" in runs
    slices = text.partition('id="slices"')[2].partition('id="mistakes"')[0]
    assert slices.count("<th>majority</th>") == 2 * slices.count("<h3>")


def test_absent_parts_name_their_command(copied: Any, ok: Ok, tmp_path: Path) -> None:
    shutil.rmtree(copied.work / "cache/crops")
    run = next(copied.runs.iterdir())
    said = ok("report", run, "--data", copied.data, "--no-cam", "--out", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    for command in ("audit RUN", "ensemble DATA", "relabel DATA", "eda DATA", "detect DATA"):
        assert f"cropfirst {command}" in text, command
    assert said.count("not in it:") == 4
    Page(text)


@pytest.mark.parametrize("name", ["nothing", "fold"])
def test_what_is_no_run_is_refused(name: str, trained: Any, run: Run) -> None:
    fold = next(trained.runs.glob("*/fold0"))
    said = run("report", trained.work / "nothing" if name == "nothing" else fold).error
    assert ("no such folder" if name == "nothing" else "report expects its run") in said


def test_a_run_without_out_of_fold_predictions_is_named(copied: Any, run: Run) -> None:
    for path in copied.runs.rglob("oof.parquet"):
        path.unlink()
    assert "no out-of-fold predictions" in run("report", copied.runs).error


def test_evaluate_writes_slices_calibration_and_mistakes(
    trained: Any, ok: Ok, tmp_path: Path
) -> None:
    command = ("evaluate", trained.data, "--work", trained.work, "--out", tmp_path)
    said = ok(*command, "--details")
    assert "worst slices" in said and "95 % intervals over people" in said
    short = ok(*command).splitlines()
    scores = [line.split()[0] for line in short if "macro F1 0." in line and "accuracy 0." in line]
    assert scores == ["mask", "gender", "age", "class18"]
    assert "with 95 % intervals over 6 people:" in " ".join(short) and len(short) < 15
    data = json.loads((tmp_path / "evaluation.json").read_text())
    gender = next(each for each in data["diagnoses"] if each["task"] == "gender")
    by = {part["by"] for part in gender["slices"]}
    assert {"mask", "age", "face height"} <= by and "gender" not in by
    assert gender["macro_f1"]["low"] <= gender["macro_f1"]["value"] <= gender["macro_f1"]["high"]
    assert sum(row["photos"] for row in gender["reliability"]) == 42
    for name in ("reliability_gender", "mistakes_gender", "mistakes_class18"):
        assert cv2.imread(str(tmp_path / f"{name}.png")) is not None, name
    assert not (tmp_path / "reliability_class18.png").exists()  # it has no probabilities of its own


def test_predictions_against_answers_are_looked_into_too(
    trained: Any, ok: Ok, table: Callable[..., None], tmp_path: Path
) -> None:
    ok("predict", trained.data, "--work", trained.work, "--out", tmp_path, "--device", "cpu")
    codes = {"k.jpg": 0, "b.png": 13, "x.jpg": 9, "a.jpg": 3}
    table(tmp_path / "answers.csv", [("ImageID", "ans"), *codes.items()])
    ok(
        "evaluate", trained.data, "--work", trained.work, "--answers", tmp_path / "answers.csv",
        "--predictions", tmp_path / "predictions.parquet", "--out", tmp_path / "scores",
    )  # fmt: skip
    data = json.loads((tmp_path / "scores/evaluation.json").read_text())
    age = next(each for each in data["diagnoses"] if each["task"] == "age")
    masks = {part["value"]: part["n_photos"] for part in age["slices"] if part["by"] == "mask"}
    assert masks == {"wear": 2, "incorrect": 1, "normal": 1}
    assert age["ece"] is not None and all(part["is_small"] for part in age["slices"])
    assert (tmp_path / "scores/reliability_age.png").is_file()


def test_predict_warns_of_other_class_shares(trained: Any, ok: Ok, copied: Any) -> None:
    meta = next(copied.runs.glob("*/fold0/best_f1/meta.json"))
    for path in meta.parents[2].glob("fold*/best_f1/meta.json"):
        data = json.loads(path.read_text())
        data["class_prior"]["mask"] = [0.0, 0.0, 1.0]
        path.write_text(json.dumps(data))
    said = " ".join(ok("predict", copied.data, "--work", copied.work, "--device", "cpu").split())
    assert "mask: wear 0.0% ->" in said and "class shares differ from those in training" in said


HARNESS = """<!doctype html><body><iframe id=f src="report.html" style="width:400px;height:2000px">
</iframe><pre id=o>nothing</pre><script>
f.onload = () => {
  const page = f.contentDocument, images = [...page.images];
  o.textContent = JSON.stringify({
    images: images.length,
    broken: images.filter(each => !each.complete || !each.naturalWidth).length,
    wide: page.documentElement.scrollWidth - f.clientWidth,
    ink: getComputedStyle(page.body).color, ground: getComputedStyle(page.body).backgroundColor,
  });
};
</script>"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_shows_well_in_a_browser(
    theme: str, reported: tuple[Path, str, str], tmp_path: Path
) -> None:
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("NO BROWSER is installed (chromium): how the report looks was NOT tested")
    shutil.copy(reported[0], tmp_path / "report.html")
    (tmp_path / "harness.html").write_text(HARNESS)
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}",
            f"--blink-settings=preferredColorScheme={0 if theme == 'dark' else 1}",
            "--virtual-time-budget=10000", "--dump-dom", (tmp_path / "harness.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    found = re.search(r'<pre id="o">(\{.*?\})</pre>', done.stdout)
    assert found, done.stderr[-2000:]
    seen = json.loads(html.unescape(found[1]))
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    assert seen["images"] > 20 and seen["broken"] == 0
    assert seen["wide"] <= 0, "the page scrolls sideways at 400 px"
    bright = [sum(map(int, re.findall(r"\d+", seen[name])[:3])) for name in ("ink", "ground")]
    assert (bright[0] > bright[1]) == (theme == "dark")
