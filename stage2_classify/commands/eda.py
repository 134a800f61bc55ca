"""`eda`: a data set before training, with photos that stage 1 reads. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cropfirst.configs.options import path_option
from cropfirst.stage2_classify.commands.workspace import (
    corrections_option,
    crops_option,
    data_options,
    open_workspace,
    schema_option,
)

if TYPE_CHECKING:
    import numpy as np

    from cropfirst.stage2_classify.datasets import Sample


@click.command()
@data_options(corrections_option, schema_option, crops_option)
@path_option(
    "--rooms", metavar="FILE", help="CSV: file, room.  [default: DATA/rooms.csv, if it is there]"
)
@click.option(
    "--photos/--no-photos", "opened", default=True, show_default=True, help="Open all photos."
)
@path_option("--out", help="Folder of the counts.  [default: WORK/eda]")
def eda(
    schema: str | None, crops: str | None, rooms: Path | None, opened: bool, out: Path | None,
    **data: Any,
) -> None:  # fmt: skip
    """Summarise a data set before training.

    Counts of every class and of their combinations, for each split; associations between facts;
    sizes, places and scores of faces, once detect has run; brightness; and photos that look the
    same but are of different people.
    """
    from cropfirst.stage2_classify.eda.run import run_eda

    workspace = open_workspace(**data, details=True)
    cache = workspace.open_cache_if_any()
    run_eda(
        workspace.photos, workspace.read_schema(schema), out_dir=out or workspace.folder / "eda",
        rooms=rooms, crops=None if cache is None else workspace.find_crops(crops),
        read=_read_pixels if opened else None, console=workspace.console,
    )  # fmt: skip


def _read_pixels(sample: Sample) -> np.ndarray | None:
    """Return a photo's pixels, (H, W, 3) uint8 RGB; None where it cannot be read."""
    from cropfirst.stage1_detect.photos.read import ReadError, read_photo

    try:
        return read_photo(sample.path).image
    except ReadError:
        return None
