"""The command `mask`: a data set of which some faces wear pasted masks, with its labels.csv.

Hands labels through without a meaning, but for the state of the mask, which it knows.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from cropfirst.core.console import say
from cropfirst.core.errors import DetectError
from cropfirst.core.files import make_folder, write_atomic
from cropfirst.stage1_detect.harden.config import PasteConfig
from cropfirst.stage1_detect.harden.masked_photos import MaskedCopy, write_masked_photos
from cropfirst.stage1_detect.harden.paste.cover import TemplateSet
from cropfirst.stage1_detect.harden.paste.templates import drawn_templates, read_templates
from cropfirst.stage1_detect.photos.read import PhotoRef

LABELS_FILE = "labels.csv"
MASK = "mask"
"""Column of the mask's state."""


def mask_dataset(
    photos: Sequence[PhotoRef],
    labels: Mapping[str, Mapping[str, Any]],
    rows: Mapping[str, Mapping[str, Any]],
    out: Path,
    *,
    config: PasteConfig,
    templates: Path | None,
    seed: int,
    console: Console,
) -> None:
    """Write copies of bare photos to a folder, some of them with masks, and labels.csv last.

    Args:
        photos: photos of bare faces.
        labels: key -> label -> value, which the copies keep.
        rows: key -> crop row, with the box and the landmarks of the face.
        templates: folder of mask templates; None means drawn ones only.

    Raises:
        DetectError: `out` holds something else than such copies, or templates cannot be used.
    """
    if out.is_dir() and any(out.iterdir()) and not (out / LABELS_FILE).is_file():
        raise DetectError(f"{out} is not empty: name a new folder for the masked photos")
    given = read_templates(templates) if templates is not None else []
    make_folder(out)
    (out / LABELS_FILE).unlink(missing_ok=True)
    copies = list(
        write_masked_photos(
            photos, rows, out, config=config, seed=seed,
            templates=TemplateSet(given, drawn_templates(seed)),
        )
    )  # fmt: skip
    write_atomic(out / LABELS_FILE, _labels_csv(copies, labels).encode())
    counts = Counter(copy.state for copy in copies)
    say(
        console,
        f"{len(copies)} of {len(photos)} photos copied: {counts['wear']} with a mask, "
        f"{counts['incorrect']} with a mask worn wrongly, {counts['normal']} bare",
    )
    say(console, f"data set: {out} (labels: {out / LABELS_FILE})")


def _labels_csv(copies: Sequence[MaskedCopy], labels: Mapping[str, Mapping[str, Any]]) -> str:
    names = sorted({name for each in labels.values() for name in each} - {MASK})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "group", MASK, *names])
    for copy in copies:
        known = labels.get(copy.photo.key, {})
        facts = [known.get(name, "") for name in names]
        writer.writerow([copy.path, copy.photo.group or "", copy.state, *facts])
    return text.getvalue()
