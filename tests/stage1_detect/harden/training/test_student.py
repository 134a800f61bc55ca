"""Tests of the training of one net: losses fall, unsure windows use the teacher alone, and training
continues bit for bit from a saved state."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.harden.config import NetConfig
from cropfirst.stage1_detect.harden.training.state import (
    HardenState,
    load_harden_state,
    save_harden_state,
)
from cropfirst.stage1_detect.harden.training.student import Student, WindowLosses, strip_prefix
from cropfirst.stage1_detect.harden.training.windows import (
    BARE,
    NONE,
    PART,
    PASTED,
    REAL,
    UNSURE,
    Windows,
)
from cropfirst.stage1_detect.mtcnn.nets.modules import load_nets

CPU = torch.device("cpu")
SIZES = {"pnet": 12, "rnet": 24, "onet": 48}
NETS = ("pnet", "rnet", "onet")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def fresh(name: str) -> nn.Module:
    return load_nets("reference")[NETS.index(name)].requires_grad_(True)


def make_windows(
    name: str, kinds: list[int], *, seed: int = 0, teacher: float = 0.0, with_targets: bool = True
) -> Windows:
    """Make bright windows for faces and dark ones for none, all with the same offsets and
    landmarks."""
    rng = np.random.default_rng(seed)
    kind = np.array(kinds, np.int8)
    n, size = len(kind), SIZES[name]
    bright = np.where((kind == NONE) | (kind == UNSURE), 50, 200)[:, None, None, None]
    pixels = np.clip(bright + rng.normal(0, 20, (n, size, size, 3)), 0, 255).astype(np.uint8)
    offsets = np.full((n, 4), np.nan, np.float32)
    landmarks = np.full((n, 10), np.nan, np.float32)
    if with_targets:
        offsets[kind <= PART] = [0.1, -0.1, 0.2, -0.2]
        landmarks[kind <= BARE] = np.linspace(0.2, 0.8, 10)
    said = np.full((n, 15 if name == "onet" else 5), teacher, np.float32)
    boxes = np.tile(np.array([0, 0, size, size], np.float32), (n, 1))
    return Windows(boxes, pixels, kind, offsets, landmarks, said)


def logits(net: nn.Module, windows: Windows) -> np.ndarray:
    """Return the (N,) logits of a face."""
    x = (torch.from_numpy(windows.pixels).permute(0, 3, 1, 2).float() - 127.5) / 128
    with torch.no_grad():
        said: torch.Tensor = net(x)[0]
    return (said[:, 1] - said[:, 0]).flatten().numpy()


def rounds(
    name: str, windows: Windows, *, count: int = 3, epochs: int = 4, lr: float = 2e-3, **more: float
) -> tuple[Student, list[WindowLosses]]:
    config = NetConfig(rounds=count, views=1, epochs=epochs, batch_size=16, lr=lr, **more)
    student = Student(fresh(name), config, device=CPU)
    losses = [
        student.learn(windows, round_number=i, rng=np.random.default_rng(i)) for i in range(count)
    ]
    return student, losses


@pytest.mark.parametrize("name", NETS)
def test_a_small_problem_is_learnt_in_a_few_steps(name: str) -> None:
    windows = make_windows(name, [REAL, PASTED, BARE, PART, NONE, NONE] * 8)
    student, losses = rounds(name, windows, count=4)
    first, last = losses[0], losses[-1]
    assert last.score < 0.5 * first.score and last.offsets < 0.5 * first.offsets
    if name == "onet":
        assert last.landmarks < 0.5 * first.landmarks
    else:
        assert last.landmarks == 0.0, "P- and R-Net place none"
    assert last.teacher == 0.0, "nothing here is unsure"
    said = logits(student.net, windows)
    faces = np.isin(windows.kind, (REAL, PASTED, BARE))
    assert said[faces].mean() > 0 > said[windows.kind == NONE].mean()


@pytest.mark.parametrize("wanted", [-4.0, 4.0])
def test_unsure_windows_pull_to_the_teachers_score(wanted: float) -> None:
    windows = make_windows("rnet", [UNSURE] * 32, teacher=wanted)
    student, losses = rounds("rnet", windows, count=6)
    assert losses[-1].teacher < losses[0].teacher
    assert losses[0].score == losses[0].offsets == losses[0].landmarks == 0.0
    assert np.abs(logits(student.net, windows) - wanted).mean() < 1.0


def test_unsure_windows_pull_to_nothing_else() -> None:
    """A student whose scores equal the teacher's is not changed by unsure windows."""
    net = fresh("rnet")
    windows = make_windows("rnet", [UNSURE] * 32)
    before = logits(net, windows)
    said = windows.teacher.copy()
    said[:, 0] = before
    same = Windows(**{**vars(windows), "teacher": said})
    config = NetConfig(rounds=2, views=1, epochs=8, batch_size=16, lr=1e-3)
    student = Student(net, config, device=CPU)
    for number in range(2):
        student.learn(same, round_number=number, rng=np.random.default_rng(number))
    assert np.abs(logits(net, windows) - before).max() < 0.25
    labelled = make_windows("rnet", [NONE] * 16 + [BARE] * 16)
    moved, _ = rounds("rnet", labelled, count=2, epochs=8, lr=1e-3)
    assert np.abs(logits(moved.net, windows) - before).max() > 1.0, "labels do move it"


