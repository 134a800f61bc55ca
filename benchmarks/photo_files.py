"""Choose the photos of a benchmark. Python finds this file because it is beside the scripts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def list_files(
    photos: Sequence[Path], limit: int, folder: Path, *, suffixes: Collection[str]
) -> list[Path]:
    """Return at most `limit` files of some folders or files, evenly spread.

    Args:
        photos: folders and files; if there is none, portraits are drawn below `folder`.
        suffixes: in lower case, with the dot; other files are left out.
    """
    if not photos:
        from cropfirst.stage2_classify.drawn.contest import draw_contest

        draw_contest(folder / "drawn", n_train_people=12, n_eval_people=1)
        photos = [folder / "drawn" / "train"]
    files = [
        file
        for path in photos
        for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
        if file.suffix.lower() in suffixes and file.name[0] != "."
    ]
    return files[:: max(1, len(files) // limit)][:limit]
