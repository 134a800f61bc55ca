"""Whole runs on tiny drawn crops: what is written, and what is refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console
from sklearn.metrics import accuracy_score, f1_score
from tiny_runs import MASKS, SIZE, assert_same, configure, draw, reopen, results, run, stop_after

from cropfirst.cache import CropSet
from cropfirst.configs import load_yaml
from cropfirst.core.errors import DataError, TrainError
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.data.copies import find_copies_across_folds
from cropfirst.stage2_classify.datasets.sample import PhotoSet, Sample
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.runs.checkpoint import load_checkpoint
from cropfirst.stage2_classify.runs.results import (
    FoldResult,
    RunSummary,
    TaskScore,
    finish_run,
)
from cropfirst.stage2_classify.train import prepare
from cropfirst.stage2_classify.train import train as train_module
from cropfirst.stage2_classify.train.fold_setup import default_batch_size
from cropfirst.stage2_classify.train.prepare import prepare_run
from cropfirst.stage2_classify.train.train import train


def test_a_run_learns_and_writes_what_it_promises(tmp_path: Path) -> None:
    summary = run(tmp_path, configure())
    folder = tmp_path / "runs" / "mask-test_resnet"
    assert summary.run_dir == folder
    assert summary.scores["mask"].macro_f1 > 0.9
    assert (summary.n_photos, summary.excluded, summary.trained_folds) == (36, {}, (0, 1))
    written = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    written = {name for name in written if "events.out" not in name and "lock" not in name}
    folds = ("best_f1", "best_accuracy", "best_loss", "last")
    assert written == {
        "config.yaml", "schema.json", "run.json", "folds.parquet", "oof.parquet", "metrics.json",
        *(f"fold{k}/{kind}/{name}" for k in (0, 1) for kind in folds
          for name in ("model.safetensors", "meta.json")),
        *(f"fold{k}/{name}" for k in (0, 1)
          for name in ("history.csv", "oof.parquet", "metrics.json")),
    }  # fmt: skip
    assert len(list((folder / "tensorboard").rglob("events.out*"))) == 2


def test_out_of_fold_predictions_are_those_of_the_best_checkpoint(tmp_path: Path) -> None:
    summary = run(tmp_path, configure())
    oof = pl.read_parquet(summary.run_dir / "oof.parquet")
    assert dict(oof.schema) == {
        "key": pl.String(), "group": pl.String(), "fold": pl.Int32(), "status": pl.String(),
        "mask_target": pl.Int32(), "mask_probs": pl.List(pl.Float32()),
    }  # fmt: skip
    photos, schema, crops = reopen(tmp_path)
    assert oof["key"].to_list() == [sample.key for sample in photos.samples]
    assert oof.group_by("group").agg(pl.col("fold").n_unique())["fold"].to_list() == [1] * 12
    for fold in (0, 1):
        model, meta = load_checkpoint(summary.run_dir / f"fold{fold}" / "best_f1", "cpu")
        part = oof.filter(fold=fold)
        images = np.stack([crops.reader()[key] for key in part["key"]])
        with torch.inference_mode():
            probs = model(model.prepare(torch.from_numpy(images)))["mask"].softmax(1)
        assert np.abs(np.stack(part["mask_probs"].to_list()) - probs.numpy()).max() < 1e-5
        want = f1_score(part["mask_target"], probs.argmax(1), average="macro")
        assert meta["metrics"]["macro_f1"] == pytest.approx(want)
        assert summary.folds[fold].epoch == meta["epoch"]
        assert meta["class_prior"] == {"mask": pytest.approx([1 / 3] * 3)}
        assert meta["crop_set"] == {
            "name": crops.name, "fingerprint": crops.fingerprint, "config": crops.config,
        }  # fmt: skip
        assert LabelSchema.from_dict(meta["schema"]) == schema
        assert meta["versions"]["torch"] == version("torch") and "timm" in meta["versions"]
        assert TrainConfig.model_validate(meta["config"]) == configure(choose_by="oof")


def test_scores_equal_scikit_learns_over_all_folds(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    summary = run(tmp_path, configure("age", optim__epochs=1), console=console)
    oof = pl.read_parquet(summary.run_dir / "oof.parquet")
    preds = np.stack(oof["age_probs"].to_list()).argmax(1)
    want = f1_score(oof["age_target"], preds, average="macro", zero_division=0)
    assert summary.scores["age"].macro_f1 == pytest.approx(want)
    assert summary.scores["age"].accuracy == accuracy_score(oof["age_target"], preds)
    stored = json.loads((summary.run_dir / "metrics.json").read_text())
    assert np.sum(stored["tasks"]["age"]["confusion"]) == 36
    assert [each["name"] for each in stored["tasks"]["age"]["per_class"]] == [
        "<30",
        "30-59",
        ">=60",
    ]
    constant = np.full(len(preds), np.bincount(oof["age_target"]).argmax())
    majority = f1_score(oof["age_target"], constant, average="macro", zero_division=0)
    assert stored["tasks"]["age"]["majority_macro_f1"] == pytest.approx(majority)
    want_accuracy = accuracy_score(oof["age_target"], constant)
    assert stored["tasks"]["age"]["majority_accuracy"] == want_accuracy
    (row,) = (line for line in console.file.getvalue().splitlines() if line.split()[:1] == ["age"])  # type: ignore[attr-defined]
    shown = [f"{value:.4f}" for value in (want, majority)]
    assert row.split()[1:3] == shown


def test_several_tasks_share_a_backbone(tmp_path: Path) -> None:
    summary = run(tmp_path, configure("mask,gender,age", optim__epochs=5))
    assert list(summary.scores) == ["mask", "gender", "age"]
    assert min(summary.scores[task].macro_f1 for task in ("mask", "gender")) > 0.8
    meta = json.loads((summary.run_dir / "fold0/best_f1/meta.json").read_text())
    assert {task: len(names) for task, names in meta["heads"].items()} == {
        "mask": 3, "gender": 2, "age": 3,
    }  # fmt: skip
    f1s = [fold.scores[task].macro_f1 for fold in summary.folds[:1] for task in summary.scores]
    assert meta["metrics"]["macro_f1"] == pytest.approx(np.mean(f1s))


def test_the_combined_code_is_a_task(tmp_path: Path) -> None:
    summary = run(tmp_path, configure("class18", optim__epochs=1))
    oof = pl.read_parquet(summary.run_dir / "oof.parquet")
    assert oof["class18_probs"].list.len().unique().to_list() == [18]
    # p01 is female, 20: wear 3, incorrect 9, normal 15.
    rows = {row["key"]: row["class18_target"] for row in oof.to_dicts()}
    assert [rows[f"p01/{mask}.jpg"] for mask in MASKS] == [3, 9, 15]


def test_photos_without_crop_or_label_are_left_out_and_counted(tmp_path: Path) -> None:
    photos, schema, crops = draw(tmp_path)
    crops.manifest.append([{"key": "p00/wear.jpg", "split": "train", "status": "unreadable"}])
    samples = list(photos.samples)
    samples[5] = Sample(samples[5].key, samples[5].path, "train", samples[5].group, {"age": 20})
    samples.append(Sample("p99/new.jpg", tmp_path, "train", "p99", {"mask": "wear"}))
    samples.append(Sample("test/a.jpg", tmp_path, "eval", None, {}))
    changed = PhotoSet(tmp_path, "csv", tuple(samples))
    config = configure(optim__epochs=1)
    summary = train(changed, schema, crops, config, runs_dir=tmp_path / "runs")
    assert summary.n_photos == 34
    assert summary.excluded == {
        "unreadable": 1, "no label for mask": 1, "not in the crop set (run detect)": 1,
    }  # fmt: skip
    oof = pl.read_parquet(summary.run_dir / "oof.parquet")
    assert {"p00/wear.jpg", samples[5].key, "p99/new.jpg"}.isdisjoint(oof["key"])


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = run(tmp_path, configure(optim__epochs=1))
    before = results(first.run_dir)
    console = Console(file=io.StringIO(), width=200)
    again = run(tmp_path, configure(optim__epochs=1), console=console)
    assert again.trained_folds == ()
    assert again.scores == first.scores
    assert_same(results(first.run_dir), before)
    assert "finished already" in console.file.getvalue()  # type: ignore[attr-defined]


def test_fold_by_fold_is_the_same_as_all_at_once(tmp_path: Path) -> None:
    at_once = run(tmp_path, configure(), runs="a")
    second = run(tmp_path, configure(folds__fold=1), runs="b")
    assert [fold.fold for fold in second.folds] == [1]
    assert second.scores["mask"].n_photos == 18
    both = run(tmp_path, configure(folds__fold=0), runs="b")
    assert both.scores == at_once.scores
    assert_same(results(both.run_dir), results(at_once.run_dir))


def test_workers_and_preloading_change_no_result(tmp_path: Path) -> None:
    plain = run(tmp_path, configure(optim__epochs=1), runs="a")
    config = configure(optim__epochs=1, data__workers=2, data__preload="none")
    assert_same(results(run(tmp_path, config, runs="b").run_dir), results(plain.run_dir))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optim__lr": 1e-4}, r"optim\.lr was 0\.005, now 0\.0001.*--name"),
        ({"seed": 5}, r"seed was 0, now 5"),
    ],
)
def test_a_run_folder_of_another_config_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    run(tmp_path, configure(optim__epochs=1))
    with pytest.raises(TrainError, match=message):
        run(tmp_path, configure(optim__epochs=1, **change))


def test_a_run_folder_of_other_labels_crops_or_schema_is_refused(tmp_path: Path) -> None:
    photos, schema, crops = draw(tmp_path)
    config = configure(optim__epochs=1)
    train(photos, schema, crops, config, runs_dir=tmp_path / "runs")
    fewer = PhotoSet(tmp_path, "csv", photos.samples[:-1])
    with pytest.raises(TrainError, match="was trained on 36 photos, and now there are 35"):
        train(fewer, schema, crops, config, runs_dir=tmp_path / "runs")
    data = schema.to_dict()
    data["tasks"]["age"]["bins"] = [25, 60]
    with pytest.raises(TrainError, match="another label schema"):
        train(photos, LabelSchema.from_dict(data), crops, config, runs_dir=tmp_path / "runs")
    other = CropSet("ellipse-33", crops.folder, {"image_size": SIZE, "margin": 1})
    with pytest.raises(TrainError, match="trained on crops ellipse-32, not on ellipse-33"):
        train(photos, schema, other, config, runs_dir=tmp_path / "runs")


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mask-test_resnet"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(TrainError, match="is no run"):
        run(tmp_path, configure())
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_a_run_that_failed_at_its_start_may_go_on_with_other_settings(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="refuses 40x40"):
        run(tmp_path, configure(name="r", model__backbone="test_vit", data__image_size=40))
    summary = run(tmp_path, configure(name="r", data__image_size=32, optim__epochs=1))
    meta = json.loads((summary.run_dir / "fold0/last/meta.json").read_text())
    assert (meta["backbone"], meta["image_size"]) == ("test_resnet", 32)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (configure("masc"), r"no task 'masc' .*did you mean 'mask'\? it has mask, gender, age"),
        (configure(folds__n_folds=13), r"13 folds need .* has 12: lower --folds"),
        (configure(model__backbone="convnext_tny"), "did you mean convnext_tiny"),
        (configure(optim__amp="fp16"), "fp16 needs a GPU"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_explained(
    tmp_path: Path, config: TrainConfig, message: str
) -> None:
    with pytest.raises(TrainError, match=message):
        run(tmp_path, config)
    assert not (tmp_path / "runs").exists()


def test_one_class_no_photos_and_bad_facts_are_explained(tmp_path: Path) -> None:
    photos, schema, crops = draw(tmp_path)
    worn = tuple(s for s in photos.samples if s.labels["mask"] == "wear")
    runs = tmp_path / "runs"
    with pytest.raises(TrainError, match="task 'mask' has one class only: all 12 photos"):
        train(PhotoSet(tmp_path, "csv", worn), schema, crops, configure(), runs_dir=runs)
    bare = tuple(Sample(s.key, s.path, "train", s.group, {}) for s in photos.samples)
    with pytest.raises(TrainError, match=r"no photo .* 36 no label for mask"):
        train(PhotoSet(tmp_path, "csv", bare), schema, crops, configure(), runs_dir=runs)
    odd = (Sample("x.jpg", tmp_path, "train", "x", {"mask": "scarf"}), *photos.samples)
    with pytest.raises(DataError, match="scarf"):
        train(PhotoSet(tmp_path, "csv", odd), schema, crops, configure(), runs_dir=runs)


def test_a_loss_that_explodes_keeps_the_last_checkpoint_and_says_where(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"NaN or infinite; no epoch was finished.*optim\.lr"):
        run(tmp_path, configure(name="a", optim__lr=1e30, optim__clip_grad=0))
    run(tmp_path, configure(name="a", optim__epochs=1))  # nothing was made: the name is free

    config = configure(name="b", optim__epochs=2)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, config, console=stop_after("fold 0 epoch 1/"))
    poison_state(tmp_path / "runs/b/fold0/state")
    last = tmp_path / "runs" / "b" / "fold0" / "last"
    before = (last / "model.safetensors").read_bytes()
    with pytest.raises(TrainError, match=r"the checkpoint before is kept in .*b/fold0/last"):
        run(tmp_path, config)
    assert (last / "model.safetensors").read_bytes() == before
    load_checkpoint(last, "cpu")


OF_THE_FILE = ("format", "tensors", "weights_hash")


def poison_state(folder: Path) -> None:
    from cropfirst.stage2_classify.runs.checkpoint import load_state, save_state

    state = load_state(folder)
    assert state is not None
    tensors, data = state
    tensors["model.heads.0.out.bias"][0] = float("nan")
    save_state(folder, tensors, {k: v for k, v in data.items() if k not in OF_THE_FILE})


@pytest.mark.parametrize(
    ("n_rows", "more", "want"),
    [
        (48, {}, 6), (18, {}, 4), (3, {}, 3), (511, {}, 63), (512, {}, 64), (30_000, {}, 64),
        (40, {"processes": 4}, 8), (640, {"accumulate": 4}, 20),
    ],
)  # fmt: skip
def test_the_default_batch_leaves_small_data_eight_steps(
    n_rows: int, more: dict[str, int], want: int
) -> None:
    assert default_batch_size(n_rows, **{"accumulate": 1, "processes": 1, **more}) == want


def test_the_chosen_batch_size_is_shown_stored_and_resumed(tmp_path: Path) -> None:
    config = configure(data__batch_size=None)
    whole = run(tmp_path, config, runs="whole")
    console = stop_after("fold 0 epoch 1/")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, config, runs="cut", console=console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "data.batch_size=4, by default: about 5 steps per epoch" in said
    cut = run(tmp_path, config, runs="cut")
    assert_same(results(cut.run_dir), results(whole.run_dir))
    assert_same(results(run(tmp_path, configure(data__batch_size=4)).run_dir), results(cut.run_dir))
    assert load_yaml(cut.run_dir / "config.yaml")["data"]["batch_size"] == 4
    _, meta = load_checkpoint(cut.run_dir / "fold0/last", "cpu")
    assert meta["config"]["data"]["batch_size"] == 4


def test_a_run_of_an_earlier_version_keeps_its_batch_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stored none, and took 64 crops, or all of them where there were fewer."""
    config = configure(data__batch_size=None)
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "default_batch_size", lambda *_, **__: None)
        whole = run(tmp_path, config, runs="whole")
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, config, runs="cut", console=stop_after("fold 1 epoch 1/"))
    cut = run(tmp_path, config, runs="cut")
    assert_same(results(cut.run_dir), results(whole.run_dir))
    at_once = run(tmp_path, configure(data__batch_size=18))
    assert (
        results(at_once.run_dir)["fold0/metrics.json"] == results(cut.run_dir)["fold0/metrics.json"]
    )


