"""The eda command: a data set in, tables, eda.json and pictures out. No torch."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from cropfirst.cache import CropSet
from cropfirst.core.console import say
from cropfirst.stage2_classify.datasets.sample import PhotoSet
from cropfirst.stage2_classify.eda.eda import ROOMS, Eda, explore, read_rooms
from cropfirst.stage2_classify.eda.image_stats import ReadPhoto
from cropfirst.stage2_classify.eda.views import print_eda, write_eda
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.progress import count_bar


def run_eda(
    photos: PhotoSet,
    schema: LabelSchema,
    *,
    out_dir: Path,
    rooms: Path | None = None,
    crops: CropSet | None = None,
    read: ReadPhoto | None = None,
    console: Console | None = None,
) -> Eda:
    """Explore a data set, print what was found, and write it.

    Args:
        photos: the data set.
        schema: tasks and classes.
        out_dir: gets eda.json and pictures.
        rooms: CSV of file and room; None takes rooms.csv of the data set, if there is one.
        crops: rows of their crops.
        read: reads photos.
        console: gets tables and a progress bar.

    Raises:
        DataError: `rooms` cannot be used.
    """
    console = console or Console(quiet=True)
    default = photos.root / ROOMS
    table = rooms or (default if default.is_file() else None)
    with count_bar(console, "photos", show=read is not None) as progress:
        bar = progress.add_task("photos", total=len(photos))
        found = explore(
            photos,
            schema,
            crops=crops,
            rooms=None if table is None else read_rooms(table),
            read=read,
            on_photo=lambda: progress.advance(bar),
        )
    print_eda(console, found)
    path, pictures = write_eda(out_dir, found)
    for each in (path, *pictures):
        say(console, f"written: {each}")
    return found
