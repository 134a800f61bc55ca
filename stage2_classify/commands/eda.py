"""`eda`: a data set before training, with photos that stage 1 reads. No torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cropfirst.configs.options import path_option
from cropfirst.core.console import say
from cropfirst.core.files import write_atomic
from cropfirst.stage2_classify.commands.workspace import (
    Workspace,
    corrections_option,
    crops_option,
    data_options,
    open_workspace,
    schema_option,
)

if TYPE_CHECKING:
    import numpy as np

    from cropfirst.cache import CropSet
    from cropfirst.stage2_classify.datasets import Sample
    from cropfirst.stage2_classify.labels.schema import LabelSchema


@click.command()
@data_options(corrections_option, schema_option, crops_option)
@path_option(
    "--rooms",
    metavar="FILE",
    help="CSV with the columns file and room: the room of each photo.  "
    "[default: DATA/rooms.csv, if it is there]",
)
@click.option(
    "--photos/--no-photos",
    "opened",
    default=True,
    show_default=True,
    help="Open all photos, to measure brightness and find duplicates.",
)
@path_option("--out", help="Folder of the counts.  [default: WORK/eda]")
@path_option(
    "--write-schema",
    "schema_file",
    metavar="FILE",
    help="Write the label schema as YAML, with all columns that can be a task, for --schema.",
)
def eda(
    schema: str | None, crops: str | None, rooms: Path | None, opened: bool, out: Path | None,
    schema_file: Path | None, **data: Any,
) -> None:  # fmt: skip
    """Summarise a data set before training.

    Shows the counts of every class and of their combinations, for each split; associations between
    labels; sizes, positions and scores of faces, if detect has run; brightness; and photos that
    look the same but belong to different people.
    """
    from cropfirst.stage2_classify.eda.run import run_eda

    workspace = open_workspace(**data, details=True)
    if schema_file is not None:
        _write_schema(schema_file, workspace)
    cache = workspace.open_cache_if_any()
    found = None if cache is None else workspace.find_crops(crops)
    run_eda(
        workspace.photos, _read_schema(schema, workspace), out_dir=out or workspace.folder / "eda",
        rooms=rooms, crops=found, read=_pixel_reader(found) if opened else None,
        console=workspace.console,
    )  # fmt: skip


def _read_schema(file: str | None, workspace: Workspace) -> LabelSchema:
    """Read the label schema; one without tasks, with a note, where none can be fitted to DATA."""
    from cropfirst.stage2_classify.labels.schema import LabelError, LabelSchema

    try:
        return workspace.read_schema(file)
    except LabelError as error:
        if file is not None:
            raise
        say(workspace.console, f"note: {error}")
        return LabelSchema("none", ())


def _write_schema(path: Path, workspace: Workspace) -> None:
    """Write the schema of all columns that can be a task."""
    from cropfirst.stage2_classify.labels.infer_schema import schema_of_all_columns, schema_text

    if path.exists():
        raise click.UsageError(f"--write-schema: {path} exists already; name another file")
    text = schema_text(schema_of_all_columns(workspace.photos))
    write_atomic(path, text.encode())
    say(workspace.console, f"written: {path}; train with --schema {path}")


def _pixel_reader(crops: CropSet | None) -> Callable[[Sample], np.ndarray | None]:
    """Return a function that reads photos within the limits that the crops were made with.

    It returns the pixels, (H, W, 3) uint8 RGB, or None for a photo that cannot be read.
    """
    from cropfirst.stage1_detect.photos.read import ReadError, decode_limits, read_photo

    limits = None if crops is None else decode_limits(crops.config)

    def read(sample: Sample) -> np.ndarray | None:
        try:
            return read_photo(sample.path, limits).image
        except ReadError:
            return None

    return read
