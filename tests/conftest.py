"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Before torch is imported, and for every process a test starts: small models are quickest on one
# thread, and tests run beside each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

from cropfirst.stage2_classify.drawn.portrait import Portrait, Shot, draw_portrait, random_person


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses `shared_data`, and begin with the files that have slow tests.

    So that no process ends with a long file while the others have nothing to do.
    """
    for item in items:
        if "shared_data" in getattr(item, "fixturenames", ()):
            item.add_marker("requires_shared")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photographs beside the repository; the test is skipped without it."""
    folder = Path(__file__).resolve().parents[1] / "../shared/data"
    if not folder.is_dir():
        pytest.skip(f"../shared/data is absent: no real photographs to test on at {folder}")
    return folder


DrawPortrait = Callable[..., Portrait]


@pytest.fixture(scope="session")
def portrait() -> DrawPortrait:
    """Draws a portrait; equal arguments give equal pixels. Its `image` is (H, W, 3) uint8 RGB."""

    def draw(
        seed: int,
        *,
        room: int = 0,
        gender: str = "male",
        age: int = 40,
        size: tuple[int, int] = (384, 512),
    ) -> Portrait:
        person = random_person(np.random.default_rng(seed), name="x", gender=gender, age=age)
        return draw_portrait(person, Shot("normal", room), np.random.default_rng(seed), size)

    return draw


@pytest.fixture(scope="session")
def face_photo(portrait: DrawPortrait) -> np.ndarray:
    """A drawn portrait with a bare face, (512, 384, 3) uint8 RGB; MTCNN finds exactly one face."""
    return portrait(1, room=1, gender="female", age=35).image
