"""A real bundle that has learned the mask states of some drawn people by heart."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn_bundle import CLASSES, write_bundle
from drawn_clip import KINDS, SEED, draw_person

GOLDEN = "golden/answers.json"


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with golden photos. Not to be changed."""
    seeds = [SEED, SEED + 1, *range(8)]
    photos = [draw_person(seed, kind) for seed in seeds for kind in KINDS]
    # The clip shows its people small, too.
    photos += [draw_person(seed, kind, (300, 400)) for seed in seeds[:2] for kind in KINDS]
    states = list(range(len(CLASSES))) * (len(seeds) + 2)
    return write_bundle(tmp_path_factory.mktemp("drawn") / "bundle", photos, states)
