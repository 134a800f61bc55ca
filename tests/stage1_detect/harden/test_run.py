"""Tests of a hardening run: calibration, the photos trained on, and the held-out fold."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.harden.config import HardenConfig, NetConfig
from cropfirst.stage1_detect.harden.paste.cover import TemplateSet
from cropfirst.stage1_detect.harden.paste.templates import drawn_templates
from cropfirst.stage1_detect.harden.run import HardenResult, harden
from cropfirst.stage1_detect.harden.training.calibrate import calibration_shift, shift_scores
from cropfirst.stage1_detect.harden.training.known_faces import KnownFaces
from cropfirst.stage1_detect.harden.training.samples import HardenSample, hold_out
from cropfirst.stage1_detect.harden.training.teacher import run_teacher
from cropfirst.stage1_detect.mtcnn.candidates import NetName
from cropfirst.stage1_detect.mtcnn.detector import MTCNN
from cropfirst.stage1_detect.mtcnn.nets.modules import load_nets

NETS: tuple[NetName, ...] = ("pnet", "rnet", "onet")
TINY = NetConfig(rounds=1, views=3, epochs=1, batch_size=8)
CONFIG = HardenConfig(
    min_face_size=24, pnet=TINY, rnet=TINY, onet=TINY, folds=4, fold=0, workers=1, device="cpu"
)
TEMPLATE_SET = TemplateSet([], drawn_templates(0))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


Draw = Callable[[int], np.ndarray]


@pytest.fixture(scope="session")
def draw(portrait: Callable[..., Any]) -> Draw:
    """Draws small portraits by number."""

    def image(index: int) -> np.ndarray:
        gender = "female" if index % 2 else "male"
        drawn = portrait(index, room=index % 6, gender=gender, age=30, size=(144, 192))
        return np.asarray(drawn.image)

    return image


@pytest.fixture(scope="module")
def photos(draw: Draw) -> list[np.ndarray]:
    return [draw(index) for index in range(6)]


@pytest.fixture(scope="module")
def samples(
    photos: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> list[HardenSample]:
    """Make samples of six people; fold 0 of 4 holds some of them."""
    root = tmp_path_factory.mktemp("photos")
    found = []
    for index, photo in enumerate(photos):
        path = root / f"{index}.png"
        cv2.imwrite(str(path), photo[..., ::-1])
        found.append(HardenSample(f"set/{index}.png", path.name, path, f"set/{index}", None, "set"))
    return found


def write_weights(path: Path, shifts: Mapping[NetName, float]) -> Path:
    """Write the reference weights with shifted scores."""
    nets = dict(zip(NETS, load_nets("reference"), strict=True))
    for name, shift in shifts.items():
        shift_scores(nets[name], name, shift)
    save_file({f"{n}.{k}": v for n, net in nets.items() for k, v in net.state_dict().items()}, path)
    return path


def detector(weights: str | Path) -> MTCNN:
    return MTCNN(DetectorConfig(weights=str(weights), min_face_size=24), threads=1)


def traffic(cascade: MTCNN, photos: list[np.ndarray], net: NetName) -> int:
    return sum(len(cascade.candidates([photo], net=net)[0][0]) for photo in photos)


@pytest.mark.parametrize(("net", "after"), [("pnet", "rnet"), ("rnet", "onet")])
@pytest.mark.parametrize("bias", [-0.8, 0.0, 0.6])
def test_calibration_undoes_a_shift(
    net: NetName, after: NetName, bias: float, photos: list[np.ndarray], tmp_path: Path
) -> None:
    teacher = detector("reference")
    student = detector(write_weights(tmp_path / "student.safetensors", {net: bias}))
    wanted = traffic(teacher, photos, after)
    assert wanted > 20 and (traffic(student, photos, after) == wanted) == (bias == 0)
    nothing = [np.zeros((0, 4), np.float32)] * len(photos)
    shift = calibration_shift(photos, nothing, net, student, teacher, workers=1)
    assert abs(shift + bias) < 0.35, f"shifted by {bias}, back by {shift:.3f}"
    hardened = detector(write_weights(tmp_path / "hardened.safetensors", {net: bias + shift}))
    let_through = traffic(hardened, photos, after)
    assert abs(let_through - wanted) <= 0.03 * wanted, f"{let_through} for {wanted}"


def test_calibration_without_candidates_shifts_nothing() -> None:
    grey = [np.full((64, 64, 3), 127, np.uint8)]
    teacher = detector("reference")
    nothing = [np.zeros((0, 4), np.float32)]
    assert calibration_shift(grey, nothing, "pnet", teacher, teacher, workers=1) == 0.0


def test_shifting_a_score_moves_its_logit_and_nothing_else() -> None:
    x = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    for name, net in zip(NETS, load_nets("reference"), strict=True):
        size = {"pnet": 12, "rnet": 24, "onet": 48}[name]
        before = [part.clone() for part in net(x[..., :size, :size])]
        shift_scores(net, name, 0.75)
        after = net(x[..., :size, :size])
        moved = (after[0][:, 1] - after[0][:, 0]) - (before[0][:, 1] - before[0][:, 0])
        torch.testing.assert_close(moved, torch.full_like(moved, 0.75), atol=1e-4, rtol=0)
        for ours, theirs in zip(before[1:], after[1:], strict=True):
            assert torch.equal(ours, theirs)


def run(samples: list[HardenSample], folder: Path, config: HardenConfig = CONFIG) -> HardenResult:
    return harden(samples, TEMPLATE_SET, folder, config)


def boxed(
    sample: HardenSample, state: str = "normal", *, shift: float = 0.0, times: int = 1
) -> HardenSample:
    box = np.array([[45, 55, 100, 130]], np.float32) + np.float32(shift)
    return replace(sample, known=KnownFaces(np.repeat(box, times, axis=0), (state,) * times))


def test_held_out_photos_do_not_change_the_weights(
    samples: list[HardenSample], draw: Draw, tmp_path: Path
) -> None:
    """Changed pixels and boxes of held-out photos do not change the weights."""
    done = run(samples, tmp_path / "one")
    learn, held = hold_out(samples, folds=4, fold=0)
    assert learn and held, "the fixture's people are on both sides"
    assert [sample for sample, _ in done.held_out] == held
    assert done.trained_on == len(learn)
    changed = []
    for sample in samples:
        if sample in held:
            path = tmp_path / sample.path.name
            cv2.imwrite(str(path), draw(50 + int(path.stem))[..., ::-1])
            sample = boxed(replace(sample, path=path), shift=3, times=25)
        changed.append(sample)
    other = run(changed, tmp_path / "other")
    assert other.convention is None, "boxes enough for one, all of them held out"
    assert done.weights.read_bytes() == other.weights.read_bytes()
    assert done.losses == other.losses


def test_all_photos_are_trained_on_if_none_is_held_out(
    samples: list[HardenSample], tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"fold": None})
    known = [boxed(sample) if index < 2 else sample for index, sample in enumerate(samples)]
    done = run(known, tmp_path, config)
    assert done.held_out == [] and done.trained_on == 6 and done.with_boxes == 2
    assert done.convention is None, "two boxes tell no convention"
    assert set(done.shifts) == set(NETS) and done.shifts["onet"] == 0.0
    assert [entry["net"] for entry in done.losses] == list(NETS)
    assert not any(entry["real"] for entry in done.losses), "no face here has a real mask"


def test_boxes_of_masked_faces_alone_are_enough(
    samples: list[HardenSample], tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"fold": None})
    known = [boxed(each, "wear") for each in samples[:3]]
    # Faces hidden by nature are only learnt as such.
    done = run(known, tmp_path, config)
    assert done.with_boxes == 3 and done.faceless == []
    assert all(entry["real"] and not entry["pasted"] for entry in done.losses)
    load_nets(str(done.weights))


def test_a_wrong_box_is_an_error_before_training_even_if_held_out(
    samples: list[HardenSample], tmp_path: Path
) -> None:
    _, held = hold_out(samples, folds=4, fold=0)
    wrong = [boxed(each, shift=400) if each.key == held[0].key else each for each in samples]
    with pytest.raises(DetectError, match=rf"{held[0].key} lies outside that photo of 144 x 192"):
        run(wrong, tmp_path)
    assert not list(tmp_path.rglob("weights.safetensors")) + list(tmp_path.rglob("state.*"))


def test_other_photos_or_templates_of_the_same_names_are_another_run(
    samples: list[HardenSample], draw: Draw, tmp_path: Path
) -> None:
    given = TEMPLATE_SET.drawn[:2]
    out, template_set = tmp_path / "out", TemplateSet(given, TEMPLATE_SET.drawn)
    harden(samples, template_set, out, CONFIG)
    others = []
    for sample in samples:
        path = tmp_path / sample.path.name
        cv2.imwrite(str(path), draw(30 + int(path.stem))[..., ::-1])
        others.append(replace(sample, path=path))
    dark = TemplateSet([replace(each, image=each.image // 2) for each in given], TEMPLATE_SET.drawn)
    for photos, masks in ((others, template_set), (samples, dark)):
        with pytest.raises(DetectError, match="with other photos, boxes or settings"):
            harden(photos, masks, out, CONFIG)


def test_each_teacher_has_a_table_of_its_own(samples: list[HardenSample], tmp_path: Path) -> None:
    """All folds share a table; a teacher with other settings gets another one."""
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((90, 90, 3), 127, np.uint8))
    walls = [replace(sample, path=tmp_path / "wall.png") for sample in samples]
    tables = []
    for changed in ({}, {"fold": 1}, {"min_face_size": 30}):
        with pytest.raises(DetectError, match="holds a known face"):
            run(walls, tmp_path, CONFIG.model_copy(update=changed))
        tables.append(len(list(tmp_path.glob("teacher-*.parquet"))))
    assert tables == [1, 1, 2]


def test_photos_that_are_all_held_out_leave_nothing_to_learn_from(
    samples: list[HardenSample], tmp_path: Path
) -> None:
    _, held = hold_out(samples, folds=4, fold=0)
    with pytest.raises(DetectError, match=r"none is left to learn from: .* use --all-data"):
        run(held, tmp_path)


def test_no_photo_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DetectError, match="there is no photo to learn from"):
        run([], tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_teacher_runs_again_only_on_changed_photos(
    samples: list[HardenSample], tmp_path: Path
) -> None:
    copies = []
    for sample in samples[:3]:
        path = tmp_path / sample.path.name
        shutil.copyfile(sample.path, path)
        copies.append(replace(sample, path=path))
    table, teacher = tmp_path / "teacher.parquet", detector("reference")
    first, unreadable = run_teacher(copies, teacher, table, workers=1, console=None)
    assert unreadable == [] and all(len(output.faces) == 1 for output in first.values())
    assert {(output.height, output.width) for output in first.values()} == {(192, 144)}
    blind = MTCNN(DetectorConfig(thresholds=(1.0, 1.0, 1.0)), threads=1)
    again, _ = run_teacher(copies, blind, table, workers=1, console=None)
    for key, output in first.items():
        np.testing.assert_array_equal(output.faces.boxes, again[key].faces.boxes)
        np.testing.assert_array_equal(output.faces.landmarks, again[key].faces.landmarks)
    cv2.imwrite(str(copies[0].path), np.full((50, 60, 3), 127, np.uint8))
    copies[1].path.write_bytes(b"no photo")
    changed, unreadable = run_teacher(copies, teacher, table, workers=1, console=None)
    assert len(changed[copies[0].key].faces) == 0 and changed[copies[0].key].width == 60
    assert [key for key, _ in unreadable] == [copies[1].key] and copies[1].key not in changed


def test_the_teachers_boxes_are_in_the_photos_own_pixels(
    photos: list[np.ndarray], samples: list[HardenSample], tmp_path: Path
) -> None:
    teacher = detector("reference")
    outputs, _ = run_teacher(samples, teacher, tmp_path / "t.parquet", workers=2, console=None)
    for sample, photo in zip(samples, photos, strict=True):
        plain, add_border = teacher.detect_batch([photo])[0], outputs[sample.key].faces
        np.testing.assert_allclose(plain.boxes[0], add_border.boxes[0], atol=8)
        np.testing.assert_allclose(plain.landmarks[0], add_border.landmarks[0], atol=3)
