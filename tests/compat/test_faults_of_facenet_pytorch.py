"""Where facenet-pytorch fails, the drop-in class answers, or says what was wrong with the input.

Each fault of the table in docs/facenet-pytorch.md is shown on facenet-pytorch itself first.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import facenet_pytorch
import numpy as np
import pytest
import torch
from PIL import Image

from cropfirst.compat.facenet_pytorch import MTCNN, extract_face, fixed_image_standardization

SIZE = (144, 192)


@pytest.fixture(scope="module")
def photo(face_photo: np.ndarray) -> Image.Image:
    """A photo with one face."""
    return Image.fromarray(face_photo).resize(SIZE)


@pytest.fixture(scope="module")
def array(photo: Image.Image) -> np.ndarray:
    """The same photo as (H, W, 3) uint8."""
    return np.array(photo)


@pytest.fixture(scope="module")
def blank() -> Image.Image:
    """A photo without a face."""
    return Image.new("RGB", SIZE)


@pytest.fixture(scope="module")
def theirs() -> facenet_pytorch.MTCNN:
    return facenet_pytorch.MTCNN(min_face_size=40)


@pytest.fixture(scope="module")
def ours() -> MTCNN:
    return MTCNN(min_face_size=40)


def test_a_batch_with_a_photo_without_a_face(
    photo: Image.Image, blank: Image.Image, theirs: facenet_pytorch.MTCNN, ours: MTCNN
) -> None:
    batch = [photo, blank, photo]
    with pytest.raises(ValueError, match="inhomogeneous"):
        theirs(batch)
    faces, probs = ours(batch, return_prob=True)
    alone, prob = theirs(photo, return_prob=True)
    assert faces[1] is None and torch.equal(faces[0], alone) and torch.equal(faces[2], alone)
    assert probs.tolist() == [[pytest.approx(prob)], [None], [pytest.approx(prob)]]
    boxes, _, points = ours.select_boxes(*ours.detect(batch, landmarks=True), batch)
    assert boxes[0].shape == (1, 4) and points[2].shape == (1, 5, 2)
    assert boxes[1] is None and points[1] is None
    # Fed back, the selected boxes give the same faces.
    assert torch.equal(ours.extract(batch, boxes, None)[2], alone)


def test_photos_of_different_sizes_in_a_list(
    photo: Image.Image, theirs: facenet_pytorch.MTCNN, ours: MTCNN
) -> None:
    batch = [photo, photo.crop((0, 0, 130, 190)), np.array(photo), torch.tensor(np.array(photo))]
    with pytest.raises(Exception, match="equal-dimension"):
        theirs(batch[:2])
    with pytest.raises(Exception, match="equal-dimension"):
        theirs([batch[3], batch[3].clone()])
    faces = ours(batch)
    for each, face in zip(batch, faces, strict=True):
        assert torch.equal(face, theirs(each))


def test_a_photo_smaller_than_the_smallest_face(theirs: facenet_pytorch.MTCNN, ours: MTCNN) -> None:
    tiny = np.zeros((30, 50, 3), np.uint8)
    with pytest.raises((ValueError, RuntimeError), match="non-empty list"):
        theirs.detect(tiny)
    boxes, probs, points = ours.detect(tiny, landmarks=True)
    assert boxes is None and points is None and probs.tolist() == [None] and ours(tiny) is None


def test_largest_over_threshold_gives_the_face_its_own_score_and_landmarks(
    theirs: facenet_pytorch.MTCNN, ours: MTCNN, photo: Image.Image
) -> None:
    boxes = np.array([[0, 0, 90, 90], [0, 0, 50, 50], [0, 0, 20, 20]], np.float32)
    probs = np.array([0.8, 0.95, 0.99], np.float32)
    points = np.arange(3, dtype=np.float32)[:, None, None].repeat(5, 1).repeat(2, 2)
    found = (boxes, probs, points, photo)
    box, prob, point = theirs.select_boxes(*found, method="largest_over_threshold")
    assert box[0, 2] == 50 and prob == np.float32(0.8) and (point == 0).all()
    box, prob, point = ours.select_boxes(*found, method="largest_over_threshold")
    assert box[0, 2] == 50 and prob == np.float32(0.95) and (point == 1).all()
    none = ours.select_boxes(*found, method="largest_over_threshold", threshold=0.995)
    assert none == (None, None, None)


def test_center_weighted_size_of_arrays_and_tensors(
    array: np.ndarray, photo: Image.Image, theirs: facenet_pytorch.MTCNN
) -> None:
    ours = MTCNN(min_face_size=40, selection_method="center_weighted_size")
    theirs = facenet_pytorch.MTCNN(min_face_size=40, selection_method="center_weighted_size")
    with pytest.raises(AttributeError, match="width"):
        theirs(array)
    wanted = theirs(photo)
    for img in (array, torch.from_numpy(array)):
        assert ours(img).shape == wanted.shape
    assert torch.equal(ours(photo), wanted)


def test_faces_of_tensors_and_float64_arrays_are_saved(
    array: np.ndarray, theirs: facenet_pytorch.MTCNN, ours: MTCNN, tmp_path: Path
) -> None:
    for name, img in (("tensor", torch.from_numpy(array)), ("float64", array.astype(np.float64))):
        with pytest.raises(Exception, match=r"save|depth"):
            theirs(img, save_path=str(tmp_path / "theirs.png"))
        ours.post_process = False
        face = ours(img, save_path=tmp_path / f"{name}.png")  # a Path, too
        ours.post_process = True
        saved = np.array(Image.open(tmp_path / f"{name}.png"))
        assert np.abs(saved - face.numpy().transpose(1, 2, 0)).max() <= 0.5


def test_one_path_for_several_photos_is_refused(
    photo: Image.Image, theirs: facenet_pytorch.MTCNN, ours: MTCNN, tmp_path: Path
) -> None:
    path = str(tmp_path / "face.png")
    assert len(theirs([photo, photo], save_path=path)) == 1  # the second face is lost
    with pytest.raises(ValueError, match="one file per image, got 1 for 2"):
        ours([photo, photo], save_path=path)
    assert len(ours([photo, photo], save_path=[path, None])) == 2


def test_faces_of_integer_arrays(
    array: np.ndarray, theirs: facenet_pytorch.MTCNN, ours: MTCNN
) -> None:
    with pytest.raises(Exception, match="resize"):
        theirs(array.astype(np.int64))
    assert torch.equal(ours(array.astype(np.int64)), theirs(array))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda a: a[..., 0], ValueError, r"\(H, W, 3\).*grey image"),
        (lambda a: a[..., :1], ValueError, "grey image"),
        (lambda a: Image.fromarray(a).convert("L"), ValueError, r"mode L.*convert\('RGB'\)"),
        (lambda a: Image.fromarray(a).convert("RGBA"), ValueError, "mode RGBA"),
        (lambda a: Image.fromarray(a).convert("P"), ValueError, "mode P"),
        (lambda a: np.dstack([a, a[..., 0]]), ValueError, "alpha channel"),
        (lambda a: a.transpose(2, 0, 1), ValueError, r"channels come first.*permute\(1, 2, 0\)"),
        (lambda a: torch.from_numpy(a)[None].permute(0, 3, 1, 2), ValueError, "image 0.*first"),
        (lambda a: a / 255, ValueError, "from 0 to 255.*multiply it by 255"),
        (lambda a: [torch.from_numpy(a / 255)], ValueError, "image 0.*multiply it by 255"),
        (lambda a: (a - 127.5) / 128, ValueError, "from 0 to 255, got float64 from -"),
        (lambda a: a.astype(np.uint16) * 257, ValueError, "from 0 to 255, got uint16"),
        (lambda a: np.full_like(a, np.nan, np.float32), ValueError, "from nan to nan"),
        (lambda a: a > 100, ValueError, "bool"),
        (lambda a: [], ValueError, "at least one image"),
        (lambda a: np.stack([a])[:0], ValueError, "at least one image"),
        (lambda a: a[:0], ValueError, "with pixels"),
        (lambda a: np.stack([a])[None], ValueError, "got shape"),
        (lambda a: [a, a[..., 0]], ValueError, "image 1.*grey"),
        (lambda a: [a, None], TypeError, "image 1.*got NoneType"),
        (lambda a: "photo.jpg", TypeError, r"got str.*Image\.open"),
    ],
)
def test_what_is_no_photo_is_refused_with_its_remedy(
    make: Any, error: type[Exception], says: str, array: np.ndarray, ours: MTCNN
) -> None:
    for call in (ours, ours.detect):
        with pytest.raises(error, match=says):
            call(make(array))


def test_fractions_of_pixel_values_change_a_box_by_less_than_a_pixel(
    array: np.ndarray, theirs: facenet_pytorch.MTCNN, ours: MTCNN
) -> None:
    soft = array * 0.9 + 3.3
    assert (soft != soft.round()).any()
    (boxes, probs), (wanted, scores) = ours.detect(soft), theirs.detect(soft)
    np.testing.assert_allclose(boxes.astype(float), wanted.astype(float), atol=0.1)
    np.testing.assert_allclose(probs.astype(float), scores.astype(float), atol=1e-3)


@pytest.mark.parametrize("kind", [lambda a: Image.fromarray(a), np.array, torch.tensor])
def test_boxes_at_the_border(kind: Any, array: np.ndarray) -> None:
    img, (width, height) = kind(array), SIZE
    for box in ([-20.5, -9, 40, 50.9], [100, 150, 300, 400.2], [-9, -9, 999, 999], [5, 5, 6.2, 6]):
        for margin in (0, 30):
            wanted = facenet_pytorch.extract_face(img, np.array(box), 80, margin)
            face = extract_face(img, np.array(box), 80, margin)
            assert face.dtype == wanted.dtype and torch.equal(face, wanted)
    for box in ([-50, 10, -1, 60], [width, 10, width + 30, 40], [5, height + 2, 40, height + 40]):
        with pytest.raises(ValueError, match=r"no whole pixel inside the image of 144 x 192"):
            extract_face(img, np.array(box))
    if isinstance(img, np.ndarray):
        wrong = facenet_pytorch.extract_face(img, np.array([-50, 10, -1, 60]))
        assert wrong.shape == (3, 160, 160)  # columns 0 to -1: nearly the whole width


def test_changed_attributes_hold_from_the_next_call(photo: Image.Image) -> None:
    theirs, ours = facenet_pytorch.MTCNN(), MTCNN()
    for changes in (
        {"min_face_size": 40.5},
        {"thresholds": [0.6, 0.7, 0.99999]},
        {"thresholds": [0.1, 0.1, 0.1], "keep_all": True},
        {"min_face_size": 11, "factor": 0.5},
        {"min_face_size": 500, "factor": 0.7},
    ):
        vars(theirs).update(changes)
        vars(ours).update(changes)
        if ours.min_face_size > min(SIZE):
            assert ours.detect(photo)[0] is None
            continue
        (boxes, _), (wanted, _) = ours.detect(photo), theirs.detect(photo)
        assert (boxes is None) == (wanted is None)
        if wanted is not None:
            np.testing.assert_allclose(boxes.astype(float), wanted.astype(float), atol=0.01)


GROWTH = """
import resource, sys
import numpy as np
import facenet_pytorch
from cropfirst.compat.facenet_pytorch import MTCNN

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6

