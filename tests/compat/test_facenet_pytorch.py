"""The drop-in class answers as facenet-pytorch's own class, call for call."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import facenet_pytorch
import numpy as np
import pytest
import torch
from facenet_pytorch.models import mtcnn as reference_module
from PIL import Image

from cropfirst.compat.facenet_pytorch import MTCNN
from cropfirst.stage1_detect.mtcnn import detector as detector_module

FIXTURES = Path(__file__).parents[1] / "stage1_detect" / "mtcnn" / "fixtures"
METHODS = (None, "largest", "probability", "largest_over_threshold", "center_weighted_size")
SOURCES = ("drawn", "portraits", "strangers", "contest/eval", "faces_in_the_wild")
Both = Callable[..., tuple[Any, Any]]


@pytest.fixture(autouse=True, scope="module")
def remember() -> Iterator[None]:
    """Run the networks of both once per image and settings: many calls here differ only after."""
    ours, theirs = detector_module.MTCNN.detect, reference_module.detect_face
    known: dict[Any, Any] = {}

    def detect(self: Any, photos: Any, **options: Any) -> Any:
        key = ("ours", repr(self.config), repr(options), *((p.shape, p.tobytes()) for p in photos))
        if key not in known:
            known[key] = ours(self, photos, **options)
        return known[key]

    def detect_face(img: Any, size: Any, p: Any, r: Any, o: Any, *rest: Any) -> Any:
        images = img if isinstance(img, list | tuple) else [img]
        told = [(np.shape(each), np.asarray(each).tobytes()) for each in images]
        key = ("theirs", size, repr(rest), type(img), *told)
        if key not in known:
            known[key] = theirs(img, size, p, r, o, *rest)
        return tuple(part.copy() for part in known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector_module.MTCNN, "detect", detect)
        patch.setattr(reference_module, "detect_face", detect_face)
        yield


@pytest.fixture(scope="module")
def both() -> Both:
    """Return facenet-pytorch's detector and ours with the same settings."""
    theirs, ours = facenet_pytorch.MTCNN(), MTCNN()

    def get(**settings: Any) -> tuple[Any, Any]:
        defaults = {
            "image_size": 160, "margin": 0, "min_face_size": 40, "thresholds": [0.6, 0.7, 0.7],
            "post_process": True, "select_largest": True, "keep_all": False,
        }  # fmt: skip
        settings = {**defaults, **settings}
        method = settings.pop("selection_method", None)
        size = "largest" if settings["select_largest"] else "probability"
        for detector in (theirs, ours):
            vars(detector).update(settings, selection_method=method or size)
        return theirs, ours

    return get


