"""Which faces a detector has won, lost or misses still, and pieces of photos that show them.

Knows detections, known faces and a way to get a photo; knows nothing of pages or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from cropfirst.core.sheet import TILE_SIDE, SheetTile
from cropfirst.stage1_detect.harden.recall.compare import above, best_scores
from cropfirst.stage1_detect.harden.recall.recall import look
from cropfirst.stage1_detect.harden.training.truth import STATES, KnownFaces
from cropfirst.stage1_detect.mtcnn.detector import Detections
from cropfirst.stage1_detect.photos.read import ReadError

ReadPhoto = Callable[[str], np.ndarray]

KINDS = {
    "found_now": "Found now, and was not",
    "lost_now": "Lost now, and was found",
    "still_lost": "Still lost",
    "no_face": "Taken for a face",
}
"""What is shown, in this order; file names and titles."""
COLOURS = {"wear": (40, 120, 200), "incorrect": (200, 110, 20), "normal": (60, 150, 90)}
_OTHER = (120, 120, 120)
_FALSE = (205, 50, 60)
_EDGE = (150, 150, 150)
AROUND = 2.0
"""Side of the piece cut out, in sides of the face."""


@dataclass(frozen=True)
class Shown:
    """A face, or what was taken for one, before it is cut out."""

    key: str
    box: tuple[float, float, float, float]
    """xyxy in photo pixels."""
    state: str
    """Of `STATES`, "" = unknown, or "no face"."""
    scores: tuple[float | None, float | None]
    """Best score of the first and of the second detector on it."""

    @property
    def side(self) -> float:
        """Shorter side in pixels."""
        return min(self.box[2] - self.box[0], self.box[3] - self.box[1])

    @property
    def title(self) -> str:
        """State, size and both detectors' scores."""
        before, after = ("none" if each is None else f"{each:.2f}" for each in self.scores)
        return f"{self.state or 'unknown'} {self.side:.0f} px: {before} > {after}"

    @property
    def colour(self) -> tuple[int, int, int]:
        return _FALSE if self.state == "no face" else COLOURS.get(self.state, _OTHER)


def sort_out(
    before: Sequence[Detections],
    after: Sequence[Detections],
    truth: Sequence[KnownFaces],
    keys: Sequence[str],
    *,
    thresholds: tuple[float, float],
    min_size: float = 40,
    min_iou: float = 0.4,
) -> dict[str, list[Shown]]:
    """Every face that counts and that not both detectors found, and the second's false positives.

    Args:
        before: the first detector's faces, at a low O-Net threshold.
        after: the second's.
        thresholds: the O-Net thresholds of use of both.

    Returns:
        By `KINDS`, each in the photos' order.
    """
    settings = {"min_size": min_size, "min_iou": min_iou}
    kinds: dict[str, list[Shown]] = {kind: [] for kind in KINDS}
    for key, old, new, known in zip(keys, before, after, truth, strict=True):
        sure = above(new, thresholds[1])
        was = look(above(old, thresholds[0]), known, **settings)
        now = look(sure, known, **settings)
        scores = [best_scores(each, known, min_iou=min_iou) for each in (old, new)]
        for i in np.flatnonzero(was.counts & ~(was.is_found & now.is_found)):
            kind = "found_now" if now.is_found[i] else "lost_now"
            kind = kind if was.is_found[i] != now.is_found[i] else "still_lost"
            box = tuple(known.boxes[i].tolist())
            face = Shown(key, box, known.states[i], (scores[0][i], scores[1][i]))
            kinds[kind].append(face)
        wrong = np.flatnonzero(now.is_false)
        places = KnownFaces(sure.boxes[wrong], ("",) * len(wrong))
        theirs = best_scores(old, places, min_iou=min_iou)
        for i, score in zip(wrong, theirs, strict=True):
            box = tuple(sure.boxes[i].tolist())
            kinds["no_face"].append(Shown(key, box, "no face", (score, float(sure.probs[i]))))
    return kinds


def choose(faces: Sequence[Shown], most: int) -> list[Shown]:
    """`most` at most: the states in turn, so that a rare one is seen too, the largest faces first
    (what was taken for one: the surest first); then by state."""
    ordered = sorted(faces, key=_weight, reverse=True)
    by_state = [[face for face in ordered if face.state == state] for state in _STATES]
    chosen = [
        group[place]
        for place in range(max(map(len, by_state), default=0))
        for group in by_state
        if place < len(group)
    ][:most]
    return sorted(chosen, key=lambda face: _STATES.index(face.state))


def cut_tiles(faces: Sequence[Shown], photos: ReadPhoto) -> list[SheetTile]:
    """A tile around each face, with its box drawn in; every photo is opened once.

    A photo that cannot be read leaves grey tiles.
    """
    pictures: list[np.ndarray] = [_NOTHING] * len(faces)
    for place, picture in _pictures(faces, photos):
        pictures[place] = picture
    return [
        SheetTile(picture, face.title, face.key, face.colour)
        for face, picture in zip(faces, pictures, strict=True)
    ]


def _pictures(faces: Sequence[Shown], photos: ReadPhoto) -> Iterator[tuple[int, np.ndarray]]:
    by_key: dict[str, list[int]] = {}
    for place, face in enumerate(faces):
        by_key.setdefault(face.key, []).append(place)
    for key, places in by_key.items():
        try:
            photo = Image.fromarray(photos(key))
        except ReadError:
            continue
        for place in places:
            yield place, _cut(photo, faces[place])


def _cut(photo: Image.Image, face: Shown) -> np.ndarray:
    x0, y0, x1, y1 = face.box
    half = max(x1 - x0, y1 - y0, 1) * AROUND / 2
    left, top = (x0 + x1) / 2 - half, (y0 + y1) / 2 - half
    scale = TILE_SIDE / (2 * half)
    window = (left, top, left + 2 * half, top + 2 * half)
    # Beyond the photo's edge it is grey: many photos are black there.
    tile = photo.transform(
        (TILE_SIDE, TILE_SIDE),
        Image.Transform.EXTENT,
        window,
        Image.Resampling.BILINEAR,
        fillcolor=_EDGE,
    )
    corners = [(x0 - left) * scale, (y0 - top) * scale, (x1 - left) * scale, (y1 - top) * scale]
    ImageDraw.Draw(tile).rectangle(corners, outline=face.colour, width=2)
    return np.array(tile)


def _weight(face: Shown) -> float:
    score = face.scores[1] or 0.0
    return score if face.state == "no face" else face.side


_STATES = (*STATES, "", "no face")
_NOTHING = np.full((TILE_SIDE, TILE_SIDE, 3), 70, np.uint8)
