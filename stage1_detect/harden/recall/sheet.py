"""Contact sheet of the faces that one detector finds and another does not.

Knows detections, known faces and a way to read a photo; knows nothing of nets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cropfirst.core.faces.boxes import iou
from cropfirst.core.sheet import TILE_SIDE, SheetTile, write_sheet
from cropfirst.stage1_detect.harden.recall.recall import MIN_IOU, match_faces
from cropfirst.stage1_detect.harden.recall.scores import THRESHOLD, above
from cropfirst.stage1_detect.harden.training.known_faces import MASK_STATES, KnownFaces
from cropfirst.stage1_detect.mtcnn.detector import Detections
from cropfirst.stage1_detect.photos.read import ReadError

ReadPhoto = Callable[[str], np.ndarray]
"""Reads the photo of a key as (H, W, 3) uint8 RGB; raises ReadError if it cannot."""

SHEET_GROUPS = {
    "found_now": ("found now (green)", (60, 150, 90)),
    "lost_now": ("lost now (red)", (205, 50, 60)),
    "still_lost": ("still lost (orange)", (200, 110, 20)),
    "no_face": ("false positives (grey)", (110, 110, 130)),
}
"""Groups of the sheet in order, each with its title and its frames' RGB colour."""
_COLUMNS, _ROWS = 8, 4
"""Tiles per row, and rows per group."""
_AROUND = 2.0
"""Side of a tile's window, in sides of the face."""
_STATES = (*MASK_STATES, "", "no face")
_OUTSIDE = (150, 150, 150)
"""Colour beyond the photo's edge: grey, since many photos are black there."""
_UNREAD = np.full((TILE_SIDE, TILE_SIDE, 3), 70, np.uint8)


@dataclass(frozen=True)
class SheetFace:
    """A known face, or a false positive, with the scores of both detectors."""

    key: str
    box: tuple[float, float, float, float]
    """xyxy in photo pixels."""
    state: str
    """One of `MASK_STATES`, "" if unknown, or "no face"."""
    scores: tuple[float | None, float | None]
    """Highest score of the first and of the second detector on it."""

    @property
    def side(self) -> float:
        """Shorter side in pixels."""
        return min(self.box[2] - self.box[0], self.box[3] - self.box[1])

    @property
    def title(self) -> str:
        """Caption with state, size and both scores."""
        before, after = ("none" if each is None else f"{each:.2f}" for each in self.scores)
        return f"{self.state or 'unknown'} {self.side:.0f} px: {before} > {after}"


def write_recall_sheet(
    path: Path,
    before: Sequence[Detections],
    after: Sequence[Detections],
    known: Sequence[KnownFaces],
    keys: Sequence[str],
    read_photo: ReadPhoto,
) -> bool:
    """Write a PNG of the faces won, lost and still lost, and of the false positives.

    Args:
        path: file to write; an earlier one is removed if there is nothing to show.
        before: the first detector's faces, at a low O-Net threshold.
        after: the second detector's faces.
        known: all known faces of each photo.
        keys: the photos' keys, in the same order.
        read_photo: called for the photos shown only; photos that it cannot read are grey.

    Returns:
        Whether there was anything to show.
    """
    groups = group_faces(before, after, known, keys)
    tiles: list[SheetTile | None] = []
    titles = []
    for name, (title, colour) in SHEET_GROUPS.items():
        faces = choose_faces(groups[name], _COLUMNS * _ROWS)
        tiles += make_tiles(faces, read_photo, colour)
        tiles += [None] * (-len(tiles) % _COLUMNS)
        titles.append(f"{title} {len(faces)} of {len(groups[name])}")
    if not tiles:
        path.unlink(missing_ok=True)
        return False
    title = f"{', '.join(titles)}; scores before > after"
    write_sheet(tiles, path, title, columns=_COLUMNS)
    return True


