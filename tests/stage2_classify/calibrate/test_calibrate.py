"""Calibration over run folders: of the vote that `predict` gives, by people it does not know."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from cropfirst.core.errors import DataError, TrainError
from cropfirst.stage2_classify.calibrate.check import check_calibration
from cropfirst.stage2_classify.calibrate.held_out import HeldOut
from cropfirst.stage2_classify.calibrate.run import calibrate
from cropfirst.stage2_classify.datasets.sample import PhotoSet
from cropfirst.stage2_classify.ensemble.run import EnsembleOptions, build_ensemble
from cropfirst.stage2_classify.ensemble.search import SearchSteps
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.metrics.calibration import scale
from cropfirst.stage2_classify.metrics.conformal import fit_limits
from cropfirst.stage2_classify.predict.ensemble_file import choose_ensemble, ensemble_beside
from cropfirst.stage2_classify.predict.predict import predict
from cropfirst.stage2_classify.predict.predictor import Predictor

Save = Callable[..., Path]


@pytest.fixture
def one_run(save_member: Save, save_people: Save, make_crops: Any, schema: LabelSchema) -> Path:
    """A run of all tasks with out-of-fold predictions of 50 people, three photos each."""
    run = save_member("one", make_crops({"x.jpg": "detected"}), tasks=schema.task_names)
    return save_people(run, photos=3, strength=2.0)


def oof_column(run: Path, task: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, C) probabilities, (N,) targets and (N,) persons of a run's table."""
    table = pl.read_parquet(run / "oof.parquet")
    people = table["group"].cast(pl.Int32).to_numpy()
    return np.stack(table[f"{task}_probs"].to_list()), table[f"{task}_target"].to_numpy(), people


def test_a_run_without_an_ensemble_gets_one_with_its_temperature(
    one_run: Path, tmp_path: Path
) -> None:
    path = ensemble_beside([one_run])
    assert path == ensemble_beside([one_run.parent]) == tmp_path / "ensemble/ensemble.json"
    found = calibrate([one_run], path=path, alphas=(0.1, 0.25))
    by_ensemble = build_ensemble(
        [one_run],
        out_dir=tmp_path / "other",
        options=EnsembleOptions(SearchSteps((), ("temperature",))),
    )
    stored, other = (json.loads(each.read_text()) for each in (path, by_ensemble.path))
    assert stored["tasks"] == other["tasks"] and stored["runs"] == other["runs"]
    assert stored["calibration"]["source"] == "out of fold"
    voting = choose_ensemble([one_run], default=path)
    limits = voting.set_limits(0.1)
    assert set(limits) == {"mask", "gender", "age"}
    for task, own in limits.items():
        probs, targets, people = oof_column(one_run, task)
        scaled = np.asarray(scale(probs, stored["tasks"][task]["temperature"]), np.float32)
        for code, limit in enumerate(own):
            rows = targets == code
            assert limit == fit_limits(scaled[rows, code], people[rows], [0.1])[0]
    scores = {(each.task, each.by, each.value, each.alpha): each for each in found.scores}
    for task, own in (("mask", "wear"), ("gender", "male"), ("age", "<30")):
        score = scores[task, task, own, 0.1]
        assert 0.9 <= score.shares["coverage"].value <= 1 and not score.is_low
        narrower = scores[task, task, own, 0.25].shares
        assert narrower["several"].value <= score.shares["several"].value
    assert (
        scores["mask", "", "", 0.1].n_people == 50 and scores["mask", "", "", 0.1].n_photos == 150
    )
    assert any(by == "gender" and task == "age" for task, by, _, _ in scores)


