"""Tests of pasted masks and objects, and painted-out faces."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from cropfirst.stage1_detect.harden.config import PasteConfig
from cropfirst.stage1_detect.harden.paste import cover, masks
from cropfirst.stage1_detect.harden.paste.augment import (
    AnnotatedPhoto,
    augment,
    augment_pixels,
)
from cropfirst.stage1_detect.harden.paste.head_model import (
    WEAR_STYLES,
    FaceView,
    WearStyle,
    face_view,
    fit_camera,
    mask_anchors,
)
from cropfirst.stage1_detect.harden.paste.masks import choose_template, paste_mask
from cropfirst.stage1_detect.harden.paste.non_faces import paste_stray_mask, remove_face
from cropfirst.stage1_detect.harden.paste.occlude import occlude_face
from cropfirst.stage1_detect.harden.paste.occluders import OCCLUDER_KINDS, OccluderKind
from cropfirst.stage1_detect.harden.paste.templates import (
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
        ("nose_tip", False, True, True),
        ("chin_strap", False, False, True),
        ("sagging", False, True, True),
        ("one_ear", False, False, False),
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
        hidden = at(share, point)
        assert hidden > 0.6 if expected[name] else hidden < 0.35, (name, hidden)
    assert max(at(share, FACE[0]), at(share, FACE[1])) < 0.05


def test_a_mask_on_one_ear_covers_one_cheek_and_neither_nose_nor_mouth() -> None:
    photo, sides = make_photo(), []
    for seed in range(20):
        changed = (worn(photo=photo, style="one_ear", seed=seed) != photo).any(axis=2)
        assert not changed[110:150, 96:128].any()
        left, right = changed[130:165, 64:74].mean(), changed[130:165, 150:160].mean()
        assert max(left, right) > 0.6 and min(left, right) == 0
        sides.append(left > right)
    assert 0 < np.mean(sides) < 1
    turned = FACE + np.array([[0, 0], [0, 0], [-20, 0], [-8, 0], [-8, 0]], np.float32)
    share = covered(photo, turned, style="one_ear", template=template_of("left"))
    assert share[130:165, :112].max() == 0, "the ear in sight is the right one"


def test_a_mask_of_plastic_or_lace_lets_the_mouth_show_through() -> None:
    rng = np.random.default_rng(0)
    photo = np.clip(make_photo() + rng.normal(0, 25, (224, 224, 1)), 0, 255).astype(np.uint8)

    def mouth_detail(image: np.ndarray) -> np.ndarray:
        fine = image.astype(np.float32) - cv2.GaussianBlur(image.astype(np.float32), (0, 0), 2)
        return fine[134:154, 94:130].ravel()

    kept: dict[WearStyle, list[float]] = {"worn": [], "see_through": []}
    for style, found in kept.items():
        for seed in range(20):
            got = worn(photo=photo, style=style, seed=seed)
            assert np.array_equal(got, worn(photo=photo, style=style, seed=seed))
            assert np.abs(got.astype(int) - photo)[134:154, 94:130].mean() > 3
            found.append(np.corrcoef(mouth_detail(got), mouth_detail(photo))[0, 1])
    assert min(kept["see_through"]) > 0.4 > np.median(kept["worn"]) + 0.2


def test_a_mask_may_show_the_mouth_of_its_wearer(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = np.full((224, 224, 3), (190, 150, 130), np.uint8)
    cv2.ellipse(photo, (112, 144), (18, 6), 0, 0, 360, (200, 20, 120), -1)
    for share in (0.0, 1.0):
        monkeypatch.setattr(masks, "_OWN_CHINS", share)
        lips = 0
        for seed in range(20):
            got = worn(photo=photo, style="chin_only", seed=seed).astype(int)[155:]
            assert np.array_equal(got, worn(photo=photo, style="chin_only", seed=seed)[155:])
            pink = (got[..., 0] > 2.5 * got[..., 1]) & (got[..., 2] > 1.5 * got[..., 1])
            lips += bool(0.001 < pink.mean() < 0.1)
        assert lips >= 18 if share else lips <= 2, lips


def test_heights_of_a_mask_vary_and_a_sagging_one_is_not_level() -> None:
    camera = fit_camera(FACE)
    assert camera is not None
    slant = {}
    for style in WEAR_STYLES:
        rng = np.random.default_rng(0)
        some = [
            mask_anchors(camera, style=style, view="front", box=BOX, rng=rng) for _ in range(50)
        ]
        assert np.ptp([points[1, 1] for points in some]) > 4, style
        slant[style] = np.mean([abs(points[0, 1] - points[2, 1]) for points in some])
    assert slant["sagging"] > 2 * slant["nose_bare"]


def test_every_wrong_way_to_wear_a_mask_is_pasted_and_labelled_incorrect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: Counter[WearStyle] = Counter()

    def record(photo: np.ndarray, *_: object, style: WearStyle, **__: object) -> np.ndarray:
        seen[style] += 1
        return photo

    monkeypatch.setattr(cover, "paste_mask", record)
    config = PasteConfig(worn=0, incorrect=1, occluded=0)
    rng, given = np.random.default_rng(0), cover.TemplateSet([], TEMPLATES)
    for _ in range(500):
        _, state = cover.cover_face(make_photo(), BOX, FACE, given, config, rng)
        assert state == "incorrect"
    assert set(seen) == set(WEAR_STYLES) - {"worn"}
    assert seen.most_common(1)[0][0] == "nose_tip" and min(seen.values()) > 25


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
        *(
            lambda rng, style=style: worn(photo=photo, style=style, seed=int(rng.integers(99)))
            for style in WEAR_STYLES
        ),
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
    cut = make_photo()[:157]
    assert paste_mask(cut, FACE, template, style="chin_only", rng=rng, box=BOX) is None


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


def test_templates_of_the_shared_folder(shared_data: Path) -> None:
    templates = read_templates(shared_data / "mask_templates")
    assert len(templates) == 18
    for view in FACE_VIEWS:
        assert sum(each.view == view for each in templates) >= 4
    for each in templates:
        if each.view == "front":
            share = covered(make_photo(), template=each)
            assert at(share, FACE[3:].mean(axis=0)) > 0.6 and at(share, FACE[0]) < 0.05, each.name
