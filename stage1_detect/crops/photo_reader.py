"""Read the photos behind a crop set again, cut out their heads, and crop changed copies of them.

Knows files, crop rows and crop configs; knows nothing of what the photos are used for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cropfirst.core.errors import DetectError
from cropfirst.core.faces.crop import Window, crop_window
from cropfirst.core.fingerprint import content_hash
from cropfirst.stage1_detect.config import CropConfig, DecodeConfig
from cropfirst.stage1_detect.crops.cut_out import CutOut, make_cut_out
from cropfirst.stage1_detect.photos.read import ReadError, decode_limits, read_bytes, read_photo

Row = Mapping[str, Any]


class PhotoReader:
    """Reads the photos behind the rows of a crop set."""

    def __init__(
        self,
        photo_path: Callable[[str], Path],
        crop_keys: Iterable[Mapping[str, Any]],
        *,
        stored: Callable[[Row], CutOut | None] = lambda row: None,
    ) -> None:
        """Set the files and the limits; opens no photo.

        Args:
            photo_path: returns the file of a key.
            crop_keys: configs of the crop sets whose photos are read. The highest of their limits
                are used; a photo is only returned if it is the one that was cropped.
            stored: returns the stored cut-out of a row; None if there is none.

        Raises:
            DetectError: a config is not one of this version.
        """
        self._photo_path, self._stored = photo_path, stored
        limits = [decode_limits(crop_key) for crop_key in crop_keys]
        highest = {
            name: max(getattr(each, name) for each in limits)
            for name in (DecodeConfig.model_fields if limits else ())
        }
        self._limits = DecodeConfig.model_validate(highest)

    def read(self, row: Row) -> np.ndarray | None:
        """Return a photo, (H, W, 3) uint8 RGB; None if it is missing or was changed."""
        try:
            photo = read_photo(self._photo_path(row["key"]), self._limits)
        except ReadError:
            return None
        return photo.image if photo.content_hash == row["content_hash"] else None

    def cut_out(self, row: Row) -> CutOut | None:
        """Return the head and the background of a photo; None if it is missing or was changed.

        A photo with a stored cut-out is read, but not decoded.
        """
        stored = self._stored(row)
        if stored is None:
            photo = self.read(row)
            return None if photo is None else make_cut_out(photo, box_of(row), landmarks_of(row))
        try:
            data = read_bytes(self._photo_path(row["key"]), self._limits)
        except ReadError:
            return None
        return stored if content_hash(data) == row["content_hash"] else None

    def crop(self, photo: np.ndarray, row: Row, crop_config: Mapping[str, Any]) -> np.ndarray:
        """Crop a photo, or a changed copy of it, as its row says.

        Args:
            photo: (H, W, 3) uint8, of the size of the row's photo.
            crop_config: the `crop` part of the crop set's config.

        Returns:
            (S, S, 3) uint8.

        Raises:
            DetectError: the config is not one of this version.
        """
        try:
            config = CropConfig.model_validate(dict(crop_config))
        except ValueError as error:
            raise DetectError(
                f"the crops' config is not one of this version ({error}): "
                "run cropfirst detect again"
            ) from error
        x0, y0, x1, _ = row["window"]
        window = Window(x0, y0, x1 - x0, row["angle"])
        crop, _ = crop_window(photo, window, box_of(row), landmarks_of(row), config)
        return crop


def box_of(row: Row) -> np.ndarray:
    """Return the box of a crop row, (4,) float32 xyxy in photo pixels."""
    return np.asarray(row["box"], np.float32)


def landmarks_of(row: Row) -> np.ndarray | None:
    """Return the landmarks of a crop row, (5, 2) float32 x, y; None for a borrowed box."""
    points = row["landmarks"]
    return None if points is None else np.asarray(points, np.float32).reshape(5, 2)
