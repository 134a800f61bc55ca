"""Members: found where train leaves them, and run as the model would be by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from cropfirst.cache import CropSet
from cropfirst.core.errors import DeviceError, TrainError
from cropfirst.stage2_classify.labels.schema import LabelSchema, Task
from cropfirst.stage2_classify.predict import predictor
from cropfirst.stage2_classify.predict.predictor import Member, Predictor
from cropfirst.stage2_classify.runs.checkpoint import load_checkpoint
from cropfirst.stage2_classify.runs.checkpoints import find_checkpoints
from cropfirst.stage2_classify.voting.soft_vote import marginals

Save = Callable[..., Path]


@pytest.fixture
def crops(make_crops: Callable[..., CropSet]) -> CropSet:
    return make_crops({"a.jpg": "detected"})


def _random_crops(count: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_all_folds_of_all_runs_are_found(save_member: Save, crops: CropSet) -> None:
    for fold in (0, 2, 10):
        mask = save_member("mask", crops, tasks=["mask"], fold=fold)
    age = save_member("age", crops, tasks=["age"])
    found = find_checkpoints([mask.parent])
    assert found.folders == (
        age / "fold0/best_f1",
        *(mask / f"fold{fold}" / "best_f1" for fold in (0, 2, 10)),
    )
    assert found.tasks == ("mask", "age")
    assert [meta["fold"] for meta in found.metas] == [0, 0, 2, 10]
    assert find_checkpoints([mask]).folders == found.folders[1:]
    assert find_checkpoints([mask / "fold2"]).folders == (mask / "fold2/best_f1",)
    assert find_checkpoints([mask / "fold2/best_f1"]).folders == (mask / "fold2/best_f1",)


def test_a_member_named_twice_votes_once(save_member: Save, crops: CropSet) -> None:
    run = save_member("mask", crops, tasks=["mask"])
    assert len(find_checkpoints([run.parent, run, run / "fold0"]).folders) == 1


def test_unfinished_folds_are_left_out_and_counted(save_member: Save, crops: CropSet) -> None:
    run = save_member("mask", crops, tasks=["mask"])
    save_member("mask", crops, tasks=["mask"], fold=1, finished=False)
    (run / "fold2").mkdir()
    found = find_checkpoints([run.parent])
    assert found.folders == (run / "fold0/best_f1",)
    assert found.unfinished == (run / "fold1", run / "fold2")


def test_no_member_says_train_first(tmp_path: Path, save_member: Save, crops: CropSet) -> None:
    with pytest.raises(TrainError, match=r"cropfirst train first"):
        find_checkpoints([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainError, match=r"cropfirst train first"):
        find_checkpoints([tmp_path / "empty"])
    with pytest.raises(TrainError, match=r"cropfirst train first"):
        find_checkpoints([])
    run = save_member("mask", crops, tasks=["mask"], finished=False)
    with pytest.raises(TrainError, match=r"1 begun.*resume"):
        find_checkpoints([run])


def test_another_checkpoint_can_be_asked_for(save_member: Save, crops: CropSet) -> None:
    run = save_member("mask", crops, tasks=["mask"])
    (run / "fold0/best_f1").rename(run / "fold0/last")
    assert find_checkpoints([run], checkpoint="last").folders == (run / "fold0/last",)
    with pytest.raises(TrainError):
        find_checkpoints([run])


def test_different_schemas_name_both_runs(
    save_member: Save, crops: CropSet, schema: LabelSchema
) -> None:
    other = LabelSchema("other", (Task("mask", ("no", "yes"), ("mask",)),))
    first = save_member("one", crops, tasks=["mask"])
    second = save_member("two", crops, tasks=["mask"], labels=other)
    with pytest.raises(TrainError) as caught:
        find_checkpoints([first.parent])
    assert str(first) in str(caught.value) and str(second) in str(caught.value)
    assert "--schema" in str(caught.value)


def test_probabilities_are_the_models_own(save_member: Save, crops: CropSet) -> None:
    folder = save_member("two", crops, tasks=["mask", "age"]) / "fold0/best_f1"
    images = _random_crops(5)
    model, meta = load_checkpoint(folder, "cpu")
    mean, std = (torch.tensor(meta[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        logits = model((pixels - mean) / std)
    probs = Member.load(folder).predict_crops(images)
    assert set(probs) == {"mask", "age"}
    for task, table in probs.items():
        assert table.dtype == np.float32
        np.testing.assert_allclose(table, logits[task].softmax(1).numpy(), atol=1e-5)
    assert probs["mask"].max() > 0.5  # not flat: the comparison means something


def test_batches_change_nothing(save_member: Save, crops: CropSet) -> None:
    member = Member.load(save_member("mask", crops, tasks=["mask"]) / "fold0/best_f1")
    images = _random_crops(7)
    whole = member.predict_crops(images, batch_size=64)["mask"]
    for size in (1, 3, 7):
        parts = member.predict_crops(list(images), batch_size=size)["mask"]
        np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_crops_are_resized_to_the_models_input(save_member: Save, crops: CropSet) -> None:
    member = Member.load(save_member("mask", crops, tasks=["mask"]) / "fold0/best_f1")
    large = _random_crops(2, size=64)
    small = np.stack([cv2.resize(crop, (32, 32), interpolation=cv2.INTER_AREA) for crop in large])
    mixed = member.predict_crops([large[0], small[1]])["mask"]
    np.testing.assert_allclose(mixed, member.predict_crops(small)["mask"], atol=1e-6)


def test_no_crops_give_no_rows(save_member: Save, crops: CropSet) -> None:
    run = save_member("two", crops, tasks=["mask", "age"])
    probs = Member.load(run / "fold0/best_f1").predict_crops([])
    assert {task: table.shape for task, table in probs.items()} == {"mask": (0, 3), "age": (0, 3)}
    assert Predictor([run], device="cpu").predict_crops([]) == []


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((2, 32, 32), np.uint8),
        np.zeros((2, 32, 32, 3), np.float32),
        np.zeros((2, 32, 32, 4), np.uint8),
        np.zeros((2, 0, 32, 3), np.uint8),
    ],
)
def test_what_is_no_crop_is_refused(save_member: Save, crops: CropSet, bad: np.ndarray) -> None:
    run = save_member("mask", crops, tasks=["mask"])
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        Predictor([run], device="cpu").predict_crops(bad)


def test_predictor_votes_over_folds_and_tasks(
    save_member: Save, crops: CropSet, schema: LabelSchema
) -> None:
    runs = [
        save_member("mask", crops, tasks=["mask"]),
        save_member("mask", crops, tasks=["mask"], fold=1),
        save_member("rest", crops, tasks=["gender", "age"]),
    ]
    images = _random_crops(6)
    predictions = Predictor(runs[1:], device="cpu").predict_crops(images, batch_size=4)
    folds = [
        Member.load(runs[0] / f"fold{fold}/best_f1").predict_crops(images)["mask"]
        for fold in (0, 1)
    ]
    rest = Member.load(runs[2] / "fold0/best_f1").predict_crops(images)
    mean = (folds[0] + folds[1]) / 2
    for row, each in enumerate(predictions):
        np.testing.assert_allclose(each.probs["mask"], mean[row], atol=1e-6)
        codes = {
            "mask": int(mean[row].argmax()),
            "gender": int(rest["gender"][row].argmax()),
            "age": int(rest["age"][row].argmax()),
        }
        assert each.code == schema.combine(codes)
        assert each.labels == {
            task: schema.task(task).classes[code] for task, code in codes.items()
        }
    assert len({each.code for each in predictions}) > 1


def test_predictor_without_a_task_has_no_code(save_member: Save, crops: CropSet) -> None:
    runs = [save_member(task, crops, tasks=[task]) for task in ("mask", "age")]
    (prediction,) = Predictor(runs, device="cpu").predict_crops(_random_crops(1))
    assert prediction.code is None
    assert set(prediction.labels) == {"mask", "age"}


def test_predictor_of_the_combined_code(
    save_member: Save, crops: CropSet, schema: LabelSchema
) -> None:
    run = save_member("code", crops, tasks=["class18"])
    (prediction,) = Predictor([run], device="cpu").predict_crops(_random_crops(1))
    joint = prediction.probs["class18"]
    assert prediction.code == int(joint.argmax())
    np.testing.assert_allclose(
        prediction.probs["age"], marginals(joint[None], schema)["age"][0], atol=1e-6
    )


def test_predictor_knows_the_crops_it_wants(
    save_member: Save, make_crops: Callable[..., CropSet]
) -> None:
    ellipse = make_crops({"a.jpg": "detected"})
    box = make_crops({"a.jpg": "detected"}, background="box")
    one, two = save_member("one", ellipse, tasks=["mask"]), save_member("two", box, tasks=["mask"])
    assert Predictor([one], device="cpu").crop_config == ellipse.config
    with pytest.raises(TrainError) as caught:
        Predictor([one, two], device="cpu")
    assert ellipse.name in str(caught.value) and box.name in str(caught.value)


def test_a_meta_that_is_no_checkpoint_is_refused(save_member: Save, crops: CropSet) -> None:
    run = save_member("mask", crops, tasks=["mask"])
    (run / "fold0/best_f1/meta.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(TrainError, match="format 99"):
        find_checkpoints([run])


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_an_absent_gpu_is_said(save_member: Save, crops: CropSet) -> None:
    run = save_member("mask", crops, tasks=["mask"])
    with pytest.raises(DeviceError, match="--device cpu"):
        Predictor([run], device="cuda")


@pytest.mark.requires_cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_agrees_with_the_cpu(save_member: Save, crops: CropSet) -> None:
    folder = save_member("mask", crops, tasks=["mask"]) / "fold0/best_f1"
    images = _random_crops(64)
    on_cpu = Member.load(folder).predict_crops(images)["mask"]
    on_gpu = Member.load(folder, device="cuda").predict_crops(images, batch_size=24)["mask"]
    difference = float(np.abs(on_cpu - on_gpu).max())
    assert difference < 0.05, f"largest difference in probability: {difference:.4f} (bf16)"


@pytest.mark.parametrize("has_bf16", [True, False])
@pytest.mark.parametrize(
    ("amp", "want"),
    [
        ("off", None), ("auto", torch.bfloat16), ("bf16", torch.bfloat16), ("fp16", torch.float16),
        (None, torch.bfloat16),
    ],
)  # fmt: skip
def test_a_gpu_predicts_in_the_precision_of_the_training(
    save_member: Save, crops: CropSet, monkeypatch: pytest.MonkeyPatch, amp: str | None,
    want: torch.dtype | None, has_bf16: bool,
) -> None:  # fmt: skip
    used: list[torch.dtype | None] = []

    def autocast(device: torch.device, dtype: torch.dtype | None) -> Any:
        used.append(dtype)
        return nullcontext()

    monkeypatch.setattr(predictor, "autocast", autocast)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_bf16)
    folder = save_member("mask", crops, tasks=["mask"]) / "fold0/best_f1"
    model, meta = load_checkpoint(folder, "cpu")
    if amp is not None:
        meta["config"] = {"optim": {"amp": amp}}
    images = torch.from_numpy(_random_crops(2))
    for device in ("cuda", "cpu"):  # the model itself stays on the CPU
        Member(folder, model, meta, device=torch.device(device)).predict_batch(images)
    on_gpu = None if want is torch.bfloat16 and not has_bf16 else want
    assert used == [on_gpu, None]
