"""The page in a real browser: camera, photos, languages, offline, and that nothing leaves it."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import Chromium, Page, serve
from drawn_bundle import change_manifest
from drawn_clip import SEED, draw_person

from cropfirst.door.serve.limits import ServeLimits
from cropfirst.door.serve.run import Address, Server
from cropfirst.door.web.folder import write_page

pytestmark = pytest.mark.slow

READY = "document.body?.dataset.ready"
EVENTS = """[...document.querySelectorAll("#events li")]
  .map((each) => each.innerText.replace(/^.*?(?=Person)/, "").replace(/ \\d+%/, "")).reverse()"""


@pytest.fixture(scope="module")
def page(chromium: Chromium, address: str) -> Page:
    page = chromium.open(f"{address}#view=staff&lang=en")
    page.wait(READY)
    return page


@pytest.fixture(scope="module")
def photo_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    two = [draw_person(SEED + i, kind, (300, 400)) for i, kind in enumerate(("mask1", "normal"))]
    pictures = {"two": np.hstack(two), "nobody": np.full((90, 120, 3), 99, np.uint8)}
    for name, picture in pictures.items():
        cv2.imwrite(str(folder / f"{name}.png"), picture[..., ::-1])
    (folder / "broken.png").write_bytes(b"no photo")
    return [folder / f"{name}.png" for name in (*pictures, "broken")]


def show_photos(page: Page, files: list[Path]) -> str:
    before = page.run("document.querySelectorAll('#photo-list > li').length")
    page.choose("#photos", *files)
    wanted = before + len(files)
    page.wait(f"document.querySelectorAll('#photo-list > li').length === {wanted}")
    return str(page.run("document.getElementById('photo-list').innerText"))


def test_people_in_front_of_the_camera(
    chromium: Chromium, page: Page, clip_seconds: tuple[Path, float]
) -> None:
    """Bare, then worn wrongly, then worn; two who pass each other; nobody; someone far away."""
    asked = len(chromium.requests())
    page.run("""(() => {
      const status = document.getElementById("status");
      window.seen = [];
      new MutationObserver(() => {
        const text = document.getElementById("status-text").textContent;
        if (window.seen.at(-1) !== text) window.seen.push(text);
      }).observe(status, { subtree: true, childList: true, characterData: true });
    })()""")
    page.click("#camera")
    page.wait("window.seen.includes('Please come closer')", 2 * clip_seconds[1] + 20)
    page.wait(f"{EVENTS}.filter((each) => each.includes('gone')).length >= 3", 20)
    print(page.run("document.getElementById('speed').innerText"))
    seen, events = page.run("window.seen"), page.run(EVENTS)
    page.click("#camera")
    page.wait("document.getElementById('status-text').textContent === 'Ready'")
    assert [each for each in events if each.startswith("Person 1:")] == [
        "Person 1: no mask Alarm",
        "Person 1: mask worn wrongly Alarm",
        "Person 1: mask worn",
        "Person 1: gone (mask worn)",
    ]
    passing = {each.partition(": ")[2] for each in events if re.match("Person [234]:", each)}
    assert {"mask worn", "no mask Alarm", "gone (no mask)"} <= passing
    assert seen[:6] == [
        "Please step in front of the camera", "One moment, please", "Please put on a mask",
        "Please cover nose and mouth", "Thank you", "Please step in front of the camera",
    ]  # fmt: skip
    rows = page.run("""[...document.querySelectorAll("#counts tbody tr")].map((row) =>
      [...row.cells].map((cell) => cell.innerText))""")
    total = {name: int(count) for name, _, count in rows}
    assert total["mask worn"] >= 2 and total["no mask"] >= 1
    assert total["Total"] == sum(total.values()) - total["Total"]
    assert chromium.requests()[asked:] == [], "the page asked the network while the camera ran"


def test_photos_are_answered_and_nothing_leaves_the_page(
    chromium: Chromium, page: Page, photo_files: list[Path]
) -> None:
    asked = len(chromium.requests())
    assert asked > 20, "the test does not see requests"
    said = show_photos(page, photo_files)
    chromium.settle(0.5)
    assert chromium.requests()[asked:] == []
    shares = r"mask: mask worn \d+%, mask worn wrongly \d+%, no mask \d+%"
    assert re.search(rf"two\.png\s+no mask \d+%\s+{shares}\s+mask worn \d+%\s+{shares}", said)
    assert "No face was found." in said and "This file cannot be read as a photo." in said


BLOCKED = """(async () => {
  const results = [];
  for (const url of ["http://127.0.0.1:9/", "https://example.com/", "data:text/plain,x"]) {
    await fetch(url, { mode: "no-cors" }).then(() => results.push(url), () => {});
  }
  try { (0, eval)("1"); results.push("eval"); } catch { /* as it should be */ }
  return results;
})()"""


def test_the_policy_holds_in_the_page_and_in_its_worker(chromium: Chromium, page: Page) -> None:
    asked = len(chromium.requests())
    reports = """document.addEventListener("securitypolicyviolation", (event) =>
      (window.violations ??= []).push(event.blockedURI))"""
    page.run(reports)
    assert page.run(BLOCKED) == []
    assert "https://example.com/" in page.run("window.violations")
    workers = [
        event["params"]["sessionId"]
        for event in chromium.events
        if event.get("method") == "Target.attachedToTarget"
        and event["params"]["targetInfo"]["type"] == "worker"
    ]
    assert chromium.run(workers[-1], BLOCKED) == []
    chromium.settle(0.3)
    sent = [url for url in chromium.requests()[asked:] if not url.startswith("data:")]
    assert all(url in ("http://127.0.0.1:9/", "https://example.com/") for url in sent)
    policy = page.run("document.querySelector('meta[http-equiv]').content")
    assert policy.startswith("default-src 'none'; ")
    assert "connect-src 'self'" in policy and "unsafe-inline" not in policy
    assert "unsafe-eval'" not in policy.replace("'wasm-unsafe-eval'", "")
    assert page.run("[...document.scripts].every((each) => each.src && !each.textContent)")


def test_it_works_after_the_server_has_stopped(
    chromium: Chromium, page_folder: Path, photo_files: list[Path]
) -> None:
    with serve(page_folder) as url:
        page = chromium.open(f"{url}#lang=en&view=staff")
        page.wait(READY)
        assert "Works offline." in page.text()
    page.call("Page.navigate", url="about:blank")
    page.call("Page.navigate", url=f"{url}#lang=en")
    page.wait(READY)
    assert "mask worn" in show_photos(page, photo_files[:1])


def test_the_server_of_a_bundle_shows_the_same_page(
    chromium: Chromium, bundle_folder: Path, photo_files: list[Path]
) -> None:
    server = Server(bundle_folder, Address(port=0), ServeLimits())
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        page = chromium.open(f"{server.url.rstrip('/')}/#lang=en&view=staff")
        page.wait(READY)
        assert "mask worn" in show_photos(page, photo_files[:1]) and "Works offline." in page.text()
    finally:
        server.stop()
        thread.join(20)


def test_a_face_that_two_classes_fit_is_doubtful(
    chromium: Chromium, bundle_folder: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(bundle_folder, tmp_path / "bundle")
    limits = {"wear": 0.999, "incorrect": 1e-6, "normal": 1e-6}
    sets = {
        name: {"people": 20, "alphas": [0.1], "limits": [each]} for name, each in limits.items()
    }
    change_manifest(bundle, tasks__mask__sets={"alpha": 0.1, "source": "drawn", "classes": sets})
    write_page(bundle, tmp_path / "page")
    with serve(tmp_path / "page") as url:
        page = chromium.open(f"{url}#lang=en&view=staff")
        page.wait(READY)
        page.click("#camera")
        page.wait(f"{EVENTS}[0]?.includes('doubtful')")
        assert page.run(EVENTS)[0].endswith("doubtful (mask worn wrongly or no mask)")
        page.wait(
            "document.getElementById('status-text').innerText === 'Please look at the camera'"
        )
        assert "Alarm" not in page.text()


@pytest.mark.parametrize(
    ("language", "refused", "none"),
    [("en", "not allowed to use the camera", "No camera was found"),
     ("ko", "허용되지 않았습니다", "카메라를 찾을 수 없습니다")],
)  # fmt: skip
def test_a_refused_and_a_missing_camera_are_said_in_words(
    chromium: Chromium, address: str, language: str, refused: str, none: str
) -> None:
    page = chromium.open(f"{address}#lang={language}", grant="denied")
    page.wait(READY)
    page.click("#camera")
    more = "document.getElementById('status-more').innerText"
    page.wait(f"{more}.includes('{refused}')")
    page.run("""navigator.mediaDevices.getUserMedia = async () => {
      throw new DOMException("none", "NotFoundError");
    }""")
    page.click("#camera")
    page.wait(f"{more}.includes('{none}')")
    page.run("delete navigator.mediaDevices.getUserMedia")


def test_a_changed_network_is_not_used(
    chromium: Chromium, page_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(page_folder, tmp_path / "page")
    path = tmp_path / "page/bundle/classifier-0.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with serve(tmp_path / "page") as url:
        page = chromium.open(f"{url}#lang=en")
        page.wait("document.getElementById('status-text')?.textContent.includes('not be loaded')")
        assert "classifier-0.onnx is not the file that the manifest lists" in page.text()
        assert page.run("document.getElementById('camera').disabled")


@pytest.fixture(params=["en", "ko"])
def spoken(request: pytest.FixtureRequest, page: Page) -> Iterator[Page]:
    page.click(f"#lang-{request.param}")
    yield page
    page.click("#lang-en")


def test_everything_that_can_be_used_has_a_name(spoken: Page) -> None:
    tree = spoken.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "checkbox", "img", "image", "textbox", "group", "log", "table"}
    found = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node["ignored"] and node["role"]["value"] in roles
    ]
    assert len(found) >= 8
    assert not [role for role, name in found if not name and role not in ("table", "group")]
    assert {"status", "log"} <= {node["role"]["value"] for node in tree if "role" in node}


def test_both_languages_have_the_same_texts(page: Page) -> None:
    keys = page.run("""(async () => {
      const { STRINGS } = await import("./strings.js");
      const names = (value, path) => (typeof value === "string" ? [path]
        : Object.entries(value).flatMap(([key, each]) => names(each, `${path}.${key}`)));
      return Object.values(STRINGS).map((each) => names(each, "").sort());
    })()""")
    assert len(keys) == 2 and keys[0] == keys[1]
    used = page.run("""[...document.querySelectorAll("[data-text], [data-label]")]
      .map((each) => `.${each.dataset.text ?? each.dataset.label}`)""")
    assert set(used) <= set(keys[0])


@pytest.mark.parametrize("view", ["door", "staff"])
def test_it_fits_a_phone(chromium: Chromium, address: str, view: str) -> None:
    page = chromium.open(f"{address}#lang=en&view={view}", width=400, height=800)
    page.wait(READY)
    assert page.run("document.documentElement.scrollWidth") <= 400
    small = page.run("""[...document.querySelectorAll("button, .button")].filter((each) =>
      each.getClientRects().length && each.getBoundingClientRect().height < 44).length""")
    assert small == 0, "a finger needs 44 pixels"
