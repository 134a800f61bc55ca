"""Nothing that is read from disk runs code, no shell is called, and temporary files are private."""

from __future__ import annotations

import ast
import pickle
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cropfirst.configs import ConfigError, load_config, load_yaml
from cropfirst.core.errors import CropfirstError
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.mtcnn.nets.modules import load_nets
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.labels.schema import load_schema
from cropfirst.stage2_classify.model.models import build_classifier
from cropfirst.stage2_classify.model.weights import load_backbone_weights
from cropfirst.stage2_classify.runs.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (
    "core", "cache", "compat", "configs", "door", "stage1_detect", "stage2_classify", "benchmarks",
    "docs",
)  # fmt: skip
CODE = [ROOT / "cli.py", *sorted(path for top in FOLDERS for path in (ROOT / top).rglob("*.py"))]
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "pty"}
UNSAFE_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "joblib.load", "joblib.dump",
    "yaml.load", "yaml.unsafe_load", "yaml.full_load", "tempfile.mktemp", "torch.save",
}  # fmt: skip


def unsafe(tree: ast.AST) -> Iterator[str]:
    """List the calls in a module that run code from data, or a shell."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name in UNSAFE_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in UNSAFE_MODULES:
            yield node.module
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {each.arg: ast.unparse(each.value) for each in node.keywords}
            if (
                name in UNSAFE_CALLS
                or (name == "torch.load" and given.get("weights_only") != "True")
                or given.get("allow_pickle", "False") != "False"
                or given.get("shell", "False") != "False"
            ):
                yield f"{name}(...)"


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_code_is_run_from_data_and_no_shell_called(path: Path) -> None:
    assert list(unsafe(ast.parse(path.read_text("utf-8")))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from pickle import loads", "np.load(f, allow_pickle=True)",
        "torch.load(f, weights_only=False)", "yaml.load(t)", "subprocess.run('x', shell=True)",
        "os.system('x')", "eval(t)", "torch.load(f)",
    ],
)  # fmt: skip
def test_the_search_sees_what_is_unsafe(line: str) -> None:
    assert len(list(unsafe(ast.parse(line)))) == 1


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """A file that must not come into being; unpickling what was planted would make it."""
    path = tmp_path / "hacked"
    pickle.loads(pickle.dumps(Evil(path)))
    assert path.exists(), "the trap works"
    path.unlink()
    yield path
    assert not path.exists()


def planted(folder: Path, mark: Path) -> list[Path]:
    """The same trap in every file that a pickle travels in."""
    raw = folder / "raw.safetensors"
    raw.write_bytes(pickle.dumps(Evil(mark)))
    saved = folder / "saved.safetensors"
    torch.save({"weight": torch.zeros(2), "evil": Evil(mark)}, saved)
    pth = shutil.copy(saved, folder / "saved.pth")
    array = folder / "array.npz"
    np.savez(array, **{"stem.weight": np.array([Evil(mark)], dtype=object)})
    with zipfile.ZipFile(folder / "slip.npz", "w") as slip:
        slip.writestr("../../hacked", "x")
    return [raw, saved, Path(pth), array, folder / "slip.npz"]


def test_planted_weights_are_refused_unread(tmp_path: Path, mark: Path) -> None:
    model = build_classifier("test_vit", {"mask": 3}, image_size=32, pretrained=False)
    for path in planted(tmp_path, mark):
        with pytest.raises(CropfirstError, match="safetensors"):
            load_backbone_weights(model.backbone, path)
        with pytest.raises((CropfirstError, ConfigError), match="safetensors"):
            load_nets(str(path))


def test_a_planted_checkpoint_is_refused_unread(
    tmp_path: Path, mark: Path, planted_run: Path
) -> None:
    from cropfirst.core.fingerprint import content_hash
    from cropfirst.stage2_classify.runs.json_files import read_json, write_json

    meta = read_json(planted_run / "meta.json")
    for path in planted(tmp_path, mark):
        raw = path.read_bytes()
        (planted_run / "model.safetensors").write_bytes(raw)
        # Even one whose hash is right: whoever plants weights can write that too.
        write_json(planted_run / "meta.json", {**meta, "weights_hash": content_hash(raw)})
        with pytest.raises(CropfirstError, match="not a safetensors file"):
            load_checkpoint(planted_run, "cpu")


@pytest.fixture
def planted_run(tmp_path: Path) -> Path:
    from cropfirst.stage2_classify.runs.checkpoint import save_checkpoint

    model = build_classifier("test_vit", {"mask": 3}, image_size=32, pretrained=False)
    meta = {
        "backbone": "test_vit", "heads": {"mask": ["a", "b", "c"]}, "image_size": 32,
        "mean": [0.5] * 3, "std": [0.5] * 3, "schema": {}, "crop_set": {}, "class_prior": {},
    }  # fmt: skip
    save_checkpoint(tmp_path / "best_f1", model, meta)
    return tmp_path / "best_f1"


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{mark}']]",
        "detect: !!python/object/apply:os.system ['touch {mark}']",
        "!!python/module:os",
        "a: !!python/name:os.system",
    ],
)
def test_planted_yaml_is_refused(tmp_path: Path, mark: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text.format(mark=mark))
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_yaml(path)
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(DetectConfig, overrides=[f"crop={text.format(mark=mark)}"])
    with pytest.raises((CropfirstError, ConfigError)):
        load_schema(str(path))


@pytest.mark.parametrize("place", ["{model: {kwargs: {x: *a29}}}", "{seed: *a29}", "*a29"])
def test_yaml_that_unfolds_without_end_is_refused(tmp_path: Path, place: str) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 30):
        refs = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} [{refs}]")
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join([*lines, f"train: {place}"]))
    with pytest.raises(ConfigError, match="unfolds"):
        load_config(TrainConfig, recipe=str(path), section="train", values={"task": "mask"})


def test_values_in_messages_are_cut_short() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(DetectConfig, values={"crop.margin": ["x" * 5_000] * 5_000})
    assert len(str(caught.value)) < 2_000


def test_temporary_folders_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with tempfile.TemporaryDirectory(prefix="cropfirst-") as folder:
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
