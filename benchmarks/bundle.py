"""Measure a bundle on the CPU: classifiers in three engines, and photos end to end.

    python benchmarks/bundle.py PHOTOS [--backbone NAME ...] [--threads 1 --threads 2]

PHOTOS is a folder of photos with one face each; they are padded or cut to 640 x 480. Networks have
random weights, which take the same time as trained ones. Printed are, for each backbone, the
milliseconds per face and faces per second of PyTorch, of ONNX Runtime and of ONNX Runtime with
8-bit integers; then, for the first backbone, the time from a photo to its answer, the seconds to
import and open, and the memory of that process. The rounds of all engines alternate, so that other
programs slow all of them alike; printed are the median and the least of the rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from cropfirst.core.provenance import describe_versions
from cropfirst.door.check import golden_answers
from cropfirst.door.files import write_files
from cropfirst.door.manifest import (
    GOLDEN,
    ClassifierEntry,
    CropEntry,
    Limits,
    Manifest,
    TaskEntry,
)
from cropfirst.door.network import OnnxNetwork
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.mtcnn.onnx import detector_files
from cropfirst.stage2_classify.commands.bundle.write import detector_entry
from cropfirst.stage2_classify.export.classifier import classifier_file
from cropfirst.stage2_classify.export.int8 import quantize
from cropfirst.stage2_classify.labels.schema import load_schema
from cropfirst.stage2_classify.model.models import Classifier, build_classifier

BACKBONES = (
    "tf_efficientnet_lite0", "mobilenetv2_100", "convnext_atto", "convnext_tiny",
    "swin_tiny_patch4_window7_224",
)  # fmt: skip
CLASSES = ("wear", "incorrect", "normal")
MANY = 16
"""Number of faces at once for faces per second."""
END_TO_END = """
import json, os, sys, time
before = time.perf_counter()
from cropfirst.door import Bundle
bundle = Bundle.open(sys.argv[1], threads=int(sys.argv[2]))
opened = time.perf_counter() - before
import numpy as np
photos = np.load(sys.argv[3])
for photo in photos[:3]:
    bundle.predict(photo)
times, faces = [], 0
for _ in range(int(sys.argv[4])):
    for photo in photos:
        before = time.perf_counter()
        faces += len(bundle.predict(photo))
        times.append(time.perf_counter() - before)
# ru_maxrss would count the memory of the process that started this one.
(line,) = [each for each in open("/proc/self/status") if each.startswith("VmHWM")]
memory = int(line.split()[1]) / 1024
print(json.dumps({"opened": opened, "times": times, "faces": faces, "memory": memory}))
"""


def make_model(backbone: str, size: int) -> Classifier:
    """Build a classifier of masks with random weights, in eval mode."""
    return build_classifier(backbone, {"mask": 3}, image_size=size).eval()


def torch_run(model: Classifier, threads: int) -> Callable[[np.ndarray], object]:
    """Return what runs a batch in PyTorch."""

    def run(batch: np.ndarray) -> object:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            images = torch.from_numpy(batch).contiguous(memory_format=torch.channels_last)
            return model.probs(model(images))

    return run


def onnx_run(raw: bytes, size: int, threads: int) -> Callable[[np.ndarray], object]:
    """Return what runs a batch in ONNX Runtime."""
    network = OnnxNetwork(
        raw, "classifier", inputs={"crops": (None, 3, size, size)}, outputs={"mask": (None, 3)},
        threads=threads,
    )  # fmt: skip
    return network.run


def measure(
    runs: Mapping[str, Callable[[np.ndarray], object]], batch: np.ndarray, rounds: int
) -> dict[str, list[float]]:
    """Return the milliseconds of each round; the runs take turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name, run in runs.items():
            before = time.perf_counter()
            run(batch)
            if number >= 2:
                times[name].append(1e3 * (time.perf_counter() - before))
    return times


def measure_backbone(
    backbone: str, size: int, threads: Sequence[int], rounds: int
) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Return a row for each engine and number of threads, and the ONNX files."""
    model = make_model(backbone, size)
    raw = classifier_file([model], ["mask"], load_schema("contest"))
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(1, 3, size, size)).astype(np.float32) for _ in range(16)]
    files = {"ONNX Runtime": raw, "int8": quantize(raw, inputs)}
    model.set_channels_last(True)
    rows = []
    for count in threads:
        runs = {"PyTorch": torch_run(model, count)}
        runs |= {name: onnx_run(each, size, count) for name, each in files.items()}
        single = measure(runs, inputs[0], rounds)
        many = measure(runs, np.concatenate(inputs[:1] * MANY), max(1, rounds // 4))
        rows += [
            {
                "backbone": backbone,
                "px": size,
                "threads": count,
                "engine": name,
                "ms a face": round(float(np.median(single[name])), 2),
                "least": round(min(single[name]), 2),
                "faces/s": round(1e3 * MANY / float(np.median(many[name]))),
                "MB": round(len(files[name]) / 1e6, 1) if name in files else "",
            }
            for name in runs
        ]
    return rows, files


def table_of(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return rows of the same names as a table."""
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table


