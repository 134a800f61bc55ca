"""The paths inside a run's folder: runs/NAME/foldK/CHECKPOINT/meta.json.

Knows names of folders and files alone; reads none of them. No torch.
"""

from __future__ import annotations

from pathlib import Path

META_FILE = "meta.json"
"""Description of a checkpoint, which is written after its weights."""
ALL = "all"
"""The folder of a run's model of all photos (--all-data)."""


def is_fold(path: Path) -> bool:
    """Tell whether a folder is that of a fold, or of the model of all photos."""
    name = path.resolve().name
    named_so = name.startswith("fold") and name[4:].isdigit()
    return path.is_dir() and (named_so or (name == ALL and (path / "metrics.json").is_file()))


def run_of(folder: Path) -> Path:
    """Return the run's folder of a checkpoint folder runs/NAME/foldK/best_f1."""
    return folder.parent.parent


def run_folder(path: Path) -> Path:
    """Return the resolved folder of a run, given its own, or that of a fold or a checkpoint."""
    if (path / META_FILE).is_file():
        return run_of(path).resolve()
    return (path.parent if is_fold(path) else path).resolve()