def test_training_leaves_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    want = torch.rand(3)
    torch.manual_seed(1)
    run(tmp_path, configure(optim__epochs=1))
    assert torch.equal(torch.rand(3), want)


def test_another_process_at_the_same_fold_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mask-test_resnet" / "fold0"
    folder.mkdir(parents=True)
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from cropfirst.stage2_classify.runs.run_folder import run_lock\n"
        f"with run_lock(Path({str(folder)!r})):\n"
        "    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(
            TrainError, match=rf"is being trained by process {other.pid} on \S+: wait"
        ):
            run(tmp_path, configure(optim__epochs=1))
        other.kill()
    assert run(tmp_path, configure(optim__epochs=1)).trained_folds == (0, 1)


def test_the_console_says_epochs_device_and_where_it_wrote(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    summary = run(tmp_path, configure(optim__epochs=1), console=console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "mask: 36 photos, 12 persons, 2 folds, test_resnet" in text
    assert "device: cpu" in text
    assert "fold 1 epoch 1/1  loss" in text
    assert f"run: {summary.run_dir}" in text
    assert f"{summary.scores['mask'].macro_f1:.4f}" in text


@pytest.mark.parametrize(("in_folds", "explained"), [((1 / 3, 1 / 3), True), ((0.49, 0.5), False)])
def test_a_score_far_from_the_mean_of_the_folds_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_folds: tuple[float, ...], explained: bool
) -> None:
    def score(*args: Any, **kwargs: Any) -> RunSummary:
        folds = tuple(
            FoldResult(fold, 1, {"mask": TaskScore(value, 0.5, 18)})
            for fold, value in enumerate(in_folds)
        )
        return replace(finish_run(*args, **kwargs), scores=pooled, folds=folds)

    pooled = {"mask": TaskScore(0.5, 0.5, 36)}
    monkeypatch.setattr(train_module, "finish_run", score)
    console = Console(file=io.StringIO(), width=300)
    run(tmp_path, configure(optim__epochs=1), console=console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("is not the mean of the folds (mask 0.5000, mean 0.3333)" in text) == explained
    assert ("not the mean" in text) == explained


def test_bf16_on_the_cpu_trains(tmp_path: Path) -> None:
    config = configure(optim__amp="bf16", optim__epochs=1, model__backbone="test_vit")
    assert run(tmp_path, config).scores["mask"].macro_f1 > 0


@pytest.mark.requires_cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("amp", ["auto", "fp16", "off"])
def test_a_gpu_trains_in_every_precision_and_resumes(tmp_path: Path, amp: str) -> None:
    config = configure(optim__amp=amp, device="cuda", data__workers=2)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, config, console=stop_after("fold 1 epoch 2/"))
    summary = run(tmp_path, config)
    assert summary.trained_folds == (1,)
    assert summary.scores["mask"].macro_f1 > 0.9
    assert summary.device.startswith("cuda")
    model, _ = load_checkpoint(summary.run_dir / "fold0" / "best_f1", "cpu")
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_copies_of_a_photo_in_different_folds_are_warned_of(tmp_path: Path) -> None:
    photos, schema, crops = draw(tmp_path)
    rows = {row["key"]: row for row in crops.manifest.read().iter_rows(named=True)}
    copies = [f"p{person:02d}/wear.jpg" for person in range(6)]
    same = rows[copies[0]]["crop_hash"]
    crops.manifest.append([rows[key] | {"crop_hash": same} for key in copies])

    text = io.StringIO()
    config = configure(optim__epochs=1, folds__fold=0)
    console = Console(file=text, width=1000)
    train(photos, schema, crops, config, runs_dir=tmp_path / "runs", console=console)
    warning = "1 crops occur in more than one fold, in 6 photos (p00/wear.jpg, p01/wear.jpg)"
    assert warning in text.getvalue()
    # With one person, they are in one fold.
    samples = [
        replace(sample, group="one" if sample.key in copies else sample.group)
        for sample in photos.samples
    ]
    photos = replace(photos, samples=tuple(samples))
    training = prepare_run(photos, schema, crops, config, runs_dir=tmp_path / "other").training
    assert find_copies_across_folds(training, crops) == []
