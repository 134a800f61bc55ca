"""The detector class of facenet-pytorch 2.5.3 (MIT, Tim Esler) with the engines of this package.

    from cropfirst.compat.facenet_pytorch import MTCNN

Arguments, shapes, dtypes, order and `None` where there is no face are those of
`facenet_pytorch.MTCNN`, which the tests compare it with. docs/facenet-pytorch.md lists where that
class fails and this one answers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cropfirst.compat.extract import extract_face
from cropfirst.compat.images import image_size as size_of
from cropfirst.compat.images import is_batch, to_photos
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.mtcnn import detector as mtcnn

__all__ = ["MTCNN", "extract_face", "fixed_image_standardization"]

_METHODS = ("largest", "probability", "largest_over_threshold", "center_weighted_size")


class MTCNN(nn.Module):
    """The face detector of facenet-pytorch, argument for argument.

    All arguments are attributes of the same names; a changed one holds from the next call on.

    Args:
        image_size: side of the faces that `forward` returns, in pixels.
        margin: pixels of such a face that its box is grown by.
        min_face_size: smallest face to find, in pixels of the image.
        thresholds: scores of P-, R- and O-Net, each in [0, 1].
        factor: ratio of the size of one pyramid level to the level before, in (0, 1).
        post_process: return faces as (pixel - 127.5) / 128.
        select_largest: sort and select by size, else by score.
        selection_method: `largest`, `probability`, `largest_over_threshold` or
            `center_weighted_size`; None = as `select_largest` says.
        keep_all: return all faces of an image, not one.
        device: `cpu`, `cuda` or `cuda:N`; None = `cpu`. `.to()` does not change it.

    Raises:
        ValueError: no such selection method.
        DetectError: the networks cannot run on that device.
    """

    def __init__(
        self,
        image_size: int = 160,
        margin: int = 0,
        min_face_size: float = 20,
        thresholds: Sequence[float] = (0.6, 0.7, 0.7),
        factor: float = 0.709,
        post_process: bool = True,
        select_largest: bool = True,
        selection_method: str | None = None,
        keep_all: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.image_size, self.margin = image_size, margin
        self.min_face_size, self.thresholds, self.factor = min_face_size, list(thresholds), factor
        self.post_process, self.keep_all = post_process, keep_all
        self.select_largest = select_largest
        self.selection_method = selection_method or ("largest" if select_largest else "probability")
        _check_method(self.selection_method)
        self.device = torch.device("cpu") if device is None else device
        self._detector: mtcnn.MTCNN | None = None
        self._current_detector()

    def forward(self, img: Any, save_path: Any = None, return_prob: bool = False) -> Any:
        """Find the faces of an image or a batch, and return them as tensors.

        Args:
            img: an image or a batch, see `images.to_photos`; images of a list may differ in size.
            save_path: file to write the face to (with `keep_all`, further ones to NAME_2 and so
                on); for a batch a list with one path or None per image.
            return_prob: also return the scores.

        Returns:
            (3, S, S) float32, with `keep_all` (N, 3, S, S), or None where there is no face; a list
            of these for a batch. With `return_prob` a pair of this and the score or scores.

        Raises:
            TypeError, ValueError: an image is not RGB, see `images.to_photos`; a list of paths does
                not fit the batch.
        """
        boxes, probs, points = self.detect(img, landmarks=True)
        if not self.keep_all:
            boxes, probs, points = self.select_boxes(
                boxes, probs, points, img, method=self.selection_method
            )
        faces = self.extract(img, boxes, save_path)
        return (faces, probs) if return_prob else faces

    def detect(self, img: Any, landmarks: bool = False) -> tuple[Any, ...]:
        """Find all faces of an image or a batch.

        The arrays are NumPy object arrays, as those of facenet-pytorch. If the images of a batch
        have unequal numbers of faces, there is one float32 array, or None, per image.

        Args:
            img: an image or a batch, see `images.to_photos`; images of a list may differ in size.
            landmarks: also return the landmarks.

        Returns:
            Boxes (N, 4) as x0, y0, x1, y1 in pixels, scores (N,) and, if asked for, landmarks
            (N, 5, 2), largest face first (`select_largest`) or best score first; None, [None] and
            None where there is no face. For a batch all have one more dimension.

        Raises:
            TypeError, ValueError: an image is not RGB, see `images.to_photos`.
        """
        p, r, o = map(float, self.thresholds)
        found = self._current_detector().detect(to_photos(img), thresholds=(p, r, o))
        # Two steps, as there: equal numbers of faces give one array whose rows hold objects.
        rows = [np.concatenate([each.boxes, each.probs[:, None]], axis=1) for each in found]
        boxes, probs, points = [], [], []
        for box, point in zip(
            np.array(rows, dtype=object),
            np.array([each.landmarks for each in found], dtype=object),
            strict=True,
        ):
            if self.select_largest and len(box):
                order = _by_size(box)
                box, point = box[order], point[order]
            boxes.append(box[:, :4] if len(box) else None)
            probs.append(box[:, 4] if len(box) else [None])
            points.append(point if len(box) else None)
        results = [np.array(each, dtype=object) for each in (boxes, probs, points)]
        if not is_batch(img):
            results = [each[0] for each in results]
        return tuple(results if landmarks else results[:2])

    def select_boxes(
        self,
        all_boxes: Any,
        all_probs: Any,
        all_points: Any,
        imgs: Any,
        method: str = "probability",
        threshold: float = 0.9,
        center_weight: float = 2.0,
    ) -> tuple[Any, Any, Any]:
        """Select one face of each image from the results of `detect`.

        Args:
            all_boxes: boxes of the image or the batch.
            all_probs: their scores.
            all_points: their landmarks.
            imgs: the image or the batch itself; only the sizes matter.
            method: `largest` box; best `probability`; `largest_over_threshold`: the largest of
                those scored above `threshold`; `center_weighted_size`: area minus `center_weight`
                times the squared distance from the image's centre.
            threshold: score that `largest_over_threshold` asks for.
            center_weight: weight of that distance.

        Returns:
            Box (1, 4), score, and landmarks (1, 5, 2) of an image, or None three times; for a batch
            arrays of these.

        Raises:
            ValueError: no such method.
        """
        _check_method(method)
        batch = is_batch(imgs)
        if not batch:
            all_boxes, all_probs, all_points, imgs = [all_boxes], [all_probs], [all_points], [imgs]
        chosen = []
        for boxes, probs, points, img in zip(all_boxes, all_probs, all_points, imgs, strict=True):
            row = None
            if boxes is not None:
                row = _select_row(
                    np.array(boxes), np.array(probs), size_of(img), method, threshold, center_weight
                )
            chosen.append(
                (None, [None], None)
                if row is None
                else tuple(np.array(each)[[row]] for each in (boxes, probs, points))
            )
        if not batch:
            ((box, prob, point),) = chosen
            return box, prob[0], point
        no_face = any(box is None for box, _, _ in chosen)
        kind = object if no_face else None  # without it, NumPy refuses arrays beside None
        return tuple(np.array(each, dtype=kind) for each in zip(*chosen, strict=True))  # type: ignore[return-value]

    def extract(self, img: Any, batch_boxes: Any, save_path: Any) -> Any:
        """Cut the faces in boxes out of an image or a batch; see `forward`.

        Args:
            img: an image or a batch.
            batch_boxes: (N, 4) boxes of the image, or None; one of these per image of a batch.
            save_path: as for `forward`.
        """
        batch = is_batch(img)
        images, boxes = (img, batch_boxes) if batch else ([img], [batch_boxes])
        paths = _paths(save_path, len(images))
        faces = [
            None if found is None else self._extract_faces(each, found, path)
            for each, found, path in zip(images, boxes, paths, strict=True)
        ]
        return faces if batch else faces[0]

    def _extract_faces(self, img: Any, boxes: Any, path: Any) -> Tensor:
        """Return all faces of an image, or the first one without `keep_all`."""
        faces = []
        for number, box in enumerate(boxes if self.keep_all else boxes[:1], start=1):
            file = path
            if path is not None and number > 1:
                stem, suffix = os.path.splitext(path)
                file = f"{stem}_{number}{suffix}"
            face = extract_face(img, box, self.image_size, self.margin, file)
            faces.append(fixed_image_standardization(face) if self.post_process else face)
        return torch.stack(faces) if self.keep_all else faces[0]

    def _current_detector(self) -> mtcnn.MTCNN:
        """Return the detector for the present settings."""
        if not (self.min_face_size > 0 and 0 < self.factor < 1):
            raise ValueError(
                "min_face_size must be above 0 and factor in (0, 1), got "
                f"{self.min_face_size} and {self.factor}"
            )
        # Without the limits of the command line: facenet-pytorch takes any size, fractions too.
        settings: dict[str, Any] = {"min_face_size": self.min_face_size, "factor": self.factor}
        config = DetectorConfig.model_construct(weights="reference", **settings)
        device = str(torch.device(self.device))
        detector = self._detector
        if detector is None or detector.config != config or str(detector.device) != device:
            detector = self._detector = mtcnn.MTCNN(config, device=device)
        return detector

    def __getstate__(self) -> dict[str, Any]:
        """Leave the detector out, so that worker processes can be started with this object."""
        return {**self.__dict__, "_detector": None}


def fixed_image_standardization(image_tensor: Tensor) -> Tensor:
    """Scale pixels of 0 to 255 to about [-1, 1]: (pixel - 127.5) / 128."""
    return (image_tensor - 127.5) / 128.0


def _select_row(
    boxes: np.ndarray,
    probs: np.ndarray,
    size: tuple[int, int],
    method: str,
    threshold: float,
    center_weight: float,
) -> int | None:
    """Return the index of the face that a method selects, None where none is good enough."""
    if method == "probability":
        return int(np.argsort(probs)[-1])
    if method == "largest_over_threshold":
        sure = np.flatnonzero(probs > threshold)
        return int(sure[_by_size(boxes[sure])[0]]) if len(sure) else None
    if method == "center_weighted_size":
        offset = (boxes[:, :2] + boxes[:, 2:]) / 2 - np.array(size) / 2
        weighted = _areas(boxes) - (offset**2).sum(axis=1) * center_weight
        return int(np.argsort(weighted)[-1])
    return int(_by_size(boxes)[0])


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _by_size(boxes: np.ndarray) -> np.ndarray:
    """Return the indices of boxes, the largest first."""
    return np.argsort(_areas(boxes))[::-1]


def _check_method(method: str) -> None:
    if method not in _METHODS:
        raise ValueError(f"unknown selection method {method!r}: use {', '.join(_METHODS)}")


def _paths(save_path: Any, count: int) -> list[Any]:
    """Return one path or None per image."""
    if save_path is None:
        return [None] * count
    paths = [save_path] if isinstance(save_path, str | os.PathLike) else list(save_path)
    if len(paths) != count:
        raise ValueError(
            f"save_path must name one file per image, got {len(paths)} for {count} images"
        )
    return paths
