"""The public names, and the code of the pages on them, run on drawn photos."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

import cropfirst
from cropfirst.cache.swapped import open_swapped
from cropfirst.cli import main
from cropfirst.core.errors import CropfirstError
from cropfirst.stage2_classify.drawn.portrait import Shot, draw_portrait, random_person
from cropfirst.stage2_classify.labels.infer_schema import infer_schema

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "library.md"
NAMES = {"MTCNN", "Detections", "detect", "CropSet", "train", "predict", "Predictor"}
SIZE = (144, 192)


def save(path: Path, *, seed: int, kind: str = "normal") -> None:
    """Write a drawn portrait; equal arguments give equal pixels."""
    person = random_person(np.random.default_rng(seed), name="x", gender="female", age=30)
    image = draw_portrait(person, Shot(kind, seed % 6), np.random.default_rng(seed), SIZE).image
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the photos that the page speaks of."""
    for seed in range(4):
        save(tmp_path / f"my_photos/glasses/{seed}.jpg", seed=seed, kind="mask1")
        save(tmp_path / f"my_photos/none/{seed}.jpg", seed=seed)
    (tmp_path / "my_photos/none/broken.jpg").write_bytes(b"no JPEG")
    for name, seed in (("new_photos/a.jpg", 5), ("new_photos/b.jpg", 6)):
        save(tmp_path / name, seed=seed)
    save(tmp_path / "portrait.jpg", seed=7)
    save(tmp_path / "another.png", seed=8)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the Python blocks of a page one after the other; return the names that they define."""
    text = page.read_text("utf-8")
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # timm looks for the module of a backbone
    names = vars(module)
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        # Blank lines before the block let a traceback name the line of the page.
        lines = "\n" * (text[: match.start()].count("\n") + 1)
        exec(compile(lines + match[1], str(page), "exec"), names)
    return names


def test_public_names() -> None:
    assert set(cropfirst.__all__) == NAMES == set(cropfirst._MODULES)
    for name in NAMES:
        value = getattr(cropfirst, name)
        assert value.__name__ == name and value.__doc__
    assert set(dir(cropfirst)) >= NAMES
    with pytest.raises(AttributeError, match="no attribute 'MTCN'"):
        _ = cropfirst.MTCN  # type: ignore[attr-defined]


def test_static_and_lazy_imports_agree() -> None:
    """Type checkers see the imports under TYPE_CHECKING, programs the table."""
    tree = ast.parse((ROOT / "__init__.py").read_text("utf-8"))
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    static = {
        alias.name: node.module
        for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }  # fmt: skip
    assert static == cropfirst._MODULES


def test_importing_cropfirst_imports_nothing_heavy() -> None:
    code = (
        "import sys, cropfirst\n"
        "print(sorted({'torch', 'numpy', 'cv2', 'timm', 'rich', 'click'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=250, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_code_of_the_library_page_runs(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = run_page(PAGE, monkeypatch)
    assert names["found"].statuses == {"detected": 8, "unreadable": 1}
    assert names["run"].run_dir == Path("work/my_photos/runs/label-test_vit-box")
    assert len(list(Path("work/my_photos/detect").glob("*-not-detected.png"))) == 2
    assert names["predictions"].n_photos == 2 and names["predictions"].path.is_file()
    assert len(names["faces"]) == 1
    said = capsys.readouterr().out
    again = CliRunner().invoke(main, ["detect", "my_photos", "--device", "cpu"])
    assert again.exit_code == 0 and "no photo has changed" in again.output, again.output
    scores = CliRunner().invoke(main, ["evaluate", "my_photos"])
    assert scores.exit_code == 0 and "label" in scores.output, scores.output
    assert "did you mean 'crop.margin'?" in said
    assert "'unreadable': 1" in said and "(64, 64, 3) uint8" in said


def test_the_code_of_the_extending_page_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_page(ROOT / "docs" / "extending.md", monkeypatch)
    assert names["run"].run_dir.name == "label-small_net"
    assert names["predictions"].n_photos == 9
    assert not names["fits"](Path("my_photos"))
    for name in ("ana__glasses.jpg", "ana__none.jpg", "ben__none.jpg"):
        save(folder / "named" / name, seed=0)
    assert names["fits"](folder / "named")
    photos = names["open_layout"](folder / "named")
    assert [sample.group for sample in photos.samples] == ["ana", "ana", "ben"]
    assert infer_schema(photos).task_names == ("label",)


def test_detect_makes_a_swapped_twin_where_it_is_asked_for(folder: Path) -> None:
    settings = {"crop.image_size": 32, "swap.draws": 2}
    done = cropfirst.detect("my_photos", device="cpu", settings=settings, swap_rooms=True)
    twin = open_swapped(done.crops)
    assert twin is not None and twin.is_finished and len(twin.draws) == 2 and twin.usable
    plain = cropfirst.detect("my_photos", device="cpu", settings={"crop.image_size": 40})
    assert open_swapped(plain.crops) is None


def test_the_code_of_the_facenet_pytorch_page_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = run_page(ROOT / "docs" / "facenet-pytorch.md", monkeypatch)
    assert names["boxes"].shape == (1, 4) and names["faces"].shape == (1, 3, 160, 160)
    assert Path("faces/portrait.png").is_file()


def test_single_photos_need_runs_and_leave_the_data_sets_cache_alone(folder: Path) -> None:
    with pytest.raises(ValueError, match="need runs"):
        cropfirst.predict(["portrait.jpg"])
    with pytest.raises(CropfirstError, match="no such folder"):
        cropfirst.predict(["portrait.jpg"], runs="nowhere")
    assert not (folder / "work").exists()
