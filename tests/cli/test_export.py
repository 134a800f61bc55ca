"""Export: a bundle from a run, what it refuses, and the check of a bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cropfirst.door import Bundle
from cropfirst.stage2_classify.runs.parquet import read_parquet

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run_folder(trained: Any) -> Path:
    """The folder of the run of all three tasks."""
    (folder,) = trained.runs.iterdir()
    return folder


@pytest.fixture(scope="module")
def bundle(
    run_folder: Path, tmp_path_factory: pytest.TempPathFactory, ok: Callable[..., str]
) -> Path:
    """A bundle of fold 0 with all three tasks. Not to be changed."""
    folder = tmp_path_factory.mktemp("export") / "bundle"
    said = ok("export", run_folder, "--to", folder, "--tasks", "mask,gender,age", "--fold", "0")
    assert "equal" in said and "fold 0" in said
    assert said.count("possible classes: the most probable one alone, since it is not") == 3
    return folder


def test_the_bundle_predicts_the_eval_photos_as_predict_does(
    bundle: Path, run_folder: Path, trained: Any, tmp_path: Path, ok: Callable[..., str]
) -> None:
    ok("predict", trained.data, "--work", trained.work, "--runs", run_folder / "fold0",
       "--out", tmp_path, "--device", "cpu")  # fmt: skip
    opened, seen = Bundle.open(bundle), 0
    for row in read_parquet(tmp_path / "predictions.parquet").to_dicts():
        photo = cv2.imread(str(trained.data / row["key"]), cv2.IMREAD_COLOR_RGB)
        faces = opened.predict(photo)
        if row["status"] not in ("detected", "retried"):
            continue
        seen += 1
        assert faces[0].status == row["status"]
        for task, answer in faces[0].answers.items():
            assert answer.prediction == row[f"{task}_pred"]
            apart = np.abs(np.array([*answer.probabilities.values()]) - row[f"{task}_probs"])
            assert apart.max() < 1e-3, (row["key"], task, apart.max())
    assert seen >= 3


def test_the_runtime_imports_numpy_opencv_and_onnx_runtime_alone(bundle: Path) -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import cv2; from cropfirst.door import Bundle\n"
        f"faces = Bundle.open({str(bundle)!r}).predict("
        f"cv2.imread({str(bundle / 'golden/normal.png')!r}))\n"
        "tops = {name.partition('.')[0] for name, module in sys.modules.items()"
        " if name not in before and 'site-packages' in (getattr(module, '__file__', None) or '')}\n"
        "stages = [name for name in sys.modules if name.startswith('cropfirst.stage')]\n"
        "print(sorted(tops - {'numpy', 'cv2', 'onnxruntime'}), stages)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[] []"


LIGHT = """
import runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        absent = "torch yaml pydantic polars rich lmdb numba scipy jinja2 matplotlib timm onnx"
        if name.partition(".")[0] in absent.split():
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""Runs a module where nothing is installed but what requirements.txt of a bundle names."""


def test_a_bundle_is_checked_and_watches_where_only_the_runtime_is_installed(bundle: Path) -> None:
    def run(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-c", LIGHT, *map(str, arguments)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "answers as at its export" in run("cropfirst.door", bundle)
    assert '"event"' in run("cropfirst.cli", "watch", bundle / "golden", "--bundle", bundle)


def test_check_compares_the_golden_photos(
    bundle: Path, tmp_path: Path, ok: Callable[..., str], run: Callable[..., Any]
) -> None:
    assert "answers as at its export" in " ".join(ok("export", "--check", bundle).split())
    assert "no bundle in" in run("export", "--check", tmp_path).error
    assert "export --check some" in run("export", "some", "--check").error


def test_a_bundle_is_not_replaced_unless_asked_for(
    bundle: Path, run_folder: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    assert "--force" in run("export", run_folder, "--to", bundle).error
    (tmp_path / "mine.txt").touch()
    said = run("export", run_folder, "--to", tmp_path, "--force")
    assert "bundles alone" in said.error and (tmp_path / "mine.txt").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tasks", "race"), "no bundle sorts people by race"),
        (("--tasks", "hat"), "the networks predict mask, gender, age"),
        (("--fold", "7"), "has the finished folds 0, 1"),
        (("--members", "9"), "has 2 finished folds"),
        (("--all-data",), "has no model of all photos"),
        (("--fold", "0", "--soup"), "one of --fold"),
    ],
)
def test_what_cannot_be_exported_is_said(
    options: tuple[str, ...], message: str, run_folder: Path, tmp_path: Path,
    run: Callable[..., Any],
) -> None:  # fmt: skip
    said = run("export", run_folder, "--to", tmp_path / "out", *options)
    assert message in " ".join(said.error.split())
    assert not (tmp_path / "out").exists()


def test_a_bundle_that_answers_otherwise_is_not_left_behind(
    run_folder: Path, tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def brighter(crops: Any, entry: Any) -> np.ndarray:
        return normalised(crops, entry) + np.float32(0.5)

    from cropfirst.door import bundle as module

    normalised = module.normalised
    monkeypatch.setattr(module, "normalised", brighter)
    said = run("export", run_folder, "--to", tmp_path / "out")
    assert "answers otherwise than the run" in said.error and "mask differs by" in said.error
    assert not list(tmp_path.iterdir())


def test_the_card_says_what_it_is_and_what_it_is_not_for(bundle: Path) -> None:
    card = (bundle / "MODEL_CARD.md").read_text("utf-8")
    for title in ("Scores", "Data", "Intended use", "Limits", "Where they are worst", "Licences",
                  "Equal to its run", "This bundle sorts people"):  # fmt: skip
        assert f"\n## {title}\n" in card
    assert "mask: macro F1 0." in card and "AI Act" in card and "fold 0" in card


def test_int8_is_written_only_where_next_to_nothing_is_lost(
    run_folder: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    out = tmp_path / "out"
    said = run("export", run_folder, "--to", out, "--int8", "--fold", "0")
    if said.code:
        assert "--int8 loses too much: mask: macro F1" in " ".join(said.error.split())
        assert not list(tmp_path.iterdir())
        return
    (score,) = json.loads((out / "manifest.json").read_bytes())["about"]["int8"]["tasks"].values()
    assert score["equal"] >= 0.99 and score["macro_f1"] - score["int8_macro_f1"] <= 0.005
    assert "In 8-bit integers" in (out / "MODEL_CARD.md").read_text("utf-8")
    assert run("export", "--check", out).code == 0


def test_the_manifest_says_what_is_inside(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    assert list(manifest["tasks"]) == ["mask", "gender", "age"]
    assert manifest["crop"]["image_size"] == 32 and manifest["detector"]["weights"] == "joined"
    assert manifest["about"]["runs"][0]["networks"] == "fold 0"
    assert set(manifest["files"]) == {
        path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()
    } - {"manifest.json"}


def test_a_page_is_written_with_a_check_or_an_export(
    bundle: Path, run_folder: Path, tmp_path: Path, ok: Callable[..., str], run: Callable[..., Any]
) -> None:
    said = " ".join(ok("export", "--check", bundle, "--web", tmp_path / "page").split())
    assert "http.server --directory" in said and (tmp_path / "page/index.html").is_file()
    copied = (tmp_path / "page/bundle/manifest.json").read_bytes()
    assert copied == (bundle / "manifest.json").read_bytes()
    asked = ("export", run_folder, "--to", tmp_path / "bundle", "--web", tmp_path / "page")
    assert "must be new or empty" in run(*asked).error
    assert not (tmp_path / "bundle").exists()
