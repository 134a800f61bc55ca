"""Checkpoints: what is saved comes back; what is torn or foreign is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.model.models import Classifier, build_classifier
from cropfirst.stage2_classify.runs.checkpoint import (
    load_checkpoint,
    load_state,
    read_meta,
    save_checkpoint,
    save_state,
)

META: dict[str, Any] = {
    "backbone": "test_resnet",
    "heads": {"mask": ["wear", "incorrect", "normal"], "gender": ["male", "female"]},
    "image_size": 32,
    "mean": [0.1, 0.2, 0.3],
    "std": [0.4, 0.5, 0.6],
    "schema": {"tasks": {}},
    "crop_set": {"name": "ellipse-32-00000000", "fingerprint": "0" * 16, "config": {}},
    "class_prior": {"mask": [0.7, 0.1, 0.2], "gender": [0.5, 0.5]},
}


def build(seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return build_classifier(
        "test_resnet", {"mask": 3, "gender": 2}, image_size=32, mean=META["mean"], std=META["std"]
    ).eval()


def predict(model: Classifier) -> dict[str, torch.Tensor]:
    crops = torch.arange(2 * 32 * 32 * 3).reshape(2, 32, 32, 3).to(torch.uint8)
    with torch.inference_mode():
        out: dict[str, torch.Tensor] = model(model.prepare(crops))
    return out


def test_a_checkpoint_gives_the_same_bits_back(tmp_path: Path) -> None:
    model = build()
    model.set_channels_last(True)
    save_checkpoint(tmp_path / "best_f1", model, META)
    loaded, meta = load_checkpoint(tmp_path / "best_f1", "cpu")
    assert not loaded.training
    want, got = predict(model), predict(loaded)
    assert all(torch.equal(want[task], got[task]) for task in want)
    assert {key: meta[key] for key in META} == META
    assert sorted(path.name for path in (tmp_path / "best_f1").iterdir()) == [
        "meta.json",
        "model.safetensors",
    ]


def test_saving_again_replaces_both_files(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, build(0), META)
    second = build(1)
    save_checkpoint(tmp_path, second, {**META, "epoch": 2})
    loaded, meta = load_checkpoint(tmp_path, "cpu")
    assert meta["epoch"] == 2
    assert torch.equal(predict(loaded)["mask"], predict(second)["mask"])


def test_arguments_of_the_backbone_travel_along(tmp_path: Path) -> None:
    swin = {"embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
    name = "swin_tiny_patch4_window7_224"
    model = build_classifier(name, {"mask": 3}, image_size=32, kwargs=swin)
    heads = {"mask": META["heads"]["mask"]}
    meta = {**META, "backbone": name, "heads": heads, "model_kwargs": swin}
    save_checkpoint(tmp_path, model, meta)
    loaded, _ = load_checkpoint(tmp_path, "cpu")
    assert [p.shape for p in loaded.parameters()] == [p.shape for p in model.parameters()]


def test_weights_that_do_not_belong_to_their_meta_are_refused(tmp_path: Path) -> None:
    # What a kill between the two writes would leave.
    save_checkpoint(tmp_path / "old", build(0), META)
    save_checkpoint(tmp_path / "new", build(1), META)
    shutil.copy(tmp_path / "new" / "model.safetensors", tmp_path / "old" / "model.safetensors")
    with pytest.raises(TrainError, match=r"not the file its meta\.json was written for"):
        load_checkpoint(tmp_path / "old", "cpu")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, build(), META)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TrainError, match="copy cut short"):
        load_checkpoint(tmp_path, "cpu")


def test_missing_files_say_what_was_wanted(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"no checkpoint in .*fold"):
        load_checkpoint(tmp_path, "cpu")
    save_checkpoint(tmp_path, build(), META)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(TrainError, match=r"no model\.safetensors"):
        load_checkpoint(tmp_path, "cpu")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "is not JSON"),
        ("[1]", "no JSON object"),
        ('{"arch": "resnet18"}', "it has no 'format'"),
        ('{"format": 99}', "format 99, this version reads 2"),
        ('{"format": 2, "backbone": "x"}', "lacks heads, image_size"),
    ],
)
def test_foreign_meta_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(TrainError, match=message):
        read_meta(tmp_path)


def test_meta_of_another_architecture_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, build(), META)
    meta = json.loads((tmp_path / "meta.json").read_text())
    (tmp_path / "meta.json").write_text(json.dumps({**meta, "backbone": "test_convnext"}))
    with pytest.raises(TrainError, match="does not fit a test_convnext"):
        load_checkpoint(tmp_path, "cpu")


def test_meta_cannot_make_the_loader_open_other_files(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, build(), {**META, "model_kwargs": {"checkpoint_path": "/etc/passwd"}})
    with pytest.raises(TrainError, match="not checkpoint_path"):
        load_checkpoint(tmp_path, "cpu")


def test_not_a_number_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(tmp_path, build(), {**META, "metrics": {"val_loss": float("nan")}})


def test_the_last_whole_state_comes_back(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None
    save_state(tmp_path, {"a": torch.ones(3)}, {"epoch": 1, "history": []})
    save_state(tmp_path, {"a": torch.zeros(3)}, {"epoch": 2, "history": [{"loss": 0.5}]})
    # What a kill in the third epoch's write would leave.
    (tmp_path / "epoch-0003.safetensors").write_bytes(b"half")
    state = load_state(tmp_path)
    assert state is not None
    tensors, data = state
    assert torch.equal(tensors["a"], torch.zeros(3))
    assert (data["epoch"], data["history"]) == (2, [{"loss": 0.5}])
    assert not (tmp_path / "epoch-0001.safetensors").exists()


def test_a_damaged_state_says_what_to_delete(tmp_path: Path) -> None:
    folder = tmp_path / "fold0" / "state"
    save_state(folder, {"a": torch.ones(3)}, {"epoch": 1})
    (folder / "epoch-0001.safetensors").write_bytes(b"half")
    with pytest.raises(TrainError, match=r"damaged: delete .*fold0 to train this fold again"):
        load_state(folder)
