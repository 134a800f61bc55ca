"""A browser for all tests of the page, and the page of the drawn bundle, served as files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Chromium, find_browser, serve
from drawn_clip import SEED, write_clip

from cropfirst.door.web.folder import write_page


@pytest.fixture(scope="session")
def page_folder(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(bundle_folder, tmp_path_factory.mktemp("web") / "page").parent


@pytest.fixture(scope="session")
def clip_seconds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A clip for the fake camera, and its length in seconds."""
    path = tmp_path_factory.mktemp("clip") / "door.y4m"
    return path, write_clip(path, SEED)


@pytest.fixture(scope="session")
def started_chromium(clip_seconds: tuple[Path, float]) -> Iterator[Chromium]:
    """The process of `chromium`."""
    if find_browser() is None:
        pytest.skip("NO BROWSER is installed (chromium): the page of the door was NOT tested")
    browser = Chromium(
        "--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={clip_seconds[0]}"
    )
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def chromium(started_chromium: Chromium) -> Iterator[Chromium]:
    """A headless browser whose camera shows the clip. Pages are closed at the end of a file: one
    whose camera is on would take half a core from all later tests."""
    yield started_chromium
    started_chromium.close_pages()


@pytest.fixture(scope="session")
def address(page_folder: Path) -> Iterator[str]:
    with serve(page_folder) as url:
        yield url
