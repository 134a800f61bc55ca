"""The import arrows (docs/architecture.md), what must stay light, and what setup.cfg must list."""

from __future__ import annotations

import ast
import configparser
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[1]
ARROWS = {
    "cache": {"cache"},
    "configs": {"configs"},
    "stage1_detect": {"stage1_detect", "cache", "configs"},
    "stage2_classify": {"stage2_classify", "cache", "configs"},
}
"""Top-level package -> what of ours it may import. cli.py may import everything."""
HEAVY = ("torch", "torchvision", "timm", "albumentations", "facenet_pytorch", "sklearn", "scipy")
LIGHT_PACKAGES = (
    "cache",
    "configs",
    "stage2_classify/datasets",
    "stage2_classify/drawn",
    "stage2_classify/labels",
)


def modules() -> list[Path]:
    return sorted(path for top in ARROWS for path in (ROOT / top).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("cropfirst", *(parts[:-1] if parts[-1] == "__init__" else parts)))


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def own_imports(tree: ast.Module) -> Iterator[str]:
    """Dotted names below cropfirst that a module imports, wherever in the file it does."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield "a relative import"
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            head, _, rest = name.partition(".")
            if head == "cropfirst":
                yield rest or "cropfirst"


@pytest.mark.parametrize("path", modules(), ids=module_name)
def test_import_arrows_point_one_way(path: Path) -> None:
    allowed = ARROWS[path.relative_to(ROOT).parts[0]]
    wrong = [name for name in own_imports(parsed(path)) if name.partition(".")[0] not in allowed]
    assert not wrong, f"{module_name(path)} may import {sorted(allowed)}, it imports {wrong}"


def test_the_arrows_cover_every_package() -> None:
    tops = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert tops == set(ARROWS)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from cropfirst.stage1_detect.run import detect", ["stage1_detect.run.detect"]),
        ("def f():\n    import cropfirst.cli", ["cli"]),
        ("from cropfirst import configs, cli", ["configs", "cli"]),
        ("from . import labels", ["a relative import"]),
        ("import torch, cropfirstly", []),
    ],
)
def test_the_walk_sees_every_form_of_import(code: str, found: list[str]) -> None:
    assert list(own_imports(ast.parse(code))) == found


def light_modules() -> list[str]:
    """What must do without torch: by its place, or since its docstring says so."""
    names = []
    for path in modules():
        place = path.relative_to(ROOT).as_posix()
        promises = "no torch" in (ast.get_docstring(parsed(path)) or "").lower()
        if promises or place.startswith(LIGHT_PACKAGES):
            names.append(module_name(path))
    return names


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_light_modules_import_nothing_heavy() -> None:
    names = light_modules()
    assert {"cropfirst.cache", "cropfirst.configs", "cropfirst.stage2_classify.labels"} < set(names)
    code = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
    heavy = [each for each in {HEAVY!r} if each in sys.modules]
    if heavy:
        sys.exit(f"{{name}} imports {{heavy}}")
"""
    run_python(code)


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from click.testing import CliRunner
from cropfirst.cli import main
for args in [["--help"], ["--version"]] + [[name, "--help"] for name in main.commands]:
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0 and result.output, (args, result.output)
print(*[each for each in {(*HEAVY, "cv2", "matplotlib")!r} if each in sys.modules])
"""
    assert run_python(code) == ""


def test_the_file_itself_is_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "cli.py", "--help"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "detect" in done.stdout and "predict" in done.stdout


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_every_package_is_listed_in_setup_cfg() -> None:
    listed = set(setup_cfg()["options"]["packages"].split())
    folders = {path.parent for path in modules()}
    assert listed == {"cropfirst"} | {module_name(folder / "__init__.py") for folder in folders}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_every_data_file_of_a_package_ships() -> None:
    patterns = {
        package.removeprefix("cropfirst").removeprefix(".").replace(".", "/"): globs.split()
        for package, globs in setup_cfg()["options.package_data"].items()
    }
    left_out = []
    for top in ARROWS:
        for path in (ROOT / top).rglob("*"):
            place = path.relative_to(ROOT).as_posix()
            if path.is_dir() or path.suffix == ".py" or "__pycache__" in place:
                continue
            globs = [f"{package}/{glob}" for package, found in patterns.items() for glob in found]
            if not any(PurePosixPath(place).match(glob) for glob in globs):
                left_out.append(place)
    assert not left_out, f"not in setup.cfg's package_data: {left_out}"
