"""Compare detectors by recall per mask state at equal numbers of false positives.

    python benchmarks/recall.py DATA... [--joins] [--folds FILE] [--yunet FILE] [--min-iou 0.3]

Each DATA holds a boxes.csv (file, xmin, ymin, xmax, ymax, label) beside its photos. Printed for
each set and detector: processor time per photo, and the share of the faces of 40 pixels and more,
and of the photos' largest faces, that are found at the score which gives --false false positives
per photo. Figures on photos that weights were trained on (docs: weights/README.md) flatter them;
--folds FILE adds weights that were not: each photo is seen by those of its own fold (the folds.json
of `harden`), alone and joined with the reference's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from detect_peers import YuNet
from equal_false import Find, FindByPhoto, as_dicts, low, score, table_of
from joins import joined_with, joins
from masked_faces import read_folds
from rich.console import Console

from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.mtcnn.detector import MTCNN


@click.command()
@click.argument(
    "data", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--weights", multiple=True, metavar="NAME|FILE", default=("masked", "joined"),
    show_default=True, help="Beside the reference; may be repeated.",
)  # fmt: skip
@click.option("--joins", "all_joins", is_flag=True, help="Also other ways to join both weights.")
@click.option(
    "--folds", "folds_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON: weights file -> photos that it was not trained on.",
)  # fmt: skip
@click.option("--yunet", type=click.Path(exists=True, dir_okay=False), help="Also this ONNX file.")
@click.option("--false", "false_per_photo", default=0.5, show_default=True)
@click.option("--min-iou", default=0.4, show_default=True)
@click.option("--min-face-size", default=40, show_default=True)
@click.option("--limit", default=1_000_000, help="Photos of each set at most, evenly spread.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(
    data: tuple[Path, ...], weights: tuple[str, ...], all_joins: bool, folds_file: Path | None,
    yunet: str | None, false_per_photo: float, min_iou: float, min_face_size: int, limit: int,
    out: Path | None,
) -> None:  # fmt: skip
    """Compare detectors on the photos of DATA, whose boxes.csv marks the faces."""
    console = Console(width=180)

    def load(name: str) -> MTCNN:
        return MTCNN(DetectorConfig(weights=name, min_face_size=min_face_size), threads=1)

    detectors: dict[str, Find | FindByPhoto] = {
        name: low(load(name)) for name in ("reference", *weights)
    }
    if all_joins:
        detectors |= joins(min_face_size)
    if folds_file is not None:
        folds = read_folds(folds_file)
        detectors["hardened, of the folds"] = _by_photo(folds, lambda file: low(load(file)))
        detectors["joined, of the folds"] = _by_photo(
            folds, lambda file: joined_with(file, min_face_size)
        )
    if yunet is not None:
        detectors["YuNet"] = YuNet(yunet)
    figures: dict[str, Any] = {}
    for folder in data:
        scored = score(
            folder, detectors, false_per_photo=false_per_photo, min_iou=min_iou,
            min_face_size=min_face_size, limit=limit,
        )  # fmt: skip
        console.print(f"{folder.name}, IoU >= {min_iou}, min_face_size {min_face_size}")
        console.print(table_of(scored))
        figures[folder.name] = as_dicts(scored)
    if out is not None:
        out.write_text(json.dumps(figures))


def _by_photo(folds: Mapping[str, Sequence[str]], make: Callable[[str], Find]) -> FindByPhoto:
    """Return each photo's detector, made once for each file of weights."""
    made = {file: make(file) for file in folds}
    return {key: made[file] for file, keys in folds.items() for key in keys}


if __name__ == "__main__":
    main()
