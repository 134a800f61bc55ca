"""Whole runs with every kind of head, of a part of the people, by label rules, and going on."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from cropfirst.cache import Cache, CropSet
from cropfirst.configs import load_config, recipe_names
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.datasets.sample import PhotoSet, Sample
from cropfirst.stage2_classify.evaluate.evaluate import evaluate_oof
from cropfirst.stage2_classify.labels.schema import load_schema
from cropfirst.stage2_classify.model.backbones import check_backbone
from cropfirst.stage2_classify.predict.predict import predict
from cropfirst.stage2_classify.predict.predictor import Member, Predictor
from cropfirst.stage2_classify.runs.results import RunSummary
from cropfirst.stage2_classify.train.train import train

SIZE = 32
AGES = (20, 28, 34, 45, 58, 59, 60, 60)


class World:
    """People whose age is the height of a bar, and whose gender is its colour."""

    def __init__(self, root: Path) -> None:
        self.root = root
        cache = Cache.open(root / "cache", create=True)
        self.cache = cache
        self.crops: CropSet = cache.crop_set("ellipse-32", {"image_size": SIZE})
        self.samples: list[Sample] = []

    def add(self, people: range, *, n_photos: int = 2) -> None:
        """People of cycling ages and genders."""
        rows = []
        with self.crops.writer() as writer:
            for person in people:
                age, gender = AGES[person // 2 % len(AGES)], ("male", "female")[person % 2]
                for shot in range(n_photos):
                    key = f"p{person:03d}/{shot}.jpg"
                    rng = np.random.default_rng([person, shot])
                    crop = rng.integers(0, 60, (SIZE, SIZE, 3)).astype(np.uint8)
                    crop[: (age - 15) // 2, :, person % 2] = 250
                    facts: dict[str, str | int | float] = {
                        "mask": ("wear", "normal")[shot % 2], "gender": gender, "age": age,
                    }  # fmt: skip
                    name = f"p{person:03d}"
                    self.samples.append(Sample(key, self.root / key, "train", name, facts))
                    rows.append(
                        {"key": key, "split": "train", "group": name, "status": "detected",
                         "crop_hash": writer.put(key, crop)}
                    )  # fmt: skip
        self.crops.manifest.append(rows)

    @property
    def photos(self) -> PhotoSet:
        return PhotoSet(self.root, "csv", tuple(sorted(self.samples, key=lambda s: s.key)))

    def train(
        self, task: str = "age", *, console: Console | None = None, **more: Any
    ) -> RunSummary:
        data: dict[str, Any] = {
            "task": task,
            "model": {"backbone": "test_resnet", "pretrained": False},
            "data": {"batch_size": 8, "augment": "none"},
            "optim": {"epochs": 2, "lr": 5e-3, "warmup_epochs": 0},
            "folds": {"n_folds": 2},
            "device": "cpu",
        }
        for name, value in more.items():
            section, _, key = name.partition("__")
            if key:
                data[section][key] = value
            else:
                data[section] = value
        config = TrainConfig.model_validate(data)
        return train(
            self.photos, load_schema(), self.crops, config, runs_dir=self.runs, console=console
        )

    @property
    def runs(self) -> Path:
        return self.root / "runs"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """32 people with two photos each."""
    made = World(tmp_path)
    made.add(range(32))
    return made


def probs_of(table: pl.DataFrame, task: str) -> np.ndarray:
    return np.stack(table[f"{task}_probs"].to_list())


ELEVEN = [19, 20, 21, 25, 30, 49, 53, 56, 58, 60]


@pytest.mark.parametrize(
    ("head", "more"),
    [
        ({"kind": "coral"}, {}),
        ({"kind": "corn", "bins": ELEVEN}, {}),
        ({"kind": "regression"}, {"loss": {"class_weights": "effective"}}),
        ({"bins": ELEVEN}, {"loss": {"terms": {"f1": 0.4, "focal": 0.6}}}),
        ({"mse": 0.1}, {"loss": {"class_weights": "inverse"}}),
        ({"kind": "regression"}, {"labels": {"shift": {"age": {60: 58}}}}),
    ],
)
def test_every_kind_of_head_goes_from_training_to_the_vote(
    world: World, head: dict[str, Any], more: dict[str, Any]
) -> None:
    summary = world.train("gender,age", head={"hidden": 16, "tasks": {"age": head}}, **more)
    oof = pl.read_parquet(summary.run_dir / "oof.parquet")
    # True classes whatever is learned, and probabilities of them.
    ages = {s.key: s.labels["age"] for s in world.photos.samples}
    truth = [0 if ages[key] < 30 else 1 if ages[key] < 60 else 2 for key in oof["key"]]  # type: ignore[operator]
    assert oof["age_target"].to_list() == truth
    np.testing.assert_allclose(probs_of(oof, "age").sum(1), 1, atol=1e-5)
    part = oof.filter(fold=0)
    crops = [world.crops.reader()[key] for key in part["key"]]
    member = Member.load(summary.run_dir / "fold0" / "best_f1")
    np.testing.assert_allclose(member.predict_crops(crops)["age"], probs_of(part, "age"), atol=1e-5)
    done = predict(world.photos, world.cache, [world.runs], out_dir=world.root / "out")
    table = pl.read_parquet(done.path)
    np.testing.assert_allclose(probs_of(table, "age").sum(1), 1, atol=1e-5)
    report = evaluate_oof([world.runs], out_dir=world.root / "eval").report("age")
    assert report is not None and report.macro_f1 == pytest.approx(summary.scores["age"].macro_f1)


def test_two_backbones_are_one_model(world: World) -> None:
    summary = world.train(
        "gender", model__second={"backbone": "test_vit"}, optim__epochs=1, model__drop_rate=0.2
    )
    assert summary.run_dir.name == "gender-test_resnet+test_vit"
    oof = pl.read_parquet(summary.run_dir / "oof.parquet").filter(fold=1)
    member = Member.load(summary.run_dir / "fold1" / "best_f1")
    crops = [world.crops.reader()[key] for key in oof["key"]]
    np.testing.assert_allclose(
        member.predict_crops(crops)["gender"], probs_of(oof, "gender"), atol=1e-5
    )


def test_label_rules_are_for_training_alone(world: World) -> None:
    console = Console(file=io.StringIO(), width=200)
    rules = {"shift": {"age": {60: 58}}, "drop": {"age": ["27-29"], "mask": ["normal"]}}
    summary = world.train(labels=rules, optim__epochs=1, console=console)
    folds = pl.read_parquet(summary.run_dir / "folds.parquet")
    ages = {s.key: s.labels["age"] for s in world.photos.samples}
    masks = {s.key: s.labels["mask"] for s in world.photos.samples}
    for row in folds.to_dicts():
        age = ages[row["key"]]
        true = 0 if age < 30 else 1 if age < 60 else 2  # type: ignore[operator]
        kept = age != 28 and masks[row["key"]] == "wear"
        assert (row["age_target"], row["trains"]) == (true, kept)
        if kept:
            assert row["age_learned"] == (2 if age in (58, 59) else true)
    oof = pl.read_parquet(summary.run_dir / "oof.parquet")
    assert oof["age_target"].to_list() == folds["age_target"].to_list()
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "in training alone: 8 photos, labels.shift.age: boundary 60 moved to 58" in said
    assert "in training alone: 8 photos, labels.drop.age: 27-29 left out of training" in said
    prior = json.loads((summary.run_dir / "fold0/last/meta.json").read_text())["class_prior"]
    trained = folds.filter((pl.col("fold") != 0) & pl.col("trains"))["age_target"]
    want = np.bincount(trained, minlength=3) / len(trained)
    assert prior["age"] == pytest.approx(want.tolist())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": {"shift": {"age": {55: 50}}}},
            "expects a boundary of the schema, it has 30, 60",
        ),
        (
            {"labels": {"shift": {"age": {60: 25}}}},
            "the neighbouring boundaries 30 and inf",
        ),
        ({"labels": {"shift": {"mask": {1: 2}}}}, "it has none: its classes are words"),
        ({"labels": {"drop": {"age": ["old"]}}}, "'old' is not a class, a number or a range of it"),
        ({"labels": {"drop": {"hair": ["red"]}}}, r"labels\.drop\.hair: no task 'hair'"),
        ({"labels": {"drop": {"age": ["<30", "0-60"]}}}, "would be trained on nothing alone"),
        ({"labels": {"drop": {"age": ["<30", ">=60"]}}}, "would be trained on 30-59 alone"),
        ({"where": {"gender": "man"}, "labels": {"drop": {"gender": ["m"]}}}, "nothing alone"),
        ({"where": {"gender": "boy"}}, "task gender has no class 'boy': it has male, female"),
        ({"where": {"class18": "x"}}, "name a task of the code class18"),
        ({"where": {"hair": "x"}}, "no task 'hair'"),
        ({"head": {"tasks": {"mask": {"kind": "coral"}}}, "task": "mask"}, "mask has none"),
        ({"model__backbone": "test_vit", "data__image_size": 40}, "refuses 40x40 crops"),
        ({"model__second": {"backbone": "test_vit"}, "data__image_size": 40}, "refuses 40x40"),
        ({"init_from": "nowhere"}, "expects a run such as .*nowhere is none"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    world: World, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainError, match=message):
        world.train(**{"task": "age", **change})
    assert not world.runs.exists()


def test_the_code_needs_all_its_tasks(world: World) -> None:
    from cropfirst.stage2_classify.labels.infer_schema import infer_schema

    world.samples = [
        Sample(s.key, s.path, s.split, s.group, {k: v for k, v in s.labels.items() if k != "mask"})
        for s in world.samples
    ]
    config = TrainConfig(task="class18", device="cpu")
    with pytest.raises(TrainError, match=r"combines mask, gender, age, .* no label for mask"):
        train(world.photos, infer_schema(world.photos), world.crops, config, runs_dir=world.runs)


def test_a_class_that_a_fold_never_sees_is_named(world: World) -> None:
    world.samples = [s for s in world.samples if s.labels["age"] != 60 or s.group == "p012"]
    console = Console(file=io.StringIO(), width=200)
    world.train(optim__epochs=1, console=console, loss={"class_weights": "inverse"})
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "is not trained on >=60 of age, and asked for it: too few people have it" in said


def test_a_model_of_men_learns_men_predicts_all_and_is_scored_on_men(world: World) -> None:
    summary = world.train(where={"gender": "m"}, optim__epochs=1)
    assert summary.run_dir.name == "age-gender=m-test_resnet"
    assert summary.scores["age"].n_photos == 32
    oof = pl.read_parquet(summary.run_dir / "oof.parquet")
    assert oof.height == 64 and oof["applies"].sum() == 32
    folds = pl.read_parquet(summary.run_dir / "folds.parquet")
    both = world.train("age", optim__epochs=1)
    same = pl.read_parquet(both.run_dir / "folds.parquet")
    assert folds["fold"].to_list() == same["fold"].to_list()  # so that runs can be put together
    assert folds["trains"].to_list() == folds["applies"].to_list()
    report = evaluate_oof([summary.run_dir], out_dir=world.root / "eval").report("age")
    assert report is not None and report.n_photos == 32
    assert "only the 32 photos of the gender that it was trained on" in report.note


@pytest.mark.parametrize("tasks", ["age", "age,mask"])
def test_the_loss_of_a_model_of_men_is_the_mean_over_men(world: World, tasks: str) -> None:
    """A batch holds the two photos of one person, so every other batch has no man."""
    summary = world.train(tasks, where={"gender": "m"}, optim__epochs=1, data__batch_size=2)
    for fold in (0, 1):
        folder = summary.run_dir / f"fold{fold}"
        men = pl.read_parquet(folder / "oof.parquet").filter("applies")
        losses = [
            -np.log(probs_of(men, task)[np.arange(men.height), men[f"{task}_target"].to_numpy()])
            for task in tasks.split(",")
        ]
        want = float(np.sum(losses, axis=0).mean())
        (row,) = pl.read_csv(folder / "history.csv").to_dicts()
        assert row["val_loss"] == pytest.approx(want, abs=1e-5)
        best = json.loads((folder / "metrics.json").read_text())["best"]["loss"]
        assert best["value"] == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("routing", ["soft", "hard"])
def test_conditional_models_are_routed_by_what_others_say(world: World, routing: str) -> None:
    for gender in ("male", "female"):
        world.train(where={"gender": gender}, routing=routing, optim__epochs=1, name=gender)
    with pytest.raises(TrainError, match="no run that is named says the gender of a photo"):
        predict(world.photos, world.cache, [world.runs], out_dir=world.root / "out")
    notes = evaluate_oof([world.runs], out_dir=world.root / "eval").notes
    assert any("male is not in the vote: no run predicts the gender" in note for note in notes)

    world.train("gender", name="gender", optim__epochs=3)
    crops = [world.crops.reader()[s.key] for s in world.photos.samples]
    own = {
        name: [
            Member.load(world.runs / name / f"fold{k}/best_f1").predict_crops(crops)
            for k in (0, 1)
        ]
        for name in ("male", "female", "gender")
    }  # fmt: skip
    gender = np.mean([each["gender"] for each in own["gender"]], axis=0)
    say = np.eye(2)[gender.argmax(1)] if routing == "hard" else gender
    ages = [np.mean([each["age"] for each in own[name]], axis=0) for name in ("male", "female")]
    want = say[:, :1] * ages[0] + say[:, 1:] * ages[1]

    done = predict(world.photos, world.cache, [world.runs], out_dir=world.root / "out")
    np.testing.assert_allclose(probs_of(pl.read_parquet(done.path), "age"), want, atol=1e-4)
    answers = Predictor([world.runs], device="cpu").predict_crops(crops)
    np.testing.assert_allclose([each.probs["age"] for each in answers], want, atol=1e-4)
    report = evaluate_oof([world.runs], out_dir=world.root / "eval").report("age")
    assert report is not None and report.n_photos == 64


def test_a_run_goes_on_when_people_come_and_nobody_changes_sides(world: World) -> None:
    first = world.train("gender,age", name="first")
    # New photos of known people, new people, and one known person's photos under no name.
    world.add(range(32, 40))
    world.add(range(4), n_photos=3)
    world.samples = list({sample.key: sample for sample in world.samples}.values())
    console = Console(file=io.StringIO(), width=300)
    second = world.train(
        "gender,age,mask", name="second", init_from="first", optim__lr=1e-9, console=console,
        optim__epochs=1,
    )  # fmt: skip
    old, new = (pl.read_parquet(s.run_dir / "folds.parquet") for s in (first, second))
    was = dict(zip(old["group"], old["fold"], strict=True))
    now = dict(zip(new["group"], new["fold"], strict=True))
    assert {name: now[name] for name in was} == was
    assert len(now) == 40 and new.height == 84
    fresh = [fold for name, fold in now.items() if name not in was]
    assert sorted(np.bincount(fresh, minlength=2).tolist()) == [4, 4]
    # Hardly a step was taken: fold k has the weights of fold k, which never saw its people.
    for fold in ("fold0", "fold1"):
        mine = load_file(second.run_dir / fold / "last/model.safetensors")
        theirs = load_file(first.run_dir / fold / "best_f1/model.safetensors")
        for key in theirs:
            if theirs[key].is_floating_point() and "running" not in key:
                torch.testing.assert_close(mine[key], theirs[key], atol=1e-5, rtol=0)
        report = json.loads((second.run_dir / fold / "weights.json").read_text())
        (tables,) = report.values()
        assert tables["missing"] == ["heads.mask.out.weight", "heads.mask.out.bias"]
        assert "heads.age.out.weight" in tables["matched"] and tables["unexpected"] == []
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "16 photos are of new people" in said and "2 missing (heads.mask.out" in said


def test_going_on_refuses_what_would_leak_or_not_fit(world: World) -> None:
    world.train("gender", name="first", optim__epochs=1)
    for change, message in (
        ({"name": "first"}, "would go on into itself: give the new run another --name"),
        ({"folds__n_folds": 3}, "has 2 folds, --folds 3 was asked for.*use --folds 2"),
        ({"model__backbone": "resnet10t"}, "is of another architecture|holds nothing of this"),
    ):
        with pytest.raises(TrainError, match=message):
            world.train("gender", **{"name": "next", "init_from": "first", **change})
    # Two people of different folds turn out to be one.
    folds = pl.read_parquet(world.runs / "first/folds.parquet")
    pair = [folds.filter(fold=k)["group"][0] for k in (0, 1)]
    world.samples = [
        Sample(s.key, s.path, s.split, "one" if s.group in pair else s.group, s.labels)
        for s in world.samples
    ]
    with pytest.raises(TrainError, match=r"person 'one' was in folds 0, 1 .*under other names"):
        world.train("gender", name="other", init_from="first")
    (world.runs / "first/fold1/metrics.json").unlink()
    with pytest.raises(TrainError, match=r"is not finished \(fold 1 is open\)"):
        world.train("gender", name="other", init_from="first")


def test_a_run_of_other_people_may_have_other_folds(world: World) -> None:
    first = world.train("gender", name="first", optim__epochs=1)
    table = first.run_dir / "folds.parquet"
    names = {name: pl.format("other/{}", pl.col(name)) for name in ("key", "group")}
    elsewhere = pl.read_parquet(table).with_columns(**names)
    elsewhere.write_parquet(table)
    # One fold is enough to start from.
    (first.run_dir / "fold1/metrics.json").unlink()
    tiny = {"init_from": "first", "optim__lr": 1e-9, "optim__epochs": 1, "folds__n_folds": 3}
    second = world.train("gender", name="second", **tiny)
    theirs = load_file(first.run_dir / "fold0/best_f1/model.safetensors")
    for fold in range(3):
        mine = load_file(second.run_dir / f"fold{fold}/last/model.safetensors")
        for key in (key for key in theirs if key.startswith("heads.")):
            torch.testing.assert_close(mine[key], theirs[key], atol=1e-5, rtol=0)
    # A single person in common binds the others.
    one = world.samples[0].group
    first_group = pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(one)).otherwise("group")
    elsewhere.with_columns(group=first_group).write_parquet(table)
    with pytest.raises(TrainError, match="has 2 folds, --folds 3 was asked for"):
        world.train("gender", name="third", **tiny)
    elsewhere.write_parquet(table)
    (first.run_dir / "fold0/metrics.json").unlink()
    with pytest.raises(TrainError, match="first has no finished fold to start from"):
        world.train("gender", name="third", **tiny)


def test_weights_of_a_fold_warn_of_the_people_they_have_seen(world: World) -> None:
    first = world.train("gender", name="first", optim__epochs=1)
    file = first.run_dir / "fold0/best_f1/model.safetensors"
    console = Console(file=io.StringIO(), width=300)
    world.train("age", name="next", model__weights=str(file), optim__epochs=1, console=console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "is a fold of a run: the people it was trained on may be validated here" in said
    assert " tensors loaded, 0 missing, 0 not used" in said


SMALL = {
    "tf_efficientnet_lite": {},
    "swin": {"embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4},
    "convnext": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
    "resnet": {"layers": [1, 1, 1, 1]},
}
"""Settings that make a family small. EfficientNets are stood in for by timm's one for tests."""
RECIPES = [
    ("best_offline", []),
    ("faces", []),
    ("fast", []),
    ("swin", []),
    ("convnext", []),
    ("effnet_f1", []),
    ("r0", []),
    ("r1", []),
    ("r2", []),
    ("r3", ["task=mask"]),
    ("r3", ["task=age", "where.gender=female"]),
    ("r4", ["task=gender"]),
    ("r4", ["task=age", "head.tasks.age.kind=regression"]),
    ("moonshot", []),
]


