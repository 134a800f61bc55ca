"""Cut a crop of every face of some photos, not of the main face alone.

The crops are added to a crop set that `detect` has filled, each under a key of its own. Such a crop
set is for one prediction: the next `detect` removes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cropfirst.cache import Cache
from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.crop_sets import crop_set_of
from cropfirst.stage1_detect.mtcnn.nets.modules import weights_hash
from cropfirst.stage1_detect.photos.read import PhotoRef
from cropfirst.stage1_detect.pipeline.batch_writer import BatchWriter, Row
from cropfirst.stage1_detect.pipeline.recrop import RecropItem, RecropResult, recrop
from cropfirst.stage1_detect.pipeline.resolve import MainFace, faces_of_row
from cropfirst.stage1_detect.pipeline.rows import crop_recipe, crop_row


@dataclass(frozen=True)
class Face:
    """A face of a photo; or a photo without a face, which has one crop all the same."""

    key: str
    """Key of the crop."""
    photo: str
    """Key of the photo."""
    number: int
    """Number of the face in its photo, from 1, the one with the highest score first; 0 where no
    face was found and the crop is at a typical place."""
    box: tuple[float, float, float, float] | None
    """Box xyxy in photo pixels; None for a photo without a crop."""


def crop_all_faces(photos: Sequence[PhotoRef], cache: Cache, config: DetectConfig) -> list[Face]:
    """Cut a crop of every face, and return all faces in the order of the photos.

    Args:
        photos: photos whose crop set for this config `detect` has filled.

    Raises:
        DetectError: the crops of this config are the same for all faces of a photo.
    """
    background = config.crop.background
    if not config.crop.uses_box or background == "mean_box":
        raise DetectError(
            f"crops of all faces need a background that is cut by the face, and the runs were "
            f"trained on {background!r} crops, which are the same for all faces of a photo"
        )
    with cache.lock():
        detections = cache.detections(config.detection_key(weights_hash(config.detector.weights)))
        crops = crop_set_of(cache, config)
        rows = {row["key"]: row for row in detections.read().to_dicts()}
        whole = {row["key"]: row for row in crops.manifest.read().to_dicts()}
        found = [list(_items(photo, rows[photo.key])) for photo in photos]
        writer = BatchWriter(detections, crops, every=config.commit_photos)
        try:
            items = [item for some in found for item in some]
            for result in recrop(items, config, put=writer.put_crop):
                writer.add(crop=_row(result, rows[_photo_key(result.item)], config))
        finally:
            writer.close()
    faces: list[Face] = []
    for photo, some in zip(photos, found, strict=True):
        faces += [
            Face(item.ref.key, photo.key, number, _corners(item.box))
            for number, item in enumerate(some, start=1)
        ]
        if not some:
            faces.append(Face(photo.key, photo.key, 0, _corners(whole[photo.key]["box"])))
    return faces


def _items(photo: PhotoRef, row: Row) -> Iterator[RecropItem]:
    """Yield the faces that were found in a photo, with keys that no file can have."""
    faces = faces_of_row(row)
    for index, box in enumerate(faces.boxes):
        face = MainFace(row["found"], box, float(faces.probs[index]), faces.landmarks[index])
        ref = replace(photo, key=f"{photo.key}/face{index + 1}")
        yield RecropItem(ref, face, box, row["content_hash"])


def _photo_key(item: RecropItem) -> str:
    return item.ref.key.rpartition("/")[0]


def _row(result: RecropResult, row: Row, config: DetectConfig) -> Row:
    item = result.item
    if result.crop_hash is None:  # the photo changed since it was detected
        return crop_row(item.ref, row, MainFace("unreadable"))
    recipe = crop_recipe(row, item.face, item.box, config.crop)
    return crop_row(
        item.ref, row, item.face, recipe=recipe, window=result.window, crop_hash=result.crop_hash
    )


def _corners(box: np.ndarray | Sequence[float] | None) -> tuple[float, float, float, float] | None:
    if box is None:
        return None
    x0, y0, x1, y1 = (float(value) for value in box)
    return x0, y0, x1, y1