def write_bundle(folder: Path, classifier: bytes, size: int, min_face_size: int) -> None:
    """Write a bundle with the reference's detector and a classifier that knows nothing."""
    detector = {"weights": "reference", "min_face_size": min_face_size}
    config = DetectConfig.model_validate({"detector": detector, "crop": {"image_size": size}})
    names = CropEntry.__dataclass_fields__
    files = {
        **detector_files("reference"),
        "classifier-0.onnx": classifier,
        GOLDEN: golden_answers({}),
    }
    manifest = Manifest(
        files={},
        detector=detector_entry(config),
        crop=CropEntry(**{name: getattr(config.crop, name) for name in names}),
        classifiers=(ClassifierEntry("classifier-0.onnx", size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5),
                                     {"mask": 1.0}),),
        tasks={"mask": TaskEntry(CLASSES)},
        limits=Limits(0.0, 0.0, 1e6),
    )  # fmt: skip
    folder.mkdir(parents=True)
    write_files(folder, manifest, files)


def read_photos(folder: Path, limit: int) -> np.ndarray:
    """Return photos of a folder at 640 x 480, (N, 480, 640, 3) uint8 RGB, unscaled."""
    found = []
    for path in sorted(folder.iterdir()):
        photo = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if photo is None or len(found) == limit:
            continue
        photo = photo[:480, :640]
        down, right = 480 - photo.shape[0], 640 - photo.shape[1]
        found.append(
            cv2.copyMakeBorder(photo, 0, down, right // 2, right - right // 2, cv2.BORDER_REPLICATE)
        )
    if not found:
        raise click.ClickException(f"no photo in {folder}")
    return np.stack(found)


def end_to_end(folder: Path, photos: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Return what a process of its own measures."""
    command = [sys.executable, "-c", END_TO_END, str(folder), str(threads), str(photos),
               str(rounds)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@click.command()
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
@click.option("--backbone", "backbones", multiple=True, default=BACKBONES, show_default=True)
@click.option("--size", default=128, show_default=True, help="Input of the classifiers in pixels.")
@click.option("--large", default=224, show_default=True, help="Input of swin in pixels.")
@click.option("--threads", multiple=True, default=(1, 2), show_default=True)
@click.option("--rounds", default=40, show_default=True)
@click.option("--limit", default=40, show_default=True, help="Most photos.")
@click.option("--min-face-size", default=60, show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(
    photos: Path, backbones: Sequence[str], size: int, large: int, threads: Sequence[int],
    rounds: int, limit: int, min_face_size: int, out: Path | None,
) -> None:  # fmt: skip
    """Measure a bundle on the CPU."""
    console = Console(width=120)
    versions = describe_versions("torch", "onnxruntime", "numpy")
    load = [os.getloadavg()[0]]
    classifiers, whole, files = [], [], {}
    for name in backbones:
        side = large if "swin" in name else size
        rows, found = measure_backbone(name, side, threads, rounds)
        classifiers, files = [*classifiers, *rows], files or found
    console.print(table_of("classifiers", classifiers))
    side = large if "swin" in backbones[0] else size
    with tempfile.TemporaryDirectory(prefix="cropfirst-") as place:
        np.save(Path(place) / "photos.npy", read_photos(photos, limit))
        for name, raw in files.items():
            write_bundle(Path(place) / name, raw, side, min_face_size)
            for count in threads:
                done = end_to_end(
                    Path(place) / name, Path(place) / "photos.npy", count, max(1, rounds // 10)
                )
                times = 1e3 * np.array(done["times"])
                whole.append(
                    {
                        "classifier": name,
                        "threads": count,
                        "ms a photo": round(float(np.median(times)), 1),
                        "least": round(float(times.min()), 1),
                        "photos": len(times),
                        "faces": done["faces"],
                        "open (s)": round(done["opened"], 2),
                        "RSS (MB)": round(done["memory"]),
                    }
                )
    title = f"photos of 640 x 480, {backbones[0]} at {side} px, faces from {min_face_size} px"
    console.print(table_of(title, whole))
    load.append(os.getloadavg()[0])
    console.print(f"{versions}; load {load[0]:.1f} to {load[1]:.1f}", highlight=False)
    if out is not None:
        results = {"versions": versions, "load": load, "classifiers": classifiers, "photos": whole}
        out.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
