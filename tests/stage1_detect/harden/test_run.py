"""The run as a function: calibration, what is learnt from, what a held-out fold may not sway."""

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
from cropfirst.stage1_detect.harden.paste.templates import drawn_templates
from cropfirst.stage1_detect.harden.run import Hardened, harden
from cropfirst.stage1_detect.harden.training.calibrate import add_to_score, same_traffic
from cropfirst.stage1_detect.harden.training.samples import Subject, hold_out
from cropfirst.stage1_detect.harden.training.teacher import ask_teacher
from cropfirst.stage1_detect.harden.training.training_view import Wardrobe
from cropfirst.stage1_detect.harden.training.truth import KnownFaces
from cropfirst.stage1_detect.mtcnn.candidates import NetName
from cropfirst.stage1_detect.mtcnn.detector import MTCNN
from cropfirst.stage1_detect.mtcnn.nets.modules import load_nets

NETS: tuple[NetName, ...] = ("pnet", "rnet", "onet")
TINY = NetConfig(rounds=1, views=3, epochs=1, batch_size=8)
CONFIG = HardenConfig(
    min_face_size=24, pnet=TINY, rnet=TINY, onet=TINY, folds=4, fold=0, workers=1, device="cpu"
)
WARDROBE = Wardrobe([], drawn_templates(0))


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
def subjects(photos: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> list[Subject]:
    """Six people; fold 0 of 4 holds some of them."""
    root = tmp_path_factory.mktemp("photos")
    found = []
    for index, photo in enumerate(photos):
        path = root / f"{index}.png"
        cv2.imwrite(str(path), photo[..., ::-1])
        found.append(Subject(f"set/{index}.png", path.name, path, f"set/{index}", None, "set"))
    return found


def write_student(path: Path, shifts: Mapping[NetName, float]) -> Path:
    """The reference, its scores shifted."""
    nets = dict(zip(NETS, load_nets("reference"), strict=True))
    for name, shift in shifts.items():
        add_to_score(nets[name], name, shift)
    save_file({f"{n}.{k}": v for n, net in nets.items() for k, v in net.state_dict().items()}, path)
    return path


def detector(weights: str | Path) -> MTCNN:
    return MTCNN(DetectorConfig(weights=str(weights), min_face_size=24), threads=1)


def traffic(cascade: MTCNN, photos: list[np.ndarray], net: NetName) -> int:
    return sum(len(cascade.candidates([photo], net=net)[0][0]) for photo in photos)


@pytest.mark.parametrize(("net", "after"), [("pnet", "rnet"), ("rnet", "onet")])
@pytest.mark.parametrize("bias", [-0.8, 0.0, 0.6])
def test_a_shifted_student_is_shifted_back(
    net: NetName, after: NetName, bias: float, photos: list[np.ndarray], tmp_path: Path
) -> None:
    teacher = detector("reference")
    student = detector(write_student(tmp_path / "student.safetensors", {net: bias}))
    wanted = traffic(teacher, photos, after)
    assert wanted > 20 and (traffic(student, photos, after) == wanted) == (bias == 0)
    shift = same_traffic(photos, net, student, teacher, workers=1)
    assert abs(shift + bias) < 0.35, f"shifted by {bias}, back by {shift:.3f}"
    mended = detector(write_student(tmp_path / "mended.safetensors", {net: bias + shift}))
    let_through = traffic(mended, photos, after)
    assert abs(let_through - wanted) <= 0.03 * wanted, f"{let_through} for {wanted}"


def test_where_nothing_comes_through_nothing_is_shifted() -> None:
    grey = [np.full((64, 64, 3), 127, np.uint8)]
    teacher = detector("reference")
    assert same_traffic(grey, "pnet", teacher, teacher, workers=1) == 0.0


def test_shifting_a_score_moves_its_logit_and_nothing_else() -> None:
    x = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    for name, net in zip(NETS, load_nets("reference"), strict=True):
        size = {"pnet": 12, "rnet": 24, "onet": 48}[name]
        before = [part.clone() for part in net.raw(x[..., :size, :size])]
        add_to_score(net, name, 0.75)
        after = net.raw(x[..., :size, :size])
        moved = (after[0][:, 1] - after[0][:, 0]) - (before[0][:, 1] - before[0][:, 0])
        torch.testing.assert_close(moved, torch.full_like(moved, 0.75), atol=1e-4, rtol=0)
        for ours, theirs in zip(before[1:], after[1:], strict=True):
            assert torch.equal(ours, theirs)


def run(subjects: list[Subject], folder: Path, config: HardenConfig = CONFIG) -> Hardened:
    return harden(subjects, WARDROBE, folder, config)


def boxed(
    subject: Subject, state: str = "normal", *, shift: float = 0.0, times: int = 1
) -> Subject:
    box = np.array([[45, 55, 100, 130]], np.float32) + np.float32(shift)
    return replace(subject, known=KnownFaces(np.repeat(box, times, axis=0), (state,) * times))


def test_nothing_of_the_held_out_photos_is_learnt(
    subjects: list[Subject], draw: Draw, tmp_path: Path
) -> None:
    """Other pixels and other boxes of the held-out photos leave the weights as they are."""
    done = run(subjects, tmp_path / "one")
    learn, held = hold_out(subjects, folds=4, fold=0)
    assert learn and held, "the fixture's people are on both sides"
    assert [subject for subject, _ in done.held_out] == held
    assert done.learnt_from == len(learn)
    changed = []
    for subject in subjects:
        if subject in held:
            path = tmp_path / subject.path.name
            cv2.imwrite(str(path), draw(50 + int(path.stem))[..., ::-1])
            subject = boxed(replace(subject, path=path), shift=3, times=25)
        changed.append(subject)
    other = run(changed, tmp_path / "other")
    assert other.convention is None, "boxes enough for one, all of them held out"
    assert done.weights.read_bytes() == other.weights.read_bytes()
    assert done.losses == other.losses


def test_everybody_is_learnt_from_where_nobody_is_held_out(
    subjects: list[Subject], tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"fold": None})
    known = [boxed(subject) if index < 2 else subject for index, subject in enumerate(subjects)]
    done = run(known, tmp_path, config)
    assert done.held_out == [] and done.learnt_from == 6 and done.boxed == 2
    assert done.convention is None, "two boxes tell no convention"
    assert set(done.shifts) == set(NETS) and done.shifts["onet"] == 0.0
    assert [entry["net"] for entry in done.losses] == list(NETS)
    assert not any(entry["real"] for entry in done.losses), "no face here is masked by nature"