photo = np.load(sys.argv[1])
sizes = np.random.default_rng(0).integers(100, 380, (100, 2))
for detector in (MTCNN(), facenet_pytorch.MTCNN()):
    for number, (height, width) in enumerate(sizes):
        if number == 30:
            before = resident()
        detector.detect(np.ascontiguousarray(photo[:height, :width]))
    print(resident() - before)
"""
"""Prints the megabytes that 70 photos of new sizes add, after 30 others, to ours and to theirs."""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs /proc to read the memory")
def test_memory_does_not_grow_with_the_number_of_photo_sizes(
    face_photo: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "photo.npy", face_photo)
    # In a process of its own: one that has freed much memory before shows no growth.
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(tmp_path / "photo.npy")],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    ours, theirs = map(float, done.stdout.split())
    assert ours < 6 < theirs, done.stdout


def test_it_is_a_module_that_can_be_copied_to_a_worker(photo: Image.Image) -> None:
    ours = MTCNN(min_face_size=40, device=torch.device("cpu")).eval()
    face = ours(photo)
    assert torch.equal(copy.deepcopy(ours)(photo), face)
    assert fixed_image_standardization(torch.tensor([127.5, 255.5])).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"selection_method": "biggest"}, ValueError, "'biggest': use largest"),
        ({"factor": 1.0}, ValueError, r"factor in \(0, 1\), got 20 and 1"),
        ({"min_face_size": 0}, ValueError, "min_face_size must be above 0"),
        ({"image_size": 20, "margin": 20}, ValueError, "margin must be less"),
    ],
)
def test_wrong_settings_are_refused(
    settings: dict[str, Any], error: type[Exception], says: str, photo: Image.Image
) -> None:
    with pytest.raises(error, match=says):
        MTCNN(**settings)(photo)
