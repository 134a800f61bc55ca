"""The import arrows (docs/architecture.md), what must stay light, and what setup.cfg must list."""

from __future__ import annotations

import ast
import configparser
import functools
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOPS = ("core", "cache", "compat", "configs", "door", "stage1_detect", "stage2_classify")
STAGE1 = {
    "config": "configs",
    "photos": "core config",
    "crops": "core core/faces config photos",
    "mtcnn/pyramid": "core core/faces",
    "mtcnn/nets": "core",
    "mtcnn/engines/numba": "core/faces mtcnn/nets mtcnn/pyramid",
    "mtcnn/engines": "core mtcnn/engines/numba mtcnn/nets mtcnn/pyramid",
    "mtcnn": "core core/faces config mtcnn/engines mtcnn/engines/numba mtcnn/nets mtcnn/pyramid",
    "pipeline": "core core/faces cache config photos mtcnn mtcnn/engines/numba",
    "swap": "core core/faces cache config photos crops pipeline",
    "harden/config": "configs",
    "harden/paste": "core harden/config",
    "harden/training": "core core/faces cache config harden/config harden/paste mtcnn mtcnn/nets "
    "photos pipeline",
    "harden/recall": "core core/faces config harden/config harden/paste harden/training mtcnn "
    "photos pipeline",
    "harden": "core config harden/config harden/paste harden/training harden/recall mtcnn "
    "mtcnn/nets photos pipeline",
    "": "core core/faces cache config photos mtcnn mtcnn/engines mtcnn/nets pipeline swap",
    "commands": "core cache configs config harden harden/config pipeline stage1_detect "
    "/stage2_classify/commands",
}
STAGE2 = {
    "": "",
    "config": "configs",
    "progress": "core",
    "drawn": "core",
    "datasets": "core configs",
    "metrics": "core",
    "labels": "core configs config datasets",
    "model": "core config datasets labels",
    "voting": "core cache datasets labels metrics /door/sets",
    "data": "core core/faces cache config datasets labels model",
    "runs": "core cache configs config data labels metrics model voting",
    "train": "core cache configs config progress data datasets labels metrics model runs",
    "predict": "core core/faces cache progress data datasets labels model runs voting /door/sets",
    "ensemble": "core cache labels metrics predict runs voting",
    "calibrate": "core cache configs datasets ensemble labels metrics predict runs voting "
    "/door/sets",
    "export": "core cache calibrate datasets evaluate labels metrics model predict report runs "
    "voting /door/sets",
    "evaluate": "core cache datasets labels metrics runs voting",
    "sweep": "core cache configs config datasets labels metrics runs train",
    "eda": "core cache progress datasets labels",
    "relabel": "core cache datasets labels metrics runs voting",
    "audit": "core cache progress labels metrics model predict runs",
    "proof": "core runs",
    "report": "core cache audit datasets ensemble evaluate labels metrics predict runs voting",
    "commands/bundle": "core core/faces cache /door datasets drawn export predict report runs "
    "voting /stage1_detect /stage1_detect/config /stage1_detect/mtcnn /stage1_detect/mtcnn/nets "
    "/stage1_detect/photos",
    "commands": "core cache configs config /door /door/web audit calibrate commands/bundle "
    "datasets drawn eda ensemble evaluate export labels model predict proof relabel report runs "
    "sweep train voting /stage1_detect /stage1_detect/config /stage1_detect/crops "
    "/stage1_detect/harden/config /stage1_detect/mtcnn/nets /stage1_detect/photos",
}


def _rooms(stage: str, rows: dict[str, str]) -> dict[str, set[str]]:
    """The rows of a stage with whole names: those of its own rooms are written without it."""
    names = {own: f"{stage}/{own}".rstrip("/") for own in rows}
    return {
        names[own]: {names.get(to, to).lstrip("/") for to in row.split()}
        for own, row in rows.items()
    }


ARROWS = {
    "core": set(),
    "core/faces": set(),
    "cache": {"core"},
    "door/sets": set(),
    "compat": {"stage1_detect/config", "stage1_detect/mtcnn"},
    "configs": {"core"},
    "door": {"core", "core/faces", "door/sets"},
    "door/serve": {"core", "door", "door/web"},
    "door/watch": {"core", "door"},
    "door/web": {"core", "door"},
    **_rooms("stage1_detect", STAGE1),
    **_rooms("stage2_classify", STAGE2),
}
"""Room -> the rooms it may import. A file that has a row of its own is below its neighbours.
api.py and cli.py may import everything. Commands are above both stages."""
HEAVY = ("torch", "torchvision", "timm", "albumentations", "facenet_pytorch", "sklearn", "scipy")
LIGHT_PACKAGES = (
    "core",
    "cache",
    "configs",
    "door",
    "stage2_classify/datasets",
    "stage2_classify/drawn",
    "stage2_classify/labels",
)


def modules() -> list[Path]:
    return sorted(path for top in TOPS for path in (ROOT / top).rglob("*.py"))


