"""Every lever of optimisation, sampling and mixing in whole runs: what it does, and that a killed
run ends like an undisturbed one with all of them on."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny_runs
import torch
from tiny_runs import MASKS, assert_same, configure, draw, reopen, results, run, stop_after

from cropfirst.cache import CropSet
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import OptimConfig
from cropfirst.stage2_classify.data.prefetcher import DeviceBatch
from cropfirst.stage2_classify.model.criterion import plain_criterion
from cropfirst.stage2_classify.model.models import build_classifier
from cropfirst.stage2_classify.progress import TrainProgress
from cropfirst.stage2_classify.runs.checkpoint import load_checkpoint
from cropfirst.stage2_classify.runs.checkpoints import find_checkpoints
from cropfirst.stage2_classify.train.epochs import train_one_epoch
from cropfirst.stage2_classify.train.train import train
from cropfirst.stage2_classify.train.train_state import TrainState, build_train_state

EVERYTHING = {
    "data__augment": "strong",
    "data__augment_classes": {"age:>=60": "randaugment"},
    "data__erase": 0.5,
    "data__mix": {"kind": "half_cutmix", "prob": 0.7, "rare": "age"},
    "data__sampler": "oversample",
    "data__balance": ["gender", "age"],
    "data__batch_size": 4,
    "optim__epochs": 4,
    "optim__optimizer": "madgrad",
    "optim__schedule": "plateau",
    "optim__patience": 0,
    "optim__layer_decay": 0.8,
    "optim__accumulate": 2,
    "optim__freeze_epochs": 1,
    "optim__ema": 0.9,
    "optim__amp": "bf16",
    "model__backbone": "test_convnext",
}
OTHERS = {
    "data__augment": "randaugment",
    "data__mix": {"kind": "mixup", "prob": 0.7},
    "data__sampler": "weighted",
    "optim__optimizer": "sgd",
    "optim__schedule": "step",
    "optim__decay_epochs": 1,
    "optim__ema": 0.9,
    "optim__channels_last": False,
    "model__drop_path_rate": 0.2,
    "model__backbone": "test_convnext",
}


@pytest.mark.parametrize("levers", [EVERYTHING, OTHERS], ids=["everything", "others"])
def test_a_killed_run_ends_like_an_undisturbed_one_with_all_levers(
    tmp_path: Path, levers: dict[str, Any]
) -> None:
    config = configure("mask,gender", **levers)
    whole = run(tmp_path, config, runs="whole")
    for stop_at in ("fold 0 epoch 1/", "fold 0 epoch 2/", "fold 1 epoch 2/"):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, config, runs="cut", console=stop_after(stop_at))
    cut = run(tmp_path, config, runs="cut")
    assert_same(results(cut.run_dir), results(whole.run_dir))
    history = pl.read_csv(whole.run_dir / "fold0" / "history.csv")
    assert history.select("train_loss", "val_loss", "lr").to_numpy().min() > 0


@pytest.mark.parametrize("on", ["cpu", "device"])
def test_mixing_and_balancing_learn(tmp_path: Path, on: str) -> None:
    config = configure(
        data__augment_on=on, data__mix={"kind": "half_cutmix", "prob": 0.5},
        data__sampler="weighted", data__balance=["gender", "age"], optim__epochs=6,
    )  # fmt: skip
    assert run(tmp_path, config).scores["mask"].macro_f1 > 0.8


def train_state(**optim: Any) -> TrainState:
    torch.manual_seed(0)
    model = build_classifier("test_vit", {"mask": 3}, image_size=32)
    settings = OptimConfig.model_validate({"warmup_epochs": 0, "lr": 0.01, **optim})
    criterion = plain_criterion({"mask": model.head("mask")})
    return build_train_state(model, settings, batches_per_epoch=3, amp=None, criterion=criterion)


def epoch_of(state: TrainState, batches: list[DeviceBatch]) -> None:
    with TrainProgress(None, total=1) as progress:
        train_one_epoch(state, batches, first_update=0, progress=progress)  # type: ignore[arg-type]


def ready(n: int, *, seed: int = 0) -> DeviceBatch:
    torch.manual_seed(seed)
    return DeviceBatch(torch.randn(n, 3, 32, 32), {"mask": torch.arange(n) % 3})


def parts(batch: DeviceBatch, n: int) -> list[DeviceBatch]:
    images, masks = batch.images.chunk(n), batch.targets["mask"].chunk(n)
    return [DeviceBatch(image, {"mask": mask}) for image, mask in zip(images, masks, strict=True)]


def test_accumulated_gradients_make_the_step_of_the_larger_batch() -> None:
    batch = ready(12)
    # Clipping would hide a wrong divisor: it sets the norm of the gradients, whatever they were.
    at_once = train_state(optimizer="sgd", clip_grad=0)
    in_parts = train_state(optimizer="sgd", clip_grad=0, accumulate=4)
    epoch_of(at_once, [batch])
    epoch_of(in_parts, parts(batch, 4))
    pairs = zip(at_once.model.named_parameters(), in_parts.model.parameters(), strict=True)
    for (name, one), other in pairs:
        assert (one - other).abs().max() < 1e-6, name


def test_crops_with_a_target_are_counted_in_numbers_and_in_soft_targets() -> None:
    """Several processes exchange soft targets, a single one has numbers."""
    criterion = train_state().criterion
    targets = {"mask": torch.tensor([0, -1, 2, -1, 1])}
    for each in (targets, criterion.soften(targets)):
        assert int(criterion.count_labeled(each)) == 3


def test_an_epoch_that_ends_within_an_accumulation_makes_its_step() -> None:
    state = train_state(optimizer="sgd", clip_grad=0, accumulate=2, schedule="constant")
    want = train_state(optimizer="sgd", clip_grad=0, schedule="constant")
    batch = ready(12)
    first, second, third = parts(batch, 3)
    both = DeviceBatch(batch.images[:8], {"mask": batch.targets["mask"][:8]})
    epoch_of(state, [first, second, third])
    epoch_of(want, [both, third])
    for one, other in zip(state.model.parameters(), want.model.parameters(), strict=True):
        assert (one - other).abs().max() < 1e-6


def test_the_running_mean_of_the_weights_is_what_is_kept(tmp_path: Path) -> None:
    state = train_state(ema=0.5)
    seen = [state.model.heads[0].out.weight.detach().clone()]  # type: ignore[operator]
    for seed in range(3):
        epoch_of(state, [ready(6, seed=seed)])
        seen.append(state.model.heads[0].out.weight.detach().clone())  # type: ignore[operator]
    # train_one_epoch counted each as the first update, for which timm's warmup takes the newest.
    assert torch.equal(state.eval_model.heads[0].out.weight, seen[-1])  # type: ignore[operator]
    state.update(100)
    now = state.model.heads[0].out.weight  # type: ignore[operator]
    mean = (seen[-1] + now) / 2
    assert (state.eval_model.heads[0].out.weight - mean).abs().max() < 1e-7  # type: ignore[operator]

    summary = run(tmp_path, configure(optim__ema=0.9, optim__epochs=2))
    plain = run(tmp_path, configure(optim__epochs=2), runs="plain")
    saved, _ = load_checkpoint(summary.run_dir / "fold0" / "last", "cpu")
    other, _ = load_checkpoint(plain.run_dir / "fold0" / "last", "cpu")
    gaps = [
        (a - b).abs().max() for a, b in zip(saved.parameters(), other.parameters(), strict=True)
    ]
    assert max(gaps) > 1e-4


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_melting_run_learns_its_heads_first(tmp_path: Path, optimizer: str) -> None:
    config = configure(optim__freeze_epochs=2, optim__epochs=3, optim__optimizer=optimizer)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, config, console=stop_after("fold 0 epoch 1/"))
    first, _ = load_checkpoint(tmp_path / "runs/mask-test_resnet/fold0/last", "cpu")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, config, console=stop_after("fold 0 epoch 2/"))
    second, _ = load_checkpoint(tmp_path / "runs/mask-test_resnet/fold0/last", "cpu")
    run(tmp_path, config)
    last, _ = load_checkpoint(tmp_path / "runs/mask-test_resnet/fold0/last", "cpu")

    def changed(a: torch.nn.Module, b: torch.nn.Module) -> set[str]:
        new = b.state_dict()
        return {n.split(".")[0] for n, v in a.state_dict().items() if not torch.equal(v, new[n])}

    assert changed(first, second) == {"heads"}
    assert changed(second, last) == {"heads", "backbone"}


def test_the_best_of_each_score_and_the_last_are_kept(tmp_path: Path) -> None:
    summary = run(tmp_path, configure("age", optim__epochs=5))
    fold = summary.run_dir / "fold0"
    history = pl.read_csv(fold / "history.csv")

    def epoch_in(kind: str) -> int:
        return int(json.loads((fold / kind / "meta.json").read_text())["epoch"])

    assert epoch_in("best_f1") == int(history["val_f1"].arg_max()) + 1  # type: ignore[operator]
    assert epoch_in("best_accuracy") == int(history["age_accuracy"].arg_max()) + 1  # type: ignore[operator]
    assert epoch_in("best_loss") == int(history["val_loss"].arg_min()) + 1  # type: ignore[operator]
    assert epoch_in("last") == 5
    for kind in ("best_accuracy", "best_loss"):
        found = find_checkpoints([summary.run_dir], checkpoint=kind)
        assert [folder.name for folder in found.folders] == [kind, kind]


def test_early_stopping_ends_a_fold_and_is_kept_by_a_resumed_run(tmp_path: Path) -> None:
    config = configure(optim__early_stop=2, optim__epochs=40, optim__lr=1e-9, optim__monitor="f1")
    summary = run(tmp_path, config)
    for fold in summary.folds:
        folder = summary.run_dir / f"fold{fold.fold}"
        epochs = pl.read_csv(folder / "history.csv").height
        assert epochs == fold.epoch + 2 < 40
        assert json.loads((folder / "metrics.json").read_text())["epochs"] == epochs
    assert run(tmp_path, config).trained_folds == ()


def test_all_data_trains_everybody_for_the_epochs_that_the_folds_chose(tmp_path: Path) -> None:
    folds = run(tmp_path, configure())
    both = run(tmp_path, configure(folds__all_data=True))
    assert both.trained_folds == () and both.scores == folds.scores  # nothing was trained anew
    folder = both.run_dir / "all"
    meta = json.loads((folder / "last" / "meta.json").read_text())
    chosen = round(np.median([fold.epoch for fold in folds.folds]))
    assert (meta["epoch"], meta["all_data"]) == (chosen, True)
    assert json.loads((folder / "metrics.json").read_text())["epoch"] == chosen
    assert not (folder / "state").exists()
    assert meta["class_prior"] == {"mask": pytest.approx([1 / 3] * 3)}
    model, _ = load_checkpoint(folder / "last", "cpu")
    photos, _, crops = reopen(tmp_path)
    images = np.stack([crops.reader()[sample.key] for sample in photos.samples])
    with torch.inference_mode():
        preds = model.eval()(model.prepare(torch.from_numpy(images)))["mask"].argmax(1)
    want = [MASKS.index(sample.labels["mask"]) for sample in photos.samples]
    assert (preds.numpy() == want).mean() > 0.9
    found = find_checkpoints([tmp_path / "runs"])
    assert [f"{f.parent.name}/{f.name}" for f in found.folders] == [
        "fold0/best_f1", "fold1/best_f1", "all/last",
    ]  # fmt: skip


def test_training_on_all_data_resumes_too(tmp_path: Path) -> None:
    config = configure(folds__all_data=True, optim__epochs=4)
    whole = run(tmp_path, config, runs="whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, config, runs="cut", console=stop_after("all data epoch 1/"))
    cut = run(tmp_path, config, runs="cut")
    assert_same(results(cut.run_dir), results(whole.run_dir))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data__batch_size": 19}, r"batch_size=19 is more than the 18 photos that fold 0 is"),
        ({"data__batch_size": 1, "head": {"batch_norm": True}}, "batch_size=1 gives .*=8 or so"),
        (
            {"data__batch_size": 1, "model__backbone": "resnet18"},
            "batches of one crop, and the batch norm of resnet18 needs two or more",
        ),
        ({"data__mix": {"kind": "cutmix", "rare": "masc"}}, "did you mean 'mask'"),
        ({"data__sampler": "weighted", "data__balance": ["years"]}, "no task 'years'"),
        ({"data__augment_classes": {"age:old": "strong"}}, r"no class 'age:old'; .*age:>=60"),
        ({"data__transforms": [{"name": "Claho"}]}, "albumentations' image transforms"),
        ({"folds__all_data": True, "folds__fold": 1}, "leave --fold away"),
        ({"folds__all_data": True, "optim__schedule": "plateau"}, "take cosine or step"),
    ],
)  # fmt: skip
def test_what_is_impossible_is_refused_before_anything_is_made(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainError, match=message):
        run(tmp_path, configure(**change))
    assert not (tmp_path / "runs").exists()


def test_batches_of_one_crop_train_where_no_batch_norm_minds(tmp_path: Path) -> None:
    config = configure(data__batch_size=1, model__backbone="test_vit", optim__epochs=1)
    assert run(tmp_path, config).trained_folds == (0, 1)


@pytest.mark.parametrize("background", ["photo", "center"])
def test_halves_of_photos_that_are_no_faces_are_refused(tmp_path: Path, background: str) -> None:
    photos, schema, crops = draw(tmp_path)
    rooms = CropSet(f"{background}-32", crops.folder, crops.config)
    config = configure(data__mix={"kind": "half_cutmix"})
    with pytest.raises(TrainError, match=f"{background}-32 holds photos .*--crops ellipse"):
        train(photos, schema, rooms, config, runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


LIMITED = """
import io, os, resource, sys
from pathlib import Path

