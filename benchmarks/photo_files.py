"""Which photos a benchmark looks at. Beside the scripts, which Python finds it from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def list_files(
    photos: Sequence[Path], limit: int, folder: Path, *, suffixes: Collection[str]
) -> list[Path]:
    """Files of some folders or files, `limit` at most, spread evenly.

    Args:
        photos: where to look; none = portraits are drawn below `folder`.
        suffixes: in lower case, with the dot.
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
