"""The wheels that benchmarks/gpu.sh needs on a machine without network.

    python benchmarks/gpu_wheels.py list [NAME ...]     pinned requirements, for pip download
    python benchmarks/gpu_wheels.py missing DIR         names that are neither installed nor in DIR
    python benchmarks/gpu_wheels.py absent DIR          wheels of DIR that are not installed

The machine is taken to have torch, torchvision, timm, OpenCV and Numba with what they depend on.
This file imports nothing but the standard library.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

PACKAGES = (
    "absl-py", "albucore", "albumentations", "annotated-types", "click", "cloudpickle",
    "facenet-pytorch", "iniconfig", "joblib", "lmdb", "markdown-it-py", "mdurl", "pluggy", "polars",
    "polars-runtime-32", "protobuf", "pydantic", "pydantic-core", "pygments", "pytest",
    "pytest-timeout", "rich", "scikit-learn", "scipy", "simsimd", "stringzilla", "tensorboard",
    "threadpoolctl", "typing-inspection",
)  # fmt: skip
"""Packages that the tests and steps import, beside what the machine has."""


def main(command: str, *words: str) -> None:
    """Print what a command asks for, one a line."""
    if command == "list":
        pins = (Path(__file__).parents[1] / "constraints.txt").read_text().splitlines()
        pinned = {normal(line.partition("==")[0]): line.partition(";")[0].strip() for line in pins}
        lines = [pinned[normal(name)] for name in words or PACKAGES]
    elif command == "missing":
        lines = [name for name in PACKAGES if name not in wheels(*words) and not installed(name)]
    elif command == "absent":
        lines = [str(file) for name, file in wheels(*words).items() if not installed(name)]
    else:
        sys.exit(__doc__)
    print(*lines, sep="\n", end="\n" if lines else "")


def wheels(folder: str) -> dict[str, Path]:
    """Return the wheels of a folder by the normal name of their package."""
    return {normal(file.name.split("-")[0]): file for file in sorted(Path(folder).glob("*.whl"))}


def normal(name: str) -> str:
    """Return a package's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def installed(name: str) -> bool:
    """Return whether a package is installed, of any version."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main(*sys.argv[1:])