import torch
from rich.console import Console

sys.path.insert(0, sys.argv[2])
from tiny_runs import configure, run

from cropfirst.core.errors import TrainError

torch.set_num_threads(1)

class Limit(io.StringIO):
    def write(self, text):
        if "fold 0 epoch 1/" in text:  # from now on, there is no room for another large tensor
            pages = int(open("/proc/self/statm").read().split()[0])
            limit = pages * os.sysconf("SC_PAGE_SIZE") + (8 << 20)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        return super().write(text)

config = configure(optim__epochs=2, data__image_size=400, data__preload="none", name="big")
try:
    run(Path(sys.argv[1]), config, console=Console(file=Limit(), width=200))
except TrainError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit as Linux does")
def test_memory_that_is_short_ends_with_the_way_out_and_what_was_kept(tmp_path: Path) -> None:
    helpers = str(Path(tiny_runs.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), helpers],
        capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    last = tmp_path / "runs" / "big" / "fold0" / "last"
    said = done.stdout
    assert "memory is too small for test_resnet with data.batch_size=8 and 400 pixels" in said, (
        done.stderr
    )
    assert f"the checkpoint before is kept in {last}" in said
    assert "data.batch_size=4 and optim.accumulate=2" in said
    load_checkpoint(last, "cpu")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's own, about torch's own
def test_a_compiled_network_makes_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    # Traced as for any backend; without inductor, whose C++ compiler takes half a minute.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    plain, compiled = train_state(optimizer="sgd"), train_state(optimizer="sgd", compile=True)
    for state in (plain, compiled):
        epoch_of(state, [ready(6, seed=1), ready(6, seed=2)])
    assert list(compiled.tensors()) == list(plain.tensors())
    other = compiled.tensors()
    for name, value in plain.tensors().items():
        assert (value - other[name]).abs().max() < 1e-4, name
