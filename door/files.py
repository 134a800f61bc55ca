"""The files of a bundle: written, read, checked against the manifest, and loaded as networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from cropfirst.core.errors import BundleError
from cropfirst.door.detector import Detector, Networks
from cropfirst.door.manifest import (
    LOCALISER_FILE,
    MANIFEST,
    ClassifierEntry,
    DetectorEntry,
    Manifest,
    TaskEntry,
    file_entry,
)
from cropfirst.door.network import OnnxNetwork, Shape

MAX_MANIFEST = 4_000_000
"""Largest manifest in bytes."""
_PNET: Mapping[str, Shape] = {"logit": (None, None, None), "offsets": (None, 4, None, None)}
_RNET: Mapping[str, Shape] = {"logit": (None,), "offsets": (None, 4)}
_ONET: Mapping[str, Shape] = {**_RNET, "landmarks": (None, 10)}


def read_manifest(folder: Path) -> Manifest:
    """Read and check manifest.json.

    Raises:
        BundleError: there is none, or it is not of this version or not allowed.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"no bundle in {folder}: wanted a folder with {MANIFEST}, as cropfirst export writes it"
        )
    if path.stat().st_size > MAX_MANIFEST:
        raise BundleError(f"{path} is too large for a manifest: do not use this bundle")
    return Manifest.from_json(path.read_bytes())


def write_files(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Manifest:
    """Write files of a bundle, and then the manifest that lists them beside those it has.

    Args:
        folder: folder of the bundle, which exists.
        manifest: the manifest so far; with no `files`, it is written as it is.
        files: file of the bundle -> its content.

    Returns:
        The manifest that was written.
    """
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    entries = {name: file_entry(content) for name, content in files.items()}
    manifest = replace(manifest, files={**manifest.files, **entries})
    (folder / MANIFEST).write_text(manifest.to_json(), "utf-8")
    return manifest


def read_files(
    folder: Path, manifest: Manifest, names: Iterable[str] | None = None
) -> dict[str, bytes]:
    """Return the content of files of a bundle, each checked against its hash.

    Args:
        names: files that are wanted, all in the manifest; None = all.

    Raises:
        BundleError: a file is missing, outside of the folder, or not the one that was exported.
    """
    found = {}
    root = folder.resolve()
    for name in manifest.files if names is None else names:
        entry = manifest.files[name]
        path = folder / name
        if not path.resolve().is_relative_to(root):
            raise BundleError(f"{path} leads out of the bundle: do not use it")
        if not path.is_file():
            raise BundleError(f"{path} is missing: copy the bundle again")
        if path.stat().st_size != entry.bytes:
            raise BundleError(_changed(path))
        raw = path.read_bytes()
        if file_entry(raw) != entry:
            raise BundleError(_changed(path))
        found[name] = raw
    return found


def _changed(path: Path) -> str:
    return (
        f"{path} is not the file that was exported (its hash is another): copy the bundle again, "
        "or do not use it"
    )


def load_detector(raw: Mapping[str, bytes], settings: DetectorEntry, *, threads: int) -> Detector:
    """Load the detector's networks from the content of a bundle's files.

    Raises:
        BundleError: a file is not the network that its name says.
    """

    def load(name: str, side: int | None, outputs: Mapping[str, Shape]) -> OnnxNetwork:
        inputs = {"image" if side is None else "windows": (None, 3, side, side)}
        return OnnxNetwork(raw[name], name, inputs=inputs, outputs=outputs, threads=threads)

    networks = Networks(
        pnet=load("pnet.onnx", None, _PNET),
        rnet=load("rnet.onnx", 24, _RNET),
        onet=load("onet.onnx", 48, _ONET),
        localiser=load(LOCALISER_FILE, 48, _ONET) if settings.localiser else None,
    )
    return Detector(networks, settings)


def load_classifier(
    raw: bytes, entry: ClassifierEntry, tasks: Mapping[str, TaskEntry], *, threads: int
) -> OnnxNetwork:
    """Load a classifier from the content of its file.

    Raises:
        BundleError: it is not a classifier of these tasks and this image size.
    """
    outputs: dict[str, Shape] = {name: (None, len(tasks[name].classes)) for name in entry.tasks}
    inputs = {"crops": (None, 3, entry.image_size, entry.image_size)}
    return OnnxNetwork(raw, entry.file, inputs=inputs, outputs=outputs, threads=threads)


def read_photo(raw: bytes) -> np.ndarray:
    """Return the pixels of an encoded golden photo, (H, W, 3) uint8 RGB.

    Raises:
        BundleError: it is no image.
    """
    photo = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR_RGB)
    if photo is None:
        raise BundleError("a golden photo is no image: copy the bundle again")
    return np.asarray(photo, np.uint8)
