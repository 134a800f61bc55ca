"""The page that labels crops, by keys in a real browser, against a real server and folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from browser import Chromium, Page
from drawn_bundle import change_manifest
from drawn_clip import SEED, draw_person
from running_server import running

from cropfirst.door.crop_folder import CropFolder
from cropfirst.door.serve.limits import ServeLimits
from cropfirst.door.serve.run import Address
from cropfirst.stage2_classify.datasets import open_dataset

pytestmark = pytest.mark.slow

KEY = "first-key-0123456789"
AGES = ("<30", "30-59", ">=60")
KINDS = ("normal", "mask1", "incorrect_mask", "normal")
SEEN = "document.getElementById('photo').dataset.crop && !document.getElementById('work').hidden"
BLOCKED = """new Promise((resolve) => {
  document.addEventListener("securitypolicyviolation", (event) => resolve(event.blockedURI));
  fetch("https://example.com/", { mode: "no-cors" }).catch(() => setTimeout(resolve, 1000));
})"""
LOOK_AGAIN = "document.dispatchEvent(new Event('visibilitychange'))"


@pytest.fixture(scope="module")
def bundle(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn bundle with a second task, whose answers are those of the first."""
    folder = tmp_path_factory.mktemp("two") / "bundle"
    shutil.copytree(bundle_folder, folder)
    model = onnx.load(folder / "classifier-0.onnx")
    for node in model.graph.node:
        node.output[:] = ["age" if name == "mask" else name for name in node.output]
    model.graph.output[0].name = "age"
    data = model.SerializeToString()
    (folder / "classifier-1.onnx").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    second = {"file": "classifier-1.onnx", "tasks": {"age": 1.0}}
    change_manifest(
        folder,
        files={**manifest["files"], "classifier-1.onnx": entry},
        classifiers=[*manifest["classifiers"], {**manifest["classifiers"][0], **second}],
        tasks={**manifest["tasks"], "age": {**manifest["tasks"]["mask"], "classes": AGES}},
    )
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def server(bundle: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text(KEY)
    address = Address(port=0, api_key_file=keys)
    with running(bundle, ServeLimits(), address, review=folder) as url:
        yield url


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return [draw_person(SEED + index % 2, kind) for index, kind in enumerate(KINDS)]


@pytest.fixture
def ids(folder: Path, photos: list[np.ndarray]) -> list[str]:
    """Four crops that were just taken, in a folder with nothing else."""
    for path in folder.iterdir():
        path.unlink()
    watch = CropFolder(folder, ["mask"])
    watch.expire_after(3)
    for index, photo in enumerate(photos):
        watch.add(photo, time.time() - 100 + index)
    return [each.id for each in watch.crops()]


def open_page(chromium: Chromium, server: str, choices: str = "lang=en", **look: Any) -> Page:
    page = chromium.open(f"{server}/review/#{choices}", **look)
    page.wait("document.getElementById('key-form')?.hidden === false")
    page.run(f"document.getElementById('key').value = '{KEY}'")
    page.click("#key-form button")
    page.wait("['work', 'message'].includes(document.body.dataset.state)")
    return page


def press(page: Page, *keys: str) -> None:
    """Press keys, each when the photo that it is about is seen."""
    for key in keys:
        page.wait(SEEN)
        page.press(key)
        page.wait("!document.body.dataset.busy")


def text(page: Page, name: str) -> str:
    return str(page.run(f"document.getElementById('{name}').textContent"))


def facts(folder: Path) -> list[dict[str, Any]]:
    return [dict(sample.labels) for sample in open_dataset(folder).samples]


def test_crops_are_labelled_by_keys(
    chromium: Chromium, server: str, folder: Path, ids: list[str]
) -> None:
    asked = len(chromium.requests())
    page = open_page(chromium, server)
    assert text(page, "progress-text") == "0 of 4 labelled"
    assert text(page, "place") == "Photo 1 of 4" and text(page, "expires").startswith("Will be")
    page.wait("document.querySelectorAll('.share:not(:empty)').length === 3")
    shares = page.run("[...document.querySelectorAll('.share')].map((each) => each.textContent)")
    assert [int(each.rstrip("%")) > 50 for each in shares] == [False, False, True]
    press(page, "3", "1")  # no mask, and the youngest
    assert text(page, "said") == "Saved. age: <30"
    assert text(page, "progress-text") == "1 of 4 labelled"
    press(page, "1", " ", "2")  # worn, any age; of the next one, worn wrongly
    assert text(page, "place") == "Photo 3 of 4"
    assert facts(folder) == [{"mask": "normal", "age": "<30"}, {"mask": "wear"},
                             {"mask": "incorrect"}, {}]  # fmt: skip
    press(page, "Backspace", "3")
    assert facts(folder)[2] == {"mask": "normal"}
    press(page, "u", "u")  # back to the second photo; then nothing of the third one is left
    assert facts(folder)[1:] == [{}, {}, {}] and text(page, "place") == "Photo 2 of 4"
    press(page, "ArrowRight", "ArrowRight", "ArrowRight", "Delete", "ArrowLeft", "ArrowRight", "x")
    assert len(facts(folder)) == 4, "one press deleted a photo"
    press(page, "x")
    assert len(facts(folder)) == 3 and not (folder / f"{ids[3]}.png").exists()
    press(page, "1", "2", "2")
    page.press("3")
    page.wait("document.body.dataset.state === 'message'")
    assert text(page, "message-title") == "All are labelled"
    assert text(page, "progress-text") == "3 of 3 labelled"
    samples = open_dataset(folder).samples
    assert [(each.group, each.labels["mask"], each.labels["age"]) for each in samples] == [
        (ids[0], "normal", "<30"), (ids[1], "wear", "30-59"), (ids[2], "incorrect", ">=60"),
    ]  # fmt: skip
    sent = [url for url in chromium.requests()[asked:] if not url.startswith("about:")]
    assert all(url.startswith((server, f"blob:{server}")) for url in sent), "something left"


def test_a_second_page_and_watch_are_seen(
    chromium: Chromium, server: str, folder: Path, ids: list[str], photos: list[np.ndarray]
) -> None:
    page = open_page(chromium, server, "lang=en&tasks=mask")
    other = open_page(chromium, server, "lang=en&tasks=age")
    for number in range(3):
        press(page, "1")
        press(other, str(number + 1))
    CropFolder(folder, ["mask"]).add(photos[0], time.time())
    (folder / f"{ids[3]}.png").unlink()
    assert facts(folder)[:3] == [{"mask": "wear", "age": age} for age in AGES]
    page.press("1")  # the photo that is gone
    page.wait("document.getElementById('said').textContent.startsWith('The photo has expired')")
    page.run(LOOK_AGAIN)
    page.wait("document.getElementById('progress-text').textContent === '3 of 4 labelled'")
    press(page, "2")
    assert facts(folder)[3:] == [{}, {"mask": "incorrect"}]
    (folder / open_dataset(folder).samples[4].key).unlink()
    page.press("ArrowLeft")
    press(page, "ArrowLeft", "u")  # the newest label was that of the photo that has gone
    page.wait("document.getElementById('said').textContent.startsWith('The photo has expired')")
    assert text(page, "progress-text") == "3 of 3 labelled"
    assert page.run("document.body.dataset.state") == "work", "another photo was taken away"


def test_what_is_not_saved_is_said(
    chromium: Chromium, server: str, folder: Path, ids: list[str]
) -> None:
    page = open_page(chromium, server, "lang=en&tasks=mask")
    page.wait(SEEN)
    table = (folder / "labels.csv").read_bytes()
    (folder / "labels.csv").write_text("path,group,helmet\n")
    press(page, "1")
    assert text(page, "said").startswith("Not saved: the folder of the crops cannot be read")
    (folder / "labels.csv").write_bytes(table)
    page.call("Network.enable")
    offline = {"latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    page.call("Network.emulateNetworkConditions", offline=True, **offline)
    press(page, "1")
    assert text(page, "said").startswith("The server cannot be reached.")
    page.call("Network.emulateNetworkConditions", offline=False, **offline)
    page.run(LOOK_AGAIN)
    page.wait("document.getElementById('said').textContent === ''")
    assert text(page, "place") == "Photo 1 of 4" and facts(folder) == [{}] * 4
    page.click("#keys")
    press(page, "1")
    assert facts(folder) == [{}] * 4, "keys were turned off"


def test_an_empty_folder_is_said(chromium: Chromium, server: str, folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    page = open_page(chromium, server, "lang=ko")
    assert "불확실한 얼굴이 없습니다" in page.text()


@pytest.mark.parametrize("language", ["en", "ko"])
def test_it_has_names_and_texts_and_fits_a_phone(
    chromium: Chromium, server: str, ids: list[str], language: str
) -> None:
    page = open_page(chromium, server, f"lang={language}", width=400, height=800)
    page.wait(SEEN)
    assert page.run("document.documentElement.scrollWidth") <= 400
    small = page.run("""[...document.querySelectorAll("button")].filter((each) =>
      each.getClientRects().length && each.getBoundingClientRect().height < 44).length""")
    assert small == 0, "a finger needs 44 pixels"
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "checkbox", "img", "image", "group", "progressbar"}
    named = [
        node.get("name", {}).get("value", "")
        for node in tree
        if not node["ignored"] and node["role"]["value"] in roles
    ]
    assert len(named) > 14 and all(named)
    missing = page.run("""(async () => {
      const { STRINGS } = await import("./strings.js");
      const used = [...document.querySelectorAll("[data-text], [data-label]")];
      return used.map((each) => each.dataset.text ?? each.dataset.label)
        .filter((key) => !(key in STRINGS.en));
    })()""")
    assert missing == []
    assert page.run(BLOCKED) == "https://example.com/"
