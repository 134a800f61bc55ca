"""Tests of pasted masks and objects, painted-out faces, and augmentations."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.harden.paste.augment import (
    AnnotatedPhoto,
    add_border,
    augment,
    augment_pixels,
    mirror,
    rotate,
)
from cropfirst.stage1_detect.harden.paste.head_model import (
    WEAR_STYLES,
    FaceView,
    WearStyle,
    face_view,
)
from cropfirst.stage1_detect.harden.paste.masks import choose_template, paste_mask
from cropfirst.stage1_detect.harden.paste.non_faces import paste_stray_mask, remove_face
from cropfirst.stage1_detect.harden.paste.occlude import occlude_face
from cropfirst.stage1_detect.harden.paste.occluders import OCCLUDER_KINDS, OccluderKind
from cropfirst.stage1_detect.harden.paste.templates import (
    COLUMNS,
    FACE_VIEWS,
    Template,
    drawn_templates,
    read_templates,
)
from cropfirst.stage1_detect.harden.paste.textures import draw_texture

FACE = np.array([[88, 90], [136, 90], [112, 120], [94, 144], [130, 144]], dtype=np.float32)
"""A frontal face in a 224-pixel photo."""
BOX = np.array([60, 40, 164, 178], dtype=np.float32)
TEMPLATES = drawn_templates(0)


def make_photo(seed: int = 0, size: int = 224) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(60, 200, (8, 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)


def template_of(view: FaceView) -> Template:
    return next(each for each in TEMPLATES if each.view == view)


def worn(
    landmarks: np.ndarray = FACE,
    box: np.ndarray = BOX,
    *,
    style: WearStyle = "worn",
    seed: int = 0,
    template: Template | None = None,
    photo: np.ndarray | None = None,
) -> np.ndarray:
    result = paste_mask(
        make_photo() if photo is None else photo,
        landmarks,
        template or template_of("front"),
        style=style,
        rng=np.random.default_rng(seed),
        box=box,
    )
    assert result is not None
    return result


def covered(photo: np.ndarray, landmarks: np.ndarray = FACE, **options: object) -> np.ndarray:
    """Return the (H, W) share of 20 masks that change each pixel clearly."""
    masks = [
        worn(landmarks, photo=photo, seed=seed, **options)  # type: ignore[arg-type]
        for seed in range(20)
    ]
    changes = [np.abs(mask.astype(int) - photo).max(axis=2) > 12 for mask in masks]
    return np.mean(changes, axis=0)


def at(share: np.ndarray, point: np.ndarray) -> float:
    x, y = np.round(point).astype(int)
    return float(share[y - 2 : y + 3, x - 2 : x + 3].mean())


@pytest.mark.parametrize(
    ("style", "nose", "mouth", "chin"),
    [
        ("worn", True, True, True),
        ("nose_bare", False, True, True),
        ("chin_only", False, False, True),
        ("mouth_only", False, True, False),
    ],
)
def test_a_mask_covers_what_it_should_and_never_the_eyes(
    style: WearStyle, nose: bool, mouth: bool, chin: bool
) -> None:
    share = covered(make_photo(), style=style, box=BOX)
    middle = FACE[3:].mean(axis=0)
    expected = {"nose": nose, "mouth": mouth, "chin": chin}
    places = {"nose": FACE[2], "mouth": middle, "chin": np.array([middle[0], 171])}
    for name, point in places.items():
        assert (at(share, point) > 0.6) == expected[name], (name, at(share, point))
    assert max(at(share, FACE[0]), at(share, FACE[1])) < 0.05


@pytest.mark.parametrize(("degrees", "scale"), [(0, 0.5), (35, 1.0), (-50, 0.8), (180, 1.0)])
def test_a_mask_follows_roll_and_size(degrees: float, scale: float) -> None:
    middle = np.array([112, 112])
    turn = cv2.getRotationMatrix2D((112, 112), -degrees, scale)[:, :2]
    turned = ((FACE - middle) @ turn.T + middle).astype(np.float32)
    half = (BOX[2:] - BOX[:2]) / 2 * scale
    centre = ((BOX[:2] + BOX[2:]) / 2 - middle) @ turn.T + middle
    share = covered(make_photo(), turned, box=np.concatenate([centre - half, centre + half]))
    assert at(share, turned[3:].mean(axis=0)) > 0.6 and at(share, turned[2]) > 0.6
    assert max(at(share, turned[0]), at(share, turned[1])) < 0.05


def test_a_mask_changes_nothing_far_from_the_face() -> None:
    photo, size = make_photo(size=400), BOX[2:] - BOX[:2]
    for style in WEAR_STYLES:
        for view in FACE_VIEWS:
            changed = worn(photo=photo, style=style, template=template_of(view), seed=3) != photo
            y, x = np.nonzero(changed.any(axis=2))
            assert len(y) > 300, (style, view)
            assert BOX[0] - size[0] / 2 < x.min() and x.max() < BOX[2] + size[0] / 2
            assert BOX[1] < y.min() and y.max() < BOX[3] + size[1] / 2


def test_equal_seeds_give_equal_bytes_and_leave_the_photo_alone() -> None:
    photo = make_photo()
    before = photo.copy()
    for make in (
        lambda rng: worn(photo=photo, seed=int(rng.integers(99))),
        *(
            lambda rng, kind=kind: occlude_face(photo, BOX, FACE, kind=kind, rng=rng)
            for kind in OCCLUDER_KINDS
        ),
        lambda rng: remove_face(photo, BOX, rng=rng),
        lambda rng: augment(AnnotatedPhoto(photo, BOX[None], FACE[None]), rng=rng).image,
        lambda rng: augment_pixels(photo, rng=rng),
    ):
        looks = [make(np.random.default_rng(seed)) for seed in (1, 1, 2, 3, 4)]
        assert np.array_equal(looks[0], looks[1])
        assert not all(np.array_equal(looks[0], other) for other in looks[2:])
    assert np.array_equal(photo, before)


@pytest.mark.parametrize(
    "landmarks",
    [
        np.full((5, 2), 50),
        FACE[[1, 0, 2, 4, 3]],
        FACE * [1, -1] + [0, 200],
        FACE * [[1], [1], [np.nan], [1], [1]],
        FACE[:4],
    ],
    ids=["one point", "mirrored order", "mouth above the eyes", "not a number", "four points"],
)
def test_no_mask_where_no_face_can_be(landmarks: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    template = template_of("front")
    assert paste_mask(make_photo(), landmarks, template, style="worn", rng=rng, box=BOX) is None


def test_no_mask_outside_the_photo() -> None:
    rng, far = np.random.default_rng(0), np.float32(900)
    template = template_of("front")
    got = paste_mask(make_photo(), FACE + far, template, style="worn", rng=rng, box=BOX + far)
    assert got is None


@pytest.mark.parametrize(("nose", "view"), [(112, "front"), (92, "left"), (134, "right")])
def test_the_view_is_where_the_nose_points_and_so_is_the_template(
    nose: int, view: FaceView
) -> None:
    turned = FACE.copy()
    turned[2, 0] = nose
    assert face_view(turned) == view
    rng = np.random.default_rng(0)
    assert {choose_template(TEMPLATES, turned, rng).view for _ in range(20)} == {view}
    one_sided = [template_of("front"), template_of("left")]
    assert choose_template(one_sided, turned, rng).view == view
    assert choose_template([template_of("front")], turned, rng).view == "front"


def test_drawn_templates_are_of_all_views_and_hold_their_points() -> None:
    assert len({each.name for each in TEMPLATES}) == len(TEMPLATES) >= 15
    for view in FACE_VIEWS:
        assert sum(each.view == view for each in TEMPLATES) == len(TEMPLATES) / 3
    for each in TEMPLATES:
        assert each.image.dtype == np.uint8 and each.image.shape[2] == 4
        assert each.points.shape == (6, 2) and each.points.dtype == np.float32
        alpha = each.image[..., 3]
        assert 0.25 < (alpha > 128).mean() < 0.8, each.name
        assert not alpha[[0, -1]].any() and not alpha[:, [0, -1]].any(), each.name
        a, b, c, d, e, f = each.points
        assert a[0] < b[0] < c[0] and d[0] < e[0] < f[0] and b[1] < e[1] and a[1] < d[1]
    left, right = template_of("left").points, template_of("right").points
    assert left[1, 0] - left[0, 0] < left[2, 0] - left[1, 0]
    assert right[1, 0] - right[0, 0] > right[2, 0] - right[1, 0]
    again = drawn_templates(0)
    assert all(
        np.array_equal(one.image, two.image) for one, two in zip(TEMPLATES, again, strict=True)
    )
    assert not np.array_equal(drawn_templates(1)[3].image, TEMPLATES[3].image)


def test_filters_of_a_respirator_reach_past_its_rubber() -> None:
    front = next(each for each in TEMPLATES if each.name == "respirator")
    across = np.flatnonzero((front.image[..., 3] > 128).any(axis=0))
    rubber = front.points[[0, 2, 3, 5], 0]
    assert across[0] < rubber.min() and across[-1] > rubber.max()


@pytest.mark.parametrize("shape", [(4, 4), (4, 60), (70, 5), (90, 120)])
def test_cloth_of_any_size_has_colours_and_is_not_always_the_same(shape: tuple[int, int]) -> None:
    seen = set()
    for seed in range(60):
        cloth = draw_texture(shape, np.random.default_rng(seed))
        assert cloth.shape == (*shape, 3) and 0 <= cloth.min() <= cloth.max() <= 1
        assert np.array_equal(cloth, draw_texture(shape, np.random.default_rng(seed)))
        seen.add(cloth.astype(np.float32).tobytes())
    assert len(seen) > 50


def write_templates(folder: Path) -> Path:
    for each in TEMPLATES[:3]:
        cv2.imwrite(str(folder / f"{each.name}.png"), cv2.cvtColor(each.image, cv2.COLOR_RGBA2BGRA))
    lines = [
        ",".join([f"{each.name}.png", *(str(float(value)) for value in each.points.ravel())])
        for each in TEMPLATES[:3]
    ]
    (folder / "points.csv").write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
    return folder


def test_templates_are_read_as_they_were_written(tmp_path: Path) -> None:
    read = read_templates(write_templates(tmp_path))
    assert [each.view for each in read] == ["front", "left", "right"]
    for got, drawn in zip(read, TEMPLATES, strict=False):
        assert got.name == drawn.name
        spread = np.ptp(drawn.points, axis=0) / np.ptp(got.points, axis=0)
        assert np.allclose(spread, spread[0], atol=0.02) and max(got.image.shape) <= 264


def break_columns(folder: Path) -> None:
    (folder / "points.csv").write_text("file,x,y\nsurgical.png,1,2\n")


def break_alpha(folder: Path) -> None:
    cv2.imwrite(str(folder / "surgical.png"), np.zeros((20, 20, 3), np.uint8))


def break_picture(folder: Path) -> None:
    (folder / "surgical.png").write_bytes(b"no picture")


def break_numbers(folder: Path) -> None:
    table = folder / "points.csv"
    first, second, *rest = table.read_text().splitlines()
    table.write_text("\n".join([first, second.rsplit(",", 1)[0] + ",wide", *rest]))


def break_endless(folder: Path) -> None:
    table = folder / "points.csv"
    first, second, *rest = table.read_text().splitlines()
    table.write_text("\n".join([first, second.rsplit(",", 1)[0] + ",inf", *rest]))


def break_points(folder: Path) -> None:
    (folder / "points.csv").write_text(",".join(COLUMNS) + "\nsurgical.png" + ",5" * 12 + "\n")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "points.csv").unlink(), r"points\.csv is absent; wanted a"),
        (break_columns, r"must have the columns file,xa,ya,.*, got file,x,y"),
        (lambda folder: (folder / "points.csv").write_bytes(b"\xff\xfe"), "cannot be read as CSV"),
        (
            lambda folder: (folder / "points.csv").write_text(",".join(COLUMNS) + "\n"),
            "names no template",
        ),
        (lambda folder: (folder / "surgical.png").unlink(), r"surgical\.png is absent, but line 2"),
        (break_alpha, r"surgical\.png must be a PNG with alpha .* got shape \(20, 20, 3\)"),
        (break_picture, r"surgical\.png must be a PNG with alpha .* got no picture"),
        (break_numbers, r"line 2 \(surgical\.png\): wanted 12 numbers"),
        (break_endless, r"line 2 \(surgical\.png\): wanted 12 numbers"),
        (break_points, r"line 2 \(surgical\.png\): .* lie on one line"),
    ],
)  # fmt: skip
def test_bad_templates_are_refused_and_named(tmp_path: Path, break_it, message: str) -> None:  # type: ignore[no-untyped-def]
    break_it(write_templates(tmp_path))
    with pytest.raises(DetectError, match=message):
        read_templates(tmp_path)


def test_templates_of_the_shared_folder(shared_data: Path) -> None:
    templates = read_templates(shared_data / "mask_templates")
    assert len(templates) == 18
    for view in FACE_VIEWS:
        assert sum(each.view == view for each in templates) >= 4
    for each in templates:
        if each.view == "front":
            share = covered(make_photo(), template=each)
            assert at(share, FACE[3:].mean(axis=0)) > 0.6 and at(share, FACE[0]) < 0.05, each.name


@pytest.mark.parametrize("kind", OCCLUDER_KINDS)
def test_what_hides_a_face_leaves_about_half_of_it(kind: OccluderKind) -> None:
    photo = make_photo()
    x0, y0, x1, y1 = BOX.astype(int)
    hidden = []
    for seed in range(30):
        got = occlude_face(photo, BOX, FACE, kind=kind, rng=np.random.default_rng(seed))
        changed = (np.abs(got.astype(int) - photo).max(axis=2) > 12)[y0:y1, x0:x1]
        hidden.append(changed.mean())
    assert max(hidden) <= 0.58 and np.median(hidden) > 0.02, hidden


def test_a_face_without_landmarks_is_hidden_all_the_same() -> None:
    photo, rng = make_photo(), np.random.default_rng(0)
    got = occlude_face(photo, BOX, np.zeros((5, 2)), kind="scarf", rng=rng)
    assert (got != photo)[130:170, 90:130].mean() > 0.5


def test_a_stray_mask_lies_where_no_face_is() -> None:
    photo = make_photo()
    x0, y0, x1, y1 = BOX.astype(int)
    pasted = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        found = paste_stray_mask(photo, TEMPLATES[seed % len(TEMPLATES)], rng=rng, avoid=BOX[None])
        if found is not None:
            changed = (found != photo).any(axis=2)
            assert changed.sum() > 40 and not changed[y0:y1, x0:x1].any()
            pasted += 1
    assert pasted >= 10
    everywhere = np.array([[0, 0, 224, 224]])
    rng = np.random.default_rng(0)
    assert paste_stray_mask(photo, TEMPLATES[0], rng=rng, avoid=everywhere) is None


@pytest.mark.parametrize("box", [BOX, np.array([150, 150, 300, 330]), np.array([0, 0, 224, 224])])
def test_a_head_is_painted_out(box: np.ndarray) -> None:
    photo = np.full((224, 224, 3), 90, np.uint8)
    x0, y0, x1, y1 = np.clip(box, 0, 224).astype(int)
    photo[y0:y1, x0:x1] = (250, 5, 250)
    for seed in range(10):
        got = remove_face(photo, box, rng=np.random.default_rng(seed))
        left = (got[y0:y1, x0:x1] == (250, 5, 250)).all(axis=2)
        assert left.mean() < 0.25
        assert got.shape == photo.shape
    outside = remove_face(photo, np.array([900, 900, 950, 950]), rng=np.random.default_rng(0))
    assert np.array_equal(outside, photo)


def photo_with_marks() -> AnnotatedPhoto:
    """Make a photo whose five landmarks have five different grey levels."""
    photo = np.zeros((224, 224, 3), np.uint8)
    for point, tone in zip(FACE, (50, 90, 130, 170, 210), strict=True):
        cv2.circle(photo, (int(point[0]), int(point[1])), 6, (tone, tone, tone), -1)
    return AnnotatedPhoto(photo, BOX[None], FACE[None])


def tone_at(annotated: AnnotatedPhoto, number: int) -> int:
    x, y = np.floor(annotated.landmarks[0, number]).astype(int)
    return int(np.median(annotated.image[y - 1 : y + 2, x - 1 : x + 2]))


def test_a_mirror_swaps_left_and_right_landmarks() -> None:
    annotated = mirror(photo_with_marks())
    assert [tone_at(annotated, number) for number in range(5)] == [90, 50, 130, 210, 170]
    assert annotated.landmarks[0, 0, 0] < annotated.landmarks[0, 1, 0]
    assert annotated.boxes.tolist() == [[60, 40, 164, 178]]
    back = mirror(annotated)
    assert np.array_equal(back.image, photo_with_marks().image)
    assert np.allclose(back.landmarks, FACE)


@pytest.mark.parametrize(("degrees", "scale"), [(0, 0.7), (20, 1.0), (-25, 1.2)])
def test_a_tilt_takes_landmarks_and_box_along(degrees: float, scale: float) -> None:
    rng = np.random.default_rng(0)
    annotated = rotate(photo_with_marks(), degrees=degrees, scale=scale, rng=rng)
    tones = [tone_at(annotated, number) for number in range(5)]
    assert np.allclose(tones, [50, 90, 130, 170, 210], atol=3)
    size = annotated.boxes[0, 2:] - annotated.boxes[0, :2]
    assert np.allclose(size, (BOX[2:] - BOX[:2]) * scale, atol=0.01)
    middle = (annotated.boxes[0, :2] + annotated.boxes[0, 2:]) / 2
    # The box's middle on the face, seen from the eyes, turns with the face.
    eyes = annotated.landmarks[0, 1] - annotated.landmarks[0, 0]
    assert np.isclose(np.degrees(np.arctan2(eyes[1], eyes[0])), degrees, atol=0.1)
    gap = np.linalg.norm(middle - annotated.landmarks[0, 2])
    assert np.isclose(gap, scale * np.linalg.norm((BOX[:2] + BOX[2:]) / 2 - FACE[2]), atol=0.01)


def test_a_shaken_photo_keeps_its_size_and_its_faces_in_order() -> None:
    photo = make_photo()
    boxes = np.stack([BOX, BOX * np.float32(0.5)])
    landmarks = np.stack([FACE, FACE * np.float32(0.5)])
    for seed in range(12):
        annotated = augment(
            AnnotatedPhoto(photo, boxes, landmarks), rng=np.random.default_rng(seed)
        )
        assert annotated.image.shape == photo.shape and annotated.image.dtype == np.uint8
        assert annotated.boxes.shape == (2, 4) and annotated.landmarks.shape == (2, 5, 2)
        assert annotated.boxes.dtype == annotated.landmarks.dtype == np.float32
        inside = (annotated.landmarks > annotated.boxes[:, None, :2] - 12) & (
            annotated.landmarks < annotated.boxes[:, None, 2:] + 12
        )
        assert inside.all()
        assert np.prod(annotated.boxes[0, 2:] - annotated.boxes[0, :2]) > np.prod(
            annotated.boxes[1, 2:] - annotated.boxes[1, :2]
        )
    nothing = AnnotatedPhoto(photo, np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32))
    empty = augment(nothing, rng=np.random.default_rng(0))
    assert empty.boxes.shape == (0, 4) and empty.landmarks.shape == (0, 5, 2)


def test_a_border_is_grey_and_leaves_the_photo_as_it_is() -> None:
    photo = make_photo()
    wide = add_border(photo, 56)
    assert wide.shape == (336, 336, 3)
    assert np.array_equal(wide[56:-56, 56:-56], photo)
    assert (wide[:56] == 127).all() and (wide[:, -56:] == 127).all()
