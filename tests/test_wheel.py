"""A wheel of the tree, installed in an empty environment outside of the checkout, works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NO_SOURCE = (".*", "work", "build", "dist", "*.egg-info", "__pycache__", "tests", "typing")


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command outside of the checkout, which nothing may lead back to."""
    names = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel in it, and the packages that it needs in reach."""
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy: in the tree, build/ would be used again and hide a file that is missing.
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*NO_SOURCE))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, "./source", cwd=folder)
    (wheel,) = folder.glob("cropfirst-*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "env", cwd=folder)
    python = folder / "env/bin/python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    site = Path(run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder))
    # This adds the folder, and not what the .pth files in it add: no editable cropfirst.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.rmtree(folder / "source")
    return folder / "env"


@pytest.mark.slow
def test_the_installed_package_is_the_wheels(environment: Path, tmp_path: Path) -> None:
    code = "import cropfirst.api; print(cropfirst.__file__)"
    found = Path(run(environment / "bin/python", "-c", code, cwd=tmp_path))
    assert found.is_relative_to(environment)


@pytest.mark.slow
def test_the_installed_command_shows_help_and_detects_a_photo(
    environment: Path, tmp_path: Path
) -> None:
    command = environment / "bin/cropfirst"
    assert "detect" in run(command, "--help", cwd=tmp_path)
    draw = (
        "import cv2, numpy as np\n"
        "from cropfirst.stage2_classify.drawn.portrait import *\n"
        "rng = np.random.default_rng(1)\n"
        "person = random_person(rng, name='x', gender='female', age=30)\n"
        "image = draw_portrait(person, Shot('normal', 0), rng, (144, 192)).image\n"
        "cv2.imwrite('photos/a.png', image[..., ::-1])\n"
    )
    (tmp_path / "photos").mkdir()
    run(environment / "bin/python", "-c", draw, cwd=tmp_path)
    # By the engine that compiles nothing: compiling anew takes half a minute.
    said = run(command, "detect", "photos", "--device", "cpu", "--engine", "torch", cwd=tmp_path)
    assert "detected │ 1" in " ".join(said.split()).replace("┃", "│"), said
    assert (tmp_path / "work/photos/cache/cache.json").is_file()
