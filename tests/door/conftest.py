"""A real bundle that has learned the mask states of some drawn people by heart."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import pytest
from drawn_bundle import CLASSES, change_manifest, write_bundle
from drawn_clip import KINDS, SEED, draw_person

from cropfirst.door import Bundle
from cropfirst.door.check import golden_answers

GOLDEN = "golden/answers.json"


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with golden photos. Not to be changed."""
    seeds = [SEED, SEED + 1, *range(8)]
    photos = [draw_person(seed, kind) for seed in seeds for kind in KINDS]
    # The clip shows its people small, too.
    photos += [draw_person(seed, kind, (300, 400)) for seed in seeds[:2] for kind in KINDS]
    states = list(range(len(CLASSES))) * (len(seeds) + 2)
    folder = write_bundle(tmp_path_factory.mktemp("drawn") / "bundle", photos, states)
    golden = dict(zip(("golden/0.png", "golden/1.png"), photos, strict=False))
    for name, photo in golden.items():
        assert cv2.imwrite(str(folder / name), photo[..., ::-1])
    bundle = Bundle.open(folder)
    answers = {name: bundle.predict(photo) for name, photo in golden.items()}
    (folder / GOLDEN).write_bytes(golden_answers(answers))
    files = json.loads((folder / "manifest.json").read_text())["files"]
    for name in (GOLDEN, *golden):
        data = (folder / name).read_bytes()
        files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    change_manifest(folder, files=files)
    return folder
