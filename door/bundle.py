"""A bundle that is open: from a photo to the faces in it and what is said of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cropfirst.core.faces.crop import make_crop, resize_crop
from cropfirst.core.prefetch import available_cores
from cropfirst.core.probabilities import scale
from cropfirst.door.answers import answer_faces, order_faces
from cropfirst.door.detector import Detector
from cropfirst.door.faces import Face
from cropfirst.door.files import load_classifier, load_detector, read_files, read_manifest
from cropfirst.door.manifest import ClassifierEntry, Manifest
from cropfirst.door.network import OnnxNetwork

FACES_AT_ONCE = 32
"""Number of faces that a classifier sees at once: bounds the memory in crowds."""


class Bundle:
    """A bundle that is ready to run. Any number of threads may use it at once.

    Attributes:
        manifest: the content of manifest.json.
    """

    def __init__(
        self,
        manifest: Manifest,
        detector: Detector,
        classifiers: Sequence[tuple[ClassifierEntry, OnnxNetwork]],
    ) -> None:
        """Take what `open` has loaded."""
        self.manifest = manifest
        self._detector, self._classifiers = detector, tuple(classifiers)

    @classmethod
    def open(cls, folder: str | Path, *, threads: int | None = None) -> Bundle:
        """Open a bundle.

        Args:
            folder: folder that `cropfirst export` wrote.
            threads: number of threads of one network; None = one per core, 4 at most.

        Raises:
            BundleError: it is not a bundle of this version, or a file is missing, was changed, or
                is not what the manifest says.
        """
        folder, count = Path(folder), threads or min(available_cores(), 4)
        manifest = read_manifest(folder)
        raw = read_files(folder, manifest)
        return cls(
            manifest,
            load_detector(raw, manifest.detector, threads=count),
            [
                (each, load_classifier(raw[each.file], each, manifest.tasks, threads=count))
                for each in manifest.classifiers
            ],
        )

    @property
    def tasks(self) -> Mapping[str, tuple[str, ...]]:
        """Task -> names of its classes."""
        return {name: task.classes for name, task in self.manifest.tasks.items()}

    def predict(self, photo: np.ndarray) -> list[Face]:
        """Find the faces of a photo and answer for each.

        Args:
            photo: (H, W, 3) uint8 RGB.

        Returns:
            The main face first, as the run chooses it; the others by falling score. A photo
            without a face gives an empty list.

        Raises:
            ValueError: `photo` is not such an array.
        """
        return self.classify(photo, self.detect(photo))

    def predict_batch(self, photos: Sequence[np.ndarray]) -> list[list[Face]]:
        """Return the faces of each photo, as `predict` does; the classifiers run once for all."""
        return self.classify_batch(photos, [self.detect(photo) for photo in photos])

    def detect(self, photo: np.ndarray) -> list[Face]:
        """Find the faces of a photo without answering, in the order of `predict`."""
        _check_photo(photo)
        found = self._detector.detect(np.ascontiguousarray(photo))
        return order_faces(
            found, self.manifest.detector.select, height=photo.shape[0], width=photo.shape[1]
        )

    def crop(self, photo: np.ndarray, face: Face) -> np.ndarray:
        """Return the crop of a face as the classifiers see it, (S, S, 3) uint8 RGB."""
        box = np.asarray(face.box, np.float32)
        crop, _ = make_crop(photo, box, face.landmarks, self.manifest.crop)
        return crop

    def classify(self, photo: np.ndarray, faces: Sequence[Face]) -> list[Face]:
        """Return the faces of a photo with their answers, in the same order."""
        return self.classify_batch([photo], [faces])[0]

    def classify_batch(
        self, photos: Sequence[np.ndarray], found: Sequence[Sequence[Face]]
    ) -> list[list[Face]]:
        """Return the faces of each photo with their answers; the classifiers run once for all."""
        crops = [
            self.crop(photo, face)
            for photo, faces in zip(photos, found, strict=True)
            for face in faces
        ]
        answered = iter(self._answer([face for faces in found for face in faces], crops))
        return [[next(answered) for _ in faces] for faces in found]

    def probabilities(self, crops: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Return task -> (N, C) float32 probabilities of crops, after the vote and temperature.

        Args:
            crops: each (S, S, 3) uint8 RGB.
        """
        tasks = self.manifest.tasks
        total = {name: np.zeros((len(crops), len(task.classes))) for name, task in tasks.items()}
        weight = dict.fromkeys(tasks, 0.0)
        for entry, network in self._classifiers:
            parts = [
                network.run(normalised(crops[at : at + FACES_AT_ONCE], entry))
                for at in range(0, len(crops), FACES_AT_ONCE)
            ]
            for place, (name, own) in enumerate(entry.tasks.items()):
                weight[name] += own
                if parts:
                    logs = np.concatenate([part[place] for part in parts])
                    total[name] += own * np.exp(logs.astype(np.float64))
        return {
            name: np.asarray(
                scale((table / weight[name]).astype(np.float32), tasks[name].temperature),
                np.float32,
            )
            for name, table in total.items()
        }

    def _answer(self, faces: Sequence[Face], crops: Sequence[np.ndarray]) -> list[Face]:
        return answer_faces(faces, crops, self.probabilities(crops), self.manifest)


def normalised(crops: Sequence[np.ndarray], entry: ClassifierEntry) -> np.ndarray:
    """Return crops as a classifier's input, (N, 3, S, S) float32."""
    batch = np.stack([resize_crop(crop, entry.image_size) for crop in crops])
    mean, std = (np.asarray(each, np.float32) for each in (entry.mean, entry.std))
    images = batch.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    images *= (1 / (255 * std)).astype(np.float32)[:, None, None]
    images += (-mean / std).astype(np.float32)[:, None, None]
    return images


def _check_photo(photo: np.ndarray) -> None:
    if not isinstance(photo, np.ndarray):
        raise ValueError(
            f"a photo is (H, W, 3) uint8 RGB, got {type(photo).__name__}; cv2.imread returns None "
            "for a file that it cannot read"
        )
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or 0 in photo.shape:
        raise ValueError(
            "a photo is (H, W, 3) uint8 RGB with at least one pixel, "
            f"got {photo.shape} {photo.dtype}"
        )