def real_photos(source: str, count: int, request: pytest.FixtureRequest) -> list[Image.Image]:
    """Some photos of a set, evenly spread; those of the repository are drawn."""
    if source == "drawn":
        folder = FIXTURES
        files = sorted(folder.glob("*.png"))
    else:
        folder = request.getfixturevalue("shared_data") / source / "images"
        files = sorted(path for path in folder.rglob("*.*") if path.name[0] != ".")
    return [Image.open(file).convert("RGB") for file in files[:: max(1, len(files) // count)]]


def assert_same(ours: Any, theirs: Any, *, pixels: float = 0.0) -> None:
    """Hold two results to the same types, shapes, dtypes and, but for the last bits, values.

    Args:
        pixels: share of the faces' pixels that may differ.
    """
    assert type(ours) is type(theirs), (type(ours), type(theirs))
    if isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs)
        for mine, wanted in zip(ours, theirs, strict=True):
            assert_same(mine, wanted, pixels=pixels)
    elif isinstance(theirs, np.ndarray):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        if theirs.dtype == object:
            assert_same(list(ours.flat), list(theirs.flat))
        else:
            np.testing.assert_allclose(ours, theirs, atol=0.01, rtol=1e-5)
    elif isinstance(theirs, torch.Tensor):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        assert (ours != theirs).float().mean() <= pixels, "other pixels"
    elif isinstance(theirs, float | np.floating):
        assert ours == pytest.approx(theirs, abs=0.01, rel=1e-5)
    else:
        assert ours == theirs


@pytest.mark.parametrize("source", SOURCES[:3])
def test_every_combination_of_settings_gives_the_same_answer(
    source: str, both: Both, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    photos = real_photos(source, 4, request)[:3]
    settings = itertools.product((False, True), (False, True), (False, True), METHODS)
    for number, (keep_all, post_process, select_largest, method) in enumerate(settings):
        theirs, ours = both(
            keep_all=keep_all, post_process=post_process, select_largest=select_largest,
            selection_method=method, min_face_size=60, margin=number % 3 * 10,
            image_size=(64, 96)[number % 2],
        )  # fmt: skip
        for index, photo in enumerate(photos):
            for landmarks in (False, True):
                assert_same(ours.detect(photo, landmarks), theirs.detect(photo, landmarks))
            assert_same(ours(photo), theirs(photo))
            assert_same(ours(photo, return_prob=True), theirs(photo, return_prob=True))
            name = f"{number}-{index}/face.png"
            files = [str(tmp_path / who / name) for who in ("ours", "theirs")]
            for return_prob in (False, True):
                assert_same(
                    ours(photo, save_path=files[0], return_prob=return_prob),
                    theirs(photo, save_path=files[1], return_prob=return_prob),
                )
    saved = saved_files(tmp_path / "theirs")
    assert len(saved) >= 80 and (source == "portraits" or any("_2" in file.name for file in saved))
    assert saved_files(tmp_path / "ours") == saved


def saved_files(folder: Path) -> dict[Path, bytes]:
    """The bytes of all files below a folder, by their relative paths."""
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES[1:])
def test_many_real_photos_give_the_same_answers(
    source: str, both: Both, request: pytest.FixtureRequest
) -> None:
    photos = real_photos(source, 12, request)
    assert len(photos) >= 12
    other_crops = 0
    for keep_all in (False, True):
        theirs, ours = both(keep_all=keep_all)
        for photo in photos:
            assert_same(ours.detect(photo, landmarks=True), theirs.detect(photo, landmarks=True))
            faces, wanted = ours(photo), theirs(photo)
            assert_same(faces, wanted, pixels=1.0)
            # A side of a box within the last bits of a whole pixel may be cut on either side of it.
            other_crops += wanted is not None and not torch.equal(faces, wanted)
    assert other_crops <= 1


def inputs(photos: list[Image.Image]) -> dict[str, Any]:
    """Photos of one size as each kind of argument that facenet-pytorch takes."""
    arrays = [np.array(photo) for photo in photos]
    floats = arrays[0].astype(np.float32)
    return {
        "PIL": photos[0],
        "array": arrays[0],
        "mirrored view": arrays[0][:, ::-1],
        "tensor": torch.from_numpy(arrays[0]),
        "float array": floats,
        "float64 array": floats.astype(np.float64),
        "float tensor": torch.from_numpy(floats),
        "uint16 array": arrays[0].astype(np.uint16),
        "list of one": [photos[0]],
        "tuple": tuple(photos),
        "list of arrays": arrays,
        "list of float arrays": [floats + 0.7 * (floats < 255)],
        "list of PIL images and arrays": [photos[0], *photos[1:]],
        "array of four dimensions": np.stack(arrays),
        "tensor of four dimensions": torch.from_numpy(np.stack(arrays)),
        "photos without a face": [Image.new("RGB", photos[0].size)] * 2,
        "one photo without a face": Image.new("RGB", photos[0].size),
    }


@pytest.mark.parametrize("source", SOURCES[:3])
@pytest.mark.parametrize("counts", ["equal", "unequal"])
def test_every_kind_of_input_gives_the_same_answer(
    source: str, counts: str, both: Both, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    single = next(photo for photo in real_photos(source, 4, request) if min(photo.size) > 100)
    photos = [single, single.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    if counts == "unequal":
        pair = np.hstack([np.asarray(single.resize((192, 256)))] * 2)
        photos[1] = Image.fromarray(pair).resize(single.size)
    for name, img in inputs(photos).items():
        for keep_all in (False, True):
            theirs, ours = both(keep_all=keep_all)
            for landmarks in (False, True):
                assert_same(ours.detect(img, landmarks), theirs.detect(img, landmarks))
            assert_same(ours(img, return_prob=True), theirs(img, return_prob=True))
            if (
                isinstance(img, list | tuple | np.ndarray)
                and np.ndim(img) == 4
                and "float" not in name
            ):
                files = [
                    [str(tmp_path / f"{who}/{name}/{i}.png") for i in range(len(img))]
                    for who in ("a", "b")
                ]
                assert_same(ours(img, save_path=files[0]), theirs(img, save_path=files[1]))
    assert saved_files(tmp_path / "a") == saved_files(tmp_path / "b") != {}