@pytest.mark.parametrize(
    ("name", "overrides"), RECIPES, ids=[" ".join([n, *o]) for n, o in RECIPES]
)
def test_every_recipe_trains(world: World, name: str, overrides: list[str]) -> None:
    task = next((each[5:] for each in overrides if each.startswith("task=")), None)

    def load(*more: str) -> TrainConfig:
        return load_config(
            TrainConfig, recipe=name, section="train", values={"task": task},
            overrides=[*(each for each in overrides if each[:5] != "task="), *more],
        )  # fmt: skip

    recipe = load()
    check_backbone(recipe.model.backbone)
    family = next((each for each in SMALL if recipe.model.backbone.startswith(each)), None)
    small = "test_efficientnet" if family is None else recipe.model.backbone
    config = load(
        f"model.backbone={small}", f"model.kwargs={json.dumps(SMALL.get(family or '', {}))}",
        "model.pretrained=false", "data.image_size=32", "data.batch_size=16", "optim.epochs=3",
        "optim.warmup_epochs=0", "folds.n_folds=2", "folds.fold=0", "folds.all_data=false",
        "device=cpu",
    )  # fmt: skip
    summary = train(world.photos, load_schema(), world.crops, config, runs_dir=world.runs)
    assert set(summary.scores) == set(recipe.tasks)
    history = pl.read_csv(summary.run_dir / "fold0/history.csv")
    assert history.height == 3 and history["train_loss"].is_finite().all()


def test_every_recipe_that_ships_is_tried() -> None:
    tried = {name for name, _ in RECIPES}
    assert tried | {"demo_swin", "demo_convnext"} == set(recipe_names())