def test_boxes_of_masked_faces_alone_are_learnt_from(
    subjects: list[Subject], tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"fold": None})
    known = [boxed(each, "wear") for each in subjects[:3]]
    # Faces hidden by nature are only learnt as such.
    done = run(known, tmp_path, config)
    assert done.boxed == 3 and done.faceless == []
    assert all(entry["real"] and not entry["pasted"] for entry in done.losses)
    load_nets(str(done.weights))


def test_a_wrong_box_is_told_before_training_also_of_the_held_out(
    subjects: list[Subject], tmp_path: Path
) -> None:
    _, held = hold_out(subjects, folds=4, fold=0)
    wrong = [boxed(each, shift=400) if each.key == held[0].key else each for each in subjects]
    with pytest.raises(DetectError, match=rf"{held[0].key} lies outside that photo of 144 x 192"):
        run(wrong, tmp_path)
    assert not list(tmp_path.rglob("weights.safetensors")) + list(tmp_path.rglob("state.*"))


def test_other_photos_or_templates_of_the_same_names_are_another_run(
    subjects: list[Subject], draw: Draw, tmp_path: Path
) -> None:
    given = WARDROBE.drawn[:2]
    out, wardrobe = tmp_path / "out", Wardrobe(given, WARDROBE.drawn)
    harden(subjects, wardrobe, out, CONFIG)
    others = []
    for subject in subjects:
        path = tmp_path / subject.path.name
        cv2.imwrite(str(path), draw(30 + int(path.stem))[..., ::-1])
        others.append(replace(subject, path=path))
    dark = Wardrobe([replace(each, image=each.image // 2) for each in given], WARDROBE.drawn)
    for photos, masks in ((others, wardrobe), (subjects, dark)):
        with pytest.raises(DetectError, match="with other photos, boxes or settings"):
            harden(photos, masks, out, CONFIG)


def test_another_teacher_is_asked_for_itself(subjects: list[Subject], tmp_path: Path) -> None:
    """Folds share what the teacher said; a teacher of other settings has said nothing yet."""
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((90, 90, 3), 127, np.uint8))
    walls = [replace(subject, path=tmp_path / "wall.png") for subject in subjects]
    tables = []
    for changed in ({}, {"fold": 1}, {"min_face_size": 30}):
        with pytest.raises(DetectError, match="holds a known face"):
            run(walls, tmp_path, CONFIG.model_copy(update=changed))
        tables.append(len(list(tmp_path.glob("teacher-*.parquet"))))
    assert tables == [1, 1, 2]


def test_photos_that_are_all_held_out_leave_nothing_to_learn_from(
    subjects: list[Subject], tmp_path: Path
) -> None:
    _, held = hold_out(subjects, folds=4, fold=0)
    with pytest.raises(DetectError, match=r"none is left to learn from: .* use --all-data"):
        run(held, tmp_path)


def test_no_photo_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(DetectError, match="there is no photo to learn from"):
        run([], tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_teacher_is_asked_once_and_again_where_a_photo_has_changed(
    subjects: list[Subject], tmp_path: Path
) -> None:
    copies = []
    for subject in subjects[:3]:
        path = tmp_path / subject.path.name
        shutil.copyfile(subject.path, path)
        copies.append(replace(subject, path=path))
    table, teacher = tmp_path / "teacher.parquet", detector("reference")
    first, unread = ask_teacher(copies, teacher, table, workers=1, console=None)
    assert unread == [] and all(len(answer.faces) == 1 for answer in first.values())
    assert {(answer.height, answer.width) for answer in first.values()} == {(192, 144)}
    blind = MTCNN(DetectorConfig(thresholds=(1.0, 1.0, 1.0)), threads=1)
    again, _ = ask_teacher(copies, blind, table, workers=1, console=None)
    for key, answer in first.items():
        np.testing.assert_array_equal(answer.faces.boxes, again[key].faces.boxes)
        np.testing.assert_array_equal(answer.faces.landmarks, again[key].faces.landmarks)
    cv2.imwrite(str(copies[0].path), np.full((50, 60, 3), 127, np.uint8))
    copies[1].path.write_bytes(b"no photo")
    changed, unread = ask_teacher(copies, teacher, table, workers=1, console=None)
    assert len(changed[copies[0].key].faces) == 0 and changed[copies[0].key].width == 60
    assert [key for key, _ in unread] == [copies[1].key] and copies[1].key not in changed


def test_the_teachers_boxes_are_in_the_photos_own_pixels(
    photos: list[np.ndarray], subjects: list[Subject], tmp_path: Path
) -> None:
    teacher = detector("reference")
    answers, _ = ask_teacher(subjects, teacher, tmp_path / "t.parquet", workers=2, console=None)
    for subject, photo in zip(subjects, photos, strict=True):
        plain, framed = teacher.detect_batch([photo])[0], answers[subject.key].faces
        np.testing.assert_allclose(plain.boxes[0], framed.boxes[0], atol=8)
        np.testing.assert_allclose(plain.landmarks[0], framed.landmarks[0], atol=3)
