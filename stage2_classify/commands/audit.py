"""`audit`: how much runs depend on the background, on photos that stage 1 reads. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cropfirst.configs.options import path_option
from cropfirst.stage2_classify.commands.workspace import (
    batch_size_option,
    cache_option,
    device_option,
    work_option,
)

if TYPE_CHECKING:
    from cropfirst.cache import Cache
    from cropfirst.stage1_detect.crops.photo_reader import PhotoReader


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@work_option
@cache_option
@device_option
@path_option("--out", help="Folder of the tables and pictures.  [default: WORK/audit]")
@click.option(
    "--limit", type=click.IntRange(min=0), metavar="N", default=1000, show_default=True,
    help="Largest number of photos; those of a person are used together; 0 = all.",
)  # fmt: skip
@batch_size_option
@click.option(
    "--seed", type=click.IntRange(min=0), metavar="N", default=0, show_default=True,
    help="Random seed for choosing the background that each person gets.",
)  # fmt: skip
def audit(
    runs: Sequence[Path], work: Path | None, cache_dir: Path | None, device: str,
    out: Path | None, limit: int, batch_size: int, seed: int,
) -> None:  # fmt: skip
    """Measure how much the runs depend on the background.

    Heads are pasted on the backgrounds of other people's photos, backgrounds are shown without
    heads, and each photo is predicted by the fold that has not seen its person. Ends with one table
    for all RUNs (or folders of runs), whatever crops they were trained on, and with how well each
    label can be predicted from the background alone. An audit that was interrupted continues when
    the same command is given again.
    """
    from rich.console import Console

    from cropfirst.cache import Cache
    from cropfirst.stage2_classify.audit.audit import audit as run_audit
    from cropfirst.stage2_classify.audit.runs import find_work

    folder = work or (find_work(runs) if cache_dir is None else cache_dir.resolve().parent)
    cache = Cache.open(cache_dir or folder / "cache")
    run_audit(
        runs, cache, open_photo_reader(cache), out_dir=out or folder / "audit",
        limit=limit or None, seed=seed, device=device, batch_size=batch_size, console=Console(),
    )  # fmt: skip


def open_photo_reader(cache: Cache) -> PhotoReader:
    """Return a reader of the photos behind the crops of a cache."""
    from cropfirst.cache.cut_outs import CutOutStore, cut_out_id
    from cropfirst.stage1_detect.crops.cut_out import CutOut
    from cropfirst.stage1_detect.crops.photo_reader import PhotoReader
    from cropfirst.stage2_classify.datasets.file_finder import FileFinder
    from cropfirst.stage2_classify.datasets.listing import list_photos

    root = cache.data_root or Path()
    # A key is not always the name on disk, which may be no UTF-8 or, on another disk than that of
    # detect, in another Unicode form.
    paths = dict(list_photos(root).photos)
    finder = FileFinder(root)
    store = CutOutStore(cache.path)
    return PhotoReader(
        lambda key: Path(paths.get(key) or root / (finder.find(key) or key)),
        [cache.find(name).config for name in cache.crop_sets()],
        stored=lambda row: store.get(cut_out_id(row), CutOut.from_bytes),
    )