def room_of(path: Path) -> str:
    """The folder of a module, or the file itself where it counts as a room."""
    place = path.relative_to(ROOT).with_suffix("").as_posix()
    return place if place in ARROWS else place.rpartition("/")[0]


def imported_files(path: Path) -> set[Path]:
    """The files of ours that a module imports."""
    found = set()
    for name in own_imports(parsed(path)):
        parts = name.split(".")
        for end in range(len(parts), 0, -1):
            base = ROOT.joinpath(*parts[:end])
            if base.with_suffix(".py").is_file():
                found.add(base.with_suffix(".py"))
                break
            if (base / "__init__.py").is_file():
                found.add(base / "__init__.py")
                break
        else:
            found.add(ROOT / "cli.py" if parts[0] == "cli" else ROOT / name)
    return found - {path}


def circles(arrows: Mapping[Any, Collection[Any]]) -> list[list[Any]]:
    """Groups of nodes that reach each other."""
    sorter = TopologicalSorter(arrows)
    try:
        sorter.prepare()
    except CycleError as error:
        return [error.args[1]]
    return []


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
def test_import_arrows_point_down(path: Path) -> None:
    room = room_of(path)
    assert room in ARROWS, f"a new room: give {room} a row in STAGE1 or STAGE2"
    wrong = {room_of(each) for each in imported_files(path)} - ARROWS[room] - {room}
    assert not wrong, f"{room} may import {sorted(ARROWS[room])}, {path.name} imports {wrong}"


def test_every_row_is_a_room_and_every_arrow_is_used() -> None:
    used = {(room_of(path), room_of(to)) for path in modules() for to in imported_files(path)}
    allowed = {(room, to) for room, rooms in ARROWS.items() for to in rooms}
    assert set(ARROWS) == {room_of(path) for path in modules()}
    assert not allowed - used, "take these out of the table: nothing imports so"


def test_there_are_no_circles() -> None:
    assert not circles(ARROWS), "rooms"
    assert not circles({path: imported_files(path) for path in modules()}), "files"
    assert circles({"a": ["b"], "b": ["a"]})


def test_tests_of_lower_rooms_know_nothing_of_stage_2() -> None:
    """Fixtures of tests/conftest.py give them the drawn portraits that they need."""
    lower = [
        path
        for room in ("core", "cache", "stage1_detect")
        for path in (ROOT / "tests" / room).rglob("*.py")
    ]
    wrong = [
        path.relative_to(ROOT).as_posix()
        for path in lower
        if any(name.startswith("stage2_classify") for name in own_imports(parsed(path)))
    ]
    assert lower and not wrong


def test_every_room_says_what_it_is() -> None:
    silent = [
        module_name(path) for path in modules()
        if path.name == "__init__.py" and not ast.get_docstring(parsed(path))
    ]  # fmt: skip
    assert not silent, f"an opening docstring says what a room knows, and what not: {silent}"


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
    """Return the modules that must do without torch: by place, or since the docstring says so."""
    names = []
    for path in modules():
        place = path.relative_to(ROOT).as_posix()
        promises = "no torch" in (ast.get_docstring(parsed(path)) or "").lower()
        if promises or place.startswith(LIGHT_PACKAGES):
            names.append(module_name(path))
    return names


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_light_modules_import_nothing_heavy() -> None:
    names = light_modules()
    assert {
        "cropfirst.cache",
        "cropfirst.configs",
        "cropfirst.stage2_classify.labels.schema",
    } < set(names)
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
from cropfirst.cli import COMMANDS, main
names = [name for section in COMMANDS.values() for name in section]
for args in [["--help"], ["--version"]] + [[name, "--help"] for name in names]:
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0 and result.output, (args, result.output)
print(*[each for each in {(*HEAVY, "cv2", "matplotlib")!r} if each in sys.modules])
"""
    assert run_python(code) == ""


def test_the_list_of_commands_imports_no_command_and_no_pydantic() -> None:
    code = """
import sys
from click.testing import CliRunner
from cropfirst.cli import main
assert "Train:" in CliRunner().invoke(main, ["--help"]).output
light = {"cropfirst", "cropfirst.cli", "cropfirst.core"}
print(*[each for each in sys.modules if each.partition(".")[0] in ("pydantic", "numpy", "polars")
        or each.startswith("cropfirst.") and not each.startswith("cropfirst.core")
        and each not in light])
"""
    assert run_python(code) == ""


def test_the_file_itself_is_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "cli.py", "--help"],
        cwd=ROOT, capture_output=True, text=True, timeout=250, check=False,
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
    for top in TOPS:
        for path in (ROOT / top).rglob("*"):
            place = path.relative_to(ROOT).as_posix()
            if path.is_dir() or path.suffix == ".py" or "__pycache__" in place:
                continue
            globs = [f"{package}/{glob}" for package, found in patterns.items() for glob in found]
            if not any(PurePosixPath(place).match(glob) for glob in globs):
                left_out.append(place)
    assert not left_out, f"not in setup.cfg's package_data: {left_out}"