def test_the_teacher_is_not_used_if_there_is_a_label() -> None:
    kinds = [PASTED, NONE] * 16
    ours, _ = rounds("rnet", make_windows("rnet", kinds, teacher=-9.0))
    theirs, _ = rounds("rnet", make_windows("rnet", kinds, teacher=9.0))
    for name, value in ours.mean.items():
        assert torch.equal(value, theirs.mean[name]), name


def test_a_part_of_a_face_moves_the_box_and_not_the_score() -> None:
    windows = make_windows("rnet", [PART] * 32)
    _, losses = rounds("rnet", windows)
    assert losses[0].score == 0.0 and losses[-1].offsets < losses[0].offsets


def test_keep_holds_a_bare_faces_logit_at_the_teachers() -> None:
    windows = make_windows("rnet", [BARE] * 40 + [NONE] * 40, teacher=3.0)
    off = []
    for keep in (0.0, 5.0):
        student, _ = rounds("rnet", windows, keep=keep)
        off.append(np.abs(logits(student.net, windows)[:40] - 3).mean())
    assert off[1] < off[0] / 2


def test_windows_that_vary_are_learnt_too_and_otherwise() -> None:
    windows = make_windows("rnet", [REAL] * 40 + [NONE] * 40)
    (plain, _), (varied, losses) = (rounds("rnet", windows, vary=vary) for vary in (False, True))
    assert losses[-1].score < losses[0].score / 4
    one, other = (logits(student.net, windows) for student in (plain, varied))
    assert not np.array_equal(one, other)
    assert other[:40].min() > 0 > other[40:].max()


def test_windows_of_one_kind_alone_are_gone_through() -> None:
    for kind in (REAL, NONE):
        _, losses = rounds("pnet", make_windows("pnet", [kind] * 48, with_targets=False), count=6)
        assert losses[-1].score < losses[0].score and losses[0].offsets == 0.0


@pytest.mark.parametrize("name", NETS)
def test_a_student_put_away_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    windows = make_windows(name, [REAL, PASTED, BARE, PART, UNSURE, NONE] * 6)
    config = NetConfig(rounds=3, views=1, epochs=2, batch_size=16, lr=1e-3)
    left_alone = Student(fresh(name), config, device=CPU)
    stopped = Student(fresh(name), config, device=CPU)
    for number in range(3):
        left_alone.learn(windows, round_number=number, rng=np.random.default_rng(number))
    stopped.learn(windows, round_number=0, rng=np.random.default_rng(0))
    kept = {f"net.{k}": v for k, v in stopped.net.state_dict().items()} | stopped.tensors()
    save_file({k: v.detach().contiguous() for k, v in kept.items()}, tmp_path / "kept.safetensors")
    back = load_file(tmp_path / "kept.safetensors")
    net = fresh(name)
    net.load_state_dict(strip_prefix("net.", back))
    going_on = Student(net, config, device=CPU)
    going_on.restore(back, steps=stopped.step_count)
    for number in (1, 2):
        going_on.learn(windows, round_number=number, rng=np.random.default_rng(number))
    assert going_on.step_count == left_alone.step_count
    for key, value in left_alone.mean.items():
        assert torch.equal(value, going_on.mean[key]), key
    for key, value in left_alone.net.state_dict().items():
        assert torch.equal(value, going_on.net.state_dict()[key]), key


def test_the_mean_lags_behind_the_net_and_starts_at_the_teacher() -> None:
    net = fresh("pnet")
    start = copy.deepcopy(net.state_dict())
    config = NetConfig(rounds=2, views=1, epochs=8, batch_size=8, lr=1e-3)
    student = Student(net, config, device=CPU)
    for name, value in student.mean.items():
        assert torch.equal(value, start[name]), name
    student.learn(
        make_windows("pnet", [BARE, NONE] * 8), round_number=0, rng=np.random.default_rng(0)
    )
    name = "conv1.weight"
    gone = (net.state_dict()[name] - start[name]).norm()
    assert 0 < (student.mean[name] - start[name]).norm() < gone


def test_a_state_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    state = HardenState("name").after_round({"net": "pnet", "score": 0.1}, steps=7)
    tensors = {"pnet.a": torch.arange(4.0), "adam.0.step": torch.tensor(7.0)}
    path = tmp_path / "state.safetensors"
    assert load_harden_state(path, "name") is None
    save_harden_state(path, state, tensors)
    found = load_harden_state(path, "name")
    assert found is not None and found[0] == state and (state.rounds, state.steps) == (1, 7)
    assert all(torch.equal(found[1][name], value) for name, value in tensors.items())
    done = state.after_net("pnet", -0.25)
    assert (done.rounds, done.steps, done.shifts) == (0, 0, {"pnet": -0.25})


def test_another_hardenings_state_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run/state.safetensors"
    path.parent.mkdir()
    save_harden_state(path, HardenState("name"), {"a": torch.zeros(3)})
    with pytest.raises(DetectError, match=r"other photos, boxes or settings: delete .*run to"):
        load_harden_state(path, "another")
    whole = path.read_bytes()
    for broken in (whole[:-5], b"", whole.replace(b'"state"', b'"stale"')):
        path.write_bytes(broken)
        with pytest.raises(DetectError, match=r"cannot be read .*: delete .*run to start again"):
            load_harden_state(path, "name")