def test_the_calibration_is_of_the_vote_whatever_its_rule(
    one_run: Path, save_member: Save, save_people: Save, make_crops: Any, schema: LabelSchema,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Weights, a hard vote, a route and thresholds: probabilities as the ensemble votes."""
    runs = [one_run]
    for seed, name in enumerate(("two", "three"), start=1):
        run = save_member(name, make_crops({"x.jpg": "detected"}), tasks=schema.task_names)
        runs.append(save_people(run, photos=3, strength=1.0 + seed, seed=seed))
    path = tmp_path / "ensemble.json"
    options = EnsembleOptions(routes={"age": "mask"})
    build_ensemble(runs, out_dir=tmp_path, options=options)
    data = json.loads(path.read_text())
    names = list(data["runs"])
    data["tasks"]["mask"] |= {"vote": "hard", "offsets": [0.5, 0.0, 0.0]}
    data["tasks"]["age"] |= {
        "route": "mask",
        "weights": {
            name: {run: float(place == code) + 0.1 for place, run in enumerate(names)}
            for code, name in enumerate(schema.class_names("mask"))
        },
    }
    path.write_text(json.dumps(data))
    calibrate(runs, path=path)
    stored = json.loads(path.read_text())
    assert stored["tasks"] == data["tasks"] and stored["steps"] == data["steps"]
    voting = choose_ensemble(runs, ensemble=path)
    vote = voting.vote([
        {task: oof_column(tmp_path / "runs" / name, task)[0] for task in schema.task_names}
        for name in voting.run_names
    ])  # fmt: skip
    for task, limits in voting.set_limits(0.2).items():
        _, targets, people = oof_column(one_run, task)
        for code, limit in enumerate(limits):
            rows = targets == code
            wanted = fit_limits(vote.probs[task][rows, code], people[rows], [0.2])[0]
            assert limit == wanted, task


def test_a_run_of_the_combined_code_is_calibrated_on_its_parts(
    save_member: Save, save_people: Save, make_crops: Any, schema: LabelSchema, tmp_path: Path
) -> None:
    crops = make_crops({"x.jpg": "detected"})
    run = save_people(save_member("code", crops, tasks=("class18",)), photos=2, strength=3.0)
    parts = [oof_column(run, task) for task in ("mask", "gender", "age")]
    joint = np.einsum("ni,nj,nk->nijk", *(probs for probs, _, _ in parts)).reshape(100, 18)
    codes = np.ravel_multi_index([targets for _, targets, _ in parts], (3, 2, 3))
    pl.read_parquet(run / "oof.parquet").select("key", "group", "fold", "status").with_columns(
        pl.Series("class18_target", codes, dtype=pl.Int32),
        pl.Series("class18_probs", joint.tolist(), dtype=pl.List(pl.Float32)),
    ).write_parquet(run / "oof.parquet")
    path = tmp_path / "ensemble.json"
    calibrate([run], path=path)
    voting = choose_ensemble([run], ensemble=path)
    limits = voting.set_limits(0.1)
    assert set(limits) == {"mask", "gender", "age"}
    found = voting.vote([{"class18": joint.astype(np.float32)}])
    for task, (_, targets, people) in zip(("mask", "gender", "age"), parts, strict=True):
        for code, limit in enumerate(limits[task]):
            rows = targets == code
            assert limit == fit_limits(found.probs[task][rows, code], people[rows], [0.1])[0]


def test_a_calibration_of_another_vote_is_not_used(
    one_run: Path, save_people: Save, save_member: Save, make_crops: Any, schema: LabelSchema,
    tmp_path: Path,
) -> None:  # fmt: skip
    path = tmp_path / "ensemble.json"
    with pytest.raises(TrainError, match=r"--alpha needs a calibration .*all runs' folds weigh"):
        choose_ensemble([one_run], default=path).set_limits(0.1)
    calibrate([one_run], path=path)
    stored = json.loads(path.read_text())
    stored["tasks"]["mask"]["temperature"] *= 2
    path.write_text(json.dumps(stored))
    changed = choose_ensemble([one_run], ensemble=path)
    with pytest.raises(TrainError, match="was made for other runs or another vote"):
        changed.set_limits(0.1)
    del stored["calibration"]["tasks"]["mask"]["classes"]
    path.write_text(json.dumps(stored))
    choose_ensemble([one_run], ensemble=path)  # it is not of this vote: nobody reads further
    console = Console(file=io.StringIO(), width=200)
    build_ensemble([one_run], out_dir=tmp_path, options=EnsembleOptions(), console=console)
    assert "its calibration was of the earlier vote" in console.file.getvalue()  # type: ignore[attr-defined]
    with pytest.raises(TrainError, match="it has no calibration"):
        choose_ensemble([one_run], ensemble=path).set_limits(0.1)
    calibrate([one_run], path=path)
    damaged = json.loads(path.read_text())
    damaged["calibration"]["tasks"]["mask"]["classes"] = {}
    path.write_text(json.dumps(damaged))
    with pytest.raises(TrainError, match="is damaged or was edited"):
        choose_ensemble([one_run], ensemble=path)
    # Another training of the same run has other weights.
    path.unlink()
    calibrate([one_run], path=path)
    save_member("one", make_crops({"x.jpg": "detected"}), tasks=schema.task_names, fold=1)
    with pytest.raises(TrainError, match="is not used"):
        choose_ensemble([one_run], default=path).set_limits(0.1)
    with pytest.raises(TrainError, match=r"not for these runs.*another file.*--ensemble FILE"):
        calibrate([one_run], path=path)


def test_too_few_people_are_refused_with_what_they_carry(one_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "ensemble.json"
    with pytest.raises(
        TrainError, match=r"--alpha 0\.01 needs at least 99 people of every class"
    ) as told:
        calibrate([one_run], path=path, alphas=(0.2, 0.01))
    _, targets, people = oof_column(one_run, "gender")
    counts = [len(np.unique(people[targets == code])) for code in (0, 1)]
    least = 1 / (min(counts) + 1)
    assert f"gender has male {counts[0]}, female {counts[1]} people" in str(told.value)
    assert f"{least:.3g} or more" in str(told.value) and not path.exists()
    table = pl.read_parquet(one_run / "oof.parquet")
    table.filter(pl.col("mask_target") != 1).write_parquet(one_run / "oof.parquet")
    with pytest.raises(TrainError, match=r"mask has wear \d+, incorrect 0, .* carry no error rate"):
        calibrate([one_run], path=path)
    table.write_parquet(one_run / "oof.parquet")
    found = calibrate([one_run], path=path, tasks=["gender"])
    assert set(found.calibration.tables) == {"gender"}
    with pytest.raises(TrainError, match="--tasks colour: these runs predict mask, gender, age"):
        calibrate([one_run], path=path, tasks=["colour"])
    # What is asked for later is held against the same numbers.
    voting = choose_ensemble([one_run], ensemble=path)
    with pytest.raises(TrainError, match=r"gender: an error rate of 0\.005 needs .*male"):
        voting.set_limits(0.005)
    assert set(voting.set_limits(least + 1e-6)) == {"gender"}


def test_a_task_at_chance_gets_no_sets(one_run: Path, save_people: Save, tmp_path: Path) -> None:
    save_people(one_run, photos=3, strength=0.0)
    with pytest.raises(TrainError, match="mask is not calibrated: no better than chance"):
        calibrate([one_run], path=tmp_path / "ensemble.json")
    good = pl.read_parquet(save_people(tmp_path / "good", photos=3, strength=3.0) / "oof.parquet")
    table = pl.read_parquet(one_run / "oof.parquet")
    table.with_columns(good["mask_probs"]).write_parquet(one_run / "oof.parquet")
    found = calibrate([one_run], path=tmp_path / "ensemble.json")
    assert set(found.calibration.tables) == {"mask"} and len(found.left_out) == 2


def test_what_has_no_out_of_fold_predictions_is_refused(one_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "ensemble.json"
    calibrate([one_run], path=path)
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "views": ["flip"]}))
    with pytest.raises(TrainError, match=r"votes with best_f1, flip, .*--data HELD_OUT"):
        calibrate([one_run], path=path)
    folds = one_run / "soup/folds"
    folds.parent.mkdir()
    (one_run / "fold0/best_f1").rename(folds)
    with pytest.raises(TrainError, match=r"soup votes and was trained on everybody.*--data") as no:
        calibrate([folds], path=tmp_path / "soup.json")
    assert f"cropfirst calibrate {one_run / 'fold0'} --ensemble fold0.json" in str(no.value)


def test_the_coverage_in_swapped_rooms_is_by_the_limits_of_own_rooms(
    save_in_rooms: Save, save_member: Save, make_crops: Any, tmp_path: Path
) -> None:
    run = save_member("room", make_crops({"x.jpg": "detected"}), tasks=("gender",))
    save_in_rooms(run, own=5.0, swapped=-2.0)
    console = Console(file=io.StringIO(), width=200)
    found = calibrate([run], path=tmp_path / "ensemble.json", console=console)
    (there,) = (each for each in found.scores if each.by == "room")
    assert there.is_low and there.shares["coverage"].high < 0.7
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "slices that miss the true class more often" in said and "room swapped" in said


@pytest.fixture
def strangers(
    one_run: Path, make_crops: Any, make_photos: Callable[..., PhotoSet]
) -> tuple[Path, HeldOut, np.ndarray]:
    """The run, 60 other people of two photos each, whom it knows well, and their true genders."""
    keys = [f"{person:03d}/{photo}.jpg" for person in range(100, 160) for photo in range(2)]
    make_crops(dict.fromkeys([*keys, "00/0.jpg"], "detected") | {keys[0]: "unreadable"})
    found = Predictor([one_run], device="cpu").predict_crops([make_crops.crop(k) for k in keys])
    scores = np.array([each.probs["gender"][1] for each in found])
    codes = (scores > np.median(scores)).astype(int)
    codes[::9] = 1 - codes[::9]  # mistakes
    labels = {
        key: {"gender": ("male", "female")[code]} for key, code in zip(keys, codes, strict=True)
    }
    photos = make_photos([*keys, "00/0.jpg"], labels=labels | {"00/0.jpg": {"gender": "male"}})
    samples = tuple(replace(each, group=each.key.partition("/")[0]) for each in photos.samples)
    return one_run, HeldOut(replace(photos, samples=samples), make_crops.cache, "cpu"), codes


def test_other_people_calibrate_what_predict_says_of_them(
    strangers: tuple[Path, HeldOut, np.ndarray], tmp_path: Path
) -> None:
    run, data, codes = strangers
    path = tmp_path / "ensemble.json"
    console = Console(file=io.StringIO(), width=200)
    found = calibrate([run], path=path, data=data, console=console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "left out: 1 photos of people that a run was trained on, such as 00/0.jpg" in said
    assert "left out: 1 photos without a crop" in said
    assert found.calibration.source == "held-out people"
    everybody = next(each for each in found.scores if each.by == "")
    assert everybody.n_people == 60 and everybody.n_photos == 119
    done = predict(
        data.photos, data.cache, [run], out_dir=tmp_path / "out", device="cpu", ensemble=path,
        alpha=0.1,
    )  # fmt: skip
    table = pl.read_parquet(done.path).filter(pl.col("key") != "00/0.jpg")
    probs = np.stack(table["gender_probs"].to_list())
    people = table["key"].str.slice(0, 3).cast(pl.Int32).to_numpy()
    seen = table["members"].to_numpy() > 0
    limits = choose_ensemble([run], ensemble=path).set_limits(0.1)["gender"]
    for code, limit in enumerate(limits):
        rows = seen & (codes == code)
        assert limit == fit_limits(probs[rows, code], people[rows], [0.1])[0]
    # Loaded for single crops, the same.
    predictor = Predictor([run], device="cpu", ensemble=path, alpha=0.1)
    crops = data.cache.find(None).reader()
    keys = [key for key, there in zip(table["key"], seen, strict=True) if there]
    found_again = predictor.predict_crops([crops[key] for key in keys])
    sets = table.filter(pl.col("members") > 0)["gender_possible"].to_list()
    assert [list(each.possible["gender"]) for each in found_again] == sets
    # And predict's sets are by these limits; without a crop, everything is possible.
    names = ("male", "female")
    for row, (own, possible) in enumerate(zip(probs, table["gender_possible"], strict=True)):
        wanted = [n for n, p, limit in zip(names, own, limits, strict=True) if p >= limit]
        assert possible.to_list() == (wanted if seen[row] else list(names))
    assert sum(done.sets["gender"].values()) == 121 and "mask_possible" not in table.columns
    assert "mask, age have no sets" in " ".join(done.notes)


def test_a_check_is_on_people_who_did_not_calibrate(
    strangers: tuple[Path, HeldOut, np.ndarray], tmp_path: Path
) -> None:
    run, data, _ = strangers
    path = tmp_path / "ensemble.json"
    samples = data.photos.samples
    first, last = (
        replace(data, photos=replace(data.photos, samples=part))
        for part in (samples[:62], samples[61:])  # the photos of one person are in both
    )
    calibrate([run], path=path, data=first)
    content = path.read_bytes()
    with pytest.raises(DataError, match=r"all people in .* or calibrated with: --data needs oth"):
        check_calibration([run], path=path, data=first)
    console = Console(file=io.StringIO(), width=200)
    scores = check_calibration([run], path=path, data=data, alphas=(0.1, 0.2), console=console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "photos of people who calibrated, such as" in said and "had a part in the limits" in said
    voting = choose_ensemble([run], ensemble=path)
    done = predict(
        last.photos, data.cache, [run], out_dir=tmp_path / "out", device="cpu", ensemble=path,
        alpha=0.2,
    )  # fmt: skip
    table = pl.read_parquet(done.path).filter(~pl.col("key").str.starts_with(samples[61].group))
    labels = [data.photos.by_key()[key].labels["gender"] for key in table["key"]]
    hits = [label in own for label, own in zip(labels, table["gender_possible"], strict=True)]
    (everybody,) = (each for each in scores if each.by == "" and each.alpha == 0.2)
    assert everybody.n_photos == len(hits) and everybody.n_people * 2 == len(hits)
    assert everybody.shares["coverage"].value == pytest.approx(np.mean(hits))
    assert path.read_bytes() == content and set(voting.set_limits(0.1)) == {"gender"}
    with pytest.raises(TrainError, match="has no calibration of age"):
        check_calibration([run], path=path, data=data, tasks=["age"])


def test_one_fold_is_calibrated_alone(
    one_run: Path, save_people: Save, save_member: Save, make_crops: Any, schema: LabelSchema,
    tmp_path: Path,
) -> None:  # fmt: skip
    """As a bundle of one network has it."""
    fold = save_people(one_run / "fold0", photos=2, strength=3.0)
    (fold / "schema.json").unlink()
    table = pl.read_parquet(fold / "oof.parquet").filter(pl.col("fold") == 0)
    table.write_parquet(fold / "oof.parquet")
    path = ensemble_beside([fold])
    assert path == tmp_path / "ensemble/ensemble.json"
    console = Console(file=io.StringIO(), width=1000)
    found = calibrate([fold], path=path, alphas=(0.3,), console=console)
    assert max(each.n_people for each in found.scores) == 25
    assert "held out from the fold" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "averages the folds" not in console.file.getvalue()  # type: ignore[attr-defined]
    assert set(choose_ensemble([fold], default=path).set_limits(0.3)) <= {"mask", "gender", "age"}
    save_member("one", make_crops({"x.jpg": "detected"}), tasks=schema.task_names, fold=1)
    wanted = r"it is for fold0 of one, not for fold1; .* cropfirst calibrate RUN/foldK"
    with pytest.raises(TrainError, match=wanted):
        choose_ensemble([one_run / "fold1"], ensemble=path)
    shutil.rmtree(one_run / "fold1")
    shutil.copytree(fold, one_run / "fold1")
    with pytest.raises(TrainError, match="itself, or one of its folds alone"):
        calibrate([fold, one_run / "fold1"], path=tmp_path / "both.json")


def test_people_that_a_run_knows_do_not_calibrate_it(
    strangers: tuple[Path, HeldOut, np.ndarray], tmp_path: Path
) -> None:
    run, data, _ = strangers
    path = tmp_path / "ensemble.json"
    known = replace(
        data.photos, samples=tuple(replace(each, group="07") for each in data.photos.samples)
    )
    with pytest.raises(DataError, match=r"all people in .* are among those that the runs were tr"):
        calibrate([run], path=path, data=replace(data, photos=known))
    # Nor do people of the run that its training started from.
    first = run.parent / "first"
    first.mkdir()
    table = pl.read_parquet(run / "folds.parquet").with_columns(group=pl.lit("100"))
    table.write_parquet(first / "folds.parquet")
    (run / "config.yaml").write_text("init_from: first\n")
    console = Console(file=io.StringIO(), width=200)
    calibrate([run], path=tmp_path / "other.json", data=data, console=console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "left out: 3 photos of people that a run was trained on" in said
    (run / "config.yaml").write_text("init_from: elsewhere\n")
    with pytest.raises(TrainError, match=r"from elsewhere \(--init-from\), which is not there"):
        calibrate([run], path=path, data=data)
    (run / "config.yaml").unlink()
    blank = replace(
        data.photos, samples=tuple(replace(each, labels={}) for each in data.photos.samples)
    )
    with pytest.raises(DataError, match=r"none of the photos in .* has a label for mask, gend"):
        calibrate([run], path=path, data=replace(data, photos=blank))
    (run / "folds.parquet").unlink()
    with pytest.raises(TrainError, match=r"folds\.parquet is missing, so nobody can tell which"):
        calibrate([run], path=path, data=data)
    assert not path.exists()