def group_faces(
    before: Sequence[Detections],
    after: Sequence[Detections],
    known: Sequence[KnownFaces],
    keys: Sequence[str],
) -> dict[str, list[SheetFace]]:
    """Group the faces that not both detectors found, and the second detector's false positives.

    Returns:
        Faces by the names of `SHEET_GROUPS`, in the photos' order.
    """
    groups: dict[str, list[SheetFace]] = {name: [] for name in SHEET_GROUPS}
    for key, old, new, faces in zip(keys, before, after, known, strict=True):
        in_use = above(new, THRESHOLD)
        was, now = match_faces(above(old, THRESHOLD), faces), match_faces(in_use, faces)
        scores = best_scores(old, faces.boxes), best_scores(new, faces.boxes)
        for i in np.flatnonzero(was.counts & ~(was.is_found & now.is_found)):
            name = "still_lost"
            if was.is_found[i] != now.is_found[i]:
                name = "found_now" if now.is_found[i] else "lost_now"
            box = tuple(faces.boxes[i].tolist())
            groups[name].append(SheetFace(key, box, faces.states[i], (scores[0][i], scores[1][i])))
        wrong = np.flatnonzero(now.is_false)
        for i, score in zip(wrong, best_scores(old, in_use.boxes[wrong]), strict=True):
            box = tuple(in_use.boxes[i].tolist())
            face = SheetFace(key, box, "no face", (score, float(in_use.probs[i])))
            groups["no_face"].append(face)
    return groups


def best_scores(faces: Detections, boxes: np.ndarray) -> list[float | None]:
    """Return the highest score that overlaps each of (K, 4) boxes, or None if nothing does."""
    if not len(faces):
        return [None] * len(boxes)
    scores = np.where(iou(boxes, faces.boxes) >= MIN_IOU, faces.probs, -1.0).max(axis=1)
    return [float(score) if score >= 0 else None for score in scores]


def choose_faces(faces: Sequence[SheetFace], most: int) -> list[SheetFace]:
    """Choose up to `most` faces: the states take turns, so that a rare one is seen too, and the
    largest faces (of false positives, the highest scores) come first."""
    ordered = sorted(faces, key=_weight, reverse=True)
    by_state = [[face for face in ordered if face.state == state] for state in _STATES]
    chosen = [
        group[place]
        for place in range(max(map(len, by_state), default=0))
        for group in by_state
        if place < len(group)
    ][:most]
    return sorted(chosen, key=lambda face: _STATES.index(face.state))


def make_tiles(
    faces: Sequence[SheetFace], read_photo: ReadPhoto, colour: tuple[int, int, int]
) -> list[SheetTile]:
    """Cut a tile around each face with its box drawn in; every photo is read once."""
    pictures = [_UNREAD] * len(faces)
    for place, picture in _cut_all(faces, read_photo, colour):
        pictures[place] = picture
    return [
        SheetTile(picture, face.title, face.key, colour)
        for face, picture in zip(faces, pictures, strict=True)
    ]


def _cut_all(
    faces: Sequence[SheetFace], read_photo: ReadPhoto, colour: tuple[int, int, int]
) -> Iterator[tuple[int, np.ndarray]]:
    by_key: dict[str, list[int]] = {}
    for place, face in enumerate(faces):
        by_key.setdefault(face.key, []).append(place)
    for key, places in by_key.items():
        try:
            photo = Image.fromarray(read_photo(key))
        except ReadError:
            continue
        for place in places:
            yield place, _cut(photo, faces[place].box, colour)


def _cut(
    photo: Image.Image, box: tuple[float, float, float, float], colour: tuple[int, int, int]
) -> np.ndarray:
    x0, y0, x1, y1 = box
    half = max(x1 - x0, y1 - y0, 1) * _AROUND / 2
    left, top = (x0 + x1) / 2 - half, (y0 + y1) / 2 - half
    scale = TILE_SIDE / (2 * half)
    window = (left, top, left + 2 * half, top + 2 * half)
    tile = photo.transform(
        (TILE_SIDE, TILE_SIDE), Image.Transform.EXTENT, window, Image.Resampling.BILINEAR,
        fillcolor=_OUTSIDE,
    )  # fmt: skip
    corners = [(x0 - left) * scale, (y0 - top) * scale, (x1 - left) * scale, (y1 - top) * scale]
    ImageDraw.Draw(tile).rectangle(corners, outline=colour, width=2)
    return np.array(tile)


def _weight(face: SheetFace) -> float:
    return (face.scores[1] or 0.0) if face.state == "no face" else face.side
